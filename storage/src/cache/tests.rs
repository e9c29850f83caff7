use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use ottla_control_api::view::ObjectRef;
use ottla_env::Random;
use ottla_model::{ClusterId, ObjectId, ObjectName};
use ottla_object_io::faults::{FaultRates, FaultStore, Latency, ReadFault};
use ottla_object_io::{Payload, ReadCause, Store, keys, memory};
use ottla_telemetry::Metrics;
use ottla_test_kit::values::object_name;

use super::{BlockKey, Blocks, Cache, Heat};
use crate::limits::{BLOCK_BYTES, CACHE_ENTRY_OVERHEAD_BYTES, CATCH_UP_READS_MAX};
use crate::write::WrittenObjects as _;

const CLUSTER: ClusterId = ClusterId(5);
const MIB: usize = 1 << 20;

struct World {
    store: Arc<FaultStore>,
    cache: Arc<Cache>,
    blocks: Blocks,
    metrics: Arc<Metrics>,
}

impl World {
    fn new(cache_bytes: usize) -> Self {
        let metrics = Metrics::new();
        let store = FaultStore::charging(memory(), Random::seeded(1));
        let cache = Cache::new(cache_bytes, &metrics);
        let blocks = Blocks::new(Arc::clone(&cache), store.clone(), CLUSTER, Arc::clone(&metrics));
        Self { store, cache, blocks, metrics }
    }

    /// An object whose bytes tell their block.
    async fn object(&self, seq: u64, size: u64) -> ObjectRef {
        let name = object_name(seq);
        let bytes: Vec<u8> = (0..size).map(|at| (at / BLOCK_BYTES) as u8).collect();
        let payload = Payload::from(Bytes::from(bytes));
        self.store.put(&keys::object(CLUSTER, &name), payload).await.unwrap();
        ObjectRef { id: ObjectId(seq), name, size }
    }

    async fn read(&self, object: &ObjectRef, blocks: std::ops::Range<u64>, heat: Heat) -> Vec<u8> {
        let (found, failed) = self.blocks.read(object, blocks, heat, ReadCause::Tail).await;
        assert_eq!(failed, None);
        found.values().map(|block| block.bytes()[0]).collect()
    }
}

fn write(cache: &Cache, seq: u64, bytes: usize) -> ObjectName {
    let name = object_name(seq);
    cache.insert_written(&name, bytes as u64, vec![Bytes::from(vec![1; bytes])]);
    name
}

#[tokio::test]
async fn neighbouring_blocks_come_in_one_read_and_stay() {
    let world = World::new(64 * MIB);
    let object = world.object(1, 3 * BLOCK_BYTES + 10).await;
    assert_eq!(world.read(&object, 0..4, Heat::Tail).await, [0, 1, 2, 3]);
    assert_eq!(world.read(&object, 1..3, Heat::CatchUp).await, [1, 2]);
    assert_eq!(world.store.reads().len(), 1);
    assert_eq!(world.metrics.fetch.cache_misses.get(), 4);
    assert_eq!(world.metrics.fetch.cache_hits.get(), 2);
    let overhead = 4 * CACHE_ENTRY_OVERHEAD_BYTES;
    assert_eq!(world.cache.bytes(), object.size as usize + overhead);
}

#[tokio::test(start_paused = true)]
async fn many_readers_of_a_block_share_one_read() {
    let world = World::new(64 * MIB);
    let object = world.object(1, BLOCK_BYTES).await;
    world.store.script_read(ReadFault::Slow(Duration::from_secs(1)));
    let readers = (0..100).map(|_| world.read(&object, 0..1, Heat::Tail));
    for found in futures_util::future::join_all(readers).await {
        assert_eq!(found, [0]);
    }
    assert_eq!(world.store.reads().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_read_is_everybodys_answer_and_is_not_kept() {
    let world = World::new(64 * MIB);
    let object = world.object(1, BLOCK_BYTES).await;
    let latency = Latency { usual: Duration::from_secs(1), ..Latency::default() };
    world.store.set_rates(FaultRates { latency, ..FaultRates::default() });
    world.store.script_read(ReadFault::Refused);
    let read = || world.blocks.read(&object, 0..1, Heat::Tail, ReadCause::Tail);
    let (first, second) = tokio::join!(read(), read());
    assert!(first.1.is_some() && second.1.is_some());
    assert_eq!(world.store.reads().len(), 1);
    assert_eq!(world.read(&object, 0..1, Heat::Tail).await, [0]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_goes_away_does_not_take_the_read_with_it() {
    let world = World::new(64 * MIB);
    let object = world.object(1, BLOCK_BYTES).await;
    world.store.script_read(ReadFault::Slow(Duration::from_secs(1)));
    let mut first = Box::pin(world.read(&object, 0..1, Heat::Tail));
    assert!((&mut first).now_or_never().is_none());
    let mut second = Box::pin(world.read(&object, 0..1, Heat::Tail));
    assert!((&mut second).now_or_never().is_none());
    drop(first);
    assert_eq!(second.await, [0]);
    assert_eq!(world.store.reads().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_nobody_waits_for_ends_and_is_begun_again() {
    let world = World::new(64 * MIB);
    let object = world.object(1, BLOCK_BYTES).await;
    world.store.script_read(ReadFault::AnswerLost);
    let mut first = Box::pin(world.read(&object, 0..1, Heat::Tail));
    assert!((&mut first).now_or_never().is_none());
    drop(first);
    assert_eq!(world.read(&object, 0..1, Heat::Tail).await, [0]);
}

#[tokio::test]
async fn the_cache_stays_within_its_bytes() {
    let world = World::new(20 * MIB);
    for seq in 0..50 {
        write(&world.cache, seq, MIB);
        let object = world.object(seq, 2 * BLOCK_BYTES).await;
        world.read(&object, 0..2, Heat::Tail).await;
        world.read(&object, 0..2, Heat::CatchUp).await;
        assert!(world.cache.bytes() <= 20 * MIB);
    }
    assert_eq!(world.metrics.memory.bytes.with(["cache"]).get(), world.cache.bytes() as i64);
}

#[tokio::test]
async fn a_long_catch_up_leaves_the_tail_alone() {
    let world = World::new(20 * MIB);
    let name = write(&world.cache, 1_000, 4 * MIB);
    let hot = world.object(1_001, BLOCK_BYTES).await;
    world.read(&hot, 0..1, Heat::Tail).await;
    for seq in 0..40 {
        let old = world.object(seq, 2 * BLOCK_BYTES).await;
        world.read(&old, 0..2, Heat::CatchUp).await;
    }
    assert!(world.cache.written(&name).is_some());
    assert!(world.cache.block(&BlockKey { object: hot.name, block: 0 }).is_some());
}

#[tokio::test]
async fn catch_up_borrows_what_the_tail_does_not_use_and_gives_it_back() {
    let world = World::new(20 * MIB);
    for seq in 0..15 {
        let old = world.object(seq, BLOCK_BYTES).await;
        world.read(&old, 0..1, Heat::CatchUp).await;
    }
    let held = |world: &World| {
        let key = |seq| BlockKey { object: object_name(seq), block: 0 };
        (0..15).filter(|seq| world.cache.block(&key(*seq)).is_some()).count()
    };
    assert_eq!(held(&world), 15);
    for seq in 100..120 {
        write(&world.cache, seq, MIB);
    }
    assert_eq!(held(&world), 4, "a fifth of the cache is catch-up's own");
    assert!(world.cache.written(&object_name(119)).is_some());
}

#[tokio::test]
async fn blocks_that_were_served_whole_make_room_first() {
    let world = World::new(5 * MIB);
    for seq in 0..4 {
        let old = world.object(seq, BLOCK_BYTES).await;
        world.read(&old, 0..1, Heat::CatchUp).await;
    }
    let key = |seq| BlockKey { object: object_name(seq), block: 0 };
    let second = world.cache.block(&key(1)).unwrap();
    assert!(!second.note_served(BLOCK_BYTES / 2));
    assert!(second.note_served(BLOCK_BYTES / 2 - 100), "a header and a footer are never served");
    world.cache.retire(&key(1));
    let more = world.object(4, BLOCK_BYTES).await;
    world.read(&more, 0..1, Heat::CatchUp).await;
    let held: Vec<u64> = (0..5).filter(|seq| world.cache.block(&key(*seq)).is_some()).collect();
    assert_eq!(held, [0, 2, 3, 4]);
}

#[tokio::test]
async fn a_read_counts_whole_until_the_last_of_its_blocks_is_gone() {
    let world = World::new(12 * MIB);
    let object = world.object(1, 8 * BLOCK_BYTES).await;
    world.read(&object, 0..8, Heat::CatchUp).await;
    let whole = world.cache.bytes();
    let key = |block| BlockKey { object: object.name, block };
    let first = world.cache.block(&key(0)).unwrap();
    assert_eq!(first.buffer().length(), 8 * BLOCK_BYTES, "what it keeps in memory");
    // Served in part, it frees nothing.
    assert!(!first.note_served(BLOCK_BYTES));
    let other = world.object(2, 3 * BLOCK_BYTES).await;
    world.read(&other, 0..3, Heat::CatchUp).await;
    assert!(world.cache.bytes() > whole && world.cache.holds(&key(0)));
    // There is no room for the whole read any more, so none of it stays.
    let more = world.object(3, 2 * BLOCK_BYTES).await;
    world.read(&more, 0..2, Heat::CatchUp).await;
    assert!((0..8).all(|block| !world.cache.holds(&key(block))));
    assert_eq!(world.cache.bytes(), 5 * (BLOCK_BYTES as usize + CACHE_ENTRY_OVERHEAD_BYTES));
}

#[tokio::test]
async fn parts_of_an_object_that_came_in_several_reads_are_found() {
    let world = World::new(64 * MIB);
    let object = world.object(1, 12 * BLOCK_BYTES).await;
    assert_eq!(world.read(&object, 3..5, Heat::CatchUp).await, [3, 4]);
    assert_eq!(world.read(&object, 0..12, Heat::CatchUp).await, (0..12).collect::<Vec<_>>());
    assert_eq!(world.read(&object, 2..7, Heat::CatchUp).await, [2, 3, 4, 5, 6]);
    assert_eq!(world.store.reads().len(), 3, "3..5, 0..3 and 5..12");
    let key = |block| BlockKey { object: object.name, block };
    world.cache.forget(&key(6));
    let held: Vec<u64> = (0..13).filter(|block| world.cache.holds(&key(*block))).collect();
    assert_eq!(held, [0, 1, 2, 3, 4]);
}

#[test]
fn objects_that_were_written_long_ago_are_no_tail() {
    let cache = Cache::new(10 * MIB, &Metrics::new());
    for seq in 0..12 {
        write(&cache, seq, MIB);
    }
    assert!(cache.written(&object_name(5)).is_some());
    let passed: Vec<u64> = (0..14).filter(|seq| cache.has_passed(&object_name(*seq))).collect();
    let dropped: Vec<u64> =
        (0..12).filter(|seq| cache.written(&object_name(*seq)).is_none()).collect();
    assert_eq!(passed, dropped);
    assert!(!dropped.is_empty());
}

#[tokio::test(start_paused = true)]
async fn stuck_catch_up_reads_do_not_hold_up_the_tail() {
    let world = World::new(64 * MIB);
    let mut stuck = Vec::new();
    for seq in 0..CATCH_UP_READS_MAX as u64 + 5 {
        let object = world.object(seq, BLOCK_BYTES).await;
        world.store.script_read(ReadFault::AnswerLost);
        let blocks = world.blocks.clone();
        let mut read =
            Box::pin(
                async move { blocks.read(&object, 0..1, Heat::CatchUp, ReadCause::CatchUp).await },
            );
        assert!((&mut read).now_or_never().is_none());
        stuck.push(read);
    }
    // The reads beyond the budget have not asked the store, and left their faults.
    assert_eq!(world.store.reads().len(), CATCH_UP_READS_MAX);
    for _ in 0..5 {
        let object = world.object(900, BLOCK_BYTES).await;
        let lost = world.blocks.read(&object, 0..1, Heat::Tail, ReadCause::Tail).now_or_never();
        assert!(lost.is_none());
    }
    let object = world.object(901, BLOCK_BYTES).await;
    assert_eq!(world.read(&object, 0..1, Heat::Tail).await, [0]);
}

#[tokio::test]
async fn forgotten_blocks_are_read_again() {
    let world = World::new(64 * MIB);
    let object = world.object(1, BLOCK_BYTES).await;
    world.read(&object, 0..1, Heat::Tail).await;
    world.cache.forget(&BlockKey { object: object.name, block: 0 });
    assert_eq!(world.cache.bytes(), 0);
    world.read(&object, 0..1, Heat::Tail).await;
    assert_eq!(world.store.reads().len(), 2);
}

#[tokio::test]
async fn a_block_below_those_of_another_object_is_read_from_its_own() {
    let world = World::new(64 * MIB);
    let (first, second) =
        (world.object(1, 4 * BLOCK_BYTES).await, world.object(2, 4 * BLOCK_BYTES).await);
    assert!(first.name < second.name);
    world.read(&first, 3..4, Heat::Tail).await;
    assert!(!world.cache.holds(&BlockKey { object: second.name, block: 0 }));
    world.read(&second, 0..1, Heat::Tail).await;
    assert_eq!(world.store.reads().len(), 2);
}
