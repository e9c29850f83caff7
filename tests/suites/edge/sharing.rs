//! F66: very many requests that wait, and what others get meanwhile.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::{FetchRequest, GroupId, JoinGroupRequest};
use kafka_protocol::protocol::StrBytes;
use ottla_env::delay;
use ottla_tests::edge::{Edge, HONEST, TOPIC};
use ottla_tests::member::coordinator;
use ottla_tests::raw::{RawClient, topic_name, version};
use ottla_tests::topic;
use tokio::time::Instant;

const LARGE: &str = "large";
const PARTITIONS: i32 = 1_000;

/// What "at once" is on a machine that also runs other tests.
const AT_ONCE: Duration = Duration::from_secs(5);

fn fetch_large(max_wait_ms: i32) -> FetchRequest {
    let partitions = (0..PARTITIONS)
        .map(|index| FetchPartition::default().with_partition(index).with_partition_max_bytes(1));
    let topic =
        FetchTopic::default().with_topic(topic_name(LARGE)).with_partitions(partitions.collect());
    FetchRequest::default()
        .with_max_wait_ms(max_wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// A join of a version in which a new member needs no id first.
fn join(group: &str, metadata: usize, member_id: StrBytes) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(StrBytes::from_static_str("range"))
        .with_metadata(Bytes::from(vec![7; metadata]));
    JoinGroupRequest::default()
        .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
        .with_session_timeout_ms(300_000)
        .with_rebalance_timeout_ms(300_000)
        .with_member_id(member_id)
        .with_protocol_type(StrBytes::from_static_str("consumer"))
        .with_protocols(vec![protocol])
}
const JOIN_WITHOUT_ID: i16 = 3;

async fn fetches_at_once(edge: &Edge) -> Result<()> {
    let mut client = RawClient::connect_from(HONEST, &edge.bootstrap).await?;
    let began = Instant::now();
    let answer = client.call(version::FETCH, &fetch_large(0)).await?;
    let partitions = answer.responses[0].partitions.len();
    ensure!(partitions == PARTITIONS as usize, "{partitions} partitions in the answer");
    ensure!(began.elapsed() < AT_ONCE, "a fetch took {:?}", began.elapsed());
    Ok(())
}

/// Each group has a member that does not join again, and one that waits for it with four megabytes:
/// together more than all memory for such requests.
#[tokio::test]
async fn f66_joins_that_wait_keep_no_other_request_waiting() -> Result<()> {
    const GROUPS: usize = 20;
    let edge = Edge::start("waiting-joins", &[]).await?;
    topic::create(&edge.bootstrap, LARGE, PARTITIONS).await?;
    let mut honest = RawClient::connect_from(HONEST, &edge.bootstrap).await?;
    coordinator(&mut honest, "honest").await?;
    let mut waiting = Vec::new();
    for n in 0..GROUPS {
        let group = format!("waits-{n}");
        let mut first = RawClient::connect(&edge.bootstrap).await?;
        first.send(JOIN_WITHOUT_ID, &join(&group, 10, StrBytes::default())).await?;
        waiting.push((group, first));
    }
    for (_, first) in &mut waiting {
        let answer = first.receive::<JoinGroupRequest>().await?;
        ensure!(answer.error_code == 0, "{answer:?}");
    }
    let before = edge.server.metric("ottla_kafka_received_bytes_total").await?;
    let mut large = Vec::new();
    for (n, (group, _)) in waiting.iter().enumerate() {
        let from = std::net::Ipv4Addr::new(127, 0, 1, 1 + n as u8);
        let mut second = RawClient::connect_from(from, &edge.bootstrap).await?;
        second.send(JOIN_WITHOUT_ID, &join(group, 4_000_000, StrBytes::default())).await?;
        large.push(second);
    }
    // All of them are received: none waits for the memory of one before.
    let deadline = Instant::now() + Duration::from_secs(20);
    let wanted = before.context("no metric of bytes")? + 4_000_000.0 * GROUPS as f64;
    while edge.server.metric("ottla_kafka_received_bytes_total").await?.unwrap_or(0.0) < wanted {
        ensure!(Instant::now() < deadline, "joins wait for each other's memory");
        delay(Duration::from_millis(50)).await;
    }
    fetches_at_once(&edge).await?;
    let began = Instant::now();
    let answer =
        honest.call(JOIN_WITHOUT_ID, &join("honest", 100_000, StrBytes::default())).await?;
    ensure!(answer.error_code == 0, "{}", answer.error_code);
    // A new group waits for more members for three seconds.
    ensure!(began.elapsed() < AT_ONCE + Duration::from_secs(3), "{:?}", began.elapsed());
    drop((waiting, large));
    edge.survived(400 << 20).await
}

#[tokio::test]
async fn f66_a_thousand_consumers_wait_for_a_thousand_partitions_each() -> Result<()> {
    const CONSUMERS: usize = 1_000;
    const WOKEN: usize = 10;
    let mut edge = Edge::start("long-polls", &[]).await?;
    topic::create(&edge.bootstrap, LARGE, PARTITIONS).await?;
    let mut waiting = Vec::new();
    for n in 0..CONSUMERS {
        let mut client = RawClient::connect(&edge.bootstrap).await?;
        let mut request = fetch_large(120_000);
        if n < WOKEN {
            let mut more = topic::fetch_request(TOPIC, 0, 0).topics;
            request.topics.append(&mut more);
        }
        client.send(version::FETCH, &request).await?;
        waiting.push(client);
    }
    // Each keeps at least this much while it waits, and is done with looking.
    const PLAN_BYTES: f64 = 40_000.0;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let scrape = edge.server.scrape().await?;
        let held = |owner| scrape.sum("ottla_memory_bytes", &[("owner", owner)]);
        if held("fetch_plans") >= PLAN_BYTES * CONSUMERS as f64 && held("fetch_passes") == 0.0 {
            println!("f66: {} bytes for {CONSUMERS} fetches", held("fetch_plans"));
            break;
        }
        ensure!(Instant::now() < deadline, "{} bytes are held", held("fetch_plans"));
        delay(Duration::from_millis(50)).await;
    }
    edge.look()?;
    println!("f66: memory grew by {} MiB", edge.grown() >> 20);
    fetches_at_once(&edge).await?;

    let began = Instant::now();
    edge.serves_others().await?;
    let batch = topic::batch(&["wakes".to_owned()], 0, None)?;
    let mut producer = RawClient::connect_from(HONEST, &edge.bootstrap).await?;
    producer.call(version::PRODUCE, &topic::produce_request(TOPIC, 0, batch)).await?;
    for client in &mut waiting[..WOKEN] {
        let answer = client.receive::<FetchRequest>().await?;
        let woken = &answer.responses[1].partitions[0];
        ensure!(woken.high_watermark == 1, "{woken:?}");
    }
    ensure!(began.elapsed() < 2 * AT_ONCE, "it took {:?}", began.elapsed());
    fetches_at_once(&edge).await?;
    // A thousand last answers, of a thousand partitions each, are not what is tested here.
    waiting.into_iter().try_for_each(RawClient::reset)?;
    edge.survived(300 << 20).await
}
