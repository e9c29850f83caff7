//! What requests that wait hold of what others need.

use std::time::Duration;

use kafka_protocol::ResponseError as Kafka;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{
    CreateTopicsRequest, GroupId, JoinGroupRequest, ListOffsetsRequest, OffsetCommitRequest,
    OffsetFetchRequest, create_topics_request::CreatableTopic,
};
use ottla_wire::response::Frame;
use tokio::time::{Instant, timeout};

use super::*;
use crate::context::{ConnectionInfo, Software};
use crate::limits;
use crate::testing::World;

const PARTITIONS: i32 = 1_000;
const SOON: Duration = Duration::from_secs(5);

async fn create_large(client: &mut Client) {
    let topic = CreatableTopic::default()
        .with_name(name("large"))
        .with_num_partitions(PARTITIONS)
        .with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_timeout_ms(5_000).with_topics(vec![topic]);
    assert_eq!(client.call(7, &request).await.topics[0].error_code, 0);
}

fn fetch_large(max_wait_ms: i32) -> FetchRequest {
    let partitions = (0..PARTITIONS)
        .map(|index| FetchPartition::default().with_partition(index).with_partition_max_bytes(1));
    let topic =
        FetchTopic::default().with_topic(name("large")).with_partitions(partitions.collect());
    FetchRequest::default()
        .with_max_wait_ms(max_wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_topics(vec![topic])
}

async fn until(mut done: impl FnMut() -> bool) {
    let wait = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, wait).await.expect("in time");
}

#[tokio::test]
async fn a_fetch_that_waits_holds_its_plan_and_nothing_of_its_request() {
    let world = World::start().await;
    let context = world.broker.context();
    let mut client = world.client().await;
    create_large(&mut client).await;
    client.send(12, &fetch_large(60_000)).await;
    until(|| context.fetch_plans.used() > 0 && context.fetch_passes.used() == 0).await;
    assert_eq!(context.requests.used(), 0);
    let bytes = context.fetch_plans.used();
    assert!(bytes <= 64 * PARTITIONS as usize, "{bytes}");
    drop(client);
    timeout(4 * limits::HALF_CLOSED_WAIT_MAX, async {
        while context.fetch_plans.used() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_request_behind_a_long_poll_takes_no_memory_before_its_turn() {
    let world = World::start().await;
    let context = world.broker.context();
    let mut client = world.client().await;
    create_large(&mut client).await;
    client.send(12, &fetch_large(60_000)).await;
    until(|| context.fetch_plans.used() > 0 && context.requests.used() == 0).await;
    client.send(12, &fetch_large(60_000)).await;
    assert!(timeout(Duration::from_millis(100), client.receive_raw()).await.is_err(), "it waits");
    assert_eq!(context.requests.used(), 0);
}

#[tokio::test]
async fn a_fetch_without_room_to_wait_is_answered_at_once_and_asked_to_pause() {
    let world = World::start().await;
    let context = world.broker.context();
    let mut client = world.client().await;
    create_large(&mut client).await;
    assert_eq!(produced(&mut client, "large", crate::testing::batch(&["v"])).await.error_code, 0);
    let other = std::net::Ipv4Addr::new(127, 0, 0, 9).into();
    let all = context.fetch_plans.charge(other, limits::FETCH_PLANS_BYTES_MAX);
    let began = Instant::now();
    let mut at_end = fetch_large(7_000);
    at_end.topics[0].partitions[0].fetch_offset = 1;
    let answer = client.call(12, &at_end).await;
    assert!(began.elapsed() < SOON);
    assert_eq!(answer.throttle_time_ms, 7_000);
    assert_eq!(answer.responses[0].partitions.len(), PARTITIONS as usize);
    assert_eq!(answer.responses[0].partitions[0].high_watermark, 1);
    // Records that are there are given, and nobody pauses before using them.
    let answer = client.call(12, &fetch_large(7_000)).await;
    assert!(answer.responses[0].partitions[0].records.as_ref().is_some_and(|r| !r.is_empty()));
    assert_eq!(answer.throttle_time_ms, 0);
    // Without memory to look for any, it is answered at once as well.
    let passes = context.fetch_passes.charge(other, limits::FETCH_PASSES_BYTES_MAX);
    let began = Instant::now();
    let answer = client.call(12, &fetch_large(7_000)).await;
    assert!(began.elapsed() < SOON);
    assert_eq!(answer.throttle_time_ms, 7_000);
    let first = &answer.responses[0].partitions[0];
    assert!(first.records.as_ref().is_none_or(|records| records.is_empty()));
    assert_eq!((first.error_code, first.high_watermark), (0, 1));
    drop((all, passes));
    let answer = client.call(12, &fetch_large(7_000)).await;
    assert_eq!(answer.throttle_time_ms, 0);
}

#[tokio::test]
async fn a_join_that_waits_holds_nothing_of_its_request() {
    let wait = Duration::from_secs(300);
    let world = World::with(|options| options.group_initial_rebalance_delay = wait).await;
    let context = world.broker.context();
    let mut client = world.client().await;
    let protocol = JoinGroupRequestProtocol::default()
        .with_name("range".into())
        .with_metadata(vec![7; 100_000].into());
    let join = JoinGroupRequest::default()
        .with_group_id(GroupId("g".into()))
        .with_session_timeout_ms(60_000)
        .with_rebalance_timeout_ms(600_000)
        .with_protocol_type("consumer".into())
        .with_protocols(vec![protocol]);
    let received = world.metrics.kafka.received_bytes.get();
    client.send(2, &join).await;
    until(|| world.metrics.kafka.received_bytes.get() > received).await;
    until(|| context.requests.used() == 0).await;
    assert!(timeout(Duration::from_millis(100), client.receive_raw()).await.is_err(), "it waits");
    assert_eq!(context.requests.used(), 0);
}

#[tokio::test]
async fn a_look_up_that_hangs_is_answered_when_its_time_is_over() {
    let world = World::start().await;
    let mut client = world.client().await;
    create(&mut client, "t").await;
    world.control.hang_questions(true);
    let partition = ListOffsetsPartition::default().with_timestamp(1);
    let topic =
        ListOffsetsTopic::default().with_name(name("t")).with_partitions(vec![partition; 1]);
    let request = ListOffsetsRequest::default().with_timeout_ms(300).with_topics(vec![topic]);
    let began = Instant::now();
    let answer = client.call(10, &request).await;
    assert!(began.elapsed() < SOON);
    assert_eq!(answer.topics[0].partitions[0].error_code, Kafka::RequestTimedOut.code());
}

/// An address that holds memory of answers for as long as a test likes.
const OTHER: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 9));
const A_MOMENT: Duration = Duration::from_millis(100);

/// A request of 20 names of a thousand bytes that its answer repeats.
fn echo() -> ListOffsetsRequest {
    let topics = (0..20).map(|n| {
        ListOffsetsTopic::default()
            .with_name(name(&format!("{n:01000}")))
            .with_partitions(vec![ListOffsetsPartition::default()])
    });
    ListOffsetsRequest::default().with_topics(topics.collect())
}

#[tokio::test]
async fn an_answer_is_not_made_before_there_is_memory_for_it() {
    let world = World::start().await;
    let context = world.broker.context();
    let mut client = world.client().await;
    let all = context.answers.charge(OTHER, context.answers.total());
    let id = client.send(1, &echo()).await;
    assert!(timeout(A_MOMENT, client.receive_raw()).await.is_err(), "it waits");
    assert_eq!(context.answers.used(), context.answers.total());
    // Small ones of others do not wait.
    let mut other = world.client().await;
    let answer = timeout(SOON, other.call(12, &metadata("new"))).await.unwrap();
    assert_eq!(answer.brokers.len(), 1);
    drop(all);
    let answer = timeout(SOON, client.receive::<ListOffsetsRequest>(1, id)).await.unwrap();
    assert_eq!(answer.topics.len(), 20);
    until(|| context.answers.used() == 0).await;
}

#[tokio::test]
async fn a_long_poll_ends_when_an_answer_behind_it_needs_memory_and_the_next_waits_again() {
    let world = World::start().await;
    let mut client = world.client().await;
    create(&mut client, "t").await;
    let in_front = client.send(12, &fetch("t", 0, 60_000)).await;
    let behind = client.send(1, &echo()).await;
    let answer = timeout(SOON, client.receive::<FetchRequest>(12, in_front)).await.unwrap();
    assert_eq!(answer.responses[0].partitions[0].error_code, 0);
    let answer = timeout(SOON, client.receive::<ListOffsetsRequest>(1, behind)).await.unwrap();
    assert_eq!(answer.topics.len(), 20);
    client.send(12, &fetch("t", 0, 60_000)).await;
    assert!(timeout(A_MOMENT, client.receive_raw()).await.is_err(), "it waits");
}

#[tokio::test]
async fn a_small_answer_does_not_end_the_long_poll_in_front_of_it() {
    let world = World::start().await;
    let mut client = world.client().await;
    create(&mut client, "t").await;
    client.send(12, &fetch("t", 0, 60_000)).await;
    client.send(12, &metadata("t")).await;
    assert!(timeout(A_MOMENT, client.receive_raw()).await.is_err(), "it waits");
}

#[tokio::test]
async fn a_fetch_that_waits_for_memory_gives_way_to_an_answer_behind_it() {
    let world = World::start().await;
    let context = world.broker.context();
    let mut client = world.client().await;
    create(&mut client, "t").await;
    let value = "x".repeat(100_000);
    let batch = crate::testing::batch(&[value.as_str()]);
    assert_eq!(produced(&mut client, "t", batch).await.error_code, 0);
    let all = context.answers.charge(OTHER, context.answers.total());
    let in_front = client.send(12, &fetch("t", 0, 60_000)).await;
    until(|| context.answers.has_waiters()).await;
    let behind = client.send(1, &echo()).await;
    let answer = timeout(SOON, client.receive::<FetchRequest>(12, in_front)).await.unwrap();
    let partition = &answer.responses[0].partitions[0];
    assert_eq!(partition.high_watermark, 1);
    assert!(partition.records.as_ref().is_none_or(|records| records.is_empty()));
    drop(all);
    timeout(SOON, client.receive::<ListOffsetsRequest>(1, behind)).await.unwrap();
}

#[tokio::test]
async fn the_names_in_the_answer_to_a_fetch_hold_memory() {
    let world = World::start().await;
    let context = world.broker.context();
    let mut client = world.client().await;
    let topics = (0..20).map(|n| {
        FetchTopic::default()
            .with_topic(name(&format!("{n:01000}")))
            .with_partitions(vec![FetchPartition::default()])
    });
    let request = FetchRequest::default().with_max_bytes(1).with_topics(topics.collect());
    let all = context.answers.charge(OTHER, context.answers.total());
    let id = client.send(12, &request).await;
    assert!(timeout(A_MOMENT, client.receive_raw()).await.is_err(), "it waits");
    drop(all);
    let answer = timeout(SOON, client.receive::<FetchRequest>(12, id)).await.unwrap();
    assert_eq!(answer.responses.len(), 20);
}

#[tokio::test]
async fn metadata_that_waits_for_a_creation_holds_no_memory_of_answers() {
    let world = World::start().await;
    let context = world.broker.context();
    let mut client = world.client().await;
    world.control.set_away(true);
    client.send(12, &metadata("new")).await;
    assert!(timeout(A_MOMENT, client.receive_raw()).await.is_err(), "it waits");
    assert_eq!(context.answers.used(), 0);
}

#[tokio::test]
async fn a_small_frame_of_very_many_elements_holds_memory_while_its_answer_waits() {
    let world = World::start().await;
    let context = world.broker.context();
    let mut client = world.client().await;
    let all = context.answers.charge(OTHER, context.answers.total());
    let key = kafka_protocol::protocol::StrBytes::from_static_str("k");
    let request = kafka_protocol::messages::FindCoordinatorRequest::default()
        .with_coordinator_keys(vec![key; 4_000]);
    client.send(4, &request).await;
    until(|| context.answers.has_waiters()).await;
    let decoded = || context.decoded_calls.used();
    assert!(decoded() >= 4_000 * 200, "{}", decoded());
    drop(all);
    timeout(SOON, client.receive_raw()).await.unwrap().unwrap();
    until(|| decoded() == 0).await;
}

#[tokio::test]
async fn a_large_request_is_decoded_when_there_is_memory_for_what_it_decodes_to() {
    let world = World::start().await;
    let context = world.broker.context();
    let mut client = world.client().await;
    let all = context.decoded_calls.charge(OTHER, context.decoded_calls.total());
    let key = kafka_protocol::protocol::StrBytes::from_static_str("key");
    let request = kafka_protocol::messages::FindCoordinatorRequest::default()
        .with_coordinator_keys(vec![key; 40_000]);
    client.send(4, &request).await;
    until(|| context.decoded_calls.has_waiters()).await;
    assert_eq!(context.decoded_calls.used(), context.decoded_calls.total());
    drop(all);
    timeout(SOON, client.receive_raw()).await.unwrap().unwrap();
    until(|| context.decoded_calls.used() == 0 && context.calls.used() == 0).await;
}

#[tokio::test]
async fn an_answer_to_metadata_takes_no_more_than_is_reserved_for_it() {
    let world = World::start().await;
    let context = world.broker.context();
    create_large(&mut world.client().await).await;
    let connection = ConnectionInfo {
        id: 1,
        client_id: "".into(),
        address: ([127, 0, 0, 1], 1).into(),
        software: Software::default(),
        last_request: None,
    };
    let missing = (0..100).map(|n| {
        MetadataRequestTopic::default().with_name(Some(name(&format!("missing-{n:0300}"))))
    });
    let topics = [None, Some(Vec::new()), Some(missing.collect())];
    let api = ottla_wire::apis::Api::find(3).unwrap();
    for version in 1..=13 {
        for topics in &topics {
            let request = MetadataRequest::default().with_topics(topics.clone());
            let found = crate::api::metadata::find(context, version, request).await;
            let reserved = found.answer_bytes(context);
            let response = found.answer(context, &connection);
            let encoded = Frame::encoded_length(api, version, &response).unwrap();
            assert!(encoded <= reserved, "{encoded} of {reserved} in version {version}");
        }
    }
}

#[tokio::test]
async fn names_in_the_answer_to_a_produce_hold_memory_until_it_is_made() {
    let world = World::start().await;
    let context = world.broker.context();
    let mut client = world.client().await;
    let all = context.answers.charge(OTHER, context.answers.total());
    let mut request = produce("none", -1, &[]);
    let one = produce("none", -1, &[(0, crate::testing::batch(&["v"]))]).topic_data.remove(0);
    request.topic_data =
        (0..20).map(|n| one.clone().with_name(name(&format!("{n:01000}")))).collect();
    let id = client.send(9, &request).await;
    until(|| context.answers.has_waiters()).await;
    assert!(context.writer().budget().used() >= 20_000);
    assert!(timeout(A_MOMENT, client.receive_raw()).await.is_err(), "it waits");
    drop(all);
    let answer = timeout(SOON, client.receive::<ProduceRequest>(9, id)).await.unwrap();
    assert_eq!(answer.responses.len(), 20);
    until(|| context.writer().budget().used() == 0).await;
}

/// A short request may name a group with very many offsets very often.
#[tokio::test]
async fn the_offsets_of_many_groups_are_held_to_the_share_of_an_address() {
    const COMMITTED: i32 = 100;
    let world = World::start().await;
    let mut client = world.client().await;
    create_large(&mut client).await;
    let metadata = kafka_protocol::protocol::StrBytes::from("m".repeat(4_000));
    let partitions = (0..COMMITTED).map(|index| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(index)
            .with_committed_metadata(Some(metadata.clone()))
    });
    let topic = OffsetCommitRequestTopic::default()
        .with_name(name("large"))
        .with_partitions(partitions.collect());
    let commit = OffsetCommitRequest::default()
        .with_group_id(GroupId("g".into()))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let committed = client.call(8, &commit).await;
    assert_eq!(committed.topics[0].partitions[0].error_code, 0);
    let named = OffsetFetchRequestGroup::default().with_group_id(GroupId("g".into()));
    let request = |groups| {
        OffsetFetchRequest::default().with_groups(vec![named.clone().with_topics(None); groups])
    };
    let answer = client.call(8, &request(60)).await;
    let share = crate::group::limits::REQUESTS_BYTES_MAX / crate::group::limits::CLIENT_SHARE;
    let whole = answer.groups.iter().filter(|group| group.error_code == 0);
    let bytes = whole.map(|group| group.topics[0].partitions.len() * 4_000).sum::<usize>();
    assert!((share / 2..=share).contains(&bytes), "{bytes} of {share}");
    let last = answer.groups.last().unwrap();
    assert_eq!(last.error_code, Kafka::CoordinatorLoadInProgress.code());
    // Given back.
    let answer = client.call(8, &request(30)).await;
    assert!(answer.groups.iter().all(|group| group.error_code == 0));
}
