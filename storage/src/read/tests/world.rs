//! A reader over a store that can fail, a control plane the test sets, and objects on demand.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ottla_control_api::PartitionBounds;
use ottla_control_api::view::{Extent, ExtentBytes, ObjectRange, ObjectRef};
use ottla_env::Random;
use ottla_format::object::ObjectHeader;
use ottla_model::{
    BytePosition, ClusterId, ExtentFlags, ObjectId, ObjectName, Offset, PartitionId,
    PartitionIndex, TimestampMs, TopicId,
};
use ottla_object_io::faults::FaultStore;
use ottla_object_io::{Payload, Store, StoreOptions, keys, memory, reliable};
use ottla_telemetry::Metrics;
use ottla_test_kit::values::{bounds, merged_name, object_name, topic};
use ottla_test_kit::{FakeControl, batch as batches};
use ottla_wire::batch;

use crate::cache::Cache;
use crate::read::{FetchPartition, FetchRequest, FetchedPartition, Isolation, Reader};
use crate::view::{View, ViewTask};

pub(super) const CLUSTER: ClusterId = ClusterId(5);
pub(super) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(super) fn partition(index: i32) -> PartitionId {
    PartitionId { topic: TopicId(1), index: PartitionIndex(index) }
}

/// A batch with one record per timestamp and values of `value` bytes, as a producer sends it.
pub(super) fn batch_of(times: &[i64], value: usize, gzip: bool) -> Bytes {
    let value = vec![b'v'; value];
    let records: Vec<_> = times.iter().map(|time| (*time, value.as_slice())).collect();
    if gzip { batches::gzipped(&records) } else { batches::plain(&records) }
}

/// A plain batch of `records` records whose whole length is `bytes`.
pub(super) fn sized(records: usize, bytes: usize) -> Bytes {
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

/// A batch with its final header, as a merged object has it.
pub(super) fn finished(batch: &Bytes, base: i64, append_time: Option<i64>) -> Bytes {
    let time = append_time.map(TimestampMs);
    let header = batch::patched_header(batch, Offset(base), time).unwrap();
    [&header[..], &batch[header.len()..]].concat().into()
}

pub(super) struct World {
    pub(super) store: Arc<FaultStore>,
    pub(super) control: FakeControl,
    pub(super) view: Arc<View>,
    pub(super) cache: Arc<Cache>,
    pub(super) reader: Arc<Reader>,
    pub(super) metrics: Arc<Metrics>,
    next_seq: std::sync::atomic::AtomicU64,
    _task: ViewTask,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::reading(|faults| faults).await
    }

    /// Reads as the product does, with time-outs and retries.
    pub(super) async fn reliable() -> Self {
        let options = StoreOptions::default();
        Self::reading(|faults| reliable(faults, &options, Random::seeded(2), Metrics::new())).await
    }

    async fn reading(through: impl FnOnce(Arc<FaultStore>) -> Arc<dyn Store>) -> Self {
        let metrics = Metrics::new();
        let store = FaultStore::charging(memory(), Random::seeded(1));
        let control = FakeControl::default();
        let (view, task) = View::start(&control, &metrics);
        let cache = Cache::new(64 << 20, &metrics);
        let reader = Reader::new(
            Arc::clone(&view),
            Arc::clone(&cache),
            through(store.clone()),
            Arc::new(control.clone()),
            CLUSTER,
            metrics.clone(),
        );
        view.reached(control.add_topic(topic(1, "t", 16))).await.unwrap();
        let next_seq = std::sync::atomic::AtomicU64::new(1);
        Self { store, control, view, cache, reader, metrics, next_seq, _task: task }
    }

    /// Stores an object with one run of batches per partition and returns the extents, the first
    /// records having the given offsets.
    pub(super) async fn object(&self, runs: &[(i64, &[Bytes])]) -> Vec<Arc<Extent>> {
        self.object_with(runs, None, true).await
    }

    pub(super) async fn object_with(
        &self,
        runs: &[(i64, &[Bytes])],
        append_time: Option<TimestampMs>,
        right_header: bool,
    ) -> Vec<Arc<Extent>> {
        let seq = self.next_seq.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let flags = append_time.map_or(ExtentFlags::NONE, |_| ExtentFlags::LOG_APPEND_TIME);
        let origin = object_name(if right_header { seq } else { seq + 1 }).origin;
        let about = (object_name(seq), ObjectHeader { cluster: CLUSTER, origin });
        let mut extents = self.object_named(about, flags, runs).await;
        for extent in &mut extents {
            let extent = Arc::make_mut(extent);
            extent.max_timestamp = append_time.unwrap_or(extent.max_timestamp);
        }
        extents
    }

    /// Stores a merged object, whose batches have final headers, and returns the extents.
    pub(super) async fn merged(
        &self,
        flags: ExtentFlags,
        runs: &[(i64, &[Bytes])],
    ) -> Vec<Arc<Extent>> {
        let job = self.next_seq.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let name = merged_name(job);
        let about = (name, ObjectHeader { cluster: CLUSTER, origin: name.origin });
        self.object_named(about, flags.with(ExtentFlags::FINAL_HEADERS), runs).await
    }

    async fn object_named(
        &self,
        (name, header): (ObjectName, ObjectHeader),
        flags: ExtentFlags,
        runs: &[(i64, &[Bytes])],
    ) -> Vec<Arc<Extent>> {
        let mut bytes = BytesMut::from(&header.encode()[..]);
        let mut parts = Vec::new();
        for (base, batches) in runs {
            let position = bytes.len() as u64;
            let mut next = *base;
            let mut max = i64::MIN;
            for batch in *batches {
                bytes.extend_from_slice(batch);
                let header = batch::parse(batch).unwrap();
                if flags.contains(ExtentFlags::FINAL_HEADERS) {
                    next = header.base_offset;
                }
                next += i64::from(header.last_offset_delta) + 1;
                max = max.max(header.max_timestamp);
            }
            parts.push((*base, next - 1, position, bytes.len() as u64 - position, max));
        }
        bytes.extend_from_slice(b"footer");
        let size = bytes.len() as u64;
        let payload = Payload::from(bytes.freeze());
        self.store.put(&keys::object(CLUSTER, &name), payload).await.unwrap();
        let id = ObjectId(self.next_seq.fetch_add(1, std::sync::atomic::Ordering::SeqCst));
        let object = Arc::new(ObjectRef { id, name, size });
        parts
            .into_iter()
            .map(|(base, last, position, length, max)| {
                Arc::new(Extent {
                    base_offset: Offset(base),
                    last_offset: Offset(last),
                    max_timestamp: TimestampMs(max),
                    flags,
                    bytes: ExtentBytes::Object(ObjectRange {
                        object: Arc::clone(&object),
                        position: BytePosition(position),
                        length: u32::try_from(length).unwrap(),
                    }),
                })
            })
            .collect()
    }

    /// An extent that holds these batches by value.
    pub(super) fn inline(base: i64, batches: &[Bytes]) -> Arc<Extent> {
        let headers: Vec<_> = batches.iter().map(|b| batch::parse(b).unwrap()).collect();
        let records: i64 = headers.iter().map(|h| i64::from(h.last_offset_delta) + 1).sum();
        let max = headers.iter().map(|header| header.max_timestamp).max().unwrap();
        Arc::new(Extent {
            base_offset: Offset(base),
            last_offset: Offset(base + records - 1),
            max_timestamp: TimestampMs(max),
            flags: ExtentFlags::NONE,
            bytes: ExtentBytes::Inline(batches.concat().into()),
        })
    }

    pub(super) async fn publish(
        &self,
        index: i32,
        bounds: PartitionBounds,
        extents: Vec<Arc<Extent>>,
    ) {
        let applied = self.control.publish(partition(index), bounds, extents);
        self.view.reached(applied).await.unwrap();
    }

    /// Partition `index` gets one extent of these batches at `base`.
    pub(super) async fn append(&self, index: i32, base: i64, batches: &[Bytes]) -> Arc<Extent> {
        let extents = self.object(&[(base, batches)]).await;
        let end = extents[0].last_offset.0 + 1;
        self.publish(index, bounds(0, end), extents.clone()).await;
        Arc::clone(&extents[0])
    }

    pub(super) async fn fetch(&self, partitions: &[(i32, i64)]) -> Vec<FetchedPartition> {
        self.reader.fetch(request(partitions)).await
    }
}

pub(super) fn request(partitions: &[(i32, i64)]) -> FetchRequest {
    FetchRequest {
        max_wait: Duration::ZERO,
        min_bytes: 1,
        max_bytes: 50 << 20,
        isolation: Isolation::Uncommitted,
        partitions: Arc::new(partitions.iter().map(wanted).collect()),
        memory: None,
    }
}

fn wanted((index, offset): &(i32, i64)) -> FetchPartition {
    FetchPartition { partition: partition(*index), offset: Offset(*offset), max_bytes: 1 << 20 }
}

/// Changes what a request wants of each partition.
pub(super) fn change(request: &mut FetchRequest, change: impl Fn(&mut FetchPartition)) {
    let changed = request.partitions.iter().map(|mut wanted| {
        change(&mut wanted);
        wanted
    });
    request.partitions = Arc::new(changed.collect());
}

/// Base offsets of the batches of an answer; checks that each is whole and right.
pub(super) fn bases(fetched: &FetchedPartition) -> Vec<i64> {
    let bytes = fetched.records.pieces.concat();
    assert_eq!(bytes.len(), fetched.records.length);
    batch::walk(&bytes)
        .map(|found| {
            let (header, batch) = found.unwrap();
            batch::check(batch).unwrap();
            assert_eq!(header.leader_epoch, ottla_model::LEADER_EPOCH.0);
            header.base_offset
        })
        .collect()
}
