//! A writer over a store and a control plane that can fail, and what must hold of them at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ottla_env::Random;
use ottla_format::object::{ObjectHeader, decode_object};
use ottla_model::{Attempt, BatchProducer, ClusterId, ObjectName, ObjectSeq, ProcessNonce};
use ottla_object_io::faults::FaultStore;
use ottla_object_io::{Store as _, keys, memory};
use ottla_telemetry::Metrics;
use tokio::time::Instant;

use crate::write::testing::{AUTHOR, FakeControl, append_batch, partition};
use crate::write::{
    AppendBatch, AppendOutcome, AppendRequest, AppendTicket, ConnectionId, Reservation,
    WriteOptions, WriteParts, Writer, WriterTask, WrittenObjects,
};

pub(super) const CLUSTER: ClusterId = ClusterId(9);
const NONCE: ProcessNonce = ProcessNonce(0xabc);
pub(super) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(super) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// What the read cache was given.
#[derive(Debug, Default)]
struct Written(Mutex<BTreeMap<ObjectName, Vec<u8>>>);

impl WrittenObjects for Written {
    fn insert_written(&self, name: &ObjectName, size: u64, chunks: Vec<Bytes>) {
        let object = chunks.concat();
        assert_eq!(object.len() as u64, size);
        self.0.lock().unwrap().insert(*name, object);
    }
}

pub(super) struct World {
    pub(super) parts: WriteParts,
    pub(super) options: WriteOptions,
    pub(super) writer: Writer,
    pub(super) task: Option<WriterTask>,
    pub(super) store: Arc<FaultStore>,
    pub(super) control: Arc<FakeControl>,
    written: Arc<Written>,
    pub(super) metrics: Arc<Metrics>,
}

pub(super) fn name(seq: u64, attempt: u32) -> ObjectName {
    let (seq, attempt) = (ObjectSeq(seq), Attempt(attempt));
    ObjectName::wal(AUTHOR, NONCE, seq, attempt)
}

impl World {
    pub(super) fn new(
        store: Arc<FaultStore>,
        random: Random,
        change: impl FnOnce(&mut WriteOptions),
    ) -> Self {
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
    pub(super) fn free(change: impl FnOnce(&mut WriteOptions)) -> Self {
        let random = Random::seeded(1);
        Self::new(FaultStore::new(memory(), random.clone()), random, change)
    }

    /// On a store that charges.
    pub(super) fn charged(change: impl FnOnce(&mut WriteOptions)) -> Self {
        let random = Random::seeded(1);
        Self::new(FaultStore::charging(memory(), random.clone()), random, change)
    }

    /// Nothing is sealed early.
    pub(super) fn patient(change: impl FnOnce(&mut WriteOptions)) -> Self {
        Self::free(|options| {
            (options.put_rate, options.put_burst) = (0.0, 0.0);
            change(options);
        })
    }

    pub(super) fn append(&self, batches: Vec<AppendBatch>) -> AppendTicket {
        self.append_as(0, ms(30_000), Arc::new(AtomicU32::new(1)), None, batches)
    }

    pub(super) fn append_as(
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

    pub(super) fn one(&self, producer: Option<BatchProducer>) -> AppendTicket {
        self.append(vec![append_batch(partition(0), producer, 100)])
    }

    pub(super) async fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.stop().await;
        }
    }

    pub(super) fn seals(&self, reason: &str) -> u64 {
        self.metrics.produce.flushes.with([reason]).get()
    }

    /// Every committed object is in the store under the committed attempt, whole, and was given to
    /// the cache with the same bytes; no key was written twice.
    pub(super) async fn check_objects(&self) {
        let attempts = self.control.model().attempts.clone();
        for (seq, attempt) in attempts {
            let name = name(seq, attempt.0);
            let object = self.store.get(&keys::object(CLUSTER, &name)).await.unwrap();
            let (header, _) = decode_object(&object).unwrap();
            assert!(ObjectHeader::belongs_to(&header, CLUSTER, &name));
            assert_eq!(self.written.0.lock().unwrap()[&name], object);
        }
        let puts = self.store.puts();
        let keys: BTreeSet<&String> = puts.iter().collect();
        assert_eq!(keys.len(), puts.len(), "a key was written twice");
    }
}

pub(super) fn is_stored(outcomes: &[AppendOutcome]) -> bool {
    outcomes.iter().all(|outcome| matches!(outcome, AppendOutcome::Stored { .. }))
}

pub(super) fn offset(outcome: AppendOutcome) -> i64 {
    match outcome {
        AppendOutcome::Stored { base_offset, .. } => base_offset.0,
        other => panic!("not stored: {other:?}"),
    }
}
