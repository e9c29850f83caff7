use std::time::Duration;

use super::machine::{Machine, REBALANCE, SESSION, member, new_member, protocols};
use crate::group::{GroupError, GroupOptions, Join, State, limits};

const DELAY: Duration = Duration::from_secs(3);
const MOMENT: Duration = Duration::from_millis(1);

#[test]
fn a_new_member_is_told_its_id_and_joins_with_it() {
    let mut machine = Machine::new();
    let first = machine.join(new_member("a"));
    let refused = machine.join_error(first);
    assert_eq!((refused.error, &*refused.member_id), (GroupError::MemberIdRequired, "a-1"));
    assert_eq!(machine.group.state(), State::Empty);
    let second = machine.join(member("a-1"));
    assert_eq!(machine.group.state(), State::PreparingRebalance);
    machine.pass(DELAY);
    let joined = machine.joined(second);
    assert_eq!((joined.generation, &*joined.member_id), (1, "a-1"));
    assert_eq!(joined.leader.as_deref(), Some("a-1"));
    assert_eq!(joined.protocol.as_deref(), Some("range"));
    assert_eq!(joined.members.len(), 1);
    assert_eq!(machine.group.state(), State::CompletingRebalance);
}

#[test]
fn a_client_that_cannot_be_told_its_id_is_a_member_at_once() {
    let mut machine = Machine::new();
    let ticket = machine.join(Join { can_be_told_its_id: false, ..new_member("a") });
    machine.pass(DELAY);
    assert_eq!(&*machine.joined(ticket).member_id, "a-1");
}

#[test]
fn joins_are_refused_for_their_reasons() {
    let ms = |duration: Duration| duration.as_millis() as i32;
    let cases: Vec<(&str, Join, GroupError)> = vec![
        (
            "session too short",
            Join { session_timeout_ms: 5_999, ..new_member("a") },
            GroupError::InvalidSessionTimeout,
        ),
        (
            "session negative",
            Join { session_timeout_ms: -1, ..new_member("a") },
            GroupError::InvalidSessionTimeout,
        ),
        (
            "session too long",
            Join {
                session_timeout_ms: ms(Duration::from_secs(30 * 60) + MOMENT),
                ..new_member("a")
            },
            GroupError::InvalidSessionTimeout,
        ),
        ("id in a new group", member("nobody"), GroupError::UnknownMember),
        (
            "no protocols",
            Join { protocols: vec![], ..new_member("a") },
            GroupError::InconsistentProtocol,
        ),
        (
            "no protocol type",
            Join { protocol_type: "".into(), ..new_member("a") },
            GroupError::InconsistentProtocol,
        ),
    ];
    for (name, join, error) in cases {
        let mut machine = Machine::new();
        let ticket = machine.join(join);
        assert_eq!(machine.join_error(ticket).error, error, "{name}");
        assert_eq!(machine.group.state(), State::Empty, "{name}");
    }
}

#[test]
fn joins_to_a_stable_group_are_refused_for_their_reasons() {
    let cases: Vec<(&str, Join, GroupError)> = vec![
        ("unknown id", member("nobody"), GroupError::UnknownMember),
        (
            "another protocol type",
            Join { protocol_type: "connect".into(), ..new_member("b") },
            GroupError::InconsistentProtocol,
        ),
        (
            "no protocol in common",
            Join { protocols: protocols(&["sticky"]), ..new_member("b") },
            GroupError::InconsistentProtocol,
        ),
        (
            "unknown instance id",
            Join { instance_id: Some("i".into()), ..member("a-1") },
            GroupError::UnknownMember,
        ),
    ];
    for (name, join, error) in cases {
        let (mut machine, _) = Machine::stable(&["a"]);
        let ticket = machine.join(join);
        assert_eq!(machine.join_error(ticket).error, error, "{name}");
        assert_eq!(machine.group.state(), State::Stable, "{name}");
    }
}

#[test]
fn the_first_rebalance_waits_again_for_each_that_comes_late() {
    let mut machine = Machine::new();
    let (_, a) = machine.join_in_two_steps("a");
    machine.pass(DELAY - MOMENT);
    let (_, b) = machine.join_in_two_steps("b");
    machine.pass(DELAY - MOMENT);
    assert!(machine.seen.joins.is_empty());
    machine.pass(MOMENT * 2);
    assert_eq!(machine.joined(a).members.len(), 2);
    assert!(machine.joined(b).members.is_empty());
}

#[test]
fn the_first_rebalance_ends_with_the_rebalance_timeout_however_many_come() {
    let mut machine = Machine::new();
    let (_, first) = machine.join_in_two_steps("m0");
    let mut waited = Duration::ZERO;
    for i in 1.. {
        machine.pass(Duration::from_secs(2));
        waited += Duration::from_secs(2);
        if machine.seen.joins.contains_key(&first) {
            break;
        }
        machine.join_in_two_steps(&format!("m{i}"));
        assert!(waited <= REBALANCE + DELAY, "still waiting");
    }
    assert!(waited >= REBALANCE - DELAY * 2, "{waited:?}");
}

#[test]
fn the_protocol_with_most_votes_among_the_common_ones_wins() {
    let cases: &[(&[&[&str]], &str)] = &[
        (&[&["range", "sticky"], &["sticky", "range"], &["sticky", "range"]], "sticky"),
        (&[&["cooperative", "range"], &["cooperative", "range"], &["range"]], "range"),
        (&[&["b", "a"], &["a", "b"]], "a"),
    ];
    for (members, winner) in cases {
        let mut machine = Machine::new();
        let mut last = None;
        for (i, names) in members.iter().enumerate() {
            let join = Join {
                protocols: protocols(names),
                can_be_told_its_id: false,
                ..new_member(&format!("m{i}"))
            };
            last = Some(machine.join(join));
        }
        machine.pass(DELAY * 3);
        assert_eq!(machine.joined(last.unwrap()).protocol.as_deref(), Some(*winner));
    }
}

#[test]
fn a_rebalance_ends_when_everybody_joined_again() {
    let (mut machine, ids) = Machine::stable(&["a", "b"]);
    let (_, c) = machine.join_in_two_steps("c");
    assert_eq!(machine.group.state(), State::PreparingRebalance);
    assert_eq!(machine.heartbeat(&ids[0], 1), Err(GroupError::RebalanceInProgress));
    let a = machine.join(member(&ids[0]));
    assert!(machine.seen.joins.is_empty());
    let b = machine.join(member(&ids[1]));
    for ticket in [a, b, c] {
        assert_eq!(machine.joined(ticket).generation, 2);
    }
}

#[test]
fn who_does_not_join_again_in_time_is_no_member_any_more() {
    let (mut machine, ids) = Machine::stable(&["a", "b"]);
    let a = machine.join(member(&ids[0]));
    for _ in 0..=(REBALANCE.as_secs() / 5) {
        machine.pass(Duration::from_secs(5));
        // It lives, but does not join.
        let _ = machine.heartbeat(&ids[1], 1);
    }
    let joined = machine.joined(a);
    assert_eq!((joined.generation, joined.members.len()), (2, 1));
    assert_eq!(machine.heartbeat(&ids[1], 1), Err(GroupError::UnknownMember));
}

#[test]
fn another_member_leads_when_the_leader_does_not_join_again() {
    let (mut machine, ids) = Machine::stable(&["a", "b"]);
    let changed = Join { protocols: protocols(&["range", "sticky"]), ..member(&ids[1]) };
    let b = machine.join(changed);
    machine.pass(REBALANCE);
    assert_eq!(machine.joined(b).leader.as_deref(), Some(&*ids[1]));
}

#[test]
fn a_follower_with_nothing_new_gets_the_generation_it_has() {
    let (mut machine, ids) = Machine::stable(&["a", "b"]);
    let ticket = machine.join(member(&ids[1]));
    let joined = machine.joined(ticket);
    assert_eq!((joined.generation, joined.members.len()), (1, 0));
    assert_eq!(machine.group.state(), State::Stable);
}

#[test]
fn the_leader_starts_a_rebalance_by_joining_again() {
    let (mut machine, ids) = Machine::stable(&["a", "b"]);
    machine.join(member(&ids[0]));
    assert_eq!(machine.group.state(), State::PreparingRebalance);
}

#[test]
fn a_lost_join_answer_is_given_again_while_the_assignment_is_made() {
    let mut machine = Machine::new();
    let (id, first) = machine.join_in_two_steps("a");
    machine.pass(DELAY);
    let before = machine.joined(first);
    let again = machine.join(member(&id));
    assert_eq!(machine.joined(again), before);
    let changed = Join { protocols: protocols(&["range", "sticky"]), ..member(&id) };
    let changed = machine.join(changed);
    assert_eq!(machine.joined(changed).generation, 2);
}

#[test]
fn the_second_of_two_joins_of_one_member_is_the_one_that_counts() {
    let (mut machine, ids) = Machine::stable(&["a", "b"]);
    let first = machine.join(member(&ids[0]));
    let second = machine.join(member(&ids[0]));
    assert_eq!(machine.join_error(first).error, GroupError::RebalanceInProgress);
    machine.join(member(&ids[1]));
    assert_eq!(machine.joined(second).generation, 2);
}

#[test]
fn a_full_group_takes_no_new_member() {
    let mut machine = Machine::with(GroupOptions { members_max: 1, ..GroupOptions::default() });
    machine.join_in_two_steps("a");
    let refused = machine.join(Join { can_be_told_its_id: false, ..new_member("b") });
    assert_eq!(machine.join_error(refused).error, GroupError::GroupFull);
    machine.pass(DELAY);
    let refused = machine.join(new_member("c"));
    assert_eq!(machine.join_error(refused).error, GroupError::GroupFull);
}

#[test]
fn an_id_that_is_not_used_within_a_session_is_forgotten() {
    let mut machine = Machine::new();
    machine.join(new_member("a"));
    assert!(!machine.group.is_idle());
    machine.pass(SESSION);
    assert!(machine.group.is_idle());
    let ticket = machine.join(member("a-1"));
    assert_eq!(machine.join_error(ticket).error, GroupError::UnknownMember);
}

#[test]
fn a_rebalance_waits_for_an_id_that_was_given_out() {
    let (mut machine, ids) = Machine::stable(&["a"]);
    machine.join(new_member("b"));
    let a = machine.join(member(&ids[0]));
    assert!(machine.seen.joins.keys().all(|ticket| *ticket != a));
    machine.pass(SESSION);
    assert_eq!(machine.joined(a).generation, 2);
}

#[test]
fn members_that_say_too_much_are_refused() {
    let (mut machine, ids) = Machine::stable(&["a"]);
    let mut join = member(&ids[0]);
    join.protocols[0].1 = vec![0; limits::GROUP_METADATA_BYTES_MAX].into();
    let ticket = machine.join(join);
    assert_eq!(machine.join_error(ticket).error, GroupError::GroupFull);
    assert_eq!(machine.group.state(), State::Stable);
}

#[test]
fn a_member_may_say_as_much_again() {
    let (mut machine, ids) = Machine::stable(&["a"]);
    let mut join = member(&ids[0]);
    join.protocols[0].1 = vec![0; limits::GROUP_METADATA_BYTES_MAX * 3 / 4].into();
    for _ in 0..2 {
        let ticket = machine.join(join.clone());
        assert_eq!(machine.joined(ticket).generation, 2);
    }
}
