//! Groups whose members died with their broker.

use std::time::Duration;

use ottla_control_api::ControlPlane;
use ottla_env::delay;
use ottla_format::command::{GroupKind, GroupMember, GroupMetadata, PutGroup};
use ottla_model::GroupId;
use ottla_test_kit::FakeControl;
use ottla_test_kit::values::broker;
use tokio::task::JoinHandle;

use super::{World, group};
use crate::group::limits;
use crate::group::tests::author;
use crate::group::tests::machine::SESSION;

/// More than a page.
const MANY: usize = limits::TAKEOVER_AT_ONCE * 2 + 1;

fn take_over(world: &World) -> JoinHandle<()> {
    let groups = world.groups.clone();
    tokio::spawn(async move { groups.take_over().await })
}

/// Longer than the groups take to be found and their members to time out.
async fn long_enough() {
    delay(limits::TAKEOVER_INTERVAL + 2 * SESSION).await;
}

fn members(control: &FakeControl, group: &str) -> usize {
    control.group_now(group).metadata.map_or(0, |metadata| metadata.members.len())
}

/// Stores groups of one member each.
async fn store_many(control: &FakeControl) {
    for n in 0..MANY {
        let member = GroupMember {
            member_id: "m".into(),
            instance_id: None,
            client_id: "app".into(),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: SESSION.as_millis() as i32,
            rebalance_timeout_ms: 60_000,
            protocols: vec![],
            assignment: Default::default(),
        };
        let metadata = GroupMetadata {
            generation: 1,
            protocol_type: "consumer".into(),
            protocol: None,
            leader: Some("m".into()),
            members: vec![member],
        };
        let group = GroupId::from(format!("g{n:04}").as_str());
        let put = PutGroup { author: author(1), group, kind: GroupKind::Classic, metadata };
        control.put_group(put).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn members_that_died_with_their_broker_time_out_although_nobody_asks() {
    let before = World::new();
    before.alone().await;
    before.groups.stop().await;
    let after = World::on(before.control.clone(), 2);
    let loading = take_over(&after);
    delay(SESSION / 2).await;
    assert_eq!((after.groups.loaded(), members(&after.control, "g")), (1, 1));
    delay(SESSION).await;
    assert_eq!(members(&after.control, "g"), 0);
    delay(2 * limits::UNLOAD_AFTER).await;
    assert_eq!(after.groups.loaded(), 0);
    loading.abort();
}

#[tokio::test(start_paused = true)]
async fn members_that_come_back_go_on() {
    let before = World::new();
    let id = before.alone().await;
    before.groups.stop().await;
    let reads = before.control.group_reads();
    let after = World::on(before.control.clone(), 2);
    let loading = take_over(&after);
    for _ in 0..30 {
        delay(SESSION / 2).await;
        assert_eq!(after.heartbeat(&id, 1).await, Ok(()));
    }
    // Read once, by whoever was first.
    assert_eq!(after.control.group_reads(), reads + 1);
    assert_eq!(members(&after.control, "g"), 1);
    loading.abort();
}

#[tokio::test(start_paused = true)]
async fn all_groups_with_members_are_loaded_a_page_at_a_time() {
    let world = World::new();
    world.commit(1).await.unwrap();
    store_many(&world.control).await;
    let next = World::on(world.control.clone(), 2);
    let loading = take_over(&next);
    delay(limits::TAKEOVER_PAUSE / 2).await;
    assert_eq!(next.groups.loaded(), limits::TAKEOVER_AT_ONCE);
    delay(3 * limits::TAKEOVER_PAUSE).await;
    assert_eq!(next.groups.loaded(), MANY, "and not the one without members");
    long_enough().await;
    assert_eq!(members(&world.control, "g0000") + members(&world.control, "g0128"), 0);
    loading.abort();
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_loaded_is_found_again() {
    let world = World::new();
    store_many(&world.control).await;
    world.control.set_away(true);
    let loading = take_over(&world);
    delay(Duration::from_secs(1)).await;
    assert_eq!(world.groups.loaded(), 0);
    world.control.set_away(false);
    delay(limits::TAKEOVER_INTERVAL).await;
    assert_eq!(world.groups.loaded(), MANY);
    // A fenced run lets its groups go, with members that it could not take out any more.
    world.control.fence_below(2);
    delay(2 * SESSION).await;
    assert_eq!(members(&world.control, "g0000"), 1);
    world.author.send_replace(author(2));
    long_enough().await;
    assert_eq!(members(&world.control, "g0000") + members(&world.control, "g0128"), 0);
    loading.abort();
}

#[tokio::test(start_paused = true)]
async fn groups_of_other_brokers_are_left_to_them() {
    let world = World::new();
    world.alone().await;
    let other = (2..100).map(|id| broker(id, "")).find(|other| {
        *world.brokers.lock().unwrap() = vec![broker(1, ""), other.clone()];
        world.groups.coordinator(&group()).unwrap().author.broker == other.author.broker
    });
    assert!(other.is_some());
    world.groups.stop().await;
    let next = World::on(world.control.clone(), 2);
    *next.brokers.lock().unwrap() = world.brokers.lock().unwrap().clone();
    let loading = take_over(&next);
    long_enough().await;
    assert_eq!((next.groups.loaded(), members(&next.control, "g")), (0, 1));
    // It moves here.
    *next.brokers.lock().unwrap() = vec![broker(1, "")];
    long_enough().await;
    assert_eq!(members(&next.control, "g"), 0);
    loading.abort();
}
