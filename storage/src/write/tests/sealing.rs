//! When a buffer is sealed.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use ottla_object_io::faults::WriteFault;
use tokio::time::Instant;

use super::world::{CLIENT, World, is_stored, ms};
use crate::limits::OBJECT_BATCHES_MAX;
use crate::write::testing::{append_batch, partition};

#[tokio::test(start_paused = true)]
async fn a_buffer_is_sealed_when_its_earliest_deadline_has_come() {
    let world = World::patient(|_| {});
    let start = Instant::now();
    assert!(is_stored(&world.one(None).await));
    assert_eq!(start.elapsed().as_millis(), 250);

    let start = Instant::now();
    let slow = world.one(None);
    let mut urgent = append_batch(partition(1), None, 10);
    urgent.linger = Some(ms(20));
    assert!(is_stored(&world.append(vec![urgent]).await) && is_stored(&slow.await));
    assert_eq!(start.elapsed().as_millis(), 20);
    assert_eq!(world.seals("linger"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_full_buffer_is_sealed_at_once_and_never_longer_than_its_limit() {
    let world = World::patient(|options| options.size_max = 1000);
    let start = Instant::now();
    let batches = (0..5).map(|n| append_batch(partition(n), None, 400)).collect();
    let large = world.append(vec![append_batch(partition(9), None, 5000)]);
    let ticket = world.append(batches);
    assert!(is_stored(&large.await));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(is_stored(&ticket.await));
    assert_eq!(world.seals("size"), 3, "the large batch, and two times two small ones");
    assert_eq!(world.seals("linger"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_buffer_takes_no_more_batches_than_one_command_may_name() {
    let world = World::patient(|_| {});
    let batch = |n: usize| append_batch(partition((n % 100) as i32), None, 1);
    let ticket = world.append((0..2 * OBJECT_BATCHES_MAX + 1).map(batch).collect());
    assert!(is_stored(&ticket.await));
    assert_eq!(world.seals("size"), 2);
    assert_eq!(world.seals("linger"), 1, "the one left over");
}

#[tokio::test(start_paused = true)]
async fn a_lone_producer_on_a_store_that_charges_does_not_wait_while_tokens_last() {
    let world = World::charged(|_| {});
    let mut waits = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        assert!(is_stored(&world.one(None).await));
        waits.push(start.elapsed());
    }
    assert!(waits[..16].iter().all(|wait| *wait <= ms(3)), "{waits:?}");
    assert!(waits[17..].iter().all(|wait| *wait > ms(100) && *wait <= ms(126)), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn group_commit_gathers_what_arrives_within_the_interval() {
    let world = World::free(|_| {});
    let first = world.one(None);
    tokio::time::advance(Duration::from_micros(100)).await;
    let start = Instant::now();
    let rest: Vec<_> = (0..50).map(|_| world.one(None)).collect();
    for ticket in rest {
        assert!(is_stored(&ticket.await));
    }
    assert!(is_stored(&first.await) && start.elapsed() < ms(20));
    assert!(world.store.puts().len() <= 2);
}

#[tokio::test(start_paused = true)]
async fn connections_with_full_pipelines_do_not_wait_for_the_deadline() {
    let world = World::patient(|_| {});
    let start = Instant::now();
    let (full, busy) = (Arc::new(AtomicU32::new(5)), Arc::new(AtomicU32::new(4)));
    let large = || vec![append_batch(partition(0), None, 600 << 10)];
    let a = world.append_as(1, ms(30_000), busy.clone(), None, large());
    let b = world.append_as(2, ms(30_000), full, None, large());
    tokio::task::yield_now().await;
    assert_eq!(world.seals("pipelines"), 0, "one connection can still send");
    busy.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let c = world.append_as(1, ms(30_000), busy, None, large());
    for ticket in [a, b, c] {
        assert!(is_stored(&ticket.await));
    }
    assert_eq!((start.elapsed(), world.seals("pipelines")), (Duration::ZERO, 1));
}

#[tokio::test(start_paused = true)]
async fn without_a_free_slot_the_buffer_goes_on_filling() {
    let world = World::free(|options| options.uploads_max = 1);
    world.store.script_write(WriteFault::Slow(ms(900)));
    let first = world.one(None);
    tokio::time::sleep_until(Instant::now() + ms(5)).await;
    let others: Vec<_> = (0..10).map(|_| world.one(None)).collect();
    assert!(is_stored(&first.await));
    for ticket in others {
        assert!(is_stored(&ticket.await));
    }
    assert_eq!(world.store.puts().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn producers_that_wait_for_the_budget_hasten_the_seal() {
    let world = World::patient(|options| options.budget_bytes = 8_000);
    let start = Instant::now();
    for _ in 0..20 {
        let reservation = world.writer.budget().reserve(CLIENT, 1_500).await.unwrap();
        let batches = vec![append_batch(partition(0), None, 1_400)];
        drop(world.append_as(1, ms(60_000), Arc::default(), Some(reservation), batches));
    }
    assert!(start.elapsed() < ms(250), "{:?}", start.elapsed());
    assert!(world.seals("pressure") > 0);
}

#[tokio::test(start_paused = true)]
async fn the_first_producer_that_waits_wakes_a_writer_that_waits_for_the_linger() {
    let world = World::patient(|options| options.budget_bytes = 8_000);
    let reservation = world.writer.budget().reserve(CLIENT, 1_500).await.unwrap();
    let batches = vec![append_batch(partition(0), None, 1_400)];
    drop(world.append_as(1, ms(60_000), Arc::default(), Some(reservation), batches));
    tokio::time::sleep_until(Instant::now() + ms(10)).await;
    let start = Instant::now();
    world.writer.budget().reserve(CLIENT, 1_500).await.unwrap();
    assert_eq!((start.elapsed(), world.seals("pressure")), (Duration::ZERO, 1));
}
