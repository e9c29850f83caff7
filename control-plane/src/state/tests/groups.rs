//! Groups: offsets and metadata.

use ottla_format::command::*;
use ottla_format::limits::{CONFIG_VALUE_BYTES_MAX, GROUP_ID_BYTES_MAX};
use ottla_format::state::StateKey;
use ottla_model::*;

use super::fixture::*;
use crate::state::changed::RecordChange;
use crate::state::semantics::{GROUP_OFFSETS_EXPIRED_MAX, GROUPS_EXPIRED_MAX};

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
    let (kind, metadata) = (GroupKind::Classic, metadata(members));
    fixture.apply(CommandBody::PutGroup(PutGroup { author, group, kind, metadata }))
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

#[test]
fn a_command_forgets_no_further_group_once_many_offsets_went() {
    let mut fixture = Fixture::new();
    let partitions = GROUP_OFFSETS_EXPIRED_MAX as i32 / 2;
    fixture.create_topic(2, "wide", partitions).unwrap();
    let offsets: Vec<_> = (0..partitions).map(|index| (partition(2, index), 5)).collect();
    for group in ["a", "b", "c"] {
        commit(&mut fixture, group, &offsets);
    }
    expire(&mut fixture, i64::MAX);
    assert_eq!(fixture.state.size().groups, 1);
    expire(&mut fixture, i64::MAX);
    assert_eq!(fixture.state.size().groups, 0);
}

#[test]
fn a_group_that_comes_back_has_another_number_and_nothing_of_before() {
    let mut fixture = Fixture::new();
    commit(&mut fixture, "g", &[(partition(1, 0), 5), (partition(1, 1), 6)]);
    fixture.time = 9_000;
    expire(&mut fixture, 8_999);
    assert_eq!(stored(&fixture, "g"), None);
    commit(&mut fixture, "other", &[(partition(1, 1), 7)]);
    commit(&mut fixture, "g", &[(partition(1, 0), 8)]);
    assert_eq!(stored(&fixture, "g"), Some(vec![8]));
    let numbers = fixture.state.groups.numbers.values().map(|number| number.0);
    assert_eq!(numbers.collect::<Vec<_>>(), [2, 1]);
}

#[test]
fn a_checkpoint_forgets_a_group_with_all_of_its_offsets() {
    let mut fixture = Fixture::new();
    commit(&mut fixture, "g", &[(partition(1, 0), 5), (partition(1, 1), 6)]);
    commit(&mut fixture, "h", &[(partition(1, 0), 5)]);
    put(&mut fixture, "h", 1);
    drop(fixture.state.cut_checkpoint());
    fixture.time = 9_000;
    expire(&mut fixture, 9_000);
    commit(&mut fixture, "g", &[(partition(1, 0), 7)]);
    let (copy, dirty) = fixture.state.cut_checkpoint();
    let (mut put, mut gone) = (Vec::new(), Vec::new());
    copy.changed_records(&dirty, &mut |change| match change {
        RecordChange::Put((key, _)) => put.push(StateKey::decode(&key).unwrap()),
        RecordChange::Remove(key) => gone.push(key),
        RecordChange::RemovePrefix(prefix) => gone.push(prefix),
    });
    let (old, new) = (GroupNumber(0), GroupNumber(2));
    let offset = StateKey::GroupOffset(new, partition(1, 0));
    assert_eq!(put, [StateKey::Counters, StateKey::Group(new), offset]);
    let prefix = StateKey::GroupOffset(old, partition(0, 0)).to_bytes()[..9].to_vec();
    assert_eq!(gone, [StateKey::Group(old).to_bytes(), prefix]);
}

/// One client's long id is kept once, whatever hangs under it.
#[test]
fn a_long_group_id_is_not_repeated_for_each_offset() {
    const PARTITIONS: i32 = 1_000;
    let mut sizes = Vec::new();
    for id_bytes in [1, GROUP_ID_BYTES_MAX] {
        let mut fixture = Fixture::new();
        fixture.create_topic(2, "wide", PARTITIONS).unwrap();
        let before: usize = fixture.state.records().map(|(k, v)| k.len() + v.len()).sum();
        let offsets: Vec<_> = (0..PARTITIONS).map(|index| (partition(2, index), 5)).collect();
        commit(&mut fixture, &"g".repeat(id_bytes), &offsets);
        let after: usize = fixture.state.records().map(|(k, v)| k.len() + v.len()).sum();
        assert_eq!(fixture.state.size().group_offsets, PARTITIONS as u64);
        sizes.push((after - before, fixture.state.size().bytes()));
    }
    let longer = GROUP_ID_BYTES_MAX - 1;
    assert!(sizes[1].0 - sizes[0].0 <= longer + 2, "records take {sizes:?}");
    assert_eq!(sizes[1].1 - sizes[0].1, longer as u64, "and memory: {sizes:?}");
}

#[test]
fn texts_that_are_too_long_are_refused_and_change_nothing() {
    let mut fixture = Fixture::new();
    let before = fixture.state.digest();
    let long = "g".repeat(GROUP_ID_BYTES_MAX + 1);
    let answer = commit(&mut fixture, &long, &[(partition(1, 0), 5)]);
    assert!(matches!(answer, Answer::TooLong(_)), "{answer:?}");
    assert!(matches!(put(&mut fixture, &long, 1), Answer::TooLong(_)));
    let mut create = create_topic(2, "second", 1);
    create.configs.insert("cleanup.policy".to_owned(), "x".repeat(CONFIG_VALUE_BYTES_MAX + 1));
    let answer = fixture.apply(CommandBody::CreateTopic(create));
    assert!(matches!(answer, Answer::TooLong(_)), "{answer:?}");
    assert_eq!(fixture.state.digest(), before);
}

#[test]
fn texts_count_as_memory_as_they_come_and_go() {
    let mut fixture = Fixture::new();
    let before = fixture.state.size();
    let mut create = create_topic(2, "second", 1);
    create.configs.insert("cleanup.policy".to_owned(), "delete".to_owned());
    fixture.apply(CommandBody::CreateTopic(create));
    commit(&mut fixture, "readers", &[(partition(2, 0), 5)]);
    put(&mut fixture, "readers", 2);
    let members = "consumer".len() + 2 * ("m-0".len() + "app".len() + "/127.0.0.1".len());
    let texts = "second".len() + "cleanup.policydelete".len() + "readers".len() + members;
    assert_eq!(fixture.state.size().text_bytes - before.text_bytes, texts as u64);
    put(&mut fixture, "readers", 0);
    fixture.delete_topic(2);
    assert_eq!(fixture.state.size(), before);
}
