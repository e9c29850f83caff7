//! F43, F44, F46: clients that claim memory and do not fill it, send byte by byte, or never read.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kafka_protocol::messages::{ApiVersionsRequest, FetchRequest, MetadataRequest};
use ottla_env::delay;
use ottla_tests::edge::{Edge, HONEST, TOPIC};
use ottla_tests::member::{Member, coordinator};
use ottla_tests::raw::{RawClient, version};
use ottla_tests::scrape::Scrape;
use ottla_tests::topic;
use tokio::time::{Instant, timeout};

/// A Produce frame that claims `length` bytes and sends `sent` of them.
fn begun_produce(length: u32, sent: usize) -> Vec<u8> {
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend([0, 0, 0, 9, 0, 0, 0, 7, 0xff, 0xff, 0]);
    bytes.resize(4 + sent, 0);
    bytes
}

/// The address of client number `n`.
fn address(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, 1 + (n % 200) as u8)
}

/// A batch of one record of this many bytes.
fn large_batch(bytes: usize) -> Result<Bytes> {
    topic::batch(&["x".repeat(bytes)], 0, None)
}

async fn produce(client: &mut RawClient, batch: Bytes) -> Result<()> {
    let answer = client.call(version::PRODUCE, &topic::produce_request(TOPIC, 0, batch)).await?;
    let partition = &answer.responses[0].partition_responses[0];
    ensure!(partition.error_code == 0, "{partition:?}");
    Ok(())
}

#[tokio::test]
async fn f43_three_hundred_claims_of_90_mb_do_not_keep_a_producer_waiting() -> Result<()> {
    let mut edge = Edge::start("claims", &[]).await?;
    for (sent, same_address) in [(1_000, true), (1_000, false), (20_000, true)] {
        let mut claims = Vec::new();
        for n in 0..300 {
            let from = if same_address { HONEST } else { address(n) };
            let mut client = RawClient::connect_from(from, &edge.bootstrap).await?;
            client.send_bytes(&begun_produce(90_000_000, sent)).await?;
            claims.push(client);
        }
        let begin = Instant::now();
        let mut honest = RawClient::connect_from(HONEST, &edge.bootstrap).await?;
        for _ in 0..5 {
            produce(&mut honest, large_batch(900_000)?).await.context("beside the claims")?;
        }
        edge.serves_others().await?;
        ensure!(begin.elapsed() < Duration::from_secs(8), "it took {:?}", begin.elapsed());
        drop(claims);
    }
    edge.survived(128 << 20).await
}

/// Waits until unfinished frames hold what they may of a budget of 8 MiB: all but the longest frame.
async fn budget_is_full(edge: &Edge) -> Result<()> {
    const FULL: f64 = 4_000_000.0;
    let begin = Instant::now();
    loop {
        let scrape = edge.server.scrape().await?;
        let held = scrape.sum("ottla_memory_bytes", &[("owner", "produce")]);
        if held >= FULL {
            return Ok(());
        }
        ensure!(begin.elapsed() < Duration::from_secs(5), "only {held} bytes are held");
        delay(Duration::from_millis(20)).await;
    }
}

/// The budget is full of frames that were sent in part, from several addresses: everything but
/// Produce is served at once, and Produce when the senders have used up their time.
#[tokio::test]
async fn f46_with_the_produce_budget_full_all_else_is_served_at_once() -> Result<()> {
    let edge = Edge::start("full-budget", &[("OTTLA__PRODUCE__BUDGET_BYTES", "8MiB")]).await?;
    let mut honest = RawClient::connect_from(HONEST, &edge.bootstrap).await?;
    produce(&mut honest, large_batch(1_000)?).await?;
    let mut other = RawClient::connect_from(HONEST, &edge.bootstrap).await?;
    coordinator(&mut other, "beside").await?;
    let member = Member::join(&mut other, "beside").await?;
    let mut holders = Vec::new();
    for n in 0..8 {
        let mut client = RawClient::connect_from(address(n), &edge.bootstrap).await?;
        let frame = begun_produce(4_000_000, 3_900_000);
        // What the server does not read stays in the sockets' buffers, or here.
        let _ = timeout(Duration::from_millis(300), client.send_bytes(&frame)).await;
        holders.push(client);
    }
    let batch = large_batch(900_000)?;
    honest.send(version::PRODUCE, &topic::produce_request(TOPIC, 0, batch)).await?;

    budget_is_full(&edge).await?;
    let begin = Instant::now();
    for _ in 0..20 {
        member.heartbeat(&mut other).await?;
        other.call(0, &ApiVersionsRequest::default()).await?;
        let metadata = MetadataRequest::default().with_topics(Some(Vec::new()));
        other.call(version::METADATA, &metadata).await?;
        let fetched = other.call(version::FETCH, &topic::fetch_request(TOPIC, 0, 0)).await?;
        ensure!(fetched.responses[0].partitions[0].error_code == 0, "{fetched:?}");
    }
    ensure!(begin.elapsed() < Duration::from_secs(5), "it took {:?}", begin.elapsed());
    budget_is_full(&edge).await.context("in the end")?;

    let mut honest = honest.with_patience(Duration::from_secs(100));
    let answer = honest.receive::<kafka_protocol::messages::ProduceRequest>().await?;
    ensure!(answer.responses[0].partition_responses[0].error_code == 0, "{answer:?}");
    drop(holders);
    edge.survived(64 << 20).await
}

#[tokio::test]
async fn f43_a_byte_now_and_then_keeps_a_connection_no_longer_than_it_may_be_idle() -> Result<()> {
    const ROUNDS: usize = 40;
    let flags = [("OTTLA__KAFKA__CONNECTIONS_MAX_IDLE", "15s")];
    let mut edge = Edge::start("slow-loris", &flags).await?;
    let mut slow = Vec::new();
    for n in 0..300 {
        let mut client = RawClient::connect_from(address(n), &edge.bootstrap).await?;
        client.send_bytes(&begun_produce(1_000_000, 100)).await?;
        slow.push(client);
    }
    for round in 0..ROUNDS {
        let mut stay = Vec::new();
        for mut client in slow {
            // Refused once the server has closed.
            if client.send_bytes(&[0]).await.is_ok() {
                stay.push(client);
            }
        }
        slow = stay;
        if slow.is_empty() {
            break;
        }
        if round % 15 == 0 {
            edge.serves_others().await?;
        }
        delay(Duration::from_secs(1)).await;
    }
    ensure!(slow.is_empty(), "{} of 300 are still open", slow.len());
    edge.survived(64 << 20).await
}

/// Asks for this much from an offset on.
fn fetch(offset: i64, bytes_max: i32) -> FetchRequest {
    let mut request = topic::fetch_request(TOPIC, 0, offset).with_max_bytes(bytes_max);
    request.topics[0].partitions[0].partition_max_bytes = bytes_max;
    request
}

/// Sends requests and reads nothing.
async fn ask_without_reading(
    from: Ipv4Addr,
    bootstrap: &str,
    requests: impl IntoIterator<Item = FetchRequest>,
) -> Result<RawClient> {
    let mut client = RawClient::connect_from(from, bootstrap).await?;
    for request in requests {
        client.send(version::FETCH, &request).await?;
    }
    Ok(client)
}

#[tokio::test]
async fn f44_clients_that_never_read_hold_a_bounded_amount_and_are_closed() -> Result<()> {
    let mut edge = Edge::start(
        "never-reads",
        &[
            ("OTTLA__KAFKA__ANSWER_BYTES", "64MiB"),
            ("OTTLA__CACHE__BYTES", "64MiB"),
            ("OTTLA__PRODUCE__BUDGET_BYTES", "64MiB"),
        ],
    )
    .await?;
    let mut honest = RawClient::connect_from(HONEST, &edge.bootstrap).await?;
    for _ in 0..60 {
        produce(&mut honest, large_batch(1_000_000)?).await?;
    }
    let mut silent = Vec::new();
    for n in 0..40 {
        let all_there_is = vec![fetch(0, i32::MAX); 10];
        silent.push(ask_without_reading(address(n), &edge.bootstrap, all_there_is).await?);
    }
    // Once the memory is taken, others get theirs when the silent ones are closed.
    let mut patient = RawClient::connect_from(HONEST, &edge.bootstrap)
        .await?
        .with_patience(Duration::from_secs(60));
    for _ in 0..10 {
        let answer = patient.call(version::FETCH, &topic::fetch_request(TOPIC, 0, 0)).await?;
        let records = answer.responses[0].partitions[0].records.as_ref();
        ensure!(records.is_some_and(|records| records.len() >= 1_000_000), "no records");
        edge.look()?;
    }
    let held = edge.server.metric("ottla_memory_bytes").await?;
    ensure!(held.is_some(), "no metric of memory");
    let line = edge.line_about("the client does not read its answers").await?;
    ensure!(line.contains("client=127.0.1."), "who? {line}");
    drop(silent);
    edge.survived(400 << 20).await
}

/// Data older than the cache comes from the store, for a bounded number of fetches at a time. The
/// fetches of clients that never read release their places all the same.
#[tokio::test]
async fn f44_old_data_is_served_beside_clients_that_asked_for_it_and_never_read() -> Result<()> {
    const BATCHES: i64 = 100;
    const ASKED_BYTES: i32 = 20 << 20;
    let flags = [("OTTLA__CACHE__BYTES", "8MiB"), ("OTTLA__KAFKA__ANSWER_BYTES", "1GiB")];
    let mut edge = Edge::start("never-reads-old", &flags).await?;
    let mut honest = RawClient::connect_from(HONEST, &edge.bootstrap).await?;
    for _ in 0..BATCHES {
        produce(&mut honest, large_batch(1_000_000)?).await?;
    }
    let mut silent = Vec::new();
    for n in 0..6 {
        let requests = [0, 13, 26, 39].map(|from| fetch(from + n as i64, ASKED_BYTES));
        silent.push(ask_without_reading(address(n), &edge.bootstrap, requests).await?);
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    let held = |scrape: Scrape| scrape.sum("ottla_memory_bytes", &[("owner", "answers")]);
    while held(edge.server.scrape().await?) < 6.0 * f64::from(ASKED_BYTES) / 2.0 {
        ensure!(Instant::now() < deadline, "the silent ones were not answered");
        delay(Duration::from_millis(50)).await;
    }
    let begin = Instant::now();
    for from in [65, 78, 70] {
        let answer = honest.call(version::FETCH, &fetch(from, ASKED_BYTES)).await?;
        let records = answer.responses[0].partitions[0].records.as_ref();
        ensure!(records.is_some_and(|records| records.len() > 10_000_000), "from {from}");
    }
    ensure!(begin.elapsed() < Duration::from_secs(15), "it took {:?}", begin.elapsed());
    edge.look()?;
    drop(silent);
    edge.survived(500 << 20).await
}
