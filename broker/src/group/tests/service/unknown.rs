//! Requests about groups that are not in memory, names that are none, and what happens when no more
//! groups fit.

use std::sync::Arc;

use ottla_model::GroupId;

use super::{World, group, simple};
use crate::group::tests::author;
use crate::group::tests::machine::{CLIENT, member, new_member, static_member, sync};
use crate::group::{Commit, GroupError, Heartbeat, Join, Leave, Leaving, Standing, Sync, limits};

const MANY: usize = 300;

fn named(n: usize) -> GroupId {
    GroupId::from(format!("group-{n}").as_str())
}

fn heartbeat(member_id: &str) -> Heartbeat {
    Heartbeat { member_id: member_id.into(), instance_id: None, generation: 1 }
}

fn leave(member_id: &str) -> Leave {
    let leaving = Leaving { member_id: member_id.into(), instance_id: None, reason: None };
    Leave { members: vec![leaving], client: CLIENT }
}

/// Everything that does not make a group, with Kafka's answers about one that does not exist.
async fn ask_everything(world: &World, group: &GroupId) {
    let unknown = GroupError::UnknownMember;
    let groups = &world.groups;
    assert_eq!(groups.heartbeat(group, heartbeat("m")).await, Err(unknown));
    assert_eq!(groups.sync(group, sync("m", 1, &[("m", "all")])).await, Err(unknown));
    assert_eq!(groups.leave(group, leave("m")).await, Ok(vec![Err(unknown)]));
    let refused = groups.join(group, member("m")).await.unwrap_err();
    assert_eq!((refused.error, &*refused.member_id), (unknown, "m"));
    let refused = groups.join(group, Join { session_timeout_ms: 1, ..new_member("m") }).await;
    assert_eq!(refused.unwrap_err().error, GroupError::InvalidSessionTimeout);
}

#[tokio::test(start_paused = true)]
async fn requests_about_groups_that_do_not_exist_leave_nothing() {
    let world = World::new();
    for n in 0..MANY {
        ask_everything(&world, &named(n)).await;
        let commit = Commit { member_id: "m".into(), generation: 1, ..simple(&[(0, 1)]) };
        let refused = world.groups.commit(&named(n), commit.clone()).await;
        assert_eq!(refused, Err(GroupError::GroupNotFound));
        let old = Commit { knows_group_not_found: false, ..commit };
        let refused = world.groups.commit(&named(n), old).await;
        assert_eq!(refused, Err(GroupError::IllegalGeneration));
    }
    assert_eq!(world.groups.loaded(), 0);
    assert_eq!(world.memory.groups.held(), 0);
    assert_eq!(world.memory.requests.used(), 0);
    assert!(world.control.group_writes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn requests_about_a_stored_group_without_members_leave_nothing() {
    let world = World::new();
    world.commit(1).await.unwrap();
    let next = World::on(world.control.clone(), 2);
    ask_everything(&next, &group()).await;
    let commit = Commit { member_id: "m".into(), generation: 1, ..simple(&[(0, 2)]) };
    let refused = next.groups.commit(&group(), commit).await;
    assert_eq!(refused, Err(GroupError::UnknownMember));
    assert_eq!((next.groups.loaded(), next.memory.groups.held()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn any_request_about_a_stored_group_with_members_loads_it() {
    let world = World::new();
    let id = world.alone().await;
    let next = World::on(world.control.clone(), 2);
    assert_eq!(next.heartbeat("nobody", 1).await, Err(GroupError::UnknownMember));
    assert_eq!(next.groups.loaded(), 1);
    assert_eq!(next.heartbeat(&id, 1).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn members_are_asked_to_wait_while_groups_cannot_be_looked_up() {
    let world = World::new();
    world.control.set_away(true);
    let mut asked = Vec::new();
    for n in 0..MANY {
        let groups = world.groups.clone();
        asked.push(tokio::spawn(async move { groups.heartbeat(&named(n), heartbeat("m")).await }));
    }
    let begun = tokio::time::Instant::now();
    for asked in asked {
        assert_eq!(asked.await.unwrap(), Err(GroupError::Loading));
    }
    assert!(begun.elapsed() <= limits::LOAD_WAIT * 2);
    world.control.set_away(false);
    assert_eq!(
        world.groups.heartbeat(&named(0), heartbeat("m")).await,
        Err(GroupError::UnknownMember)
    );
}

#[tokio::test(start_paused = true)]
async fn when_a_client_has_its_share_its_longest_idle_group_leaves() {
    let world = World::new();
    world.groups.commit(&named(0), simple(&[(0, 1)])).await.unwrap();
    let mut others = Vec::new();
    while let Ok(charge) = world.memory.groups.try_charge(CLIENT, 1 << 10, Standing::NewGroup) {
        others.push(charge);
    }
    others.truncate(others.len() - 8);
    for n in 1..MANY {
        assert_eq!(world.groups.commit(&named(n), simple(&[(0, 1)])).await, Ok(vec![]), "{n}");
        assert!(world.groups.loaded() <= 2);
    }
    // Groups with an id that was given out do not leave.
    let mut told = Vec::new();
    let refused = loop {
        let group = named(MANY + told.len());
        let refused = world.groups.join(&group, new_member("m")).await.unwrap_err();
        if refused.error != GroupError::MemberIdRequired {
            break refused.error;
        }
        told.push((group, refused.member_id));
    };
    assert_eq!((refused, told.len()), (GroupError::NotAvailable, 2));
    drop(others);
    for (group, id) in told {
        assert_eq!(world.groups.join(&group, member(&id)).await.unwrap().generation, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn stored_groups_have_room_when_new_ones_have_none() {
    let world = World::new();
    world.commit(1).await.unwrap();
    let id = world.alone_in(&named(7)).await;
    let next = World::on(world.control.clone(), 2);
    let mut others = Vec::new();
    for client in 1..=9 {
        let client = [10, 0, 0, client].into();
        while let Ok(charge) = next.memory.groups.try_charge(client, 1 << 16, Standing::NewGroup) {
            others.push(charge);
        }
    }
    let refused = next.groups.join(&named(1), new_member("m")).await.unwrap_err();
    assert_eq!(refused.error, GroupError::NotAvailable);
    let told = next.groups.join(&group(), new_member("m")).await.unwrap_err();
    assert_eq!(told.error, GroupError::MemberIdRequired, "it has offsets");
    assert_eq!(next.groups.heartbeat(&named(7), heartbeat(&id)).await, Ok(()), "it has members");
    assert_eq!(next.author.send_replace(author(3)), author(2));
    assert_eq!(next.groups.heartbeat(&named(7), heartbeat(&id)).await, Ok(()), "loaded again");
}

#[tokio::test(start_paused = true)]
async fn names_that_are_too_long_are_refused_by_every_request() {
    let world = World::new();
    let groups = &world.groups;
    let long = |bytes: usize| -> Arc<str> { "x".repeat(bytes + 1).into() };
    let group_id = GroupId(long(limits::GROUP_ID_BYTES_MAX));
    let invalid = GroupError::InvalidGroupId;
    assert_eq!(groups.join(&group_id, new_member("a")).await.unwrap_err().error, invalid);
    assert_eq!(groups.sync(&group_id, sync("a", 1, &[])).await, Err(invalid));
    assert_eq!(groups.heartbeat(&group_id, heartbeat("a")).await, Err(invalid));
    assert_eq!(groups.leave(&group_id, leave("a")).await, Err(invalid));
    assert_eq!(groups.commit(&group_id, simple(&[(0, 1)])).await, Err(invalid));
    assert_eq!(world.fetch(&group_id).await, Err(invalid));
    assert_eq!(groups.coordinator(&group_id), Err(invalid));

    let instance_id = Some(long(limits::INSTANCE_ID_BYTES_MAX));
    let join = Join { instance_id: instance_id.clone(), ..static_member("i", 1) };
    let refused = groups.join(&group(), join).await.unwrap_err();
    assert_eq!(refused.error, GroupError::InvalidRequest);
    let member_id = long(limits::MEMBER_ID_BYTES_MAX);
    let unknown = GroupError::UnknownMember;
    assert_eq!(groups.join(&group(), member(&member_id)).await.unwrap_err().error, unknown);
    let beat = Heartbeat { instance_id: instance_id.clone(), ..heartbeat("a") };
    assert_eq!(groups.heartbeat(&group(), beat).await, Err(unknown));
    assert_eq!(groups.heartbeat(&group(), heartbeat(&member_id)).await, Err(unknown));
    assert_eq!(groups.sync(&group(), sync(&member_id, 1, &[])).await, Err(unknown));
    assert_eq!(groups.leave(&group(), leave(&member_id)).await, Ok(vec![Err(unknown)]));
    let commit = Commit { member_id, generation: 1, ..simple(&[(0, 1)]) };
    assert_eq!(groups.commit(&group(), commit).await, Err(unknown));

    let name = long(limits::PROTOCOL_NAME_BYTES_MAX);
    let inconsistent = GroupError::InconsistentProtocol;
    let one = vec![(name.clone(), Default::default())];
    let many = vec![("p".into(), Default::default()); limits::PROTOCOLS_PER_MEMBER_MAX + 1];
    for join in [
        Join { protocol_type: name.clone(), ..new_member("a") },
        Join { protocols: one, ..new_member("a") },
        Join { protocols: many, ..new_member("a") },
    ] {
        assert_eq!(groups.join(&group(), join).await.unwrap_err().error, inconsistent);
    }
    let named = Sync { protocol: Some(name), ..sync("a", 1, &[]) };
    assert_eq!(groups.sync(&group(), named).await, Err(inconsistent));
    assert_eq!(world.groups.loaded(), 0);
}

#[tokio::test(start_paused = true)]
async fn names_of_the_longest_length_are_names() {
    let world = World::new();
    let longest = "x".repeat(limits::GROUP_ID_BYTES_MAX);
    let group_id = GroupId::from(longest.as_str());
    assert_eq!(world.groups.commit(&group_id, simple(&[(0, 1)])).await, Ok(vec![]));
    let instance_id: Arc<str> = "é".repeat(limits::INSTANCE_ID_BYTES_MAX / 2).into();
    let join = Join { instance_id: Some(instance_id), ..static_member("i", 1) };
    let joined = world.groups.join(&group_id, join).await.unwrap();
    assert!(joined.member_id.len() <= limits::MEMBER_ID_BYTES_MAX, "{}", joined.member_id);
    let id = joined.member_id;
    let synced = world.groups.sync(&group_id, sync(&id, 1, &[(&id, "all")])).await.unwrap();
    assert_eq!(synced.assignment, "all");
}

#[tokio::test(start_paused = true)]
async fn what_waits_to_be_stored_is_bounded_over_all_groups() {
    let world = World::new();
    world.control.set_away(true);
    let (mut waiting, mut refused) = (Vec::new(), 0);
    let metadata: Arc<str> = "x".repeat(limits::OFFSET_METADATA_LENGTH_MAX).into();
    for n in 0..MANY {
        let groups = world.groups.clone();
        let big = |i| (super::partition(i), super::offset(1));
        let mut commit = Commit { offsets: (0..100).map(big).collect(), ..simple(&[]) };
        commit.offsets.values_mut().for_each(|offset| offset.metadata = metadata.clone());
        waiting.push(tokio::spawn(async move { groups.commit(&named(n), commit).await }));
        tokio::task::yield_now().await;
        assert!(world.memory.requests.used() <= limits::REQUESTS_BYTES_MAX / limits::CLIENT_SHARE);
    }
    for waiting in waiting {
        refused += usize::from(waiting.await.unwrap() == Err(GroupError::NotAvailable));
    }
    assert!(refused > MANY / 2, "{refused}");
    assert_eq!(world.memory.requests.used(), 0);
}
