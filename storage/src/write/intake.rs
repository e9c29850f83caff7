//! Where batches come in: the open buffer, full buffers behind it, and who is not let in.
//!
//! The whole of it lies behind one lock that producers share, so each call is short: pushes and
//! comparisons, no sorting, no hashing, no I/O. Its facts are plain data; the caller passes the
//! time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ottla_model::PartitionId;
use ottla_wire::verify::VerifiedBatch;
use tokio::time::Instant;

use super::answer::{Answer, AppendOutcome};
use super::budget::Reservation;
use super::buffer::{Body, Buffer, ConnectionId, Entry};
use super::failed::{FailedProducers, SharedFailed};
use crate::limits::{OBJECT_BATCHES_MAX, PIPELINE_FULL, SEAL_BYTES_WORTHWHILE};

/// Batches of one Produce request, all of them validated.
#[derive(Debug)]
pub struct AppendRequest {
    /// When the request was received: its time-out and flush deadlines count from here.
    pub arrival: Instant,
    /// The request's own time-out. A short one is not taken at its word: see [`AppendTicket`].
    ///
    /// [`AppendTicket`]: super::AppendTicket
    pub timeout: Duration,
    /// Where it came from.
    pub connection: ConnectionId,
    /// How many produce requests of that connection wait for their answer, this one included. Kept
    /// up to date by the connection.
    pub waiting_on_connection: Arc<AtomicU32>,
    /// The frame's bytes in the budget.
    pub reservation: Option<Reservation>,
    /// The batches, in the order of the request.
    pub batches: Vec<AppendBatch>,
}

/// One record batch for a partition.
#[derive(Debug)]
pub struct AppendBatch {
    /// Where it goes. The topic id is bound here, for good.
    pub partition: PartitionId,
    /// Its bytes, and what was found to be true of them.
    pub batch: VerifiedBatch,
    /// The topic's own linger.
    pub linger: Option<Duration>,
}

/// Whether batches are let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Yes.
    Open,
    /// The broker epoch is over.
    Fenced,
    /// The writer has ended.
    Closed,
}

impl Gate {
    /// What a batch is answered that is not let in. It was never part of an object.
    fn refusal(self) -> AppendOutcome {
        if self == Self::Fenced { AppendOutcome::Fenced } else { AppendOutcome::NotStored }
    }
}

/// See the module's essay.
#[derive(Debug)]
pub(crate) struct Intake {
    size_max: usize,
    linger: Duration,
    pub gate: Gate,
    pub draining: bool,
    failed: SharedFailed,
    open: Buffer,
    /// Oldest first. Bounded by the byte budget.
    full: VecDeque<Buffer>,
    /// The open buffer is worth a PUT and was found with full pipelines only.
    pipelines_full: bool,
}

/// The outcome of an append.
#[derive(Debug, Default)]
pub(crate) struct Appended {
    /// The task that seals has something new to look at.
    pub wake: bool,
    /// Bytes that went into a buffer.
    pub bytes: usize,
    /// Records that went into a buffer.
    pub records: u64,
    /// Batches that were not let in; to be answered outside of the lock.
    pub refused: Vec<(Answer, AppendOutcome)>,
}

impl Intake {
    /// Empty and open.
    pub(crate) fn new(size_max: usize, linger: Duration, failed: SharedFailed) -> Self {
        Self {
            size_max,
            linger,
            gate: Gate::Open,
            draining: false,
            failed,
            open: Buffer::default(),
            full: VecDeque::new(),
            pipelines_full: false,
        }
    }

    /// Adds the batches of a request, with the answer of each.
    pub(crate) fn append(
        &mut self,
        request: AppendRequest,
        answers: impl Iterator<Item = Answer>,
        now: Instant,
    ) -> Appended {
        let AppendRequest {
            arrival, connection, waiting_on_connection, reservation, batches, ..
        } = request;
        let reservation = reservation.map(Arc::new);
        let mut appended = Appended::default();
        let failed = self.failed.clone();
        let mut failed = failed.lock();
        for (batch, answer) in batches.into_iter().zip(answers) {
            let AppendBatch { partition, batch, linger } = batch;
            let producer = batch.producer();
            let bytes = batch.bytes().clone();
            if self.gate != Gate::Open {
                failed.turned_away(partition, producer, now);
                appended.refused.push((answer, self.gate.refusal()));
                continue;
            }
            if !failed.admit(partition, producer, now) {
                appended.refused.push((answer, AppendOutcome::NotStored));
                continue;
            }
            if !self.open.is_empty() && self.open.bytes + bytes.len() > self.size_max {
                self.close_open_buffer();
                appended.wake = true;
            }
            let deadline = arrival + linger.unwrap_or(self.linger);
            appended.wake |= self.open.deadline.is_none_or(|earliest| deadline < earliest);
            appended.bytes += bytes.len();
            appended.records += u64::from(batch.record_count());
            let entry = Entry {
                partition,
                length: bytes.len() as u32,
                last_offset_delta: batch.last_offset_delta(),
                max_timestamp: batch.max_timestamp(),
                producer,
                answer: Some(answer),
            };
            let body = Body {
                partition,
                records: batch.record_count(),
                crc: batch.crc(),
                bytes,
                producer,
                _reservation: reservation.clone(),
            };
            self.open.push(body, entry, arrival, deadline);
            self.open.joined_by(connection, &waiting_on_connection);
            if self.open.entries.len() >= OBJECT_BATCHES_MAX {
                self.close_open_buffer();
                appended.wake = true;
            }
        }
        appended.wake |= self.open.bytes >= self.size_max;
        appended.wake |= self.notice_full_pipelines(&waiting_on_connection);
        appended
    }

    /// Looks at all connections only when the one that just appended is full itself.
    fn notice_full_pipelines(&mut self, just_appended: &AtomicU32) -> bool {
        if self.pipelines_full
            || self.open.bytes < SEAL_BYTES_WORTHWHILE
            || just_appended.load(Ordering::Relaxed) < PIPELINE_FULL
        {
            return false;
        }
        self.pipelines_full = self.open.pipelines_are_full();
        self.pipelines_full
    }

    fn close_open_buffer(&mut self) {
        let next = Buffer::like(&self.open);
        self.full.push_back(std::mem::replace(&mut self.open, next));
        self.pipelines_full = false;
    }

    /// Takes the oldest buffer to become an object.
    pub(crate) fn take_oldest(&mut self) -> Option<Buffer> {
        if self.full.is_empty() && !self.open.is_empty() {
            self.close_open_buffer();
        }
        self.full.pop_front()
    }

    /// Takes out what cannot be stored any more because a predecessor failed. Walks in arrival
    /// order; the batches taken out stay in their objects as dead bytes.
    pub(crate) fn take_successors_of_failed(&mut self, now: Instant) -> Vec<Answer> {
        let Self { failed, full, open, .. } = self;
        let entries = full.iter_mut().chain([open]).flat_map(|buffer| &mut buffer.entries);
        take_not_admitted(&mut failed.lock(), entries, now)
    }

    /// Lets nothing in any more, and takes everything out.
    pub(crate) fn shut(&mut self, gate: Gate) -> Vec<Buffer> {
        self.gate = gate;
        std::iter::from_fn(|| self.take_oldest()).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.full.is_empty()
    }

    /// A full buffer waits behind which another one was opened.
    pub(crate) fn full_waiting(&self) -> bool {
        !self.full.is_empty()
    }

    pub(crate) fn open_bytes(&self) -> usize {
        self.open.bytes
    }

    /// The earliest deadline in the open buffer.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.open.deadline
    }

    pub(crate) fn pipelines_full(&self) -> bool {
        self.pipelines_full
    }
}

/// Takes the answers of those entries that the failed producers do not admit, in order. Entries
/// that were answered before are passed over: they are out already.
pub(crate) fn take_not_admitted<'a>(
    failed: &mut FailedProducers,
    entries: impl Iterator<Item = &'a mut Entry>,
    now: Instant,
) -> Vec<Answer> {
    entries
        .filter(|entry| entry.answer.is_some())
        .filter_map(|entry| {
            let admitted = failed.admit(entry.partition, entry.producer, now);
            if admitted { None } else { entry.answer.take() }
        })
        .collect()
}
