//! Fetches that wait for more than there is.

use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::world::{World, bases, request, sized};
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
