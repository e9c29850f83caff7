//! What a group keeps is charged, and refused where there is no memory for it.

use bytes::Bytes;

use super::machine::{CLIENT, Machine, SESSION, budget, member, new_member, protocols};
use crate::group::sizes;
use crate::group::{Group, GroupError, GroupOptions, Join, Refusal, Standing, State, limits};

/// The memory of a group, counted anew.
pub fn kept(group: &Group) -> usize {
    let members: usize = group.roster.iter().map(|member| member.said().in_memory()).sum();
    let pending: usize = group.pending.keys().map(|id| sizes::pending_id(id)).sum();
    let parts: usize = group.roster.iter().map(|member| member.assignment.len()).sum();
    let assignment = group.assignment_charge.as_ref().map_or(0, |charge| charge.bytes());
    assert!(parts <= assignment, "an assignment that nobody is charged for");
    if let Some(stored_now) = &group.assignment {
        assert_eq!(sizes::assignment(stored_now.iter()), assignment);
    }
    members + pending + assignment
}

/// A share of this much for the one client of these tests.
fn share(bytes: usize) -> Machine {
    Machine::within(GroupOptions::default(), budget(bytes * limits::CLIENT_SHARE))
}

fn empty_protocols(count: usize) -> Vec<(std::sync::Arc<str>, Bytes)> {
    protocols(&[""]).into_iter().cycle().take(count).collect()
}

#[test]
fn protocols_without_name_and_metadata_cost_memory() {
    let mut machine = Machine::new();
    machine.join_in_two_steps("a");
    let of_one = machine.budget.held();
    let (id, _) = machine.join_in_two_steps("b");
    machine.join(Join {
        protocols: [protocols(&["range"]), empty_protocols(60)].concat(),
        ..member(&id)
    });
    let of_many = machine.budget.held() - of_one;
    assert!(of_many > of_one + 60 * 150, "{of_many} beside {of_one}");
}

#[test]
fn empty_protocols_count_for_the_metadata_of_a_group() {
    let (mut machine, _) = Machine::stable(&["a"]);
    let each = 48;
    let protocols =
        [protocols(&["range"]), empty_protocols(limits::GROUP_METADATA_BYTES_MAX / each)];
    let join = Join { protocols: protocols.concat(), can_be_told_its_id: false, ..new_member("b") };
    let ticket = machine.join(join);
    assert_eq!(machine.join_error(ticket).error, GroupError::GroupFull);
}

#[test]
fn a_member_that_there_is_no_memory_for_is_told_to_come_again() {
    let mut machine = share(6_000);
    let first = machine.join(Join { can_be_told_its_id: false, ..new_member("a") });
    for name in ["b", "c", "d", "e"] {
        machine.join(Join { can_be_told_its_id: false, ..new_member(name) });
    }
    let refused: Vec<_> = machine.seen.joins.values().collect();
    assert!((1..4).contains(&refused.len()));
    for refused in refused {
        let refused = refused.as_ref().unwrap_err();
        assert_eq!((refused.error, &*refused.member_id), (GroupError::NotAvailable, ""));
    }
    machine.pass(std::time::Duration::from_secs(6));
    assert!(machine.joined(first).members.len() >= 2, "who was in stays in");
}

#[test]
fn an_id_that_was_given_out_can_be_used_when_there_is_memory_again() {
    let mut machine = share(4_000);
    let (first, _) = machine.join_in_two_steps("a");
    let told = machine.join(new_member("b"));
    let id = machine.join_error(told).member_id;
    let big = Join { protocols: protocols(&["range", &"x".repeat(200)]), ..member(&id) };
    let refused = machine.join(Join { client_id: "y".repeat(2_000).into(), ..big });
    let refused = machine.join_error(refused);
    assert_eq!((refused.error, &refused.member_id), (GroupError::NotAvailable, &id));
    machine.leave(&first, None);
    let again = machine.join(member(&id));
    machine.pass(std::time::Duration::from_secs(6));
    assert_eq!(machine.joined(again).members.len(), 1);
}

#[test]
fn ids_that_are_given_out_cost_memory_until_they_are_forgotten() {
    let mut machine = share(64 << 10);
    let mut given = 0;
    loop {
        let ticket = machine.join(new_member(&format!("m{given}")));
        if machine.join_error(ticket).error == GroupError::NotAvailable {
            break;
        }
        given += 1;
    }
    assert!((100..300).contains(&given), "{given}");
    let long = Join { session_timeout_ms: 1_800_000, ..new_member("z") };
    machine.pass(SESSION);
    let ticket = machine.join(long);
    assert_eq!(machine.join_error(ticket).error, GroupError::MemberIdRequired);
    machine.pass(limits::PENDING_ID_LIFE_MAX);
    assert!(machine.group.is_idle(), "long before its session would end");
    assert_eq!(machine.budget.held(), 0);
}

#[test]
fn a_member_that_says_nothing_more_joins_again_whatever_is_free() {
    let (mut machine, ids) = Machine::stable(&["a", "b"]);
    let mut others = Vec::new();
    for client in 1..=9 {
        let client = [10, 0, 0, client].into();
        while let Ok(charge) = machine.budget.try_charge(client, 1 << 20, Standing::Member) {
            others.push(charge);
        }
    }
    let a = machine.join(member(&ids[0]));
    let b = machine.join(member(&ids[1]));
    assert_eq!(machine.joined(a).generation, 2);
    machine.joined(b);
    let new = machine.join(new_member("c"));
    assert_eq!(machine.join_error(new).error, GroupError::NotAvailable);
}

#[test]
fn an_assignment_that_there_is_no_memory_for_is_given_to_nobody() {
    let mut machine = share(40_000);
    let (id, joining) = machine.join_in_two_steps("a");
    machine.pass(std::time::Duration::from_secs(6));
    machine.joined(joining);
    let big = "x".repeat(50_000);
    let sync = machine.sync(&id, 1, &[(&id, &big)]);
    assert_eq!(machine.synced(sync), Err(GroupError::NotAvailable));
    assert_eq!(machine.group.state(), State::PreparingRebalance);
    let again = machine.join(member(&id));
    assert_eq!(machine.joined(again).generation, 2);
    let sync = machine.sync(&id, 2, &[(&id, "small"), ("nobody", &big)]);
    machine.stored(Ok(()));
    assert_eq!(machine.synced(sync).unwrap().assignment, "small");
}

#[test]
fn a_stored_group_is_loaded_whatever_is_free() {
    let (mut machine, ids) = Machine::stable(&["a", "b"]);
    machine.join(member(&ids[0]));
    machine.join(member(&ids[1]));
    machine.sync(&ids[0], 2, &[(&ids[0], "part")]);
    let metadata = machine.stored(Ok(()));
    let next = machine.reloaded_within(metadata, budget(1));
    assert_eq!(next.budget.held(), kept(&next.group));
    assert!(next.budget.held() > 2_000);
}

#[test]
fn bounds_leave_room_for_those_who_stand_better() {
    const BOUND: usize = 1_000;
    let budget = budget(BOUND * limits::CLIENT_SHARE);
    let mut held = Vec::new();
    for (standing, part) in
        [(Standing::NewGroup, 750), (Standing::StoredGroup, 875), (Standing::Member, 1_000)]
    {
        while let Ok(charge) = budget.try_charge(CLIENT, 5, standing) {
            held.push(charge);
        }
        assert_eq!(budget.held(), part);
    }
    let refused = budget.try_charge(CLIENT, 1, Standing::Member);
    assert_eq!(refused.map(|charge| charge.bytes()), Err(Refusal::Client));
    // The same client by another spelling of its address; and others, until all is used.
    let mapped = "::ffff:127.0.0.1".parse().unwrap();
    assert!(budget.try_charge(mapped, 1, Standing::Member).is_err());
    for client in 1..=3 {
        held.push(budget.try_charge([10, 0, 0, client].into(), BOUND, Standing::Member).unwrap());
    }
    let refused = budget.try_charge([10, 0, 0, 9].into(), 1, Standing::Member);
    assert_eq!(refused.map(|charge| charge.bytes()), Err(Refusal::Broker));
    held.clear();
    assert_eq!(budget.held(), 0);
}
