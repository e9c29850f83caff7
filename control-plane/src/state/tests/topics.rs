//! Topics: names, growth, deletion.

use ottla_format::command::*;
use ottla_format::state::ObjectStatus;
use ottla_model::*;

use super::fixture::*;
use crate::state::semantics::PARTITIONS_MAX;

#[test]
fn a_name_is_taken_once_and_a_repeated_command_is_the_same_command() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.create_topic(1, "first", 2), Ok(()));
    let exists = CreateTopicRefusal::Exists(TopicId(1));
    assert_eq!(fixture.create_topic(2, "first", 2), Err(exists));
}

#[test]
fn names_that_differ_by_dot_and_underscore_collide() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.create_topic(2, "a.b_c", 1), Ok(()));
    let collides = CreateTopicRefusal::Collides(TopicName::new("a.b_c").unwrap());
    assert_eq!(fixture.create_topic(3, "a_b.c", 1), Err(collides));
    assert!(fixture.delete_topic(2));
    assert_eq!(fixture.create_topic(3, "a_b.c", 1), Ok(()));
}

#[test]
fn partitions_of_the_cluster_are_limited() {
    let mut fixture = Fixture::new();
    let too_many = PARTITIONS_MAX as i32 - 1;
    let refusal = CreateTopicRefusal::TooManyPartitions;
    assert_eq!(fixture.create_topic(2, "second", too_many), Err(refusal));
    let grow = CreatePartitions { topic: TopicId(1), total: too_many + 2 };
    let refused = Answer::PartitionsCreated(Err(CreatePartitionsRefusal::TooManyPartitions));
    assert_eq!(fixture.apply(CommandBody::CreatePartitions(grow)), refused);
}

#[test]
fn a_topic_grows_and_never_shrinks() {
    let mut fixture = Fixture::new();
    let mut grow = |topic, total| {
        let create = CreatePartitions { topic: TopicId(topic), total };
        fixture.apply(CommandBody::CreatePartitions(create))
    };
    assert_eq!(grow(1, 4), Answer::PartitionsCreated(Ok(())));
    assert_eq!(grow(1, 4), Answer::PartitionsCreated(Ok(())));
    let fewer = CreatePartitionsRefusal::Fewer { current: 4 };
    assert_eq!(grow(1, 3), Answer::PartitionsCreated(Err(fewer)));
    let unknown = CreatePartitionsRefusal::UnknownTopic;
    assert_eq!(grow(9, 3), Answer::PartitionsCreated(Err(unknown)));
    assert_eq!(fixture.commit(vec![batch(partition(1, 3), 1, None)]), [appended(0)]);
    assert_eq!(fixture.state.view().topics[0].partitions, 4);
}

#[test]
fn a_deleted_topic_condemns_the_objects_that_only_it_used() {
    let mut fixture = Fixture::new();
    fixture.create_topic(2, "second", 1).unwrap();
    fixture.commit(vec![batch(partition(1, 0), 1, None), batch(partition(2, 0), 1, None)]);
    fixture.commit(vec![batch(partition(1, 0), 1, None)]);
    fixture.time = 7_000;
    assert!(fixture.delete_topic(1));
    assert!(!fixture.delete_topic(1));
    let status = |id| fixture.state.objects.get(ObjectId(id)).map(|object| object.status);
    assert_eq!(status(0), Some(ObjectStatus::Live));
    assert_eq!(status(1), Some(ObjectStatus::Condemned { at: TimestampMs(7_000) }));
    assert_eq!(fixture.state.bounds(partition(1, 0)), None);
}

#[test]
fn a_repeated_command_does_not_bring_a_deleted_topic_back() {
    let mut fixture = Fixture::new();
    assert!(fixture.delete_topic(1));
    assert_eq!(fixture.create_topic(1, "first", 2), Ok(()));
    assert!(!fixture.delete_topic(1));
    let identity = fixture.state.identity();
    let records = fixture.state.records();
    fixture.state = crate::state::State::from_records(identity, records).unwrap();
    assert_eq!(fixture.create_topic(1, "first", 2), Ok(()));
    assert_eq!(fixture.state.bounds(partition(1, 0)), None);
}

#[test]
fn a_topic_that_is_deleted_under_a_commit_refuses_its_batches() {
    let mut fixture = Fixture::new();
    assert!(fixture.delete_topic(1));
    assert_eq!(fixture.commit(vec![batch(partition(1, 0), 1, None)]), [UNKNOWN]);
}

#[test]
fn a_name_that_is_created_again_is_another_topic() {
    let mut fixture = Fixture::new();
    let send = |topic, sequence| batch(partition(topic, 0), 1, producer(7, 0, sequence));
    fixture.commit(vec![send(1, 0)]);
    assert!(fixture.delete_topic(1));
    fixture.create_topic(2, "first", 1).unwrap();
    // Bytes bound to the old topic never reach the new one, and its producers are unknown.
    assert_eq!(fixture.commit(vec![send(1, 1), send(2, 50)]), [UNKNOWN, appended(0)]);
}
