//! F42, F43, F45: bytes of other protocols, half-sent frames, very many connections.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ottla_env::delay;
use ottla_tests::edge::Edge;
use ottla_tests::raw::{RawClient, request_frame};
use ottla_wire::apis::Api;
use tokio::time::Instant;

/// So long a server may take to notice that clients have closed.
const GONE_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test]
async fn f42_what_is_not_a_frame_closes_before_anything_is_allocated() -> Result<()> {
    let mut edge = Edge::start("not-frames", &[]).await?;
    let not_frames: [&[u8]; 7] = [
        &[0xff; 64],
        &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        // One more than 100 MiB.
        &[0x06, 0x40, 0x00, 0x01, 0, 3, 0, 0],
        &[0, 0, 0, 0],
        &[0, 0, 0, 3, 0, 0, 0],
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        // A TLS client hello.
        &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03],
    ];
    for _ in 0..50 {
        for bytes in not_frames {
            let mut client = RawClient::connect(&edge.bootstrap).await?;
            client.send_bytes(bytes).await?;
            client.expect_close().await.with_context(|| format!("{bytes:02x?}"))?;
        }
    }
    edge.look()?;
    let line = edge.line_about("closing a connection").await?;
    let lines = edge.server.output().matches("closing a connection").count();
    ensure!((1..=60).contains(&lines), "350 connections made {lines} lines");
    ensure!(line.contains("client=127.0.0.1:") && line.contains("allowed are"), "{line}");
    edge.survived(32 << 20).await
}

#[tokio::test]
async fn f42_the_line_about_a_bad_request_says_who_and_what() -> Result<()> {
    let edge = Edge::start("who-and-why", &[]).await?;
    let metadata = Api::find(3).context("no Metadata")?;
    let mut client = RawClient::connect(&edge.bootstrap).await?;
    client.send_bytes(&request_frame(metadata, 99, &[])).await?;
    client.expect_close().await?;
    let line = edge.line_about("closing a connection").await?;
    for part in ["client=127.0.0.1:", "api=3", "version=99", "client_id=", "not supported"] {
        ensure!(line.contains(part), "{part} is missing: {line}");
    }
    edge.survived(32 << 20).await
}

#[tokio::test]
async fn f43_half_sent_frames_hold_nothing_and_end() -> Result<()> {
    let mut edge =
        Edge::start("half-frames", &[("OTTLA__KAFKA__CONNECTIONS_MAX_IDLE", "10s")]).await?;
    let whole = request_frame(Api::find(18).context("no ApiVersions")?, 0, &[]);
    let mut halves = Vec::new();
    for _ in 0..50 {
        for end in 1..whole.len() {
            let mut half = RawClient::connect(&edge.bootstrap).await?;
            half.send_bytes(&whole[..end]).await?;
            halves.push(half);
        }
    }
    edge.serves_others().await?;
    // A frame that has begun and makes no progress is closed when a connection is idle.
    let mut stalled = halves.pop().context("no connection")?;
    stalled.expect_close().await.context("a stalled frame")?;
    drop(halves);
    edge.survived(64 << 20).await
}

#[tokio::test]
async fn f45_two_thousand_idle_connections_cost_little_and_end_when_idle() -> Result<()> {
    let mut edge = Edge::start("idle", &[("OTTLA__KAFKA__CONNECTIONS_MAX_IDLE", "15s")]).await?;
    let mut idle = Vec::new();
    for _ in 0..2_000 {
        idle.push(RawClient::connect(&edge.bootstrap).await?);
    }
    for client in idle.iter_mut().step_by(20) {
        client.brokers().await?;
    }
    edge.serves_others().await?;
    let open = edge.server.metric("ottla_kafka_connections").await?;
    ensure!(open.is_some_and(|open| open >= 1_900.0), "{open:?} are open");
    // Not longer than `ANSWER_WITHIN` behind the last of them.
    for client in &mut idle {
        client.expect_close().await.context("an idle connection")?;
    }
    edge.survived(96 << 20).await
}

#[tokio::test]
async fn f45_connections_beyond_the_bound_are_closed() -> Result<()> {
    const MOST: usize = 40;
    let edge = Edge::start("connections-max", &[("OTTLA__KAFKA__CONNECTIONS_MAX", "40")]).await?;
    let mut open = Vec::new();
    for _ in 0..MOST + 20 {
        open.push(RawClient::connect(&edge.bootstrap).await?);
    }
    let mut served = 0;
    for client in &mut open {
        served += usize::from(client.brokers().await.is_ok());
    }
    // A few of the start's may not have been gone yet.
    ensure!((MOST - 10..=MOST).contains(&served), "{served} are served, {MOST} may be");
    let closed = edge.server.scrape().await?;
    let closed = closed.sum("ottla_kafka_connections_closed_total", &[("reason", "too_many")]);
    ensure!(closed as usize + served == open.len(), "{closed} closed, {served} served");
    drop(open);
    // Room for others comes with the ends that the server notices.
    let deadline = Instant::now() + GONE_WITHIN;
    while edge.server.metric("ottla_kafka_connections").await?.is_none_or(|open| open > 0.0) {
        ensure!(Instant::now() < deadline, "closed connections still count as open");
        delay(Duration::from_millis(50)).await;
    }
    edge.survived(32 << 20).await
}

#[tokio::test]
async fn f45_connections_come_at_the_rate_after_what_was_saved_up() -> Result<()> {
    const RATE: u32 = 20;
    const CONNECTIONS: u32 = 100;
    let edge = Edge::start("rate", &[("OTTLA__KAFKA__CONNECTIONS_RATE", "20")]).await?;
    let begin = Instant::now();
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = RawClient::connect(&edge.bootstrap).await?;
        client.brokers().await.context("a connection is served when its turn comes")?;
        open.push(client);
    }
    // Two seconds' worth is saved up at most, and the one that comes first does not wait.
    let least = Duration::from_secs_f64(f64::from(CONNECTIONS - 2 * RATE - 1) / f64::from(RATE));
    ensure!(begin.elapsed() >= least, "{CONNECTIONS} came in {:?}", begin.elapsed());
    drop(open);
    edge.survived(32 << 20).await
}
