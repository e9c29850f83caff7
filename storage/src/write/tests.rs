//! The writer as a whole: over a store and a control plane that misbehave, in paused time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ottla_env::Random;
use ottla_format::object::{ObjectHeader, decode_object};
use ottla_model::{
    Attempt, BatchProducer, ClusterId, ObjectName, ObjectSeq, PartitionId, ProcessNonce,
};
use ottla_object_io::faults::{FaultRates, FaultStore, Latency, WriteFault};
use ottla_object_io::{Store, keys, memory};
use ottla_telemetry::Metrics;
use tokio::time::Instant;

use super::testing::{
    AUTHOR, CallFaults, FakeControl, HandedOver, append_batch, partition, producer,
};
use super::*;

const CLUSTER: ClusterId = ClusterId(9);
const NONCE: ProcessNonce = ProcessNonce(0xabc);
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// What the read cache was given, and how many messages had then been handed over.
#[derive(Debug, Default)]
struct Written(Mutex<BTreeMap<ObjectName, Vec<u8>>>);

impl WrittenObjects for Written {
    fn insert_written(&self, name: &ObjectName, size: u64, chunks: Vec<Bytes>) {
        let object = chunks.concat();
        assert_eq!(object.len() as u64, size);
        self.0.lock().unwrap().insert(*name, object);
    }
}

struct World {
    parts: WriteParts,
    options: WriteOptions,
    writer: Writer,
    task: Option<WriterTask>,
    store: Arc<FaultStore>,
    control: Arc<FakeControl>,
    written: Arc<Written>,
    metrics: Arc<Metrics>,
}

fn name(seq: u64, attempt: u32) -> ObjectName {
    let (seq, attempt) = (ObjectSeq(seq), Attempt(attempt));
    ObjectName { author: AUTHOR, nonce: NONCE, seq, attempt }
}

impl World {
    fn new(store: Arc<FaultStore>, random: Random, change: impl FnOnce(&mut WriteOptions)) -> Self {
        let control = FakeControl::new(random.clone());
        let (written, metrics) = (Arc::new(Written::default()), Metrics::new());
        let mut options = WriteOptions::for_store(&*store);
        change(&mut options);
        let parts = WriteParts {
            cluster: CLUSTER,
            author: AUTHOR,
            nonce: NONCE,
            store: store.clone(),
            control: control.clone(),
            written: written.clone(),
            random,
            metrics: metrics.clone(),
        };
        let (writer, task) = Writer::start(parts.clone(), options.clone());
        Self { parts, options, writer, task: Some(task), store, control, written, metrics }
    }

    /// On a store that does not charge.
    fn free(change: impl FnOnce(&mut WriteOptions)) -> Self {
        let random = Random::seeded(1);
        Self::new(FaultStore::new(memory(), random.clone()), random, change)
    }

    /// On a store that charges.
    fn charged(change: impl FnOnce(&mut WriteOptions)) -> Self {
        let random = Random::seeded(1);
        Self::new(FaultStore::charging(memory(), random.clone()), random, change)
    }

    /// Nothing is sealed early.
    fn patient(change: impl FnOnce(&mut WriteOptions)) -> Self {
        Self::free(|options| {
            (options.put_rate, options.put_burst) = (0.0, 0.0);
            change(options);
        })
    }

    fn append(&self, batches: Vec<AppendBatch>) -> AppendTicket {
        self.append_as(0, ms(30_000), Arc::new(AtomicU32::new(1)), None, batches)
    }

    fn append_as(
        &self,
        connection: u64,
        timeout: Duration,
        waiting: Arc<AtomicU32>,
        reservation: Option<Reservation>,
        batches: Vec<AppendBatch>,
    ) -> AppendTicket {
        self.writer.append(AppendRequest {
            arrival: Instant::now(),
            timeout,
            connection: ConnectionId(connection),
            waiting_on_connection: waiting,
            reservation,
            batches,
        })
    }

    fn one(&self, producer: Option<BatchProducer>) -> AppendTicket {
        self.append(vec![append_batch(partition(0), producer, 100)])
    }

    async fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.stop().await;
        }
    }

    fn seals(&self, reason: &str) -> u64 {
        self.metrics.produce.flushes.with([reason]).get()
    }

    /// Every committed object is in the store under the committed attempt, whole, and was given to
    /// the cache with the same bytes; no key was written twice.
    async fn check_objects(&self) {
        let attempts = self.control.model().attempts.clone();
        for (seq, attempt) in attempts {
            let name = name(seq, attempt.0);
            let object = self.store.get(&keys::wal(CLUSTER, &name)).await.unwrap();
            let (header, _) = decode_object(&object).unwrap();
            assert!(ObjectHeader::belongs_to(&header, CLUSTER, &name));
            assert_eq!(self.written.0.lock().unwrap()[&name], object);
        }
        let puts = self.store.puts();
        let keys: BTreeSet<&String> = puts.iter().collect();
        assert_eq!(keys.len(), puts.len(), "a key was written twice");
    }
}

fn is_stored(outcomes: &[AppendOutcome]) -> bool {
    outcomes.iter().all(|outcome| matches!(outcome, AppendOutcome::Stored { .. }))
}

fn offset(outcome: AppendOutcome) -> i64 {
    match outcome {
        AppendOutcome::Stored { base_offset, .. } => base_offset.0,
        other => panic!("not stored: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_durable_cached_and_committed_when_it_is_acknowledged() {
    let world = World::free(|_| {});
    let request = vec![
        append_batch(partition(2), None, 500),
        append_batch(partition(0), Some(producer(1, 0)), 100),
        append_batch(partition(2), None, 50),
    ];
    let outcomes = world.append(request).await;
    assert_eq!(outcomes.into_iter().map(offset).collect::<Vec<_>>(), [0, 0, 1]);
    assert_eq!(world.control.model().attempts.len(), 1);
    world.check_objects().await;
}

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
async fn at_80_percent_of_its_timeout_a_request_is_answered_and_its_batch_still_decided() {
    let world = World::free(|_| {});
    (0..3).for_each(|_| world.store.script_write(WriteFault::Slow(ms(2_000))));
    let start = Instant::now();
    let batches = vec![append_batch(partition(0), Some(producer(1, 0)), 10)];
    let ticket = world.append_as(1, ms(1_000), Arc::default(), None, batches);
    assert_eq!(ticket.await, [AppendOutcome::Undecided]);
    assert_eq!(start.elapsed().as_millis(), 800);
    // The client's second try is recognised, whatever became of the first.
    assert_eq!(offset(world.one(Some(producer(1, 0))).await[0]), 0);
    assert_eq!(world.control.model().logs[&partition(0)].len(), 1);
}

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

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_is_repeated() {
    let world = World::free(|_| {});
    world.control.set_faults(CallFaults { answer_lost: 1.0, ..CallFaults::default() });
    let ticket = world.one(Some(producer(1, 0)));
    tokio::time::sleep_until(Instant::now() + ms(3_000)).await;
    world.control.set_faults(CallFaults::default());
    assert_eq!(offset(ticket.await[0]), 0);
    assert_eq!(world.control.model().logs[&partition(0)].len(), 1);
    let calls = world.control.handed_over();
    assert!(calls.len() > 2 && calls.len() < 20, "{} calls in 3 s", calls.len());
    assert!(calls.windows(2).all(|pair| pair[0] == pair[1]), "the same commit each time");
}

#[tokio::test(start_paused = true)]
async fn drain_seals_at_once_and_waits_until_everything_is_decided() {
    let mut world = World::patient(|_| {});
    world.store.script_write(WriteFault::Slow(ms(500)));
    let start = Instant::now();
    let tickets: Vec<_> = (0..10).map(|_| world.one(None)).collect();
    world.writer.drain().await;
    assert_eq!(start.elapsed().as_millis(), 500);
    for ticket in tickets {
        assert!(is_stored(&ticket.await));
    }
    assert_eq!(start.elapsed().as_millis(), 500, "they were answered by then");
    assert_eq!(world.seals("drain"), 1);
    assert!(is_stored(&world.one(None).await), "late ones are still served, and at once");
    assert_eq!(start.elapsed().as_millis(), 500);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_is_stopped_leaves_no_request_without_an_answer() {
    let mut world = World::patient(|options| options.linger = ms(60_000));
    let waiting = tokio::spawn(world.one(None));
    tokio::task::yield_now().await;
    world.stop().await;
    assert_eq!(waiting.await.unwrap(), [AppendOutcome::NotStored], "it was in no object");
    assert_eq!(world.one(None).await, [AppendOutcome::NotStored]);
    world.writer.drain().await;
    assert!(!world.writer.fenced().await);
}

#[tokio::test(start_paused = true)]
async fn after_a_fence_everything_is_answered_so() {
    let mut world = World::free(|_| {});
    assert!(is_stored(&world.one(None).await));
    world.control.model().fenced = true;
    assert_eq!(world.one(None).await, [AppendOutcome::Undecided], "its commit was handed over");
    assert!(world.writer.fenced().await);
    assert_eq!(world.one(None).await, [AppendOutcome::Fenced]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_fence_failed_keeps_its_successors_out_of_the_next_epoch() {
    let mut world = World::patient(|_| {});
    let in_buffer = world.one(Some(producer(1, 0)));
    let before = world.one(Some(producer(2, 5)));
    tokio::time::sleep_until(Instant::now() + ms(250)).await;
    assert!(is_stored(&in_buffer.await) && is_stored(&before.await));

    let in_object = world.one(Some(producer(1, 1)));
    world.store.script_write(WriteFault::Slow(ms(400)));
    tokio::time::sleep_until(Instant::now() + ms(300)).await;
    let in_buffer = world.one(Some(producer(1, 2)));
    let stale = world.writer.clone();
    let task = world.task.take().unwrap();
    let (writer, task) = stale.succeed(task, world.parts.clone(), &world.options).await;
    assert_eq!(in_object.await, [AppendOutcome::Undecided]);
    assert_eq!(in_buffer.await, [AppendOutcome::NotStored]);

    // A connection that still holds the old writer.
    assert_eq!(world.one(Some(producer(1, 3))).await, [AppendOutcome::NotStored]);
    assert_eq!(world.one(Some(producer(2, 6))).await, [AppendOutcome::NotStored]);
    (world.writer, world.task) = (writer, Some(task));
    let refused = [(1, 2), (1, 3), (2, 7)];
    for (id, sequence) in refused {
        let outcome = world.one(Some(producer(id, sequence))).await;
        assert_eq!(outcome, [AppendOutcome::NotStored], "{id}: {sequence}");
    }
    assert_eq!(world.metrics.produce.buffer_bytes.get(), 0);
    let held = world.writer.budget().reserve(CLIENT, 100).await.unwrap();
    assert_eq!(stale.budget().used(), held.bytes(), "one budget for both");
}

#[tokio::test(start_paused = true)]
async fn bytes_leave_the_budget_when_durable_and_overheads_when_answered() {
    let world = World::free(|_| {});
    world.control.set_faults(CallFaults { unavailable: 1.0, ..CallFaults::default() });
    let budget = world.writer.budget().clone();
    let reservation = budget.reserve(CLIENT, 10_000).await.unwrap();
    let batches = (0..3).map(|n| append_batch(partition(n), None, 3_000)).collect();
    let ticket = world.append_as(1, ms(60_000), Arc::default(), Some(reservation), batches);
    let overhead = 3 * crate::limits::BATCH_OVERHEAD_BYTES;
    assert_eq!(budget.used(), 10_000 + overhead);
    tokio::time::sleep_until(Instant::now() + ms(100)).await;
    assert_eq!(budget.used(), overhead, "durable, not committed");
    world.control.set_faults(CallFaults::default());
    assert!(is_stored(&ticket.await));
    assert_eq!(budget.used(), 0);
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

/// An idempotent client on one partition with five batches on the way, which sends again whatever
/// was not acknowledged, in order.
async fn client(world: Arc<World>, id: i64, partition: PartitionId, batches: i32, random: Random) {
    let mut unsent: VecDeque<i32> = (0..batches).collect();
    let mut offsets: BTreeMap<i32, i64> = BTreeMap::new();
    while !unsent.is_empty() {
        let window: Vec<i32> = (0..5).filter_map(|_| unsent.pop_front()).collect();
        let mut tickets = Vec::new();
        for sequence in window {
            let size = random.below(2_000) as usize;
            let batch = append_batch(partition, Some(producer(id, sequence)), size);
            let reservation =
                world.writer.budget().reserve(CLIENT, batch.bytes.len()).await.unwrap();
            let waiting = Arc::new(AtomicU32::new(tickets.len() as u32 + 1));
            let timeout = ms(500 + random.below(20_000));
            let connection = id as u64;
            let ticket =
                world.append_as(connection, timeout, waiting, Some(reservation), vec![batch]);
            tickets.push((sequence, ticket));
            ottla_env::delay(ms(random.below(20))).await;
        }
        let mut again = Vec::new();
        for (sequence, ticket) in tickets {
            match ticket.await[0] {
                AppendOutcome::Stored { base_offset, .. } => {
                    offsets.insert(sequence, base_offset.0);
                }
                AppendOutcome::Fenced => panic!("nobody fenced it"),
                _ => again.push(sequence),
            }
        }
        again.into_iter().rev().for_each(|sequence| unsent.push_front(sequence));
    }
    let log = world.control.model().logs[&partition].clone();
    for (sequence, offset) in offsets {
        assert_eq!(log[offset as usize], Some(producer(id, sequence)));
    }
    let mine: Vec<i32> = log
        .iter()
        .flatten()
        .filter(|producer| producer.id.0 == id)
        .map(|producer| producer.base_sequence.0)
        .collect();
    assert_eq!(mine, (0..batches).collect::<Vec<_>>(), "each once, in order");
}

async fn misbehave(seed: u64) {
    let random = Random::seeded(seed);
    let store = FaultStore::new(memory(), random.clone());
    store.set_rates(FaultRates {
        latency: Latency { usual: ms(40), slow: ms(3_000), slow_share: 0.05 },
        refused: 0.1,
        write_failed_before: 0.05,
        write_failed_after: 0.05,
        write_truncated: 0.05,
        write_late: 0.05,
        late_by: ms(20_000),
        answer_lost: 0.05,
        ..FaultRates::default()
    });
    let world = World::new(store, random.clone(), |options| {
        options.size_max = 20_000;
        options.budget_bytes = 200_000;
        options.upload_time_max = ms(3_000);
        options.uploads_max = 4;
    });
    world.control.set_faults(CallFaults {
        unavailable: 0.1,
        lost: 0.1,
        answer_lost: 0.1,
        delay: ms(50),
    });
    let world = Arc::new(world);
    let mut clients = tokio::task::JoinSet::new();
    for id in 0..6 {
        let home = partition((id % 3) as i32);
        clients.spawn(client(world.clone(), id, home, 60, random.clone()));
    }
    // Two outages, long enough that objects are abandoned.
    let outages = world.store.clone();
    clients.spawn(async move {
        for _ in 0..2 {
            ottla_env::delay(ms(500)).await;
            outages.set_outage(true);
            ottla_env::delay(ms(6_000)).await;
            outages.set_outage(false);
        }
    });
    while let Some(ended) = clients.join_next().await {
        if let Err(error) = ended {
            panic!("seed {seed}: {error}");
        }
    }
    world.writer.drain().await;
    assert_eq!(world.writer.budget().used(), 0, "seed {seed}");
    assert_eq!(world.metrics.produce.buffer_bytes.get(), 0, "seed {seed}");
    world.store.settle().await;
    world.store.set_rates(FaultRates::default());
    world.check_objects().await;
    let model = world.control.model();
    for seq in &model.abandoned {
        assert!(!model.attempts.contains_key(&seq.0), "seed {seed}: {seq} is both");
    }
    for handed_over in world.control.handed_over() {
        if let HandedOver::Commit(objects) = handed_over {
            assert!(objects.iter().all(|object| !model.abandoned.contains(&object.seq)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn acknowledged_batches_survive_a_store_and_a_control_plane_that_misbehave() {
    for seed in 0..12 {
        misbehave(seed).await;
    }
}
