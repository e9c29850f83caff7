//! A buffer: batches in the order they arrived, and what is needed to decide when to seal it.
//!
//! Appending is a push onto two vectors. Sorting by partition waits until the buffer is sealed and
//! happens off the lock that producers meet on. The two vectors run in parallel: a batch's *body*
//! (its bytes) goes to the upload and is let go once durable, its *entry* (what a commit says of
//! it, and whom to answer) stays with the committer until the object is decided.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use ottla_model::{BatchProducer, PartitionId, TimestampMs};
use tokio::time::Instant;

use super::answer::{Answer, AppendOutcome};
use super::budget::Reservation;
use crate::limits::PIPELINE_FULL;

/// A client connection, as the broker numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A batch's bytes, on their way into an object.
#[derive(Debug)]
pub(crate) struct Body {
    pub partition: PartitionId,
    pub bytes: Bytes,
    pub records: u32,
    /// The CRC-32C of its header, already verified.
    pub crc: u32,
    pub producer: Option<BatchProducer>,
    /// Its request's bytes in the budget, held until the object is durable.
    pub _reservation: Option<Arc<Reservation>>,
}

/// What stays of a batch until its object is decided.
#[derive(Debug)]
pub(crate) struct Entry {
    pub partition: PartitionId,
    pub length: u32,
    pub last_offset_delta: i32,
    pub max_timestamp: TimestampMs,
    pub producer: Option<BatchProducer>,
    /// `None`: answered. Before its object was sent for commit, that means it is left out.
    pub answer: Option<Answer>,
}

impl Entry {
    /// Answers the batch, unless it was answered.
    pub(crate) fn settle(&mut self, outcome: AppendOutcome) {
        if let Some(answer) = self.answer.take() {
            answer.give(outcome);
        }
    }
}

/// Batches that will become one object.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    pub bodies: Vec<Body>,
    pub entries: Vec<Entry>,
    /// Sum of the batches' lengths.
    pub bytes: usize,
    /// When its oldest request arrived.
    pub oldest: Option<Instant>,
    /// The earliest flush deadline in it.
    pub deadline: Option<Instant>,
    /// Everyone with a batch in it, with the number of produce requests they wait for.
    connections: BTreeMap<ConnectionId, Arc<AtomicU32>>,
    last_joined: Option<ConnectionId>,
}

impl Buffer {
    /// An empty buffer with room for as many batches as the last one had.
    pub(crate) fn like(last: &Buffer) -> Self {
        let batches = last.entries.len();
        Self {
            bodies: Vec::with_capacity(batches),
            entries: Vec::with_capacity(batches),
            ..Self::default()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a batch at the end.
    pub(crate) fn push(&mut self, body: Body, entry: Entry, arrival: Instant, deadline: Instant) {
        self.bytes += body.bytes.len();
        self.oldest = Some(self.oldest.map_or(arrival, |oldest| oldest.min(arrival)));
        self.deadline = Some(self.deadline.map_or(deadline, |earliest| earliest.min(deadline)));
        self.bodies.push(body);
        self.entries.push(entry);
    }

    /// Notes that a connection has a batch in it.
    pub(crate) fn joined_by(&mut self, connection: ConnectionId, waiting: &Arc<AtomicU32>) {
        // The batches of a request come one after the other.
        if self.last_joined.replace(connection) == Some(connection) {
            return;
        }
        self.connections.entry(connection).or_insert_with(|| waiting.clone());
    }

    /// Whether every connection in it waits for so many requests that it will send no more.
    pub(crate) fn pipelines_are_full(&self) -> bool {
        let full = |waiting: &Arc<AtomicU32>| waiting.load(Ordering::Relaxed) >= PIPELINE_FULL;
        !self.connections.is_empty() && self.connections.values().all(full)
    }
}
