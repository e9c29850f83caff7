//! Uploads that are slow, fail, are given up or arrive too late.

use std::time::Duration;

use ottla_model::{Attempt, ObjectSeq};
use ottla_object_io::Store as _;
use ottla_object_io::faults::{FaultRates, Latency, WriteFault};
use tokio::time::Instant;

use super::world::{CLUSTER, World, is_stored, ms};
use crate::write::AppendOutcome;
use crate::write::testing::{HandedOver, partition, producer};

#[tokio::test(start_paused = true)]
async fn a_slow_attempt_gets_a_rival_under_its_own_key() {
    let world = World::free(|_| {});
    world.store.script_write(WriteFault::Slow(ms(9_000)));
    let start = Instant::now();
    assert!(is_stored(&world.one(None).await));
    assert!(start.elapsed() <= ms(1_010), "{:?}", start.elapsed());
    assert_eq!(world.control.model().attempts[&0], Attempt(1));
    world.check_objects().await;
}

#[tokio::test(start_paused = true)]
async fn whatever_an_attempt_ends_with_the_next_one_has_a_fresh_key() {
    let world = World::free(|_| {});
    let faults = [
        WriteFault::Refused,
        WriteFault::FailedBefore,
        WriteFault::FailedAfter,
        WriteFault::Truncated,
        WriteFault::Late(ms(60_000)),
        WriteFault::Denied,
    ];
    for fault in faults {
        world.store.script_write(fault);
    }
    assert!(is_stored(&world.one(None).await));
    assert_eq!(world.control.model().attempts[&0], Attempt(faults.len() as u32));
    world.store.settle().await;
    world.check_objects().await;
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_is_given_up_is_abandoned_and_answered_not_stored() {
    let world = World::free(|_| {});
    world.store.set_outage(true);
    let start = Instant::now();
    assert_eq!(world.one(Some(producer(1, 0))).await, [AppendOutcome::NotStored]);
    assert!(start.elapsed() >= ms(10_000) && start.elapsed() < ms(10_100));
    assert_eq!(world.control.handed_over(), [HandedOver::Abandon(ObjectSeq(0))]);
    assert!(world.store.puts().len() < 20, "{} attempts in 10 s", world.store.puts().len());

    world.store.set_outage(false);
    let successor = world.one(Some(producer(1, 1))).await;
    assert_eq!(successor, [AppendOutcome::NotStored], "until the first one comes again");
    assert!(is_stored(&world.one(Some(producer(2, 7))).await), "others are not concerned");
    assert!(is_stored(&world.one(Some(producer(1, 0))).await));
    assert!(is_stored(&world.one(Some(producer(1, 1))).await));
}

#[tokio::test(start_paused = true)]
async fn successors_in_buffers_and_uploaded_objects_fail_with_the_first() {
    let world = World::free(|options| options.uploads_max = 2);
    // The first object never arrives: all its attempts are slow, first try and hedges.
    let stuck = WriteFault::Slow(ms(100_000));
    world.store.script_write(stuck);
    let first = world.one(Some(producer(1, 0)));
    tokio::time::sleep_until(Instant::now() + ms(10)).await;
    let uploaded = world.one(Some(producer(1, 1)));
    tokio::time::sleep_until(Instant::now() + ms(10)).await;
    assert_eq!(world.store.puts().len(), 2);
    (0..5).for_each(|_| world.store.script_write(stuck));
    tokio::time::sleep_until(Instant::now() + ms(9_900)).await;
    let buffered = world.one(Some(producer(1, 2)));
    let other = world.one(Some(producer(2, 0)));
    for ticket in [first, uploaded, buffered] {
        assert_eq!(ticket.await, [AppendOutcome::NotStored]);
    }
    drop(other);
    let log = world.control.model().logs.get(&partition(0)).cloned().unwrap_or_default();
    assert!(log.iter().flatten().all(|producer| producer.id.0 != 1), "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_arrives_after_the_abandon_is_never_committed() {
    let world = World::free(|_| {});
    (0..40).for_each(|_| world.store.script_write(WriteFault::Late(ms(60_000))));
    assert_eq!(world.one(Some(producer(1, 0))).await, [AppendOutcome::NotStored]);
    world.store.settle().await;
    assert!(!world.store.list(&format!("{CLUSTER}/wal")).await.unwrap().is_empty());
    world.writer.drain().await;
    assert!(world.control.model().attempts.is_empty());
    let only_abandon = [HandedOver::Abandon(ObjectSeq(0))];
    assert_eq!(world.control.handed_over(), only_abandon);
}

/// Appends a batch every two milliseconds for this long, and hears none of the answers.
async fn produce(world: &World, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        drop(world.one(None));
        tokio::time::sleep_until(Instant::now() + ms(2)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_serves_less_than_it_is_asked_for_is_not_driven_further() {
    const TIME: Duration = Duration::from_secs(20);
    for (served, latency) in [(20, ms(10)), (20, ms(40)), (100, ms(10)), (100, ms(40))] {
        let world = World::free(|_| {});
        let latency = Latency { usual: latency, ..Latency::default() };
        world.store.set_rates(FaultRates { latency, ..FaultRates::default() });
        world.store.set_write_capacity(Some(served));
        produce(&world, TIME / 10).await;
        let before = (world.store.puts().len(), world.control.model().attempts.len());
        produce(&world, TIME).await;
        let asked = (world.store.puts().len() - before.0) as f64;
        let stored = (world.control.model().attempts.len() - before.1) as f64;
        let share = stored / (f64::from(served) * TIME.as_secs_f64());
        let case = format!("{served}/s, {latency:?}: {asked} asked, {stored} stored, {share}");
        // About two: halving finds the store's measure from above, again and again.
        assert!(asked <= 2.2 * stored, "{case}");
        assert!(share >= 0.8, "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_asked_now_and_then_and_found_when_it_is_back() {
    let world = World::free(|_| {});
    produce(&world, ms(500)).await;
    world.store.set_outage(true);
    produce(&world, ms(15_000)).await;
    let asked = world.store.puts().len();
    produce(&world, ms(10_000)).await;
    let asked = world.store.puts().len() - asked;
    assert!(asked <= 60, "{asked} requests in 10 s");
    world.store.set_outage(false);
    let start = Instant::now();
    assert!(is_stored(&world.one(None).await));
    assert!(start.elapsed() <= ms(1_500), "{:?}", start.elapsed());
}
