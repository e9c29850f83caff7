//! Clients that send requests and close their side at once.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::{GroupId, JoinGroupRequest, OffsetFetchRequest};
use kafka_protocol::protocol::Request;
use tokio::time::{Instant, timeout};

use super::*;
use crate::limits::HALF_CLOSED_WAIT_MAX;
use crate::testing::{World, batch};

async fn answered<Q: Request>(world: &World, version: i16, request: &Q) -> Q::Response {
    let mut client = world.client().await;
    let id = client.send(version, request).await;
    client.close_sending().await;
    let answer = client.receive::<Q>(version, id).await;
    assert!(client.sees_the_end().await);
    answer
}

#[tokio::test]
async fn what_was_sent_before_the_end_is_answered() {
    let world = World::start().await;
    let metadata = answered(&world, 12, &metadata("t")).await;
    assert_eq!(metadata.topics[0].error_code, 0);
    let stored = answered(&world, 9, &produce("t", -1, &[(0, batch(&["v"]))])).await;
    assert_eq!(stored.responses[0].partition_responses[0].error_code, 0);
    let read = answered(&world, 12, &fetch("t", 0, 0)).await;
    assert!(read.responses[0].partitions[0].records.as_ref().is_some_and(|r| !r.is_empty()));
    let offsets = OffsetFetchRequest::default().with_group_id(GroupId("g".into()));
    assert_eq!(answered(&world, 7, &offsets).await.error_code, 0);
}

#[tokio::test]
async fn all_that_was_sent_is_answered_in_order() {
    let world = World::start().await;
    create(&mut world.client().await, "t").await;
    let mut client = world.client().await;
    let produced = client.send(9, &produce("t", -1, &[(0, batch(&["v"]))])).await;
    let fetched = client.send(12, &fetch("t", 0, 300)).await;
    let looked = client.send(12, &metadata("t")).await;
    client.close_sending().await;
    client.receive::<ProduceRequest>(9, produced).await;
    let read = client.receive::<FetchRequest>(12, fetched).await;
    assert_eq!(read.responses[0].partitions[0].high_watermark, 1);
    client.receive::<MetadataRequest>(12, looked).await;
    assert!(client.sees_the_end().await);
}

#[tokio::test]
async fn what_stands_before_a_bad_request_is_answered() {
    let world = World::start().await;
    create(&mut world.client().await, "t").await;
    let mut client = world.client().await;
    let produced = client.send(9, &produce("t", -1, &[(0, batch(&["v"]))])).await;
    // An API that does not exist.
    client.send_raw(&[0, 0, 0, 10, 3, 0xe7, 0, 0, 0, 0, 0, 1, 0xff, 0xff]).await;
    let stored = client.receive::<ProduceRequest>(9, produced).await;
    assert_eq!(stored.responses[0].partition_responses[0].error_code, 0);
    assert!(client.sees_the_end().await);
}

#[tokio::test]
async fn a_long_poll_of_a_client_that_left_ends_soon_with_what_there_is() {
    let world = World::start().await;
    let mut client = world.client().await;
    create(&mut client, "t").await;
    let waits = client.send(12, &fetch("t", 0, 300_000)).await;
    client.close_sending().await;
    let began = Instant::now();
    let answer = client.receive::<FetchRequest>(12, waits).await;
    assert_eq!(answer.responses[0].partitions[0].error_code, 0);
    assert!(began.elapsed() >= HALF_CLOSED_WAIT_MAX / 2, "a client may still wait");
    assert!(client.sees_the_end().await);
}

#[tokio::test]
async fn a_join_of_a_client_that_left_is_given_up() {
    // The generation would begin in minutes.
    let wait = Duration::from_secs(300);
    let world = World::with(|options| options.group_initial_rebalance_delay = wait).await;
    let mut client = world.client().await;
    let protocol = JoinGroupRequestProtocol::default()
        .with_name("range".into())
        .with_metadata(Bytes::from_static(b"m"));
    let join = JoinGroupRequest::default()
        .with_group_id(GroupId("g".into()))
        .with_session_timeout_ms(60_000)
        .with_rebalance_timeout_ms(600_000)
        .with_protocol_type("consumer".into())
        .with_protocols(vec![protocol]);
    client.send(2, &join).await;
    client.close_sending().await;
    let ended = timeout(3 * HALF_CLOSED_WAIT_MAX, client.receive_raw()).await;
    assert_eq!(ended, Ok(None));
}
