use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use ottla_control_api::view::{Change, Extent, ObjectRef, WatchEvent};
use ottla_control_api::{PartitionBounds, TimestampQuery};
use ottla_env::Random;
use ottla_format::object::{OBJECT_HEADER_BYTES, ObjectHeader};
use ottla_model::{
    AppliedIndex, BytePosition, ClusterId, ObjectId, Offset, PartitionId, PartitionIndex,
    TimestampMs, TopicId,
};
use ottla_object_io::faults::{FaultStore, ReadFault};
use ottla_object_io::{Payload, Store, keys, memory};
use ottla_telemetry::Metrics;
use ottla_wire::batch;
use tokio::time::Instant;

use super::{FetchPartition, FetchRequest, FetchedPartition, Isolation, ReadError, Reader};
use crate::cache::Cache;
use crate::limits::BLOCK_BYTES;
use crate::test_control::{FakeControl, object_name, topic};
use crate::view::{View, ViewTask};
use crate::write::WrittenObjects as _;

const CLUSTER: ClusterId = ClusterId(5);

fn partition(index: i32) -> PartitionId {
    PartitionId { topic: TopicId(1), index: PartitionIndex(index) }
}

fn bounds(log_start: i64, high_watermark: i64) -> PartitionBounds {
    PartitionBounds {
        log_start: Offset(log_start),
        high_watermark: Offset(high_watermark),
        last_stable: Offset(high_watermark),
    }
}

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)) as u64;
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

/// A batch with one record per timestamp and values of `value` bytes, as a producer sends it.
fn batch_of(times: &[i64], value: usize, gzip: bool) -> Bytes {
    let mut body = Vec::new();
    for (delta, time) in times.iter().enumerate() {
        let mut record = vec![0];
        varint(&mut record, time - times[0]);
        varint(&mut record, delta as i64);
        varint(&mut record, -1);
        varint(&mut record, value as i64);
        record.extend(vec![b'v'; value]);
        varint(&mut record, 0);
        varint(&mut body, record.len() as i64);
        body.extend(record);
    }
    if gzip {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&body).unwrap();
        body = encoder.finish().unwrap();
    }
    let count = times.len() as i32;
    let mut out = vec![0; 8];
    out.extend((49 + body.len() as i32).to_be_bytes());
    out.extend((-1i32).to_be_bytes());
    out.push(2);
    out.extend([0; 4]);
    out.extend(u16::from(gzip).to_be_bytes());
    out.extend((count - 1).to_be_bytes());
    out.extend(times[0].to_be_bytes());
    out.extend(times.iter().max().unwrap().to_be_bytes());
    out.extend((-1i64).to_be_bytes());
    out.extend((-1i16).to_be_bytes());
    out.extend((-1i32).to_be_bytes());
    out.extend(count.to_be_bytes());
    out.extend(body);
    let crc = crc32c::crc32c(&out[21..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out.into()
}

/// A plain batch of `records` records whose whole length is `bytes`.
fn sized(records: usize, bytes: usize) -> Bytes {
    let small = batch_of(&vec![0; records], 0, false).len();
    let mut value = (bytes - small) / records;
    loop {
        let batch = batch_of(&vec![0; records], value, false);
        if batch.len() <= bytes {
            return batch;
        }
        value -= 1;
    }
}

struct World {
    store: Arc<FaultStore>,
    control: Arc<FakeControl>,
    view: Arc<View>,
    cache: Arc<Cache>,
    reader: Arc<Reader>,
    next_seq: std::sync::atomic::AtomicU64,
    _task: ViewTask,
}

impl World {
    async fn new() -> Self {
        let metrics = Metrics::new();
        let store = FaultStore::new(memory(), Random::seeded(1));
        let control = FakeControl::new();
        let (view, task) = View::start(&*control);
        let cache = Cache::new(64 << 20, &metrics);
        let reader = Reader::new(
            Arc::clone(&view),
            Arc::clone(&cache),
            store.clone(),
            control.clone(),
            CLUSTER,
            metrics,
        );
        let changes: Vec<Change> = vec![Change::Topic(topic(1, "t", 16))];
        control
            .send(WatchEvent::Changes { applied: AppliedIndex(0), changes: changes.into() })
            .await;
        while view.bounds(partition(15)).is_none() {
            tokio::task::yield_now().await;
        }
        let next_seq = std::sync::atomic::AtomicU64::new(1);
        Self { store, control, view, cache, reader, next_seq, _task: task }
    }

    /// Stores an object with one run of batches per partition and returns the extents, the first
    /// records having the given offsets.
    async fn object(&self, runs: &[(i64, &[Bytes])]) -> Vec<Arc<Extent>> {
        self.object_with(runs, None, true).await
    }

    async fn object_with(
        &self,
        runs: &[(i64, &[Bytes])],
        append_time: Option<TimestampMs>,
        right_header: bool,
    ) -> Vec<Arc<Extent>> {
        let seq = self.next_seq.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let name = object_name(seq);
        let mut header = ObjectHeader {
            cluster: CLUSTER,
            author: name.author,
            nonce: name.nonce,
            seq: name.seq,
        };
        if !right_header {
            header.seq = header.seq.next();
        }
        let mut bytes = BytesMut::from(&header.encode()[..]);
        let mut parts = Vec::new();
        for (base, batches) in runs {
            let position = bytes.len() as u64;
            let mut next = *base;
            let mut max = i64::MIN;
            for batch in *batches {
                bytes.extend_from_slice(batch);
                let header = batch::parse(batch).unwrap();
                next += i64::from(header.last_offset_delta) + 1;
                max = max.max(header.max_timestamp);
            }
            parts.push((*base, next - 1, position, bytes.len() as u64 - position, max));
        }
        bytes.extend_from_slice(b"footer");
        let size = bytes.len() as u64;
        self.store.put(&keys::wal(CLUSTER, &name), Payload::from(bytes.freeze())).await.unwrap();
        let object = Arc::new(ObjectRef { id: ObjectId(seq), name, size });
        parts
            .into_iter()
            .map(|(base, last, position, length, max)| {
                Arc::new(Extent {
                    base_offset: Offset(base),
                    last_offset: Offset(last),
                    position: BytePosition(position),
                    length,
                    max_timestamp: append_time.unwrap_or(TimestampMs(max)),
                    append_time,
                    object: Arc::clone(&object),
                })
            })
            .collect()
    }

    async fn publish(&self, index: i32, bounds: PartitionBounds, extents: Vec<Arc<Extent>>) {
        let applied = self.control.publish(partition(index), bounds, extents).await;
        self.view.reached(applied).await.unwrap();
    }

    /// Partition `index` gets one extent of these batches at `base`.
    async fn append(&self, index: i32, base: i64, batches: &[Bytes]) -> Arc<Extent> {
        let extents = self.object(&[(base, batches)]).await;
        let end = extents[0].last_offset.0 + 1;
        self.publish(index, bounds(0, end), extents.clone()).await;
        Arc::clone(&extents[0])
    }

    async fn fetch(&self, partitions: &[(i32, i64)]) -> Vec<FetchedPartition> {
        self.reader.fetch(request(partitions)).await
    }
}

fn request(partitions: &[(i32, i64)]) -> FetchRequest {
    FetchRequest {
        max_wait: Duration::ZERO,
        min_bytes: 1,
        max_bytes: 50 << 20,
        isolation: Isolation::Uncommitted,
        partitions: partitions
            .iter()
            .map(|(index, offset)| FetchPartition {
                partition: partition(*index),
                offset: Offset(*offset),
                max_bytes: 1 << 20,
            })
            .collect(),
    }
}

/// Base offsets of the batches of an answer; checks that each is whole and right.
fn bases(fetched: &FetchedPartition) -> Vec<i64> {
    let bytes = fetched.records.pieces.concat();
    assert_eq!(bytes.len(), fetched.records.length);
    batch::walk(&bytes)
        .map(|found| {
            let (header, batch) = found.unwrap();
            batch::verify(batch).unwrap();
            assert_eq!(header.leader_epoch, ottla_model::LEADER_EPOCH.0);
            header.base_offset
        })
        .collect()
}

#[tokio::test]
async fn batches_come_back_with_their_offsets_and_unchanged_records() {
    let world = World::new().await;
    let batches = [sized(3, 300), sized(1, 5_000), sized(2, 200)];
    world.append(0, 0, &batches).await;
    world.append(0, 6, &batches).await;
    let fetched = world.fetch(&[(0, 0)]).await;
    assert_eq!(fetched[0].error, None);
    assert_eq!(fetched[0].bounds, bounds(0, 12));
    assert_eq!(bases(&fetched[0]), [0, 3, 4, 6, 9, 10]);
    let bytes = fetched[0].records.pieces.concat();
    assert_eq!(bytes[61..batches[0].len()], batches[0][61..]);
    // The second fetch reads nothing new.
    let reads = world.store.reads().len();
    assert_eq!(world.fetch(&[(0, 0)]).await[0].records, fetched[0].records);
    assert_eq!(world.store.reads().len(), reads);
}

#[tokio::test]
async fn large_batches_are_not_copied() {
    let world = World::new().await;
    let batch = sized(10, 100_000);
    let extent = world.append(0, 0, std::slice::from_ref(&batch)).await;
    let held = Bytes::from(batch.to_vec());
    let header = Bytes::from(vec![0; extent.position.0 as usize]);
    world.cache.insert_written(&extent.object.name, extent.object.size, vec![header, held.clone()]);
    let fetched = world.fetch(&[(0, 0)]).await;
    let pieces = &fetched[0].records.pieces;
    assert_eq!(pieces.len(), 2);
    assert_eq!(pieces[1].as_ptr(), held[61..].as_ptr());
    assert!(world.store.reads().is_empty());
}

#[tokio::test]
async fn an_offset_inside_a_batch_gets_the_whole_batch() {
    let world = World::new().await;
    world.append(0, 0, &[sized(5, 300), sized(5, 300), sized(5, 300)]).await;
    assert_eq!(bases(&world.fetch(&[(0, 7)]).await[0]), [5, 10]);
    assert_eq!(bases(&world.fetch(&[(0, 14)]).await[0]), [10]);
}

#[tokio::test]
async fn four_partitions_get_equal_shares_over_rounds() {
    let world = World::new().await;
    let batches = vec![sized(1, 1_000); 16];
    for index in 0..4 {
        world.append(index, 0, &batches).await;
    }
    let mut next = [0i64; 4];
    for round in 0..4 {
        let order: Vec<(i32, i64)> = (0..4)
            .map(|i| (i + round) % 4)
            .map(|index| (index, next[usize::try_from(index).unwrap()]))
            .collect();
        let mut request = request(&order);
        request.max_bytes = 8_500;
        for partition in &mut request.partitions {
            partition.max_bytes = 2_100;
        }
        for ((index, _), fetched) in order.iter().zip(world.reader.fetch(request).await) {
            next[usize::try_from(*index).unwrap()] += bases(&fetched).len() as i64;
        }
    }
    assert_eq!(next, [8; 4]);
}

#[tokio::test]
async fn partitions_past_the_budget_are_empty_with_real_offsets() {
    let world = World::new().await;
    for index in 0..3 {
        world.append(index, 0, &[sized(1, 1_000), sized(1, 1_000)]).await;
    }
    let mut small = request(&[(0, 0), (1, 0), (2, 0)]);
    small.max_bytes = 1_000;
    let fetched = world.reader.fetch(small).await;
    assert_eq!(bases(&fetched[0]), [0]);
    for rest in &fetched[1..] {
        assert_eq!((rest.records.length, rest.bounds, &rest.error), (0, bounds(0, 2), &None));
    }
}

#[tokio::test]
async fn a_first_batch_beyond_every_limit_is_sent() {
    let world = World::new().await;
    let large = sized(3, 3 * BLOCK_BYTES as usize);
    world.append(0, 0, &[large.clone(), sized(1, 100)]).await;
    let mut small = request(&[(0, 1)]);
    small.max_bytes = 10;
    small.partitions[0].max_bytes = 10;
    let fetched = world.reader.fetch(small).await;
    assert_eq!(bases(&fetched[0]), [0]);
    assert_eq!(fetched[0].records.length, large.len());
}

#[tokio::test]
async fn a_large_extent_is_taken_in_parts_without_walking_it_again() {
    let world = World::new().await;
    let batches = vec![sized(1, 100_000); 40];
    world.append(0, 0, &batches).await;
    let mut next = 0;
    while next < 40 {
        let fetched = world.fetch(&[(0, next)]).await;
        let found = bases(&fetched[0]);
        assert_eq!(found.first(), Some(&next));
        next = found.last().unwrap() + 1;
    }
    let read: u64 = world.store.reads().iter().map(|(_, range)| range.end - range.start).sum();
    assert!(read <= 40 * 100_000 + 1_000, "{read}");
}

#[tokio::test]
async fn small_extents_of_many_objects_are_read_within_bounds_and_copied() {
    let world = World::new().await;
    let filler = vec![sized(1, 900_000); 2];
    let mut all = Vec::new();
    for offset in 0..40 {
        let extents = world.object(&[(offset, &[sized(1, 4_000)]), (0, &filler)]).await;
        all.push(Arc::clone(&extents[0]));
    }
    world.publish(0, bounds(0, 40), all).await;
    let fetched = world.fetch(&[(0, 0)]).await;
    assert_eq!(bases(&fetched[0]), (0..32).collect::<Vec<_>>());
    assert_eq!(fetched[0].records.pieces.len(), 1, "no block is kept for 4 KB of it");
    assert_eq!(bases(&world.fetch(&[(0, 32)]).await[0]), (32..40).collect::<Vec<_>>());
}

#[tokio::test]
async fn log_append_time_is_in_the_answer() {
    let world = World::new().await;
    let time = Some(TimestampMs(77_000));
    let batches = [batch_of(&[5, 6], 10, false)];
    let extents = world.object_with(&[(0, &batches)], time, true).await;
    world.publish(0, bounds(0, 2), extents).await;
    let fetched = world.fetch(&[(0, 0)]).await;
    assert_eq!(bases(&fetched[0]), [0]);
    let header = batch::parse(&fetched[0].records.pieces.concat()).unwrap();
    assert_eq!(header.max_timestamp, 77_000);
    assert_eq!(header.timestamp_type(), ottla_model::TimestampType::LogAppendTime);
}

#[tokio::test]
async fn read_committed_stops_at_the_last_stable_offset() {
    let world = World::new().await;
    let extents = world.object(&[(0, &[sized(2, 200), sized(2, 200), sized(2, 200)])]).await;
    let stable = PartitionBounds { last_stable: Offset(4), ..bounds(0, 6) };
    world.publish(0, stable, extents).await;
    let mut committed = request(&[(0, 0)]);
    committed.isolation = Isolation::Committed;
    assert_eq!(bases(&world.reader.fetch(committed.clone()).await[0]), [0, 2]);
    committed.partitions[0].offset = Offset(4);
    let at_end = world.reader.fetch(committed).await;
    assert_eq!((at_end[0].records.length, &at_end[0].error), (0, &None));
    assert_eq!(at_end[0].bounds, stable);
}

#[tokio::test]
async fn out_of_range_is_said_only_after_asking_the_leader() {
    let world = World::new().await;
    world.append(0, 0, &[sized(2, 200)]).await;
    // The view is behind: the leader has more, and so the offset is right.
    let more = world.object(&[(2, &[sized(2, 200)])]).await;
    world.control.set(partition(0), bounds(0, 4), more);
    assert_eq!(bases(&world.fetch(&[(0, 3)]).await[0]), [2]);
    let at_end = world.fetch(&[(0, 4)]).await;
    assert_eq!((at_end[0].bounds, &at_end[0].error), (bounds(0, 4), &None));

    let above = world.fetch(&[(0, 5)]).await;
    assert_eq!(above[0].error, Some(ReadError::OffsetOutOfRange));
    assert_eq!(above[0].bounds, bounds(0, 4));
    world.control.set(partition(0), bounds(2, 4), Vec::new());
    let mut trimmed = world.fetch(&[(0, -1)]).await;
    assert_eq!(trimmed.remove(0).error, Some(ReadError::OffsetOutOfRange));
    world.control.set_available(false);
    assert!(matches!(world.fetch(&[(0, 9)]).await[0].error, Some(ReadError::Unavailable(_))));
}

#[tokio::test]
async fn an_unknown_partition_does_not_disturb_the_others() {
    let world = World::new().await;
    world.append(0, 0, &[sized(2, 200)]).await;
    let fetched = world.fetch(&[(99, 0), (0, 0)]).await;
    assert_eq!(fetched[0].error, Some(ReadError::UnknownPartition));
    assert_eq!(bases(&fetched[1]), [0]);
}

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

#[tokio::test]
async fn older_records_are_found_through_the_control_plane() {
    let world = World::new().await;
    let old = world.object(&[(0, &[sized(5, 500)])]).await;
    world.control.set(partition(0), bounds(0, 5), old);
    world.append(0, 5, &[sized(5, 500)]).await;
    assert_eq!(bases(&world.fetch(&[(0, 0)]).await[0]), [0, 5]);
    assert_eq!(world.control.finds(), 1);
    world.reader.stop().await;
}

#[tokio::test]
async fn a_damaged_block_is_read_again_once() {
    let world = World::new().await;
    world.append(0, 0, &[sized(5, 100_000)]).await;
    world.store.script_read(ReadFault::Corrupt);
    let fetched = world.fetch(&[(0, 0)]).await;
    assert_eq!((bases(&fetched[0]), &fetched[0].error), (vec![0], &None));
    assert_eq!(world.store.reads().len(), 2);
}

#[tokio::test]
async fn damage_that_stays_is_an_error_after_the_good_prefix_of_its_partition_only() {
    let world = World::new().await;
    let mut bad = sized(1, 300).to_vec();
    bad[200] ^= 1;
    let runs: [(i64, &[Bytes]); 2] =
        [(0, &[sized(2, 300), Bytes::from(bad), sized(1, 300)]), (0, &[sized(3, 300)])];
    let extents = world.object(&runs).await;
    world.publish(0, bounds(0, 4), vec![Arc::clone(&extents[0])]).await;
    world.publish(1, bounds(0, 3), vec![Arc::clone(&extents[1])]).await;
    let fetched = world.fetch(&[(0, 0), (1, 0)]).await;
    assert_eq!((bases(&fetched[0]), &fetched[0].error), (vec![0], &None));
    assert_eq!((bases(&fetched[1]), &fetched[1].error), (vec![0], &None));
    let fetched = world.fetch(&[(0, 2), (1, 0)]).await;
    assert!(matches!(fetched[0].error, Some(ReadError::Corrupt(_))));
    assert_eq!(bases(&fetched[1]), [0]);
}

#[tokio::test]
async fn a_store_that_refuses_fails_only_its_partitions() {
    let world = World::new().await;
    world.append(0, 0, &[sized(2, 300)]).await;
    world.append(1, 0, &[sized(2, 300)]).await;
    world.store.script_read(ReadFault::Refused);
    let fetched = world.fetch(&[(0, 0), (1, 0)]).await;
    assert!(matches!(fetched[0].error, Some(ReadError::Storage(_))));
    assert_eq!(bases(&fetched[1]), [0]);
    assert_eq!(bases(&world.fetch(&[(0, 0)]).await[0]), [0]);
}

#[tokio::test]
async fn a_missing_object_is_looked_up_again_once() {
    let world = World::new().await;
    let gone = world.append(0, 0, &[sized(2, 300)]).await;
    world.store.delete(&keys::wal(CLUSTER, &gone.object.name)).await.unwrap();
    // Nobody replaced it: an error, not an empty success.
    assert!(matches!(world.fetch(&[(0, 0)]).await[0].error, Some(ReadError::Storage(_))));
    assert_eq!(world.control.finds(), 1);
    // It was merged into another object.
    let merged = world.object(&[(0, &[sized(2, 300)])]).await;
    world.control.set(partition(0), bounds(0, 2), merged);
    assert_eq!(bases(&world.fetch(&[(0, 0)]).await[0]), [0]);
}

#[tokio::test]
async fn an_object_with_another_objects_header_is_not_served() {
    let world = World::new().await;
    let extents = world.object_with(&[(0, &[sized(2, 300)])], None, false).await;
    world.publish(0, bounds(0, 2), extents).await;
    assert!(matches!(world.fetch(&[(0, 0)]).await[0].error, Some(ReadError::Corrupt(_))));
}

#[tokio::test]
async fn the_header_is_looked_at_when_reading_begins_in_the_middle() {
    let world = World::new().await;
    let filler = vec![sized(1, 1_000_000); 3];
    let wrong = world.object_with(&[(0, &filler), (0, &[sized(2, 300)])], None, false).await;
    world.publish(1, bounds(0, 2), vec![Arc::clone(&wrong[1])]).await;
    assert!(matches!(world.fetch(&[(1, 0)]).await[0].error, Some(ReadError::Corrupt(_))));
    let right = world.object(&[(0, &filler), (0, &[sized(2, 300)])]).await;
    world.publish(2, bounds(0, 2), vec![Arc::clone(&right[1])]).await;
    assert_eq!(bases(&world.fetch(&[(2, 0)]).await[0]), [0]);
    let heads =
        world.store.reads().into_iter().filter(|(_, r)| *r == (0..OBJECT_HEADER_BYTES as u64));
    assert_eq!(heads.count(), 3, "twice for the wrong one, once for the right one");
}

#[tokio::test]
async fn timestamps_are_found_exact_to_the_record() {
    let world = World::new().await;
    for gzip in [false, true] {
        let index = i32::from(gzip);
        let batches = [
            batch_of(&[100, 105, 103], 20, gzip),
            batch_of(&[90, 110, 120], 20, gzip),
            batch_of(&[120, 119], 20, gzip),
        ];
        world.append(index, 0, &batches).await;
        let at = |time| {
            let query = TimestampQuery::AtOrAfter(TimestampMs(time));
            let (reader, partition) = (&world.reader, partition(index));
            async move {
                let found = reader.offset_at(partition, query, Isolation::Uncommitted).await;
                found.unwrap().map(|(offset, time)| (offset.0, time.0))
            }
        };
        assert_eq!(at(0).await, Some((0, 100)));
        assert_eq!(at(101).await, Some((1, 105)));
        assert_eq!(at(106).await, Some((4, 110)));
        assert_eq!(at(111).await, Some((5, 120)));
        assert_eq!(at(121).await, None);
        let max = world
            .reader
            .offset_at(partition(index), TimestampQuery::Max, Isolation::Uncommitted)
            .await;
        assert_eq!(max, Ok(Some((Offset(5), TimestampMs(120)))));
    }
}

#[tokio::test]
async fn timestamps_respect_isolation_log_start_and_append_time() {
    let world = World::new().await;
    let batches = [batch_of(&[100, 101], 5, true), batch_of(&[200, 201], 5, true)];
    let extents = world.object(&[(0, &batches)]).await;
    let stable = PartitionBounds { last_stable: Offset(2), ..bounds(1, 4) };
    world.publish(0, stable, extents).await;
    let find = async |index, time, isolation| {
        let query = TimestampQuery::AtOrAfter(TimestampMs(time));
        world.reader.offset_at(partition(index), query, isolation).await.unwrap()
    };
    assert_eq!(find(0, 0, Isolation::Uncommitted).await, Some((Offset(1), TimestampMs(101))));
    assert_eq!(find(0, 150, Isolation::Uncommitted).await, Some((Offset(2), TimestampMs(200))));
    assert_eq!(find(0, 150, Isolation::Committed).await, None);

    let time = Some(TimestampMs(900));
    let extents = world.object_with(&[(0, &batches)], time, true).await;
    world.publish(1, bounds(0, 4), extents).await;
    assert_eq!(find(1, 500, Isolation::Uncommitted).await, Some((Offset(0), TimestampMs(900))));
    let unknown =
        world.reader.offset_at(partition(99), TimestampQuery::Max, Isolation::Uncommitted).await;
    assert_eq!(unknown, Err(ReadError::UnknownPartition));
}

/// A batch whose header claims a later time than its two records have.
fn liar() -> Bytes {
    let mut liar = batch_of(&[100, 101], 5, false).to_vec();
    liar[35..43].copy_from_slice(&500i64.to_be_bytes());
    let crc = crc32c::crc32c(&liar[21..]);
    liar[17..21].copy_from_slice(&crc.to_be_bytes());
    liar.into()
}

#[tokio::test]
async fn headers_that_claim_a_later_time_are_looked_behind() {
    let world = World::new().await;
    world.append(0, 0, &[liar()]).await;
    world.append(0, 2, &[batch_of(&[50], 5, false)]).await;
    world.append(0, 3, &[batch_of(&[300, 400], 5, false)]).await;
    let query = TimestampQuery::AtOrAfter(TimestampMs(350));
    let found = world.reader.offset_at(partition(0), query, Isolation::Uncommitted).await;
    assert_eq!(found, Ok(Some((Offset(4), TimestampMs(400)))));
}

#[tokio::test]
async fn a_record_far_behind_a_header_that_claims_its_time_is_found() {
    let world = World::new().await;
    world.append(0, 0, &[liar()]).await;
    for base in 2..42 {
        world.append(0, base, &[batch_of(&[50], 5, false)]).await;
    }
    world.append(0, 42, &[batch_of(&[400], 5, false)]).await;
    let query = TimestampQuery::AtOrAfter(TimestampMs(350));
    let found = world.reader.offset_at(partition(0), query, Isolation::Uncommitted).await;
    assert_eq!(found, Ok(Some((Offset(42), TimestampMs(400)))));
}

#[tokio::test]
async fn a_look_up_that_is_given_up_never_says_that_there_is_no_record() {
    let world = World::new().await;
    for at in 0..20 {
        world.append(0, 2 * at, &[liar()]).await;
    }
    world.append(0, 40, &[batch_of(&[400], 5, false)]).await;
    let query = TimestampQuery::AtOrAfter(TimestampMs(350));
    let found = world.reader.offset_at(partition(0), query, Isolation::Uncommitted).await;
    assert!(matches!(found, Err(ReadError::Corrupt(_))), "{found:?}");
}
