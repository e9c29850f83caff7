//! Time stands still unless everybody waits; then it jumps to the next timer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_control_api::BrokerInfo;
use ottla_env::Random;
use ottla_format::command::CommittedOffset;
use ottla_model::{BrokerAuthor, GroupId, Offset, PartitionId, PartitionIndex, TopicId};
use ottla_test_kit::values::broker;
use ottla_test_kit::{FakeControl, Fault};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::author;
use super::machine::{member, new_member, static_member, sync};
use crate::group::{
    Commit, GroupError, GroupOptions, Groups, Heartbeat, Join, JoinRefused, Joined, Leaving, limits,
};
use crate::registration::AuthorSource;

struct World {
    control: FakeControl,
    author: watch::Sender<BrokerAuthor>,
    brokers: Arc<std::sync::Mutex<Vec<BrokerInfo>>>,
    groups: Groups,
}

impl World {
    fn new() -> Self {
        Self::on(FakeControl::default(), 1)
    }

    /// A run of the broker over what an earlier one left.
    fn on(control: FakeControl, epoch: u64) -> Self {
        let (author, source) = watch::channel(author(epoch));
        let brokers = Arc::new(std::sync::Mutex::new(vec![broker(1, "")]));
        let seen = brokers.clone();
        let groups = Groups::new(
            Arc::new(control.clone()),
            AuthorSource::new(source),
            Arc::new(move || seen.lock().unwrap().clone()),
            Random::seeded(7),
            GroupOptions::default(),
        );
        Self { control, author, brokers, groups }
    }

    fn spawn_join(&self, join: Join) -> JoinHandle<Result<Joined, JoinRefused>> {
        let groups = self.groups.clone();
        tokio::spawn(async move { groups.join(&group(), join).await })
    }

    async fn member_id(&self, name: &str) -> Arc<str> {
        let refused = self.groups.join(&group(), new_member(name)).await.unwrap_err();
        assert_eq!(refused.error, GroupError::MemberIdRequired);
        refused.member_id
    }

    /// A stable group of one member, generation 1.
    async fn alone(&self) -> Arc<str> {
        let id = self.member_id("a").await;
        self.groups.join(&group(), member(&id)).await.unwrap();
        self.groups.sync(&group(), sync(&id, 1, &[(&id, "all")])).await.unwrap();
        id
    }

    async fn heartbeat(&self, member_id: &str, generation: i32) -> Result<(), GroupError> {
        let member_id = member_id.into();
        let heartbeat = Heartbeat { member_id, instance_id: None, generation };
        self.groups.heartbeat(&group(), heartbeat).await
    }

    async fn commit(&self, offset: i64) -> Result<Vec<PartitionId>, GroupError> {
        self.groups.commit(&group(), simple(&[(0, offset)])).await
    }

    async fn leave(&self, member_id: &str) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        let leaving = Leaving { member_id: member_id.into(), instance_id: None, reason: None };
        self.groups.leave(&group(), vec![leaving]).await
    }
}

fn group() -> GroupId {
    GroupId::from("g")
}

fn partition(index: i32) -> PartitionId {
    PartitionId { topic: TopicId(1), index: PartitionIndex(index) }
}

fn offset(offset: i64) -> CommittedOffset {
    CommittedOffset { offset: Offset(offset), leader_epoch: 1, metadata: "".into() }
}

/// A commit by a client without group membership.
fn simple(offsets: &[(i32, i64)]) -> Commit {
    Commit {
        member_id: "".into(),
        instance_id: None,
        generation: -1,
        knows_group_not_found: true,
        offsets: offsets.iter().map(|(p, o)| (partition(*p), offset(*o))).collect(),
    }
}

#[tokio::test(start_paused = true)]
async fn two_members_join_share_and_part() {
    let world = World::new();
    let (a, b) = (world.member_id("a").await, world.member_id("b").await);
    assert!(a.starts_with("a-") && a.len() == 2 + 36, "{a}");
    let begun = Instant::now();
    let (first, second) = (world.spawn_join(member(&a)), world.spawn_join(member(&b)));
    let (first, second) = (first.await.unwrap().unwrap(), second.await.unwrap().unwrap());
    assert!(begun.elapsed() >= Duration::from_secs(3));
    assert_eq!((first.generation, second.generation), (1, 1));
    let leader = first.leader.clone().unwrap();
    let follower = if leader == a { b.clone() } else { a.clone() };
    assert_eq!(first.members.len() + second.members.len(), 2, "only the leader sees members");

    let groups = world.groups.clone();
    let waiting = sync(&follower, 1, &[]);
    let follower_sync = tokio::spawn(async move { groups.sync(&group(), waiting).await });
    let parts = [(&*leader, "1"), (&*follower, "2")];
    let led = world.groups.sync(&group(), sync(&leader, 1, &parts)).await.unwrap();
    assert_eq!(led.assignment, "1");
    assert_eq!(follower_sync.await.unwrap().unwrap().assignment, "2");
    let stored = world.control.group_now("g").metadata.unwrap();
    assert_eq!((stored.generation, stored.members.len()), (1, 2));

    assert_eq!(world.leave(&leader).await, Ok(vec![Ok(())]));
    assert_eq!(world.heartbeat(&follower, 1).await, Err(GroupError::RebalanceInProgress));
    let again = world.groups.join(&group(), member(&follower)).await.unwrap();
    assert_eq!((again.generation, again.leader.as_deref()), (2, Some(&*follower)));
    world.groups.sync(&group(), sync(&follower, 2, &[(&follower, "12")])).await.unwrap();
    assert_eq!(world.leave(&follower).await, Ok(vec![Ok(())]));
    let stored = world.control.group_now("g").metadata.unwrap();
    assert_eq!((stored.generation, stored.members.len()), (3, 0), "empty and stored so");
}

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
async fn a_static_member_restarts_without_a_rebalance() {
    let world = World::new();
    let first = world.groups.join(&group(), static_member("i", 1)).await.unwrap();
    let id = first.member_id.clone();
    assert!(id.starts_with("i-"));
    world.groups.sync(&group(), sync(&id, 1, &[(&id, "all")])).await.unwrap();
    let second = world.groups.join(&group(), static_member("i", 2)).await.unwrap();
    assert_eq!((second.generation, second.skip_assignment), (1, true));
    assert_ne!(second.member_id, id);
    let stored = world.control.group_now("g").metadata.unwrap();
    assert_eq!(stored.members[0].member_id, second.member_id);
}

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
    assert_eq!(world.groups.fetch(&group()).await, Ok(offsets.clone()));
    // Also by a broker that never heard of the group, and for the empty group id.
    let other = World::on(world.control.clone(), 2);
    assert_eq!(other.groups.fetch(&group()).await, Ok(offsets));
    assert_eq!(other.groups.loaded(), 0);
    assert_eq!(other.groups.fetch(&GroupId::from("")).await, Ok(BTreeMap::new()));
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
async fn a_group_that_cannot_be_read_in_time_is_said_to_be_loading() {
    let world = World::new();
    world.control.set_away(true);
    assert_eq!(world.heartbeat("a", 1).await, Err(GroupError::Loading));
    assert_eq!(world.groups.fetch(&group()).await, Err(GroupError::Loading));
    world.control.set_away(false);
    assert_eq!(world.heartbeat("a", 1).await, Err(GroupError::UnknownMember));
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
async fn requests_without_a_group_id_are_refused_but_for_offsets() {
    let world = World::new();
    let nameless = GroupId::from("");
    let refused = world.groups.join(&nameless, new_member("a")).await.unwrap_err();
    assert_eq!(refused.error, GroupError::InvalidGroupId);
    let heartbeat = Heartbeat { member_id: "a".into(), instance_id: None, generation: 1 };
    let refused = world.groups.heartbeat(&nameless, heartbeat).await;
    assert_eq!(refused, Err(GroupError::InvalidGroupId));
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
async fn a_hundred_members_settle_after_thirty_are_killed() {
    let world = World::new();
    let mut joins = Vec::new();
    for i in 0..100 {
        let id = world.member_id(&format!("m{i}")).await;
        joins.push((id.clone(), world.spawn_join(member(&id))));
    }
    let mut ids = Vec::new();
    for (id, join) in joins {
        assert_eq!(join.await.unwrap().unwrap().generation, 1);
        ids.push(id);
    }
    settle(&world, &ids, 1).await;
    let killed_at = Instant::now();
    let alive = ids.split_off(30);
    while world.heartbeat(&alive[0], 1).await.is_ok() {
        for id in &alive[1..] {
            let _ = world.heartbeat(id, 1).await;
        }
        ottla_env::delay(Duration::from_secs(3)).await;
    }
    let joins: Vec<_> = alive.iter().map(|id| world.spawn_join(member(id))).collect();
    let mut generation = 0;
    for join in joins {
        generation = join.await.unwrap().unwrap().generation;
    }
    settle(&world, &alive, generation).await;
    assert!(killed_at.elapsed() <= super::machine::SESSION * 3);
    assert_eq!(world.control.group_now("g").metadata.unwrap().members.len(), 70);
}

async fn settle(world: &World, ids: &[Arc<str>], generation: i32) {
    let parts: Vec<_> = ids.iter().map(|id| (&**id, &**id)).collect();
    let mut syncs = Vec::new();
    for id in ids {
        let (groups, sync) = (world.groups.clone(), sync(id, generation, &parts));
        syncs.push(tokio::spawn(async move { groups.sync(&group(), sync).await }));
    }
    for (sync, id) in syncs.into_iter().zip(ids) {
        assert_eq!(sync.await.unwrap().unwrap().assignment, id.as_bytes());
    }
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
