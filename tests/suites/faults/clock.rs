//! F18: clocks that jump, and a process that stands still.

use anyhow::{Result, ensure};
use ottla_env::delay;
use ottla_tests::Scratch;
use ottla_tests::ottla::Ottla;
use tokio::time::Instant;

use crate::round::{CALM, Clients, Round};
use crate::{seconds, short_or};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f18_nothing_expires_when_the_clock_jumps() -> Result<()> {
    const HOUR_MS: i64 = 3_600_000;
    let round = Round::start("f18-clock").await?;
    let (begin, time) = (Instant::now(), round.node.replicated_time()?);
    for jump in [HOUR_MS, -2 * HOUR_MS, HOUR_MS] {
        round.node.clock().advance(jump);
        delay(2 * CALM).await;
    }
    let moved_ms = round.node.replicated_time()?.0 - time.0;
    let lived_ms = begin.elapsed().as_millis() as i64;
    ensure!(
        (0..=2 * lived_ms + 2_000).contains(&moved_ms),
        "replicated time moved {moved_ms} ms in {lived_ms} ms"
    );
    let fenced = round.node.metric("ottla_produce_batches_total", "fenced")?;
    ensure!(fenced == 0.0, "a session ended");
    round.finish().await?.close().await
}

/// The binary, longer than its session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f18_nothing_expires_when_the_process_is_frozen() -> Result<()> {
    let scratch = Scratch::new("f18-frozen")?;
    let mut server = Ottla::start_new(&scratch).await?;
    let clients = Clients::start(&server.bootstrap()).await?;
    server.process()?.signal("STOP").await?;
    delay(short_or(seconds(15), seconds(60))).await;
    server.process()?.signal("CONT").await?;
    delay(2 * CALM).await;
    clients.finish(&scratch).await?;
    let said = server.output();
    ensure!(said.contains("sessions begin anew"), "it was not frozen:\n{said}");
    ensure!(!said.contains("session is over") && !said.contains("fenced"), "{said}");
    server.stop().await?;
    scratch.done();
    Ok(())
}
