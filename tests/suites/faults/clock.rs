//! F18: clocks that jump, clocks that were wrong when the cluster began, and a process that stands
//! still.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ottla::{Node, NodeOptions, Seams};
use ottla_config::Sources;
use ottla_env::{Clock, delay};
use ottla_model::TimestampMs;
use ottla_tests::ottla::Ottla;
use ottla_tests::raw::{RawClient, version};
use ottla_tests::real_clients::{GROUP, MEMBERS};
use ottla_tests::{Scratch, ports, topic};
use tokio::time::Instant;

use crate::node::FaultyNode;
use crate::round::{CALM, Clients, IDEMPOTENT_PRODUCERS, Round};
use crate::{seconds, short_or};

/// All clients are at work within this time.
const JOINED_WITHIN: Duration = seconds(30);
/// How wrong a clock is.
const YEARS_MS: i64 = 70 * 365 * 86_400_000;
/// Time between the stamp of a record and the test's look at the clock, and some more.
const CLOSE_MS: i64 = 60_000;
/// The topic with log-append time.
const STAMPED: &str = "stamped";

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

/// A cluster that saw only a clock 70 years ahead until it was corrected: it goes on in that century,
/// says which setting ends it, and with that setting stamps the right time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f18_a_cluster_that_began_with_a_wrong_clock_is_set_right_by_a_setting() -> Result<()> {
    const SETTING: &str = "controller.accept_clock_step_at = ";
    let scratch = Scratch::new("f18-century")?;
    let mut server = Ottla::new(&scratch, "ottla")?;
    let wrong = Clock::movable();
    wrong.advance(YEARS_MS);
    let (node, bootstrap) = node_in(server.data(), wrong).await?;
    create_stamped(&bootstrap).await?;
    ensure!(is_close(stamp(&bootstrap).await?, YEARS_MS), "the clock is wrong");
    node.stop().await;

    server.start().await?;
    ensure!(is_close(stamp(&server.bootstrap()).await?, YEARS_MS), "nobody accepted a step");
    let begin = Instant::now();
    while !server.output().contains(SETTING) {
        ensure!(begin.elapsed() < JOINED_WITHIN, "the setting is not named:\n{}", server.output());
        delay(CALM / 10).await;
    }
    let output = server.output();
    let behind = output.rsplit(SETTING).next().context("no setting")?;
    let seconds: String = behind.chars().take_while(char::is_ascii_digit).collect();
    server.stop().await?;

    let mut server = server.env("OTTLA__CONTROLLER__ACCEPT_CLOCK_STEP_AT", &seconds);
    server.start().await?;
    ensure!(is_close(stamp(&server.bootstrap()).await?, 0), "time was not stepped");
    // Another start with the same setting has nothing to step.
    server.kill().await?;
    server.start().await?;
    ensure!(is_close(stamp(&server.bootstrap()).await?, 0), "the step was not kept");
    let content = topic::read(&server.bootstrap(), STAMPED, 0).await?;
    let stamps = max_timestamps(&content.bytes);
    let ahead = stamps.iter().map(|stamp| !is_close(*stamp, 0));
    ensure!(ahead.eq([true, true, false, false]), "{stamps:?}");
    let steps = server.output().matches("time was stepped").count();
    ensure!(steps == 1, "{steps} steps:\n{}", server.output());
    server.stop().await?;
    scratch.done();
    Ok(())
}

/// The time in the log goes on while nothing is written: a start after a crash begins from it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f18_log_append_time_does_not_lag_by_the_idle_time_before_a_crash() -> Result<()> {
    /// Ten seconds between two ticks, and the restart.
    const LAG_MAX_MS: i64 = 15_000;
    let scratch = Scratch::new("f18-idle")?;
    let mut server = Ottla::start_new(&scratch).await?;
    create_stamped(&server.bootstrap()).await?;
    stamp(&server.bootstrap()).await?;
    delay(short_or(seconds(25), seconds(90))).await;
    server.kill().await?;
    server.start().await?;
    let lag_ms = Clock::system().now().0 - stamp(&server.bootstrap()).await?;
    ensure!((-1_000..LAG_MAX_MS).contains(&lag_ms), "log-append time lags by {lag_ms} ms");
    server.stop().await?;
    scratch.done();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f18_an_empty_cluster_follows_its_clock_and_one_with_topics_does_not() -> Result<()> {
    let scratch = Scratch::new("f18-empty")?;
    let mut node = FaultyNode::start(&scratch, false, &[]).await?;
    let ahead_ms =
        |node: &FaultyNode| -> Result<i64> { Ok(node.clock().now().0 - node.append_time()?.0) };
    for jump in [YEARS_MS, -2 * YEARS_MS, YEARS_MS] {
        node.clock().advance(jump);
        let begin = Instant::now();
        while ahead_ms(&node)?.abs() > CLOSE_MS {
            ensure!(begin.elapsed() < JOINED_WITHIN, "{} ms off", ahead_ms(&node)?);
            delay(CALM / 10).await;
        }
    }
    create_stamped(node.bootstrap()).await?;
    ensure!(is_close(stamp(node.bootstrap()).await?, 0), "the clock is right");
    for jump in [YEARS_MS, -2 * YEARS_MS, YEARS_MS] {
        node.clock().advance(jump);
        delay(CALM).await;
        ensure!(is_close(stamp(node.bootstrap()).await?, 0), "nobody accepted a step");
    }
    node.stop().await?;
    scratch.done();
    Ok(())
}

/// A node in this process on a server's data, with a clock of its own.
async fn node_in(data: &Path, clock: Clock) -> Result<(Node, String)> {
    let bootstrap = format!("127.0.0.1:{}", ports::free()?);
    let sources = Sources {
        flags: vec![
            ("data-dir", data.display().to_string()),
            ("kafka-listen", bootstrap.clone()),
            ("admin-listen", "127.0.0.1:0".to_owned()),
        ],
        ..Sources::default()
    };
    let options = NodeOptions::new(&sources.load()?.config)?;
    let node = Node::start(&options, Seams { clock, ..Seams::default() }).await?;
    Ok((node, bootstrap))
}

async fn create_stamped(bootstrap: &str) -> Result<()> {
    let configs = [("message.timestamp.type", "LogAppendTime"), ("retention.ms", "-1")];
    topic::create_with(bootstrap, STAMPED, 1, &configs).await
}

/// Writes a record; answers the log-append time that it got.
async fn stamp(bootstrap: &str) -> Result<i64> {
    let request = topic::produce_request(STAMPED, 0, topic::batch(&["v".to_owned()], 1, None)?);
    let mut client = RawClient::connect(bootstrap).await?;
    let answer = client.call(version::PRODUCE, &request).await?;
    let partition = answer.responses.first().and_then(|topic| topic.partition_responses.first());
    let partition = partition.context("no partition in the answer")?;
    ensure!(partition.error_code == 0, "produce: error {}", partition.error_code);
    Ok(partition.log_append_time_ms)
}

/// Whether a time is so far ahead of the machine's clock, about.
fn is_close(time_ms: i64, ahead_ms: i64) -> bool {
    let TimestampMs(now) = Clock::system().now();
    (time_ms - now - ahead_ms).abs() < CLOSE_MS
}

/// The largest timestamps of batches, as their headers have them: that of all records with log-append
/// time.
fn max_timestamps(batches: &[u8]) -> Vec<i64> {
    let mut found = Vec::new();
    let mut rest = batches;
    while let (Some(length), Some(stamp)) = (rest.get(8..12), rest.get(35..43)) {
        let length = u32::from_be_bytes(length.try_into().unwrap_or_default()) as usize;
        found.push(i64::from_be_bytes(stamp.try_into().unwrap_or_default()));
        rest = rest.get(12 + length..).unwrap_or_default();
    }
    found
}
