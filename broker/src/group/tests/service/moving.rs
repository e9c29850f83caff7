//! Groups that a broker takes over, lets go and takes again: restart, fence, rest, stop.

use std::time::Duration;

use ottla_model::Offset;
use ottla_test_kit::Fault;
use ottla_test_kit::values::broker;

use super::{World, group, partition, simple};
use crate::group::tests::author;
use crate::group::tests::machine::{member, sync};
use crate::group::{Commit, GroupError, limits};

#[tokio::test(start_paused = true)]
async fn a_restart_is_no_rebalance() {
    let before = World::new();
    let id = before.alone().await;
    before.groups.stop().await;
    assert_eq!(before.heartbeat(&id, 1).await, Err(GroupError::NotCoordinator));

    let after = World::on(before.control.clone(), 2);
    assert_eq!(after.heartbeat(&id, 1).await, Ok(()));
    let commit = Commit { member_id: id.clone(), generation: 1, ..simple(&[(0, 5)]) };
    assert_eq!(after.groups.commit(&group(), commit).await, Ok(vec![]));
    let synced = after.groups.sync(&group(), sync(&id, 1, &[])).await.unwrap();
    assert_eq!(synced.assignment, "all");
    assert_eq!(after.heartbeat(&id, 1).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_fenced_broker_lets_its_groups_go() {
    let world = World::new();
    let id = world.alone().await;
    let waiting = world.member_id("b").await;
    let waiting = world.spawn_join(member(&waiting));
    tokio::task::yield_now().await;
    world.control.fence_below(2);
    let commit = Commit { member_id: id.clone(), generation: 1, ..simple(&[(0, 9)]) };
    let refused = world.groups.commit(&group(), commit.clone()).await;
    assert_eq!(refused, Err(GroupError::NotCoordinator));
    assert_eq!(waiting.await.unwrap().unwrap_err().error, GroupError::NotCoordinator);
    // Registered anew, it goes on with what is stored.
    world.author.send_replace(author(2));
    assert_eq!(world.heartbeat(&id, 1).await, Ok(()));
    assert_eq!(world.groups.commit(&group(), commit).await, Ok(vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_new_registration_reads_its_groups_anew() {
    let world = World::new();
    let id = world.alone().await;
    let reads = world.control.group_reads();
    world.author.send_replace(author(2));
    assert_eq!(world.heartbeat(&id, 1).await, Ok(()));
    assert_eq!(world.control.group_reads(), reads + 1);
}

#[tokio::test(start_paused = true)]
async fn another_brokers_group_is_refused_and_let_go() {
    let world = World::new();
    let id = world.alone().await;
    let other = (2..100).map(|id| broker(id, "")).find(|other| {
        *world.brokers.lock().unwrap() = vec![broker(1, ""), other.clone()];
        world.groups.coordinator(&group()).unwrap().author.broker == other.author.broker
    });
    assert!(other.is_some());
    assert_eq!(world.heartbeat(&id, 1).await, Err(GroupError::NotCoordinator));
    assert_eq!(world.groups.loaded(), 0);
    *world.brokers.lock().unwrap() = vec![broker(1, "")];
    assert_eq!(world.heartbeat(&id, 1).await, Ok(()), "it moved back without a rebalance");
}

#[tokio::test(start_paused = true)]
async fn a_group_at_rest_leaves_memory() {
    let world = World::new();
    world.commit(1).await.unwrap();
    assert_eq!(world.groups.loaded(), 1);
    tokio::time::advance(limits::UNLOAD_AFTER + Duration::from_millis(1)).await;
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.groups.loaded(), 0);
    world.commit(2).await.unwrap();
    assert_eq!(world.control.group_now("g").offsets[&partition(0)].offset, Offset(2));
}

#[tokio::test(start_paused = true)]
async fn a_stop_answers_who_waits_and_keeps_what_was_answered() {
    let world = World::new();
    let id = world.alone().await;
    let waiting = world.member_id("b").await;
    let waiting = world.spawn_join(member(&waiting));
    tokio::task::yield_now().await;
    world.groups.stop().await;
    assert_eq!(waiting.await.unwrap().unwrap_err().error, GroupError::NotCoordinator);
    assert_eq!(world.commit(1).await, Err(GroupError::NotCoordinator));
    let next = World::on(world.control.clone(), 2);
    assert_eq!(next.heartbeat(&id, 1).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_group_that_comes_back_waits_for_what_its_former_task_still_writes() {
    let world = World::new();
    let id = world.alone().await;
    world.control.fail_next(&[Fault::Unavailable, Fault::Unavailable]);
    let groups = world.groups.clone();
    let commit = Commit { member_id: id.clone(), generation: 1, ..simple(&[(0, 1)]) };
    let commit = tokio::spawn(async move { groups.commit(&group(), commit).await });
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    world.author.send_replace(author(2));
    let later = Commit { member_id: id.clone(), generation: 1, ..simple(&[(0, 2)]) };
    assert_eq!(world.groups.commit(&group(), later).await, Ok(vec![]));
    assert!(commit.is_finished(), "the former write ended first");
    assert_eq!(world.control.group_now("g").offsets[&partition(0)].offset, Offset(2));
}
