//! Groups: offsets and metadata.

use ottla_format::command::*;
use ottla_format::state::StateRecord;
use ottla_model::*;

use super::fixture::*;
use crate::limits::GROUPS_EXPIRED_MAX;
use crate::state::{RecordDigest, State, StateIdentity};

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

fn expire(fixture: &mut Fixture, until: i64) {
    let until = TimestampMs(until);
    fixture.apply(CommandBody::Tick);
    let has_idle = fixture.state.has_idle_groups(until);
    let before = fixture.state.digest();
    fixture.apply(CommandBody::ExpireGroups { until });
    assert_eq!(fixture.state.digest() != before, has_idle, "nobody asks in vain");
}

#[test]
fn a_group_without_members_is_forgotten_when_its_last_use_is_old_enough() {
    let mut fixture = Fixture::new();
    fixture.time = 10_000;
    put(&mut fixture, "left", 1);
    commit(&mut fixture, "left", &[(partition(1, 0), 5)]);
    commit(&mut fixture, "alone", &[(partition(1, 0), 6), (partition(1, 1), 7)]);
    fixture.time = 20_000;
    commit(&mut fixture, "alone", &[(partition(1, 1), 8)]);
    put(&mut fixture, "left", 0);
    fixture.time = 99_000;

    expire(&mut fixture, 19_999);
    assert_eq!(stored(&fixture, "alone"), Some(vec![6, 8]));
    assert_eq!(stored(&fixture, "left"), Some(vec![5]));
    expire(&mut fixture, 20_000);
    assert_eq!((stored(&fixture, "alone"), stored(&fixture, "left")), (None, None));
    expire(&mut fixture, 99_000);
    assert_eq!(fixture.state.size().groups, 0);
    assert_eq!(fixture.state.size().group_offsets, 0);
}

#[test]
fn a_group_with_members_is_never_forgotten() {
    let mut fixture = Fixture::new();
    put(&mut fixture, "g", 1);
    commit(&mut fixture, "g", &[(partition(1, 0), 5)]);
    fixture.time = i64::MAX;
    expire(&mut fixture, i64::MAX);
    assert_eq!(stored(&fixture, "g"), Some(vec![5]));
}

#[test]
fn groups_with_members_are_listed_in_pages() {
    let mut fixture = Fixture::new();
    for (group, members) in [("a", 1), ("b", 0), ("c", 2), ("d", 1), ("e", 1)] {
        commit(&mut fixture, group, &[(partition(1, 0), 5)]);
        put(&mut fixture, group, members);
    }
    put(&mut fixture, "d", 0);
    let page = |after: Option<&str>, max| {
        let after = after.map(GroupId::from);
        let page = fixture.state.groups_with_members(after.as_ref(), max);
        page.iter().map(|group| group.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 2), ["a", "c"]);
    assert_eq!(page(Some("c"), 2), ["e"]);
    assert_eq!(page(Some("b"), 9), ["c", "e"]);
    assert!(page(Some("e"), 2).is_empty());
}

#[test]
fn a_command_forgets_a_bounded_number_of_groups_the_longest_idle_first() {
    let mut fixture = Fixture::new();
    for at in 0..GROUPS_EXPIRED_MAX + 2 {
        fixture.time += 1;
        commit(&mut fixture, &format!("g{at}"), &[(partition(1, 0), 1)]);
    }
    expire(&mut fixture, i64::MAX);
    assert_eq!(fixture.state.size().groups, 2);
    assert_eq!(stored(&fixture, &format!("g{GROUPS_EXPIRED_MAX}")), Some(vec![1]));
    expire(&mut fixture, i64::MAX);
    assert_eq!(fixture.state.size().groups, 0);
}

/// Its time counts from when it is first seen.
#[test]
fn a_group_of_an_older_version_is_kept_for_the_whole_time() {
    let mut fixture = Fixture::new();
    commit(&mut fixture, "g", &[(partition(1, 0), 5)]);
    let state = &fixture.state;
    let records = state.records().filter(|(key, _)| key[0] != 12);
    let mut digest = RecordDigest::default();
    let records: Vec<_> = records.collect();
    for (key, value) in &records {
        digest.add(&StateRecord::decode(key, value).unwrap());
    }
    let identity = StateIdentity { digest: digest.sum(), ..state.identity() };
    fixture.state = State::from_records(identity, records).unwrap();
    fixture.time = 50_000;
    expire(&mut fixture, 40_000);
    assert_eq!(stored(&fixture, "g"), Some(vec![5]));
    fixture.time = 90_000;
    expire(&mut fixture, 49_999);
    assert_eq!(stored(&fixture, "g"), Some(vec![5]));
    expire(&mut fixture, 50_000);
    assert_eq!(stored(&fixture, "g"), None);
}
