use super::machine::{Machine, SESSION, member};
use crate::group::{GroupError, Request, State};

#[test]
fn commits_are_taken_by_sender_and_state() {
    let mut empty = Machine::new();
    assert_eq!(empty.commit("", -1), Ok(()), "an operator or a client without group");
    assert_eq!(empty.commit("", 3), Err(GroupError::UnknownMember), "now the group is known");

    let mut unknown = Machine::new();
    assert_eq!(unknown.commit("a", 3), Err(GroupError::IllegalGeneration));

    let (mut machine, ids) = Machine::stable(&["a", "b"]);
    assert_eq!(machine.commit(&ids[0], 1), Ok(()));
    assert_eq!(machine.commit("", -1), Err(GroupError::UnknownMember), "members are at work");
    assert_eq!(machine.commit("nobody", 1), Err(GroupError::UnknownMember));
    assert_eq!(machine.commit(&ids[0], 2), Err(GroupError::IllegalGeneration));
    assert_eq!(machine.commit(&ids[0], -1), Err(GroupError::IllegalGeneration));

    machine.join(member(&ids[0]));
    assert_eq!(machine.group.state(), State::PreparingRebalance);
    assert_eq!(machine.commit(&ids[1], 1), Ok(()), "before it joins again");
    machine.join(member(&ids[1]));
    assert_eq!(machine.group.state(), State::CompletingRebalance);
    assert_eq!(machine.commit(&ids[1], 2), Err(GroupError::RebalanceInProgress));
    assert_eq!(machine.commit(&ids[1], 1), Err(GroupError::IllegalGeneration));
}

#[test]
fn clients_that_know_the_code_are_told_that_there_is_no_such_group() {
    let mut machine = Machine::new();
    let ticket = machine.request(Request::Commit(crate::group::Commit {
        member_id: "a".into(),
        instance_id: None,
        generation: 1,
        knows_group_not_found: true,
        offsets: Default::default(),
        answer_bytes: 0,
        client: super::machine::CLIENT,
    }));
    assert_eq!(machine.seen.refused_commits.remove(&ticket), Some(GroupError::GroupNotFound));
}

#[test]
fn a_commit_is_a_sign_of_life() {
    let (mut machine, ids) = Machine::stable(&["a"]);
    for _ in 0..4 {
        machine.pass(SESSION / 2);
        machine.commit(&ids[0], 1).unwrap();
    }
    assert_eq!(machine.group.state(), State::Stable);
}
