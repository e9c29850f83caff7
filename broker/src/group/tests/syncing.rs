use std::time::Duration;

use super::machine::{Machine, REBALANCE, SESSION, member, sync};
use crate::group::{GroupError, Request, State, Sync};

/// Two members that know generation 1; the first leads.
fn completing() -> (Machine, Vec<std::sync::Arc<str>>) {
    let mut machine = Machine::new();
    let (a, _) = machine.join_in_two_steps("a");
    let (b, _) = machine.join_in_two_steps("b");
    machine.pass(Duration::from_secs(6));
    machine.seen.joins.clear();
    assert_eq!(machine.group.state(), State::CompletingRebalance);
    (machine, vec![a, b])
}

#[test]
fn nobody_gets_a_part_before_the_assignment_is_stored() {
    let (mut machine, ids) = completing();
    let follower = machine.sync(&ids[1], 1, &[]);
    let leader = machine.sync(&ids[0], 1, &[(&ids[0], "part a"), (&ids[1], "part b")]);
    assert!(machine.seen.syncs.is_empty());
    let stored = machine.stored(Ok(()));
    assert_eq!((stored.generation, stored.members.len()), (1, 2));
    assert_eq!(stored.leader.as_deref(), Some(&*ids[0]));
    assert_eq!(stored.members[1].assignment, "part b");
    assert_eq!(machine.synced(leader).unwrap().assignment, "part a");
    assert_eq!(machine.synced(follower).unwrap().assignment, "part b");
    assert_eq!(machine.group.state(), State::Stable);
    let late = machine.sync(&ids[1], 1, &[]);
    let synced = machine.synced(late).unwrap();
    assert_eq!(synced.assignment, "part b");
    assert_eq!(synced.protocol.as_deref(), Some("range"));
}

#[test]
fn a_member_the_leader_left_out_gets_an_empty_part() {
    let (mut machine, ids) = completing();
    let follower = machine.sync(&ids[1], 1, &[]);
    machine.sync(&ids[0], 1, &[(&ids[0], "all")]);
    machine.stored(Ok(()));
    assert!(machine.synced(follower).unwrap().assignment.is_empty());
}

#[test]
fn syncs_are_refused_for_their_reasons() {
    type Change = fn(Sync) -> Sync;
    let cases: Vec<(&str, Change, GroupError)> = vec![
        ("unknown", |s| Sync { member_id: "x".into(), ..s }, GroupError::UnknownMember),
        ("generation", |s| Sync { generation: 7, ..s }, GroupError::IllegalGeneration),
        (
            "type",
            |s| Sync { protocol_type: Some("connect".into()), ..s },
            GroupError::InconsistentProtocol,
        ),
        (
            "protocol",
            |s| Sync { protocol: Some("sticky".into()), ..s },
            GroupError::InconsistentProtocol,
        ),
        ("instance", |s| Sync { instance_id: Some("i".into()), ..s }, GroupError::UnknownMember),
    ];
    for (name, change, error) in cases {
        let (mut machine, ids) = completing();
        let ticket = machine.request(Request::Sync(change(sync(&ids[0], 1, &[]))));
        assert_eq!(machine.synced(ticket), Err(error), "{name}");
    }
    let (mut machine, ids) = Machine::stable(&["a", "b"]);
    machine.join(member(&ids[0]));
    let ticket = machine.sync(&ids[1], 1, &[]);
    assert_eq!(machine.synced(ticket), Err(GroupError::RebalanceInProgress));
    let mut empty = Machine::new();
    let ticket = empty.sync("a", 1, &[]);
    assert_eq!(empty.synced(ticket), Err(GroupError::UnknownMember));
}

#[test]
fn an_assignment_that_could_not_be_stored_is_given_to_nobody() {
    let (mut machine, ids) = completing();
    let follower = machine.sync(&ids[1], 1, &[]);
    let leader = machine.sync(&ids[0], 1, &[(&ids[0], "all")]);
    machine.stored(Err(GroupError::NotAvailable));
    assert_eq!(machine.synced(leader), Err(GroupError::NotAvailable));
    assert_eq!(machine.synced(follower), Err(GroupError::NotAvailable));
    assert_eq!(machine.group.state(), State::PreparingRebalance);
    machine.join(member(&ids[0]));
    let b = machine.join(member(&ids[1]));
    assert_eq!(machine.joined(b).generation, 2);
}

#[test]
fn an_assignment_that_a_rebalance_overtook_is_given_to_nobody() {
    let (mut machine, ids) = completing();
    let leader = machine.sync(&ids[0], 1, &[(&ids[0], "all")]);
    machine.join_in_two_steps("c");
    assert_eq!(machine.synced(leader), Err(GroupError::RebalanceInProgress));
    machine.stored(Ok(()));
    assert_eq!(machine.group.state(), State::PreparingRebalance);
    assert!(machine.seen.syncs.is_empty());
}

#[test]
fn a_leader_that_asks_twice_brings_one_assignment() {
    let (mut machine, ids) = completing();
    let first = machine.sync(&ids[0], 1, &[(&ids[0], "first")]);
    let second = machine.sync(&ids[0], 1, &[(&ids[0], "second")]);
    assert_eq!(machine.synced(first), Err(GroupError::RebalanceInProgress));
    assert_eq!(machine.seen.stores.len(), 1);
    machine.stored(Ok(()));
    assert_eq!(machine.synced(second).unwrap().assignment, "first");
}

#[test]
fn a_member_that_never_asks_for_its_part_is_no_member_any_more() {
    let (mut machine, ids) = completing();
    let leader = machine.sync(&ids[0], 1, &[(&ids[0], "all")]);
    machine.stored(Ok(()));
    machine.synced(leader).unwrap();
    let mut waited = Duration::ZERO;
    while waited < REBALANCE {
        machine.pass(Duration::from_secs(5));
        waited += Duration::from_secs(5);
        let _ = machine.heartbeat(&ids[0], 1);
        let _ = machine.heartbeat(&ids[1], 1);
    }
    assert_eq!(machine.heartbeat(&ids[1], 1), Err(GroupError::UnknownMember));
    assert_eq!(machine.group.state(), State::PreparingRebalance);
}

#[test]
fn members_are_not_silent_while_they_wait_for_the_leader() {
    let (mut machine, ids) = completing();
    let follower = machine.sync(&ids[1], 1, &[]);
    for _ in 0..5 {
        machine.pass(Duration::from_secs(8));
        machine.heartbeat(&ids[0], 1).unwrap();
    }
    machine.sync(&ids[0], 1, &[(&ids[1], "part b")]);
    machine.stored(Ok(()));
    assert_eq!(machine.synced(follower).unwrap().assignment, "part b");
    machine.heartbeat(&ids[1], 1).unwrap();
}

#[test]
fn to_ask_for_a_part_is_a_sign_of_life() {
    let (mut machine, ids) = Machine::stable(&["a"]);
    machine.pass(SESSION - Duration::from_millis(1));
    let again = machine.sync(&ids[0], 1, &[]);
    machine.synced(again).unwrap();
    machine.pass(SESSION - Duration::from_millis(1));
    assert_eq!(machine.group.state(), State::Stable);
}
