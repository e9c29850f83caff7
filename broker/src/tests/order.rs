//! What overlaps on a connection, and what does not.

use std::time::Duration;

use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::{GroupId, ListOffsetsRequest, OffsetCommitRequest};
use tokio::time::timeout;

use super::*;
use crate::testing::{World, batch};

#[tokio::test]
async fn pipelined_produces_share_the_buffer_and_are_answered_in_order() {
    let world = World::start().await;
    let mut client = world.client().await;
    create(&mut client, "t").await;
    world.control.hold_commits();
    let request = produce("t", -1, &[(0, batch(&["a", "b"]))]);
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(client.send(9, &request).await);
    }
    assert!(timeout(Duration::from_millis(50), client.receive_raw()).await.is_err());
    world.control.let_commits_go();
    for (at, id) in ids.into_iter().enumerate() {
        let response = client.receive::<ProduceRequest>(9, id).await;
        let stored = &response.responses[0].partition_responses[0];
        assert_eq!((stored.error_code, stored.base_offset), (0, 2 * at as i64));
    }
}

#[tokio::test]
async fn list_offsets_sees_what_the_same_connection_produced() {
    use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    let world = World::start().await;
    let mut client = world.client().await;
    create(&mut client, "t").await;
    let sent = client.send(9, &produce("t", -1, &[(0, batch(&["a", "b"]))])).await;
    let partition = ListOffsetsPartition::default().with_timestamp(-1);
    let partition = partition.with_current_leader_epoch(-1);
    let topic = ListOffsetsTopic::default().with_name(name("t")).with_partitions(vec![partition]);
    let asked = client.send(6, &ListOffsetsRequest::default().with_topics(vec![topic])).await;
    client.receive::<ProduceRequest>(9, sent).await;
    let end = client.receive::<ListOffsetsRequest>(6, asked).await;
    assert_eq!(end.topics[0].partitions[0].offset, 2);
}

#[tokio::test]
async fn a_thousand_pipelined_offset_commits_end_at_the_last_one() {
    let world = World::start().await;
    let mut client = world.client().await;
    create(&mut client, "t").await;
    let commit = |offset| {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
        let topic = OffsetCommitRequestTopic::default()
            .with_name(name("t"))
            .with_partitions(vec![partition]);
        OffsetCommitRequest::default()
            .with_group_id(GroupId(StrBytes::from_static_str("g")))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic])
    };
    let address = world.broker.local_address();
    let mut sender = Client::connect(address).await;
    let mut last = 0;
    for offset in 0..1_000 {
        last = sender.send(8, &commit(offset)).await;
        // Answers are taken along the way, as a client does: sockets hold only so much.
        if offset % 50 == 49 {
            for id in last - 49..=last {
                sender.receive::<OffsetCommitRequest>(8, id).await;
            }
        }
    }
    assert_eq!(last, 1_000);
    let stored: Vec<_> = world.control.group_now("g").offsets.into_values().collect();
    assert_eq!(stored.iter().map(|committed| committed.offset.0).collect::<Vec<_>>(), [999]);
}

#[tokio::test]
async fn a_waiting_fetch_does_not_hold_up_a_produce_that_wakes_it() {
    let world = World::start().await;
    let mut client = world.client().await;
    create(&mut client, "t").await;
    let waits = client.send(12, &fetch("t", 0, 30_000)).await;
    let wakes = client.send(9, &produce("t", -1, &[(0, batch(&["v"]))])).await;
    let response = timeout(Duration::from_secs(10), client.receive::<FetchRequest>(12, waits));
    let response = response.await.unwrap();
    assert!(!response.responses[0].partitions[0].records.as_ref().unwrap().is_empty());
    client.receive::<ProduceRequest>(9, wakes).await;
}

#[tokio::test]
async fn acks_0_has_no_answer_and_an_error_closes_the_connection() {
    let world = World::start().await;
    let mut client = world.client().await;
    create(&mut client, "t").await;
    client.send(9, &produce("t", 0, &[(0, batch(&["v"]))])).await;
    // The next answer is the next request's, and that request saw the record.
    assert_eq!(fetched(&mut client, "t", 0).await.high_watermark, 1);
    client.send(9, &produce("nowhere", 0, &[(0, batch(&["v"]))])).await;
    assert!(client.sees_the_end().await);
}

#[tokio::test]
async fn acks_0_has_no_time_out_that_could_close_the_connection() {
    let world = World::start().await;
    let mut client = world.client().await;
    create(&mut client, "t").await;
    let silent = produce("t", 0, &[(0, batch(&["v"]))]).with_timeout_ms(0);
    client.send(9, &silent).await;
    assert_eq!(fetched(&mut client, "t", 0).await.high_watermark, 1);
}
