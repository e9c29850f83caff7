use std::time::Duration;

use super::machine::{Machine, REBALANCE, SESSION, member, new_member};
use crate::group::limits::{NEW_MEMBER_JOIN_TIMEOUT, REBALANCE_TIMEOUT_MAX};
use crate::group::{GroupError, GroupOptions, Join, State, StorePurpose};

#[test]
fn heartbeats_are_answered_by_state() {
    let (mut machine, ids) = Machine::stable(&["a", "b"]);
    assert_eq!(machine.heartbeat(&ids[0], 1), Ok(()));
    assert_eq!(machine.heartbeat(&ids[0], 0), Err(GroupError::IllegalGeneration));
    assert_eq!(machine.heartbeat("nobody", 1), Err(GroupError::UnknownMember));
    assert_eq!(
        machine.heartbeat_as(&ids[0], Some("i"), 1),
        Err(GroupError::UnknownMember),
        "an instance id nobody has"
    );
    machine.join(member(&ids[0]));
    assert_eq!(machine.heartbeat(&ids[1], 1), Err(GroupError::RebalanceInProgress));
    machine.join(member(&ids[1]));
    assert_eq!(machine.group.state(), State::CompletingRebalance);
    assert_eq!(machine.heartbeat(&ids[1], 2), Ok(()));
    assert_eq!(Machine::new().heartbeat("a", 1), Err(GroupError::UnknownMember));
}

#[test]
fn a_silent_member_is_removed_and_the_others_rebalance() {
    let (mut machine, ids) = Machine::stable(&["a", "b"]);
    machine.pass(SESSION / 2);
    machine.heartbeat(&ids[1], 1).unwrap();
    machine.pass(SESSION / 2);
    assert_eq!(machine.group.state(), State::PreparingRebalance);
    let b = machine.join(member(&ids[1]));
    let joined = machine.joined(b);
    assert_eq!((joined.generation, joined.leader.as_deref()), (2, Some(&*ids[1])));
}

#[test]
fn a_group_whose_members_are_all_silent_becomes_empty_and_is_stored_so() {
    let (mut machine, _) = Machine::stable(&["a", "b"]);
    machine.pass(SESSION);
    assert_eq!((machine.group.state(), machine.group.generation()), (State::Empty, 2));
    let (purpose, metadata) = machine.seen.stores.remove(0);
    assert_eq!(purpose, StorePurpose::Empty { leaving: None });
    assert_eq!((metadata.generation, metadata.members.len()), (2, 0));
    assert_eq!(&*metadata.protocol_type, "consumer");
    assert!(machine.group.is_idle());
    assert_eq!(machine.group.wake_at(), None);
}

#[test]
fn the_last_leave_is_answered_when_the_empty_group_is_stored() {
    let (mut machine, ids) = Machine::stable(&["a", "b"]);
    let first = machine.leave(&ids[0], None);
    assert_eq!(machine.seen.leaves.remove(&first), Some(Ok(vec![Ok(())])));
    assert_eq!(machine.group.state(), State::PreparingRebalance);
    let last = machine.leave(&ids[1], None);
    assert!(machine.seen.leaves.is_empty());
    assert!(machine.stored(Ok(())).members.is_empty());
    assert_eq!(machine.seen.leaves.remove(&last), Some(Ok(vec![Ok(())])));
}

#[test]
fn leaves_are_refused_for_their_reasons() {
    let mut unknown = Machine::new();
    let ticket = unknown.leave("a", None);
    let expected = Some(Ok(vec![Err(GroupError::UnknownMember)]));
    assert_eq!(unknown.seen.leaves.remove(&ticket), expected, "no such group");
    let (mut machine, ids) = Machine::stable(&["a", "b"]);
    for (member_id, instance_id) in [("nobody", None), ("", None), ("", Some("i"))] {
        let ticket = machine.leave(member_id, instance_id);
        assert_eq!(machine.seen.leaves.remove(&ticket), expected);
    }
    assert_eq!(machine.group.state(), State::Stable);
    let a = machine.join(member(&ids[0]));
    machine.leave(&ids[0], None);
    assert_eq!(machine.join_error(a).error, GroupError::UnknownMember);
}

#[test]
fn the_leave_of_the_one_everybody_waited_for_completes_the_rebalance() {
    let (mut machine, ids) = Machine::stable(&["a", "b"]);
    let a = machine.join(member(&ids[0]));
    machine.leave(&ids[1], None);
    assert_eq!(machine.joined(a).generation, 2);
}

#[test]
fn the_leave_of_an_id_that_was_not_used_yet_disturbs_nobody() {
    let (mut machine, ids) = Machine::stable(&["a"]);
    let first = machine.join(new_member("b"));
    let unused = machine.join_error(first).member_id;
    let left = machine.leave(&unused, None);
    assert_eq!(machine.seen.leaves.remove(&left), Some(Ok(vec![Ok(())])));
    assert_eq!(machine.group.state(), State::Stable);

    let first = machine.join(new_member("b"));
    let unused = machine.join_error(first).member_id;
    let a = machine.join(member(&ids[0]));
    machine.leave(&unused, None);
    assert_eq!(machine.joined(a).generation, 2, "nobody else was waited for");
}

#[test]
fn a_new_member_whose_client_is_gone_does_not_hold_its_place_for_ever() {
    let (mut machine, ids) = Machine::stable(&["a"]);
    let (_, ghost) = machine.join_in_two_steps("ghost");
    machine.pass(REBALANCE);
    // The member that did not join again is out, the new one leads generation 2.
    assert_eq!(machine.joined(ghost).generation, 2);
    assert_eq!(machine.heartbeat(&ids[0], 1), Err(GroupError::UnknownMember));
    machine.pass(SESSION);
    assert_eq!(machine.group.state(), State::Empty);
}

#[test]
fn members_are_not_blamed_for_the_silence_of_this_process() {
    let (mut machine, ids) = Machine::stable(&["a", "b"]);
    machine.now += SESSION * 6;
    let effects = machine.group.tick(machine.now);
    assert!(effects.is_empty());
    assert_eq!(machine.group.state(), State::Stable);
    machine.pass(SESSION - Duration::from_millis(1));
    machine.heartbeat(&ids[0], 1).unwrap();
    machine.pass(Duration::from_millis(1));
    assert_eq!(machine.heartbeat(&ids[1], 1), Err(GroupError::UnknownMember));
}

#[test]
fn another_coordinator_goes_on_with_a_stable_group() {
    let (mut machine, ids) = Machine::stable(&["a", "b"]);
    machine.join(member(&ids[0]));
    machine.join(member(&ids[1]));
    machine.sync(&ids[0], 2, &[(&ids[0], "part a"), (&ids[1], "part b")]);
    let metadata = machine.stored(Ok(()));
    let mut next = machine.reloaded(metadata);
    next.pass(SESSION - Duration::from_millis(1));
    assert_eq!(next.heartbeat(&ids[0], 2), Ok(()));
    assert_eq!(next.commit(&ids[1], 2), Ok(()));
    let again = next.sync(&ids[1], 2, &[]);
    assert_eq!(next.synced(again).unwrap().assignment, "part b");
    let follower = next.join(member(&ids[1]));
    assert_eq!(next.joined(follower).leader.as_deref(), Some(&*ids[0]));
    assert_eq!(next.group.state(), State::Stable);
    next.pass(SESSION);
    assert_eq!(next.group.state(), State::Empty);
}

#[test]
fn another_coordinator_refuses_a_generation_that_was_not_stored() {
    let (mut machine, ids) = Machine::stable(&["a"]);
    machine.join(member(&ids[0]));
    machine.sync(&ids[0], 2, &[]);
    let stored = machine.stored(Ok(()));
    let rejoin = machine.join(member(&ids[0]));
    assert_eq!(machine.joined(rejoin).generation, 3);
    let mut next = machine.reloaded(stored);
    assert_eq!(next.heartbeat(&ids[0], 3), Err(GroupError::IllegalGeneration));
    let sync = next.sync(&ids[0], 3, &[]);
    assert_eq!(next.synced(sync), Err(GroupError::IllegalGeneration));
}

#[test]
fn the_first_rebalance_waits_although_somebody_is_silent_meanwhile() {
    let mut machine = Machine::with(GroupOptions {
        initial_rebalance_delay: NEW_MEMBER_JOIN_TIMEOUT * 2,
        ..GroupOptions::default()
    });
    let silent = machine.join(Join { can_be_told_its_id: false, ..new_member("a") });
    machine.pass(NEW_MEMBER_JOIN_TIMEOUT / 2);
    let other = machine.join(Join { can_be_told_its_id: false, ..new_member("b") });
    machine.pass(NEW_MEMBER_JOIN_TIMEOUT / 2);
    assert_eq!(machine.join_error(silent).error, GroupError::UnknownMember);
    assert!(machine.seen.joins.is_empty(), "others may be on their way");
    assert_eq!(machine.group.state(), State::PreparingRebalance);
    machine.pass(NEW_MEMBER_JOIN_TIMEOUT);
    assert_eq!(machine.join_error(other).error, GroupError::UnknownMember, "silent as well");
    machine.pass(NEW_MEMBER_JOIN_TIMEOUT);
    assert_eq!(machine.group.state(), State::Empty);
}

#[test]
fn the_last_member_may_leave_during_the_first_rebalance_and_another_one_join() {
    let mut machine = Machine::new();
    let (id, _) = machine.join_in_two_steps("a");
    machine.leave(&id, None);
    assert_eq!(machine.group.state(), State::PreparingRebalance);
    let (_, next) = machine.join_in_two_steps("b");
    machine.pass(SESSION);
    assert_eq!(machine.joined(next).members.len(), 1);
}

#[test]
fn a_rebalance_waits_for_nobody_longer_than_the_longest_time() {
    let weeks = Join { rebalance_timeout_ms: i32::MAX, ..new_member("a") };
    let mut machine = Machine::new();
    let ticket = machine.join(Join { can_be_told_its_id: false, ..weeks });
    machine.pass(SESSION);
    let id = machine.joined(ticket).member_id;
    machine.sync(&id, 1, &[(&id, "all")]);
    machine.stored(Ok(()));
    let (_, other) = machine.join_in_two_steps("b");
    let begun = machine.now;
    while !machine.seen.joins.contains_key(&other) {
        let _ = machine.heartbeat(&id, 1);
        machine.pass(SESSION / 2);
        if machine.now - begun > NEW_MEMBER_JOIN_TIMEOUT / 2 {
            // Its client asks again before it is given up.
            break;
        }
    }
    assert_eq!(machine.group.state(), State::PreparingRebalance);
    assert_eq!(machine.group.roster.rebalance_timeout(), REBALANCE_TIMEOUT_MAX);
}
