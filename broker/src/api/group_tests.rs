//! The group requests as clients send them, in every version.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError as Kafka;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest,
    OffsetFetchResponse, SyncGroupRequest, TopicName as KafkaName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use ottla_control_api::view::TopicInfo;
use ottla_model::{TopicId, TopicName};
use ottla_test_kit::{FakeControl, values::LISTENER};

use super::offset_fetch::Topics;
use super::{
    find_coordinator, heartbeat, join_group, leave_group, offset_commit, offset_fetch, sync_group,
};
use crate::context::{ConnectionInfo, Software};
use crate::group::Groups;
use crate::group::tests::groups_over;

fn connection() -> ConnectionInfo {
    ConnectionInfo {
        id: 0,
        client_id: "app".into(),
        address: ([127, 0, 0, 1], 5_000).into(),
        software: Software::default(),
        last_request: None,
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn group() -> GroupId {
    GroupId(text("g"))
}

/// What the client reads: encoding fails on fields that the version does not have.
fn over_the_wire<T: Encodable + Decodable>(version: i16, response: &T) -> T {
    let mut bytes = BytesMut::new();
    response.encode(&mut bytes, version).unwrap();
    T::decode(&mut bytes.freeze(), version).unwrap()
}

async fn join(groups: &Groups, version: i16, member_id: &StrBytes) -> JoinGroupResponse {
    let protocol =
        JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata("topics".into());
    let request = JoinGroupRequest::default()
        .with_group_id(group())
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(if version == 0 { -1 } else { 60_000 })
        .with_member_id(member_id.clone())
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let response = join_group::answer(groups, &connection(), version, request).await;
    over_the_wire(version, &response)
}

#[tokio::test(start_paused = true)]
async fn a_member_joins_works_and_leaves_in_every_version() {
    for version in 0..=9 {
        let groups = groups_over(&FakeControl::default());
        let mut joined = join(&groups, version, &text("")).await;
        if version >= 4 {
            assert_eq!(joined.error_code, Kafka::MemberIdRequired.code());
            assert_eq!(joined.generation_id, -1);
            joined = join(&groups, version, &joined.member_id).await;
        }
        assert_eq!((joined.error_code, joined.generation_id), (0, 1), "version {version}");
        assert!(joined.member_id.starts_with("app-"));
        assert_eq!(joined.leader, joined.member_id);
        assert_eq!(joined.protocol_name.as_deref(), Some("range"));
        assert_eq!(joined.protocol_type.is_some(), version >= 7);
        assert_eq!(joined.members.len(), 1);
        assert_eq!(joined.members[0].metadata, "topics");
        let id = joined.member_id;

        let sync_version = version.min(5);
        let part = SyncGroupRequestAssignment::default()
            .with_member_id(id.clone())
            .with_assignment("part".into());
        let mut request = SyncGroupRequest::default()
            .with_group_id(group())
            .with_generation_id(1)
            .with_member_id(id.clone())
            .with_assignments(vec![part]);
        if sync_version >= 5 {
            let refused =
                sync_group::answer(&groups, &connection(), sync_version, request.clone()).await;
            assert_eq!(refused.error_code, Kafka::InconsistentGroupProtocol.code());
            request = request
                .with_protocol_type(Some(text("consumer")))
                .with_protocol_name(Some(text("range")));
        }
        let synced = sync_group::answer(&groups, &connection(), sync_version, request).await;
        let synced = over_the_wire(sync_version, &synced);
        assert_eq!((synced.error_code, &*synced.assignment), (0, b"part".as_slice()));

        let request = HeartbeatRequest::default()
            .with_group_id(group())
            .with_generation_id(1)
            .with_member_id(id.clone());
        let beat = heartbeat::answer(&groups, request.clone()).await;
        assert_eq!(over_the_wire(version.min(4), &beat).error_code, 0);

        let leave_version = version.min(5);
        let leave = LeaveGroupRequest::default().with_group_id(group());
        let leave = if leave_version < 3 {
            leave.with_member_id(id)
        } else {
            leave.with_members(vec![
                MemberIdentity::default().with_member_id(id),
                MemberIdentity::default().with_member_id(text("nobody")),
            ])
        };
        let left = leave_group::answer(&groups, &connection(), leave_version, leave).await;
        let left = over_the_wire(leave_version, &left);
        assert_eq!(left.error_code, 0);
        let codes: Vec<i16> = left.members.iter().map(|member| member.error_code).collect();
        let many = [0, Kafka::UnknownMemberId.code()];
        assert_eq!(codes, if leave_version < 3 { &[] } else { many.as_slice() });

        let gone = heartbeat::answer(&groups, request).await;
        assert_eq!(gone.error_code, Kafka::UnknownMemberId.code());
    }
}

/// A request as it is decoded, and the frame that its strings are slices of.
fn received<T: Encodable + Decodable>(version: i16, request: &T) -> (Bytes, T) {
    let mut bytes = BytesMut::new();
    request.encode(&mut bytes, version).unwrap();
    let frame = bytes.freeze();
    let request = T::decode(&mut frame.clone(), version).unwrap();
    assert!(!frame.is_unique());
    (frame, request)
}

async fn waits_without_its_frame(frame: Bytes, answer: impl Future) {
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        _ = answer.as_mut() => panic!("it was answered"),
        () = std::future::ready(()) => {}
    }
    assert!(frame.is_unique());
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_keep_what_they_need_and_not_their_frame() {
    let control = FakeControl::default();
    let groups = groups_over(&control);
    control.set_away(true);
    let connection = connection();
    let protocol =
        JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata("topics".into());
    let request = JoinGroupRequest::default()
        .with_group_id(group())
        .with_session_timeout_ms(10_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let (frame, request) = received(9, &request);
    waits_without_its_frame(frame, join_group::answer(&groups, &connection, 9, request)).await;

    let other = || GroupId(text("other"));
    let part = SyncGroupRequestAssignment::default()
        .with_member_id(text("m"))
        .with_assignment("part".into());
    let request = SyncGroupRequest::default()
        .with_group_id(other())
        .with_member_id(text("m"))
        .with_assignments(vec![part]);
    let (frame, request) = received(4, &request);
    waits_without_its_frame(frame, sync_group::answer(&groups, &connection, 4, request)).await;

    let request = HeartbeatRequest::default().with_group_id(other()).with_member_id(text("m"));
    let (frame, request) = received(4, &request);
    waits_without_its_frame(frame, heartbeat::answer(&groups, request)).await;

    let identity = MemberIdentity::default().with_member_id(text("m"));
    let request = LeaveGroupRequest::default().with_group_id(other()).with_members(vec![identity]);
    let (frame, request) = received(4, &request);
    waits_without_its_frame(frame, leave_group::answer(&groups, &connection, 4, request)).await;

    let topic = OffsetCommitRequestTopic::default()
        .with_name(KafkaName(text("orders")))
        .with_partitions(vec![place(0, 1, "text")]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let (frame, request) = received(8, &request);
    let known = |name: &TopicName| EVERYTHING.by_name(name);
    let answer = offset_commit::answer(&groups, &connection, known, 8, request);
    waits_without_its_frame(frame, answer).await;

    let topic = OffsetFetchRequestTopics::default()
        .with_name(KafkaName(text("orders")))
        .with_partition_indexes(vec![0]);
    let named =
        OffsetFetchRequestGroup::default().with_group_id(group()).with_topics(Some(vec![topic]));
    let request = OffsetFetchRequest::default().with_groups(vec![named]);
    let (frame, request) = received(8, &request);
    let answer = offset_fetch::answer(&groups, &connection, &EVERYTHING, 8, request);
    waits_without_its_frame(frame, answer).await;
}

#[tokio::test(start_paused = true)]
async fn refusals_can_be_read_in_every_version() {
    for version in 0..=9 {
        let groups = groups_over(&FakeControl::default());
        let refused = join(&groups, version, &text("nobody")).await;
        assert_eq!(refused.error_code, Kafka::UnknownMemberId.code());
        assert_eq!(&*refused.member_id, "nobody");
        let request =
            LeaveGroupRequest::default().with_group_id(group()).with_member_id(text("nobody"));
        let version = version.min(2);
        let refused = leave_group::answer(&groups, &connection(), version, request).await;
        let code = over_the_wire(version, &refused).error_code;
        assert_eq!(code, Kafka::UnknownMemberId.code());
    }
}

#[tokio::test(start_paused = true)]
async fn the_coordinator_is_found_in_every_version() {
    let groups = groups_over(&FakeControl::default());
    for version in 0..=6 {
        let request = if version < 4 {
            FindCoordinatorRequest::default().with_key(text("g"))
        } else {
            FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g"), text("h")])
        };
        let found = find_coordinator::answer(&groups, LISTENER, version, request).await;
        let found = over_the_wire(version, &found);
        if version < 4 {
            assert_eq!((found.error_code, found.node_id.0, found.port), (0, 1, 9092));
            assert_eq!(&*found.host, "localhost");
        } else {
            let keys: Vec<&str> = found.coordinators.iter().map(|c| &*c.key).collect();
            assert_eq!(keys, ["g", "h"]);
            assert!(found.coordinators.iter().all(|c| c.node_id.0 == 1 && c.error_code == 0));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_coordinator_of_a_transaction_is_refused_with_a_reason() {
    let groups = groups_over(&FakeControl::default());
    let request = FindCoordinatorRequest::default().with_key(text("t")).with_key_type(1);
    for version in 1..=3 {
        let found = find_coordinator::answer(&groups, LISTENER, version, request.clone()).await;
        let found = over_the_wire(version, &found);
        assert_eq!((found.error_code, found.node_id.0), (Kafka::InvalidRequest.code(), -1));
        assert!(found.error_message.unwrap().contains("consumer groups"));
    }
}

/// Topics `orders` (3 partitions) and, if the broker has heard of it, `late`.
struct Known {
    late: bool,
}

impl Known {
    fn all(&self) -> Vec<TopicInfo> {
        let topic = |id, name: &str| TopicInfo {
            id: TopicId(id),
            name: TopicName::new(name).unwrap(),
            partitions: 3,
            replication_factor: 1,
            configs: BTreeMap::new(),
        };
        let mut all = vec![topic(1, "orders")];
        all.extend(self.late.then(|| topic(2, "late")));
        all
    }
}

impl Topics for Known {
    fn by_name(&self, name: &TopicName) -> Option<Arc<TopicInfo>> {
        self.all().into_iter().find(|topic| topic.name == *name).map(Arc::new)
    }

    fn by_id(&self, id: TopicId) -> Option<Arc<TopicInfo>> {
        self.all().into_iter().find(|topic| topic.id == id).map(Arc::new)
    }
}

const EVERYTHING: Known = Known { late: true };

fn place(partition: i32, offset: i64, metadata: &str) -> OffsetCommitRequestPartition {
    OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(text(metadata)))
}

async fn commit(
    groups: &Groups,
    version: i16,
    topics: Vec<(&str, Vec<OffsetCommitRequestPartition>)>,
) -> OffsetCommitResponse {
    let topics = topics.into_iter().map(|(name, partitions)| {
        OffsetCommitRequestTopic::default()
            .with_name(KafkaName(text(name)))
            .with_partitions(partitions)
    });
    let request = OffsetCommitRequest::default()
        .with_group_id(group())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(topics.collect());
    let topic = |name: &TopicName| EVERYTHING.by_name(name);
    let response = offset_commit::answer(groups, &connection(), topic, version, request).await;
    over_the_wire(version, &response)
}

fn codes(response: &OffsetCommitResponse) -> Vec<i16> {
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| partition.error_code).collect()
}

/// Asks for partitions of a topic, or for everything, in the way of the version.
async fn fetch(
    groups: &Groups,
    known: &Known,
    version: i16,
    asked: Option<(&str, Vec<i32>)>,
) -> OffsetFetchResponse {
    let request = if version < 8 {
        let topics = asked.map(|(name, partitions)| {
            vec![
                OffsetFetchRequestTopic::default()
                    .with_name(KafkaName(text(name)))
                    .with_partition_indexes(partitions),
            ]
        });
        OffsetFetchRequest::default().with_group_id(group()).with_topics(topics)
    } else {
        let topics = asked.map(|(name, partitions)| {
            vec![
                OffsetFetchRequestTopics::default()
                    .with_name(KafkaName(text(name)))
                    .with_partition_indexes(partitions),
            ]
        });
        let named = OffsetFetchRequestGroup::default().with_group_id(group()).with_topics(topics);
        OffsetFetchRequest::default().with_groups(vec![named])
    };
    let (response, _) = offset_fetch::answer(groups, &connection(), known, version, request).await;
    over_the_wire(version, &response)
}

/// (topic, partition, offset, leader epoch, metadata) of all partitions in an answer of any version.
fn places(version: i16, response: &OffsetFetchResponse) -> Vec<(String, i32, i64, i32, String)> {
    let mut places = Vec::new();
    for topic in &response.topics {
        assert!(version < 8);
        for p in &topic.partitions {
            let metadata = p.metadata.as_deref().unwrap_or_default().to_owned();
            let (offset, epoch) = (p.committed_offset, p.committed_leader_epoch);
            places.push((topic.name.0.to_string(), p.partition_index, offset, epoch, metadata));
        }
    }
    for topic in response.groups.iter().flat_map(|group| &group.topics) {
        for p in &topic.partitions {
            let metadata = p.metadata.as_deref().unwrap_or_default().to_owned();
            let (offset, epoch) = (p.committed_offset, p.committed_leader_epoch);
            places.push((topic.name.0.to_string(), p.partition_index, offset, epoch, metadata));
        }
    }
    places
}

#[tokio::test(start_paused = true)]
async fn offsets_are_stored_and_given_back_in_every_version() {
    for version in 2..=9 {
        let groups = groups_over(&FakeControl::default());
        let leader_epoch = if version >= 6 { 4 } else { -1 };
        let first = place(0, 42, "näh").with_committed_leader_epoch(leader_epoch);
        let second = place(2, 7, "");
        let done = commit(&groups, version, vec![("orders", vec![first, second])]).await;
        assert_eq!(codes(&done), [0, 0]);

        let asked = Some(("orders", vec![0, 1, 2]));
        let fetched = fetch(&groups, &EVERYTHING, version, asked).await;
        let epoch = if version >= 6 { 4 } else { -1 };
        let expected = [
            ("orders".to_owned(), 0, 42, epoch, "näh".to_owned()),
            ("orders".to_owned(), 1, -1, -1, String::new()),
            ("orders".to_owned(), 2, 7, -1, String::new()),
        ];
        assert_eq!(places(version, &fetched), expected, "version {version}");
        let all = fetch(&groups, &EVERYTHING, version, None).await;
        let expected = [expected[0].clone(), expected[2].clone()];
        assert_eq!(places(version, &all), expected, "version {version}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_cannot_be_committed_fails_alone() {
    let control = FakeControl::default();
    let groups = groups_over(&control);
    let long = "x".repeat(4_097);
    let topics = vec![
        ("orders", vec![place(0, 1, ""), place(3, 1, ""), place(-1, 1, ""), place(1, 1, &long)]),
        ("nowhere", vec![place(0, 1, "")]),
        ("not a name", vec![place(0, 1, "")]),
    ];
    let done = commit(&groups, 8, topics).await;
    let unknown = Kafka::UnknownTopicOrPartition.code();
    let too_large = Kafka::OffsetMetadataTooLarge.code();
    assert_eq!(codes(&done), [0, unknown, unknown, too_large, unknown, unknown]);
    assert_eq!(control.group_now("g").offsets.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_names_too_many_partitions_is_refused_for_each() {
    let control = FakeControl::default();
    let groups = groups_over(&control);
    // The same one again and again: it is what is named that costs memory.
    let done = commit(&groups, 8, vec![("orders", vec![place(0, 1, ""); 100_000])]).await;
    let codes = codes(&done);
    assert_eq!(codes.len(), 100_000);
    assert!(codes.iter().all(|code| *code == Kafka::InvalidCommitOffsetSize.code()));
    assert!(control.group_now("g").offsets.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_is_refused_is_refused_for_every_partition_that_exists() {
    let groups = groups_over(&FakeControl::default());
    for (version, code) in [(8, Kafka::IllegalGeneration), (9, Kafka::GroupIdNotFound)] {
        let topic = OffsetCommitRequestTopic::default()
            .with_name(KafkaName(text("orders")))
            .with_partitions(vec![place(0, 1, ""), place(9, 1, "")]);
        let request = OffsetCommitRequest::default()
            .with_group_id(group())
            .with_generation_id_or_member_epoch(5)
            .with_member_id(text("m"))
            .with_topics(vec![topic]);
        let known = |name: &TopicName| EVERYTHING.by_name(name);
        let refused = offset_commit::answer(&groups, &connection(), known, version, request).await;
        assert_eq!(codes(&refused), [code.code(), Kafka::UnknownTopicOrPartition.code()]);
    }
}

#[tokio::test(start_paused = true)]
async fn offsets_of_a_topic_this_broker_has_not_heard_of_are_not_answered_none() {
    let groups = groups_over(&FakeControl::default());
    commit(&groups, 8, vec![("late", vec![place(0, 9, "")]), ("orders", vec![place(0, 1, "")])])
        .await;
    let behind = Known { late: false };
    let loading = Kafka::CoordinatorLoadInProgress.code();
    for asked in [Some(("late", vec![0])), None] {
        let fetched = fetch(&groups, &behind, 9, asked.clone()).await;
        assert_eq!(fetched.groups[0].error_code, loading);
        let fetched = fetch(&groups, &behind, 7, asked).await;
        assert_eq!(fetched.error_code, loading);
    }
    let known = fetch(&groups, &behind, 9, Some(("orders", vec![0]))).await;
    assert_eq!((known.groups[0].error_code, places(9, &known)[0].2), (0, 1));
    let first = fetch(&groups, &behind, 1, Some(("late", vec![0, 1]))).await;
    assert!(first.topics[0].partitions.iter().all(|p| p.error_code == loading));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_topic_or_group_has_no_offsets() {
    let groups = groups_over(&FakeControl::default());
    let fetched = fetch(&groups, &EVERYTHING, 9, Some(("nowhere", vec![0]))).await;
    assert_eq!(fetched.groups[0].error_code, 0);
    assert_eq!(places(9, &fetched)[0].2, -1);
}

#[tokio::test(start_paused = true)]
async fn offsets_that_cannot_be_read_are_asked_for_again() {
    let control = FakeControl::default();
    let groups = groups_over(&control);
    control.set_away(true);
    let begun = tokio::time::Instant::now();
    let fetched = fetch(&groups, &EVERYTHING, 9, Some(("orders", vec![0]))).await;
    assert_eq!(fetched.groups[0].error_code, Kafka::CoordinatorLoadInProgress.code());
    assert!(begun.elapsed() <= Duration::from_secs(5));
}
