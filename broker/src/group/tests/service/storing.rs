//! What is stored, in which order, and what becomes of it when calls fail.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_format::command::CommittedOffset;
use ottla_model::{GroupId, Offset};
use ottla_test_kit::Fault;
use tokio::time::Instant;

use super::{World, group, offset, partition, simple};
use crate::group::tests::machine::{member, protocols, sync};
use crate::group::{Commit, GroupError, Join, limits};

#[tokio::test(start_paused = true)]
async fn offsets_come_back_as_they_were_given() {
    let world = World::new();
    let offsets = BTreeMap::from([
        (
            partition(0),
            CommittedOffset { offset: Offset(42), leader_epoch: 7, metadata: "näh".into() },
        ),
        (
            partition(1),
            CommittedOffset { offset: Offset(0), leader_epoch: -1, metadata: "".into() },
        ),
    ]);
    let commit = Commit { offsets: offsets.clone(), ..simple(&[]) };
    assert_eq!(world.groups.commit(&group(), commit).await, Ok(vec![]));
    assert_eq!(world.fetch(&group()).await, Ok(offsets.clone()));
    // Also by a broker that never heard of the group, and for the empty group id.
    let other = World::on(world.control.clone(), 2);
    assert_eq!(other.fetch(&group()).await, Ok(offsets));
    assert_eq!(other.groups.loaded(), 0);
    assert_eq!(other.fetch(&GroupId::from("")).await, Ok(BTreeMap::new()));
    assert_eq!(other.groups.commit(&GroupId::from(""), simple(&[(0, 1)])).await, Ok(vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_commits_end_at_the_last() {
    let world = World::new();
    for i in 0..1_000 {
        if i % 100 == 7 {
            world.control.fail_next(&[Fault::AnswerLost, Fault::Unavailable, Fault::CallLost]);
        }
        assert_eq!(world.commit(i).await, Ok(vec![]));
    }
    assert_eq!(world.control.group_now("g").offsets[&partition(0)].offset, Offset(999));
}

#[tokio::test(start_paused = true)]
async fn commits_that_wait_go_out_together_and_in_order() {
    let world = World::new();
    world.commit(-1).await.unwrap();
    world.control.without_partition(partition(3));
    // The first of them is tried again in a while; the others gather behind it.
    world.control.fail_next(&[Fault::Unavailable]);
    let mut commits = Vec::new();
    for i in 0..200 {
        let groups = world.groups.clone();
        let commit = simple(&[(0, i), (1 + i as i32 % 3, i)]);
        commits.push(tokio::spawn(async move { groups.commit(&group(), commit).await }));
    }
    for (i, commit) in commits.into_iter().enumerate() {
        let missing = if i % 3 == 2 { vec![partition(3)] } else { vec![] };
        assert_eq!(commit.await.unwrap(), Ok(missing), "commit {i}");
    }
    assert_eq!(world.control.group_now("g").offsets[&partition(0)].offset, Offset(199));
    assert!(world.control.group_writes().len() < 50, "{}", world.control.group_writes().len());
}

#[tokio::test(start_paused = true)]
async fn a_leave_follows_the_commit_before_it() {
    let world = World::new();
    let id = world.alone().await;
    let commit = Commit { member_id: id.clone(), generation: 1, ..simple(&[(0, 9)]) };
    world.control.fail_next(&[Fault::CallLost, Fault::CallLost]);
    let groups = world.groups.clone();
    let commit = tokio::spawn(async move { groups.commit(&group(), commit).await });
    tokio::task::yield_now().await;
    assert_eq!(world.leave(&id).await, Ok(vec![Ok(())]));
    assert_eq!(commit.await.unwrap(), Ok(vec![]));
    assert_eq!(
        world.control.group_writes(),
        ["generation 1 of 1", "offsets 1", "generation 2 of 0"]
    );
}

#[tokio::test(start_paused = true)]
async fn an_assignment_with_a_lost_answer_is_stored_once_known() {
    let world = World::new();
    let id = world.member_id("a").await;
    world.groups.join(&group(), member(&id)).await.unwrap();
    world.control.fail_next(&[Fault::AnswerLost, Fault::CallLost]);
    let synced = world.groups.sync(&group(), sync(&id, 1, &[(&id, "all")])).await.unwrap();
    assert_eq!(synced.assignment, "all");
    assert_eq!(world.control.group_writes(), ["generation 1 of 1"; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_commit_larger_than_a_command_is_refused() {
    let world = World::new();
    let metadata: Arc<str> = "x".repeat(limits::OFFSET_METADATA_LENGTH_MAX).into();
    let big = |i| (partition(i), CommittedOffset { metadata: metadata.clone(), ..offset(1) });
    let offsets = (0..2_000).map(big).collect();
    let commit = Commit { offsets, ..simple(&[]) };
    assert_eq!(world.groups.commit(&group(), commit).await, Err(GroupError::CommitTooLarge));
}

#[tokio::test(start_paused = true)]
async fn heartbeats_go_on_while_the_control_plane_is_away() {
    let world = World::new();
    let id = world.alone().await;
    world.control.set_away(true);
    let groups = world.groups.clone();
    let commit = Commit { member_id: id.clone(), generation: 1, ..simple(&[(0, 9)]) };
    let commit = tokio::spawn(async move { groups.commit(&group(), commit).await });
    tokio::task::yield_now().await;
    let begun = Instant::now();
    assert_eq!(world.heartbeat(&id, 1).await, Ok(()));
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(commit.await.unwrap(), Err(GroupError::NotAvailable));
    assert_eq!(begun.elapsed(), limits::WRITE_TIMEOUT);
    world.control.set_away(false);
    assert_eq!(world.heartbeat(&id, 1).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_group_that_cannot_be_read_in_time_is_said_to_be_loading() {
    let world = World::new();
    world.control.set_away(true);
    assert_eq!(world.heartbeat("a", 1).await, Err(GroupError::Loading));
    assert_eq!(world.fetch(&group()).await, Err(GroupError::Loading));
    world.control.set_away(false);
    assert_eq!(world.heartbeat("a", 1).await, Err(GroupError::UnknownMember));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_joins_again_and_again_does_not_pile_up_writes() {
    let world = World::new();
    let id = world.alone().await;
    world.control.set_away(true);
    let part = "x".repeat(1 << 20);
    let mut refused = 0;
    for generation in 2..42 {
        // With news each time, so that it is a rebalance.
        let names = ["range", &generation.to_string()];
        let join = Join { protocols: protocols(&names), ..member(&id) };
        let joined = world.groups.join(&group(), join).await.unwrap();
        assert_eq!(joined.generation, generation);
        let (groups, sync) = (world.groups.clone(), sync(&id, generation, &[(&id, &part)]));
        let syncing = tokio::spawn(async move { groups.sync(&group(), sync).await });
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        if syncing.is_finished() {
            assert_eq!(syncing.await.unwrap(), Err(GroupError::NotAvailable));
            refused += 1;
        }
        let held = world.memory.groups.held();
        assert!(held <= 2 * limits::WRITES_WAITING_BYTES_MAX, "{held}");
    }
    assert!(refused > 20, "{refused}");
    world.control.set_away(false);
    let generation = world.groups.join(&group(), member(&id)).await.unwrap().generation;
    let synced = world.groups.sync(&group(), sync(&id, generation, &[(&id, "all")])).await;
    assert_eq!(synced.unwrap().assignment, "all");
    assert!(world.memory.groups.held() < 16 << 10);
}
