//! F18: clocks that jump, and a process that stands still.

use std::time::Duration;

use anyhow::{Result, ensure};
use ottla_env::delay;
use ottla_tests::Scratch;
use ottla_tests::ottla::Ottla;
use ottla_tests::real_clients::{GROUP, MEMBERS};
use tokio::time::Instant;

use crate::node::FaultyNode;
use crate::round::{CALM, Clients, IDEMPOTENT_PRODUCERS, Round};
use crate::{seconds, short_or};

/// All clients are at work within this time.
const JOINED_WITHIN: Duration = seconds(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f18_nothing_expires_when_the_clock_jumps() -> Result<()> {
    const HOUR_MS: i64 = 3_600_000;
    let round = Round::start("f18-clock").await?;
    let remembered = remembered_by(&round.node).await?;
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
    let now = Remembered::of(&round.node)?;
    ensure!(now == remembered, "before: {remembered:?}, after: {now:?}");
    round.finish().await?.close().await
}

/// What would expire with time: producers, and the members of the group, which would make a new
/// generation without one of them.
#[derive(Debug, PartialEq)]
struct Remembered {
    producers: usize,
    generation: i32,
    members: Vec<String>,
}

impl Remembered {
    fn of(node: &FaultyNode) -> Result<Self> {
        let producers = node.metric("ottla_state_entries", "producer")? as usize;
        let (generation, members) = node.group(GROUP)?;
        Ok(Self { producers, generation, members })
    }
}

/// Waits until every producer has written and every member is in the group.
async fn remembered_by(node: &FaultyNode) -> Result<Remembered> {
    let begin = Instant::now();
    loop {
        let found = Remembered::of(node)?;
        if found.producers == IDEMPOTENT_PRODUCERS && found.members.len() == MEMBERS {
            return Ok(found);
        }
        ensure!(begin.elapsed() < JOINED_WITHIN, "the clients are not there: {found:?}");
        delay(CALM / 10).await;
    }
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
