//! Fetches that wait for more than there is.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::world::{CLIENT, World, bases, partition, request, sized};
use crate::cache::Heat;
use crate::limits::{HELD_TAIL_BLOCKS_MAX, HOLD_WAIT_MAX, PASS_WAIT_MAX, SMALL_PASS_PARTITIONS};
use crate::read::{FetchPartition, PassMemory};
use crate::write::{Budget, BudgetMetrics};
use ottla_model::Offset;
use ottla_test_kit::values::bounds;

#[tokio::test(start_paused = true)]
async fn a_fetch_at_the_end_waits_for_a_commit_and_is_woken_by_it() {
    let world = World::new().await;
    world.append(0, 0, &[sized(2, 200)]).await;
    let mut waiting = request(&[(0, 2)]);
    waiting.max_wait = Duration::from_secs(500);
    let started = Instant::now();
    let (fetched, ()) = tokio::join!(world.reader.fetch(waiting), async {
        world.append(1, 0, &[sized(1, 200)]).await;
        world.append(0, 2, &[sized(2, 200)]).await;
    });
    assert_eq!(bases(&fetched[0]), [2]);
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_without_news_ends_after_its_wait() {
    let world = World::new().await;
    world.append(0, 0, &[sized(2, 200)]).await;
    let mut waiting = request(&[(0, 2)]);
    waiting.max_wait = Duration::from_millis(500);
    let started = Instant::now();
    let fetched = world.reader.fetch(waiting).await;
    assert_eq!(started.elapsed(), Duration::from_millis(500));
    assert_eq!((fetched[0].bounds, &fetched[0].error), (bounds(0, 2), &None));
    assert_eq!(world.control.finds(), 0);
}

#[tokio::test(start_paused = true)]
async fn min_bytes_are_waited_for_over_all_partitions() {
    let world = World::new().await;
    world.append(0, 0, &[sized(1, 400)]).await;
    let mut waiting = request(&[(0, 0), (1, 0)]);
    waiting.max_wait = Duration::from_secs(500);
    waiting.min_bytes = 1_000;
    let mut fetch = Box::pin(world.reader.fetch(waiting));
    assert!((&mut fetch).now_or_never().is_none());
    world.append(1, 0, &[sized(1, 400)]).await;
    assert!((&mut fetch).now_or_never().is_none());
    world.append(1, 1, &[sized(1, 400)]).await;
    let fetched = fetch.await;
    assert_eq!((bases(&fetched[0]), bases(&fetched[1])), (vec![0], vec![0, 1]));
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_may_hold_no_blocks_for_long_is_answered_without_records() {
    let world = World::new().await;
    world.append(0, 0, &[sized(2, 200)]).await;
    let all = world.reader.gather.hold(HELD_TAIL_BLOCKS_MAX, Heat::Tail).await;
    let started = Instant::now();
    let mut waiting = request(&[(0, 0)]);
    waiting.max_wait = Duration::from_secs(500);
    let fetched = world.reader.fetch(waiting).await;
    assert_eq!(started.elapsed(), HOLD_WAIT_MAX);
    assert_eq!((fetched[0].bounds, &fetched[0].error), (bounds(0, 2), &None));
    assert!(bases(&fetched[0]).is_empty());
    drop(all);
    assert_eq!(bases(&world.fetch(&[(0, 0)]).await[0]), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_large_fetch_without_memory_for_its_pass_is_answered_without_records() {
    let world = World::new().await;
    world.append(0, 0, &[sized(2, 200)]).await;
    let shown = BudgetMetrics {
        held: world.metrics.memory.bytes.with(["fetch_passes"]),
        held_max: world.metrics.memory.bytes_max.with(["fetch_passes"]),
        waited: world.metrics.kafka.request_wait.clone(),
    };
    let budget = Budget::new(1 << 20, shown);
    let mut large = request(&[]);
    let wanted = FetchPartition { partition: partition(0), offset: Offset(0), max_bytes: 1 << 20 };
    large.partitions = Arc::new(std::iter::repeat_n(wanted, SMALL_PASS_PARTITIONS + 1).collect());
    for may_wait in [false, true] {
        let memory = PassMemory { budget: budget.clone(), client: CLIENT, may_wait };
        large.memory = Some(memory);
        let all = budget.charge(CLIENT, budget.total());
        let started = Instant::now();
        let fetched = world.reader.fetch(large.clone()).await;
        assert_eq!(started.elapsed(), if may_wait { PASS_WAIT_MAX } else { Duration::ZERO });
        assert!(fetched.iter().all(|fetched| fetched.bounds == bounds(0, 2)));
        assert!(fetched.iter().all(|fetched| fetched.records.length == 0));
        drop(all);
        assert_eq!(bases(&world.reader.fetch(large.clone()).await[0]), [0]);
    }
    assert_eq!(budget.used(), 0);
}
