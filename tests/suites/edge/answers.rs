//! F44: answers that repeat a long request, and clients that do not read them.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{FindCoordinatorRequest, ListOffsetsRequest};
use kafka_protocol::protocol::StrBytes;
use ottla_env::delay;
use ottla_tests::edge::{Edge, HONEST, TOPIC};
use ottla_tests::raw::{RawClient, topic_name, version};
use ottla_tests::topic;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

const ECHO_BYTES: usize = 490 * 32_000;
const LIST_OFFSETS: i16 = 1;
const FIND_COORDINATORS: i16 = 4;

/// The time that "at once" is on a machine that also runs other tests.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A request whose answer repeats all of its 16 MB.
fn echo() -> ListOffsetsRequest {
    let topics = (0..490).map(|n| {
        ListOffsetsTopic::default()
            .with_name(topic_name(&format!("{n:032000}")))
            .with_partitions(vec![ListOffsetsPartition::default()])
    });
    ListOffsetsRequest::default().with_topics(topics.collect())
}

/// A request of 400 KB whose answer has five megabytes.
fn coordinators() -> FindCoordinatorRequest {
    FindCoordinatorRequest::default()
        .with_coordinator_keys(vec![StrBytes::from_static_str("k"); 199_000])
}

/// A Fetch that waits for five minutes.
fn long_poll() -> kafka_protocol::messages::FetchRequest {
    topic::fetch_request(TOPIC, 0, 0).with_max_wait_ms(300_000).with_min_bytes(1)
}

fn same_address(_: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 2, 1)
}

fn own_address(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 2, 1 + n as u8)
}

/// Sends the same frames on so many connections, each as fast as it is read, and reads nothing.
async fn send_without_reading(
    edge: &Edge,
    connections: usize,
    from: impl Fn(usize) -> Ipv4Addr,
    frames: &[u8],
) -> Result<JoinSet<()>> {
    let mut sending = JoinSet::new();
    for n in 0..connections {
        let mut client = RawClient::connect_from(from(n), &edge.bootstrap).await?;
        let frames = frames.to_vec();
        sending.spawn(async move {
            // The server may close it meanwhile.
            let _ = client.send_bytes(&frames).await;
            drop(frames);
            std::future::pending::<()>().await;
        });
    }
    Ok(sending)
}

/// Bytes that answers hold.
async fn held(edge: &Edge) -> Result<f64> {
    Ok(edge.server.scrape().await?.sum("ottla_memory_bytes", &[("owner", "answers")]))
}

async fn until_held(edge: &Edge, bytes: usize) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let held = held(edge).await?;
        if held >= bytes as f64 {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{held} bytes of answers are held");
        delay(Duration::from_millis(20)).await;
    }
}

async fn others_are_served_at_once(edge: &mut Edge) -> Result<()> {
    for _ in 0..3 {
        timeout(AT_ONCE, edge.serves_others()).await.context("others wait")??;
    }
    Ok(())
}

async fn echoes_behind_long_polls(
    test: &str,
    from: impl Fn(usize) -> Ipv4Addr,
    held: usize,
) -> Result<()> {
    const CONNECTIONS: usize = 18;
    let mut edge = Edge::start(test, &[]).await?;
    let mut honest = RawClient::connect_from(HONEST, &edge.bootstrap).await?;
    let frames =
        [honest.frame(version::FETCH, &long_poll())?, honest.frame(LIST_OFFSETS, &echo())?];
    let silent = send_without_reading(&edge, CONNECTIONS, from, &frames.concat()).await?;
    until_held(&edge, held).await?;
    // The others are received by now, or wait for memory.
    delay(Duration::from_secs(3)).await;
    others_are_served_at_once(&mut edge).await?;
    drop(silent);
    edge.survived(600 << 20).await
}

#[tokio::test]
async fn f44_echoes_behind_long_polls_of_one_address_keep_nobody_waiting() -> Result<()> {
    echoes_behind_long_polls("echoes", same_address, 3 * ECHO_BYTES).await
}

#[tokio::test]
async fn f44_echoes_behind_long_polls_of_many_addresses_keep_nobody_waiting() -> Result<()> {
    echoes_behind_long_polls("many-echoes", own_address, 14 * ECHO_BYTES).await
}

/// A connection gets the answers to both when it reads them.
#[tokio::test]
async fn f44_a_long_poll_ends_when_an_answer_behind_it_needs_memory() -> Result<()> {
    let edge = Edge::start("echo-behind", &[]).await?;
    let mut client = RawClient::connect(&edge.bootstrap).await?;
    client.send(version::FETCH, &long_poll()).await?;
    client.send(LIST_OFFSETS, &echo()).await?;
    let answer = client.receive::<kafka_protocol::messages::FetchRequest>().await?;
    ensure!(answer.responses[0].partitions[0].error_code == 0, "{answer:?}");
    let answer = client.receive::<ListOffsetsRequest>().await?;
    ensure!(answer.topics.len() == 490, "{} topics", answer.topics.len());
    edge.survived(200 << 20).await
}

/// With 64 MiB for answers, and as much for requests that are handled.
async fn unread(test: &str, frame: &[u8], connections: usize, grown_max: u64) -> Result<()> {
    let mut edge = Edge::start(test, &[("OTTLA__KAFKA__ANSWER_BYTES", "64MiB")]).await?;
    let silent = send_without_reading(&edge, connections, own_address, frame).await?;
    until_held(&edge, 40 << 20).await?;
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        let held = held(&edge).await?;
        ensure!(held <= f64::from(64 << 20), "{held} bytes of answers are held");
        delay(Duration::from_millis(50)).await;
    }
    edge.look()?;
    others_are_served_at_once(&mut edge).await?;
    drop(silent);
    edge.survived(grown_max).await
}

#[tokio::test]
async fn f44_echoes_that_nobody_reads_stay_within_their_memory() -> Result<()> {
    let frame = ottla_tests::raw::Frames::default().frame(LIST_OFFSETS, &echo())?;
    unread("unread-echoes", &frame, 40, 300 << 20).await
}

#[tokio::test]
async fn f44_long_answers_to_short_requests_that_nobody_reads_stay_within_their_memory()
-> Result<()> {
    let frame = ottla_tests::raw::Frames::default().frame(FIND_COORDINATORS, &coordinators())?;
    unread("unread-coordinators", &frame, 100, 400 << 20).await
}
