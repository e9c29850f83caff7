use std::sync::Arc;
use std::time::Duration;

use super::machine::{Machine, SESSION, Seen, protocols, static_member};
use crate::group::{GroupError, Join, Request, State, Sync};

/// A stable group of static members `x` (the leader) and `y`, generation 1.
fn stable() -> Machine {
    let mut machine = Machine::new();
    machine.join(static_member("x", 1));
    machine.join(static_member("y", 1));
    machine.pass(Duration::from_secs(6));
    for id in ["x-1", "y-1"] {
        machine.sync(id, 1, &[("x-1", "part x"), ("y-1", "part y")]);
    }
    machine.stored(Ok(()));
    assert_eq!(machine.group.state(), State::Stable);
    machine.seen = Seen::default();
    machine
}

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    let mut machine = stable();
    let back = machine.join(static_member("y", 2));
    assert!(machine.seen.joins.is_empty(), "stored before told");
    let stored = machine.stored(Ok(()));
    assert_eq!(&*stored.members[1].member_id, "y-2");
    assert_eq!(stored.members[1].assignment, "part y");
    let joined = machine.joined(back);
    assert_eq!((&*joined.member_id, joined.generation), ("y-2", 1));
    assert_eq!(joined.leader.as_deref(), Some("x-1"));
    assert!(!joined.skip_assignment);
    assert_eq!(machine.group.state(), State::Stable);
    let sync = machine.sync("y-2", 1, &[]);
    assert_eq!(machine.synced(sync).unwrap().assignment, "part y");
}

#[test]
fn a_former_self_is_fenced() {
    let mut machine = stable();
    machine.join(static_member("y", 2));
    machine.stored(Ok(()));
    let fenced = Err(GroupError::FencedInstance);
    assert_eq!(machine.heartbeat_as("y-1", Some("y"), 1), fenced);
    assert_eq!(machine.heartbeat("y-1", 1), Err(GroupError::UnknownMember));
    let ticket = machine.request(Request::Sync(Sync {
        instance_id: Some("y".into()),
        ..super::machine::sync("y-1", 1, &[])
    }));
    assert_eq!(machine.synced(ticket), Err(GroupError::FencedInstance));
    let ticket = machine.join(Join { member_id: "y-1".into(), ..static_member("y", 3) });
    assert_eq!(machine.join_error(ticket).error, GroupError::FencedInstance);
    let ticket = machine.leave("y-1", Some("y"));
    assert_eq!(machine.seen.leaves.remove(&ticket), Some(Ok(vec![fenced])));
}

#[test]
fn a_leader_that_comes_back_is_told_to_skip_the_assignment_if_it_can_be() {
    let mut machine = stable();
    let back = machine.join(static_member("x", 2));
    machine.stored(Ok(()));
    let joined = machine.joined(back);
    assert_eq!((joined.skip_assignment, joined.members.len()), (true, 2));
    assert_eq!(joined.leader.as_deref(), Some("x-2"));

    let mut machine = stable();
    let back = machine.join(Join { can_skip_assignment: false, ..static_member("x", 2) });
    machine.stored(Ok(()));
    let joined = machine.joined(back);
    assert_eq!((joined.skip_assignment, joined.members.len()), (false, 0));
    assert_eq!(joined.leader.as_deref(), Some("x-1"), "it takes itself for a follower");
}

#[test]
fn a_return_that_changes_the_vote_is_a_rebalance() {
    let mut machine = Machine::new();
    for name in ["x", "y"] {
        machine.join(Join { protocols: protocols(&["range", "a"]), ..static_member(name, 1) });
    }
    machine.pass(Duration::from_secs(6));
    for id in ["x-1", "y-1"] {
        machine.sync(id, 1, &[]);
    }
    machine.stored(Ok(()));
    machine.join(Join { protocols: protocols(&["a"]), ..static_member("y", 2) });
    assert_eq!(machine.group.state(), State::PreparingRebalance);
}

#[test]
fn a_return_during_the_assignment_is_a_rebalance() {
    let mut machine = Machine::new();
    machine.join(static_member("x", 1));
    machine.join(static_member("y", 1));
    machine.pass(Duration::from_secs(6));
    let waiting = machine.sync("y-1", 1, &[]);
    machine.join(static_member("y", 2));
    assert_eq!(machine.synced(waiting), Err(GroupError::FencedInstance));
    assert_eq!(machine.group.state(), State::PreparingRebalance);
}

#[test]
fn of_two_runs_that_join_at_once_the_later_one_stays() {
    let mut machine = Machine::new();
    let first = machine.join(static_member("x", 1));
    let second = machine.join(static_member("x", 2));
    let refused = machine.join_error(first);
    assert_eq!((refused.error, &*refused.member_id), (GroupError::FencedInstance, "x-1"));
    machine.pass(Duration::from_secs(6));
    let joined = machine.joined(second);
    assert_eq!((&*joined.member_id, joined.members.len()), ("x-2", 1));
}

#[test]
fn a_return_that_could_not_be_stored_is_refused_and_can_be_repeated() {
    let mut machine = stable();
    let back = machine.join(static_member("y", 2));
    machine.stored(Err(GroupError::NotAvailable));
    let refused = machine.join_error(back);
    assert_eq!((refused.error, &*refused.member_id), (GroupError::NotAvailable, ""));
    let again = machine.join(static_member("y", 3));
    machine.stored(Ok(()));
    assert_eq!(&*machine.joined(again).member_id, "y-3");
    assert_eq!(machine.group.state(), State::Stable);
}

#[test]
fn a_static_member_keeps_its_place_in_a_rebalance_it_misses() {
    let mut machine = stable();
    let x = machine.join(Join { member_id: "x-1".into(), ..static_member("x", 9) });
    machine.pass(SESSION - Duration::from_millis(1));
    machine.heartbeat_as("y-1", Some("y"), 1).unwrap_err();
    machine.pass(SESSION - Duration::from_millis(1));
    assert!(machine.seen.joins.is_empty());
    for _ in 0..6 {
        machine.heartbeat_as("y-1", Some("y"), 1).unwrap_err();
        machine.pass(SESSION - Duration::from_millis(1));
    }
    let members = machine.joined(x).members;
    let ids: Vec<Arc<str>> = members.into_iter().map(|member| member.member_id).collect();
    assert_eq!(ids, ["x-1".into(), "y-1".into()]);
}

#[test]
fn an_operator_removes_a_static_member_by_its_instance_id() {
    let mut machine = stable();
    let ticket = machine.leave("", Some("y"));
    assert_eq!(machine.seen.leaves.remove(&ticket), Some(Ok(vec![Ok(())])));
    assert_eq!(machine.group.state(), State::PreparingRebalance);
}

#[test]
fn a_static_member_survives_a_move_of_its_coordinator() {
    let mut machine = stable();
    machine.join(static_member("y", 2));
    let stored = machine.stored(Ok(()));
    let mut next = machine.reloaded(stored);
    assert_eq!(next.heartbeat_as("y-2", Some("y"), 1), Ok(()));
    assert_eq!(next.heartbeat_as("y-1", Some("y"), 1), Err(GroupError::FencedInstance));
}
