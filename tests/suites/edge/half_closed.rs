//! F67: clients that close their side behind their requests, or pause inside of one.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kafka_protocol::messages::{FetchRequest, MetadataRequest};
use kafka_protocol::protocol::Request;
use ottla_env::delay;
use ottla_tests::edge::{Edge, TOPIC};
use ottla_tests::member::{Member, coordinator};
use ottla_tests::raw::{RawClient, request_frame, version};
use ottla_tests::topic;
use ottla_wire::apis::Api;
use tokio::time::Instant;

/// So long a fetch of a client that closed its side waits on, and as much for a busy machine.
const LEFT_WITHIN: Duration = Duration::from_secs(15);

/// Sends a request and at once the end.
async fn last_words<R: Request>(edge: &Edge, version: i16, request: &R) -> Result<R::Response> {
    let mut client = RawClient::connect(&edge.bootstrap).await?;
    client.send(version, request).await?;
    client.close_sending().await?;
    let answer = client.receive::<R>().await?;
    client.expect_close().await?;
    Ok(answer)
}

#[tokio::test]
async fn f67_what_was_received_before_the_end_is_answered() -> Result<()> {
    let edge = Edge::start("last-words", &[]).await?;
    let metadata = MetadataRequest::default().with_topics(None);
    let answer = last_words(&edge, version::METADATA, &metadata).await.context("Metadata")?;
    ensure!(answer.brokers.len() == 1, "{answer:?}");

    let batch = topic::batch(&["last words".to_owned()], 0, None)?;
    let produce = topic::produce_request(TOPIC, 0, batch);
    let answer = last_words(&edge, version::PRODUCE, &produce).await.context("Produce")?;
    let stored = &answer.responses[0].partition_responses[0];
    ensure!(stored.error_code == 0, "{stored:?}");

    let mut client = RawClient::connect(&edge.bootstrap).await?;
    coordinator(&mut client, "last-words").await?;
    let member = Member::join(&mut client, "last-words").await?;
    let mut committing = RawClient::connect(&edge.bootstrap).await?;
    committing.send(version::OFFSET_COMMIT, &member.commit_request(TOPIC, 1)).await?;
    committing.close_sending().await?;
    member.committed(&mut committing).await.context("OffsetCommit")?;
    committing.expect_close().await?;

    let began = Instant::now();
    let fetch = topic::fetch_request(TOPIC, 0, 1).with_max_wait_ms(120_000).with_min_bytes(1);
    let answer = last_words(&edge, version::FETCH, &fetch).await.context("Fetch")?;
    let partition = &answer.responses[0].partitions[0];
    ensure!((partition.error_code, partition.high_watermark) == (0, 1), "{partition:?}");
    ensure!(began.elapsed() < LEFT_WITHIN, "it took {:?}", began.elapsed());
    edge.survived(32 << 20).await
}

#[tokio::test]
async fn f67_requests_in_a_row_and_the_end_are_all_answered() -> Result<()> {
    let edge = Edge::start("many-last-words", &[]).await?;
    let mut client = RawClient::connect(&edge.bootstrap).await?;
    for value in ["a", "b", "c"] {
        let batch = topic::batch(&[value.to_owned()], 0, None)?;
        client.send(version::PRODUCE, &topic::produce_request(TOPIC, 0, batch)).await?;
    }
    client.send(version::FETCH, &topic::fetch_request(TOPIC, 0, 0)).await?;
    client.close_sending().await?;
    for base in 0..3 {
        let answer = client.receive::<kafka_protocol::messages::ProduceRequest>().await?;
        ensure!(answer.responses[0].partition_responses[0].base_offset == base, "{answer:?}");
    }
    let answer = client.receive::<FetchRequest>().await?;
    ensure!(answer.responses[0].partitions[0].high_watermark == 3, "{answer:?}");
    client.expect_close().await?;
    edge.survived(32 << 20).await
}

#[tokio::test]
async fn f67_a_pause_inside_a_request_is_waited_for() -> Result<()> {
    let edge = Edge::start("pause", &[]).await?;
    let pauses = [5, 12].map(Duration::from_secs);
    let mut small = Vec::new();
    // A frame in the read-ahead, and one that takes memory.
    let metadata = Api::find(3).context("no Metadata")?;
    let mut many = 10_000u32.to_be_bytes().to_vec();
    many.resize(4 + 2 * 10_000, 0);
    for pause in pauses {
        for frame in [request_frame(metadata, 1, &[0; 4]), request_frame(metadata, 0, &many)] {
            let bootstrap = edge.bootstrap.clone();
            small.push(tokio::spawn(async move {
                let mut client = RawClient::connect(&bootstrap).await?;
                let (first, second) = frame.split_at(frame.len() / 2);
                client.send_bytes(first).await?;
                delay(pause).await;
                client.send_bytes(second).await?;
                client.receive_frame().await.with_context(|| format!("after {pause:?}"))
            }));
        }
    }
    for answered in small {
        answered.await??;
    }
    edge.survived(32 << 20).await
}
