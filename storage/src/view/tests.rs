use std::sync::Arc;

use futures_util::FutureExt as _;
use ottla_control_api::PartitionBounds;
use ottla_control_api::view::{Change, ClusterView};
use ottla_model::{AppliedIndex, Offset, PartitionId, PartitionIndex, TopicId};
use ottla_test_kit::FakeControl;
use ottla_test_kit::values::{bounds, extent, inline_extent, topic};

use super::View;
use crate::limits::{RECENT_EXTENTS_INLINE_BYTES_MAX, RECENT_EXTENTS_PER_PARTITION};

fn partition(index: i32) -> PartitionId {
    PartitionId { topic: TopicId(1), index: PartitionIndex(index) }
}

fn grown(index: i32, from: i64, to: i64) -> Change {
    Change::Partition {
        partition: partition(index),
        bounds: bounds(0, to),
        extents: vec![extent(from, to - 1, 0, 100, u64::try_from(from).unwrap())],
    }
}

struct World {
    control: FakeControl,
    view: Arc<View>,
    _task: super::ViewTask,
}

impl World {
    async fn new() -> Self {
        let control = FakeControl::default();
        let (view, task) = View::start(&control, &ottla_telemetry::Metrics::new());
        let world = Self { control, view, _task: task };
        world.changes(vec![Change::Topic(topic(1, "t", 4))]).await;
        world
    }

    async fn changes(&self, changes: Vec<Change>) {
        let applied = self.control.tell(changes);
        self.view.reached(applied).await.unwrap();
    }

    /// The view's memory as the metric shows it.
    fn held(&self) -> i64 {
        self.view.held.get()
    }

    async fn reset(&self, view: ClusterView) {
        let applied = self.control.tell_reset(view);
        self.view.reached(applied).await.unwrap();
    }
}

#[tokio::test]
async fn topics_are_found_by_name_and_id_with_their_partitions() {
    let world = World::new().await;
    let found = world.view.topic_by_name(&topic(1, "t", 4).name).unwrap();
    assert_eq!(world.view.topic(found.id), Some(found));
    assert_eq!(world.view.bounds(partition(3)), Some(PartitionBounds::default()));
    assert_eq!(world.view.bounds(partition(4)), None);

    // Created again under its name before the old one's deletion is seen.
    world.changes(vec![Change::Topic(topic(2, "t", 1)), Change::TopicDeleted(TopicId(1))]).await;
    assert_eq!(world.view.topic_by_name(&topic(2, "t", 1).name).unwrap().id, TopicId(2));
    assert_eq!(world.view.bounds(partition(0)), None);
    assert_eq!(world.view.topics().len(), 1);
}

#[tokio::test]
async fn a_wait_is_woken_by_its_partitions_and_by_no_others() {
    let world = World::new().await;
    let wait = world.view.wait_on([partition(0), partition(1)]);
    world.changes(vec![grown(2, 0, 5), grown(3, 0, 5)]).await;
    assert!(wait.changed().now_or_never().is_none());
    world.changes(vec![grown(1, 0, 5)]).await;
    assert!(wait.changed().now_or_never().is_some());
    assert!(wait.changed().now_or_never().is_none());
}

#[tokio::test]
async fn a_change_between_registration_and_waiting_is_not_lost() {
    let world = World::new().await;
    let wait = world.view.wait_on([partition(0)]);
    world.changes(vec![grown(0, 0, 1)]).await;
    wait.changed().await;
}

#[tokio::test]
async fn ended_waits_leave_nothing_behind() {
    let world = World::new().await;
    let waits: Vec<_> = (0..100).map(|i| world.view.wait_on([partition(i % 4)])).collect();
    assert_eq!(world.view.partitions.waiters(), 100);
    drop(waits);
    assert_eq!(world.view.partitions.waiters(), 0);
}

#[tokio::test]
async fn recent_extents_are_served_from_the_asked_offset_on() {
    let world = World::new().await;
    world.changes(vec![grown(0, 0, 10), grown(0, 10, 20), grown(0, 20, 30)]).await;
    let bases = |from: i64, max| {
        let recent = world.view.recent_extents(partition(0), Offset(from), max)?;
        Some(recent.extents.iter().map(|e| e.base_offset.0).collect::<Vec<_>>())
    };
    assert_eq!(bases(0, 1_000), Some(vec![0, 10, 20]));
    assert_eq!(bases(15, 1_000), Some(vec![10, 20]));
    assert_eq!(bases(15, 0), Some(vec![10]));
    assert_eq!(bases(15, 101), Some(vec![10, 20]));
    assert_eq!(bases(30, 1_000), None);
}

#[tokio::test]
async fn recent_extents_are_bounded_and_the_oldest_go() {
    let world = World::new().await;
    let count = RECENT_EXTENTS_PER_PARTITION as i64 + 10;
    world.changes((0..count).map(|i| grown(0, i, i + 1)).collect()).await;
    assert_eq!(world.view.recent_extents(partition(0), Offset(9), 1), None);
    let recent = world.view.recent_extents(partition(0), Offset(10), u64::MAX).unwrap();
    assert_eq!(recent.extents.len(), RECENT_EXTENTS_PER_PARTITION);
}

#[tokio::test]
async fn bytes_by_value_are_bounded_and_the_oldest_extents_go() {
    let world = World::new().await;
    let length = RECENT_EXTENTS_INLINE_BYTES_MAX / 8;
    let inline = |index: i32, offset: i64| Change::Partition {
        partition: partition(index),
        bounds: bounds(0, offset + 1),
        extents: vec![inline_extent(offset, offset, length)],
    };
    let knows =
        |index, offset| world.view.recent_extents(partition(index), Offset(offset), 1).is_some();
    world.changes(vec![inline(0, 0), grown(1, 0, 1), inline(0, 1)]).await;
    world.changes((0..6).map(|at| inline(2, at)).collect()).await;
    assert!(knows(0, 0) && knows(1, 0), "it is just full");
    assert!(world.held() >= RECENT_EXTENTS_INLINE_BYTES_MAX as i64);
    world.changes(vec![inline(2, 6)]).await;
    assert_eq!([knows(0, 0), knows(1, 0), knows(0, 1)], [false, true, true]);
    world.changes(vec![inline(2, 7)]).await;
    assert_eq!([knows(1, 0), knows(0, 1), knows(2, 0)], [false, false, true]);

    let full = world.held();
    world.reset(ClusterView::default()).await;
    assert!(world.held() < full - RECENT_EXTENTS_INLINE_BYTES_MAX as i64 / 2);
}

#[tokio::test]
async fn a_reset_wakes_everybody_and_forgets_recent_extents() {
    let world = World::new().await;
    world.changes(vec![grown(0, 0, 10)]).await;
    let wait = world.view.wait_on([partition(0)]);
    world
        .reset(ClusterView {
            topics: vec![topic(1, "t", 4)],
            partitions: vec![ottla_control_api::view::PartitionSnapshot {
                partition: partition(0),
                bounds: bounds(5, 40),
            }],
            ..ClusterView::default()
        })
        .await;
    assert!(wait.changed().now_or_never().is_some());
    assert_eq!(world.view.bounds(partition(0)), Some(bounds(5, 40)));
    assert_eq!(world.view.recent_extents(partition(0), Offset(8), 1), None);
    // Still registered.
    world.changes(vec![grown(0, 40, 41)]).await;
    assert!(wait.changed().now_or_never().is_some());
}

#[tokio::test]
async fn offsets_never_go_back_behind_what_the_leader_answered() {
    let world = World::new().await;
    world.changes(vec![grown(0, 0, 8)]).await;
    assert_eq!(world.view.learn(partition(0), bounds(2, 10)), bounds(2, 10));
    assert_eq!(world.view.learn(partition(99), bounds(2, 10)), bounds(2, 10));
    // An answer that was delayed: a client is shown what it may have seen meanwhile.
    assert_eq!(world.view.learn(partition(0), bounds(0, 9)), bounds(2, 10));
    assert_eq!(world.view.bounds(partition(0)), Some(bounds(2, 10)));
    world.changes(vec![grown(0, 8, 9)]).await;
    assert_eq!(world.view.bounds(partition(0)), Some(bounds(2, 10)));
    let learn =
        |log_start, end| world.view.learn_appended(partition(0), Offset(log_start), Offset(end)).0;
    assert_eq!(learn(1, 9), 2);
    assert_eq!(learn(3, 10), 3);
    assert_eq!(world.view.bounds(partition(0)), Some(bounds(3, 10)));
    assert_eq!(world.view.bounds(partition(99)), None);
    assert_eq!(learn(3, 11), 3);
    assert_eq!(world.view.bounds(partition(0)), Some(bounds(3, 11)));
    world.changes(vec![grown(0, 9, 12)]).await;
    assert_eq!(world.view.bounds(partition(0)), Some(bounds(3, 12)));
}

#[tokio::test]
async fn a_wait_ends_with_the_topic() {
    let world = World::new().await;
    let wait = world.view.wait_on([partition(0)]);
    world.changes(vec![Change::TopicDeleted(TopicId(1))]).await;
    assert!(wait.changed().now_or_never().is_some());
}

#[tokio::test]
async fn waiting_for_an_index_ends_when_the_control_plane_stops() {
    let world = World::new().await;
    let view = Arc::clone(&world.view);
    let waiting = tokio::spawn(async move { view.reached(AppliedIndex(99)).await });
    world.control.close_watches();
    assert!(waiting.await.unwrap().is_err());
}

#[tokio::test]
async fn fifty_thousand_partitions_are_taken_over_and_changed() {
    let world = World::new().await;
    let topics: Vec<_> = (0..50).map(|i| topic(100 + i, &format!("big-{i}"), 1_000)).collect();
    world.reset(ClusterView { topics, ..ClusterView::default() }).await;
    let last = PartitionId { topic: TopicId(149), index: PartitionIndex(999) };
    assert!(world.view.bounds(last).is_some());
    assert_eq!(world.view.topics().len(), 50);
}
