//! Groups: offsets and metadata.

use ottla_format::command::*;
use ottla_model::*;

use super::fixture::*;

fn offset(offset: i64) -> CommittedOffset {
    CommittedOffset { offset: Offset(offset), leader_epoch: -1, metadata: "".into() }
}

fn metadata(members: usize) -> GroupMetadata {
    let member = |at: usize| GroupMember {
        member_id: format!("m-{at}").into(),
        instance_id: None,
        client_id: "app".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 60_000,
        protocols: vec![],
        assignment: Default::default(),
    };
    GroupMetadata {
        generation: 4,
        protocol_type: "consumer".into(),
        protocol: None,
        leader: None,
        members: (0..members).map(member).collect(),
    }
}

fn commit(fixture: &mut Fixture, group: &str, offsets: &[(PartitionId, i64)]) -> Answer {
    let offsets = offsets.iter().map(|(partition, at)| (*partition, offset(*at))).collect();
    let (author, group) = (fixture.author, GroupId::from(group));
    fixture.apply(CommandBody::CommitOffsets(CommitOffsets { author, group, offsets }))
}

fn put(fixture: &mut Fixture, group: &str, members: usize) -> Answer {
    let (author, group) = (fixture.author, GroupId::from(group));
    let metadata = metadata(members);
    fixture.apply(CommandBody::PutGroup(PutGroup { author, group, metadata }))
}

fn stored(fixture: &Fixture, group: &str) -> Option<Vec<i64>> {
    let group = fixture.state.group(&GroupId::from(group))?;
    Some(group.offsets.values().map(|offset| offset.offset.0).collect())
}

#[test]
fn offsets_are_stored_and_unknown_partitions_reported() {
    let mut fixture = Fixture::new();
    let offsets = [(partition(1, 0), 5), (partition(1, 7), 6), (partition(2, 0), 7)];
    let unknown = vec![partition(1, 7), partition(2, 0)];
    let answer = commit(&mut fixture, "g", &offsets);
    assert_eq!(answer, Answer::OffsetsCommitted(Ok(unknown)));
    commit(&mut fixture, "g", &[(partition(1, 1), 8), (partition(1, 0), 2)]);
    assert_eq!(stored(&fixture, "g"), Some(vec![2, 8]));
    assert_eq!(stored(&fixture, "other"), None);
}

#[test]
fn offsets_go_with_their_topic_and_an_empty_group_with_its_last_offset() {
    let mut fixture = Fixture::new();
    fixture.create_topic(2, "second", 1).unwrap();
    commit(&mut fixture, "both", &[(partition(1, 0), 1), (partition(2, 0), 2)]);
    commit(&mut fixture, "first", &[(partition(1, 0), 3)]);
    commit(&mut fixture, "empty", &[(partition(1, 0), 4)]);
    put(&mut fixture, "empty", 0);
    commit(&mut fixture, "active", &[(partition(1, 0), 5)]);
    put(&mut fixture, "active", 2);
    assert!(fixture.delete_topic(1));
    assert_eq!(stored(&fixture, "both"), Some(vec![2]));
    assert_eq!(stored(&fixture, "first"), None);
    assert_eq!(stored(&fixture, "empty"), None);
    assert_eq!(stored(&fixture, "active"), Some(vec![]));
}

#[test]
fn metadata_is_replaced_and_an_empty_group_without_offsets_is_gone() {
    let mut fixture = Fixture::new();
    assert_eq!(put(&mut fixture, "g", 2), Answer::GroupStored(Ok(())));
    let group = |fixture: &Fixture| fixture.state.group(&GroupId::from("g"));
    assert_eq!(group(&fixture).unwrap().metadata, Some(metadata(2)));
    put(&mut fixture, "g", 0);
    assert_eq!(group(&fixture), None);
    commit(&mut fixture, "g", &[(partition(1, 0), 1)]);
    put(&mut fixture, "g", 0);
    assert_eq!(group(&fixture).unwrap().metadata, Some(metadata(0)));
}

#[test]
fn a_fenced_coordinator_stores_nothing() {
    let mut fixture = Fixture::new();
    fixture.apply(CommandBody::FenceBroker(fixture.author));
    let answer = commit(&mut fixture, "g", &[(partition(1, 0), 1)]);
    assert_eq!(answer, Answer::OffsetsCommitted(Err(Fenced)));
    assert_eq!(put(&mut fixture, "g", 1), Answer::GroupStored(Err(Fenced)));
    assert_eq!(stored(&fixture, "g"), None);
}
