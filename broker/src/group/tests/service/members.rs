//! Members come, share, and go.

use std::sync::Arc;
use std::time::Duration;

use ottla_model::GroupId;
use tokio::time::Instant;

use super::{World, group};
use crate::group::tests::machine::{self, member, new_member, static_member, sync};
use crate::group::{GroupError, Heartbeat};

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
    assert!(killed_at.elapsed() <= machine::SESSION * 3);
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
