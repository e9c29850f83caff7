//! A broker id's newest run, and the outcomes of its objects.

use std::sync::Arc;

use ottla_model::{BrokerEpoch, BrokerProfile, ObjectSeq, Offset, ProcessNonce, TimestampMs};

use super::version::{StoredValue, put_value};
use super::{put_profile, read_profile};
use crate::codec::{DecodeError, Reader, Result, put_flag, put_varint, put_zigzag};
use crate::command::{BatchOutcome, BatchRefusal, ObjectOutcome};

/// How far a run is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerStatus {
    /// Registered and shown to clients.
    Live,
    /// It leaves: not shown to clients, but still commits what it holds.
    Draining,
    /// Over: everything it sends is refused.
    Fenced,
}

/// A broker id with its newest run; all older runs are fenced.
///
/// ```text
/// epoch varint · nonce u64 · profile · status u8 · next varint · frontier varint · list of (nonce u64)
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerEntry {
    /// The run's epoch.
    pub epoch: BrokerEpoch,
    /// The run's process start.
    pub nonce: ProcessNonce,
    /// Where the run is and what it runs.
    pub profile: Arc<BrokerProfile>,
    /// How far it is.
    pub status: BrokerStatus,
    /// The lowest object sequence that is not decided.
    pub next: ObjectSeq,
    /// The run said that it holds the outcomes of all lower sequences. Never above `next`.
    pub frontier: ObjectSeq,
    /// The process starts this run and the ones before it have replaced, oldest first.
    pub replaced: Vec<ProcessNonce>,
}

const LIVE: u8 = 0;
const DRAINING: u8 = 1;
const FENCED: u8 = 2;

impl BrokerEntry {
    /// Appends the value's bytes.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_value(out, self);
    }
}

impl StoredValue for BrokerEntry {
    fn put_body(&self, _version: u8, out: &mut Vec<u8>) {
        put_varint(out, self.epoch.0);
        out.extend_from_slice(&self.nonce.0.to_le_bytes());
        put_profile(out, &self.profile);
        out.push(match self.status {
            BrokerStatus::Live => LIVE,
            BrokerStatus::Draining => DRAINING,
            BrokerStatus::Fenced => FENCED,
        });
        put_varint(out, self.next.0);
        put_varint(out, self.frontier.0);
        put_varint(out, self.replaced.len() as u64);
        for nonce in &self.replaced {
            out.extend_from_slice(&nonce.0.to_le_bytes());
        }
    }

    fn read_body(_version: u8, r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            epoch: BrokerEpoch(r.varint("broker epoch")?),
            nonce: ProcessNonce(r.u64("broker nonce")?),
            profile: read_profile(r)?.into(),
            status: match r.u8("broker status")? {
                LIVE => BrokerStatus::Live,
                DRAINING => BrokerStatus::Draining,
                FENCED => BrokerStatus::Fenced,
                other => {
                    let value = i128::from(other);
                    return Err(DecodeError::Invalid { what: "broker status", value });
                }
            },
            next: ObjectSeq(r.varint("broker next sequence")?),
            frontier: ObjectSeq(r.varint("broker frontier")?),
            replaced: (0..r.count(8, "replaced count")?)
                .map(|_| r.u64("replaced nonce").map(ProcessNonce))
                .collect::<Result<_>>()?,
        })
    }
}

const COMMITTED: u8 = 0;
const ABANDONED: u8 = 1;

const APPENDED: u8 = 0;
const DUPLICATE: u8 = 1;
const UNKNOWN_PARTITION: u8 = 2;
const OUT_OF_ORDER_SEQUENCE: u8 = 3;
const STALE_PRODUCER_EPOCH: u8 = 4;

/// Appends a kept outcome.
///
/// ```text
/// outcome   00 · list of batch  (committed)    01  (abandoned)
/// batch     00 or 01 · base offset zigzag · option append time zigzag · log start zigzag
///           (appended, duplicate), or 02, 03, 04 (refused)
/// ```
///
/// Only committed and abandoned objects have an outcome that is kept; the others say that nothing
/// was changed, and are written as abandoned by no caller.
pub fn put_outcome(out: &mut Vec<u8>, outcome: &ObjectOutcome) {
    put_value(out, outcome);
}

impl StoredValue for ObjectOutcome {
    fn put_body(&self, _version: u8, out: &mut Vec<u8>) {
        let ObjectOutcome::Committed(batches) = self else {
            debug_assert_eq!(*self, ObjectOutcome::Abandoned, "only decided outcomes are kept");
            out.push(ABANDONED);
            return;
        };
        out.push(COMMITTED);
        put_varint(out, batches.len() as u64);
        for batch in batches.iter() {
            match batch {
                BatchOutcome::Appended { base_offset, append_time, log_start } => {
                    out.push(APPENDED);
                    put_stored(out, *base_offset, *append_time, *log_start);
                }
                BatchOutcome::Duplicate { base_offset, append_time, log_start } => {
                    out.push(DUPLICATE);
                    put_stored(out, *base_offset, *append_time, *log_start);
                }
                BatchOutcome::Refused(refusal) => out.push(match refusal {
                    BatchRefusal::UnknownPartition => UNKNOWN_PARTITION,
                    BatchRefusal::OutOfOrderSequence => OUT_OF_ORDER_SEQUENCE,
                    BatchRefusal::StaleProducerEpoch => STALE_PRODUCER_EPOCH,
                }),
            }
        }
    }

    fn read_body(_version: u8, r: &mut Reader<'_>) -> Result<Self> {
        match r.u8("outcome kind")? {
            ABANDONED => return Ok(ObjectOutcome::Abandoned),
            COMMITTED => {}
            other => {
                let value = i128::from(other);
                return Err(DecodeError::Invalid { what: "outcome kind", value });
            }
        }
        let count = r.count(1, "batch outcome count")?;
        // An outcome in memory is larger than the fewest bytes it can take: grow with what is read.
        let mut batches = Vec::new();
        for _ in 0..count {
            batches.push(read_batch_outcome(r)?);
        }
        Ok(ObjectOutcome::Committed(Arc::from(batches)))
    }
}

fn put_stored(out: &mut Vec<u8>, base: Offset, append_time: Option<TimestampMs>, start: Offset) {
    put_zigzag(out, base.0);
    put_flag(out, append_time.is_some());
    if let Some(time) = append_time {
        put_zigzag(out, time.0);
    }
    put_zigzag(out, start.0);
}

fn read_batch_outcome(r: &mut Reader<'_>) -> Result<BatchOutcome> {
    let kind = r.u8("batch outcome kind")?;
    Ok(match kind {
        APPENDED | DUPLICATE => {
            let base_offset = Offset(r.zigzag("outcome base offset")?);
            let append_time = if r.flag("outcome append time")? {
                Some(TimestampMs(r.zigzag("outcome append time")?))
            } else {
                None
            };
            let log_start = Offset(r.zigzag("outcome log start")?);
            if kind == APPENDED {
                BatchOutcome::Appended { base_offset, append_time, log_start }
            } else {
                BatchOutcome::Duplicate { base_offset, append_time, log_start }
            }
        }
        UNKNOWN_PARTITION => BatchOutcome::Refused(BatchRefusal::UnknownPartition),
        OUT_OF_ORDER_SEQUENCE => BatchOutcome::Refused(BatchRefusal::OutOfOrderSequence),
        STALE_PRODUCER_EPOCH => BatchOutcome::Refused(BatchRefusal::StaleProducerEpoch),
        other => {
            let value = i128::from(other);
            return Err(DecodeError::Invalid { what: "batch outcome kind", value });
        }
    })
}
