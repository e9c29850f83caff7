//! A committed object.

use ottla_model::{
    Attempt, BrokerAuthor, BrokerEpoch, BrokerId, JobId, JobOutput, LeaseNonce, ObjectName,
    ObjectOrigin, ObjectSeq, ProcessNonce, TimestampMs,
};

use super::version::{StoredValue, put_value};
use crate::codec::{DecodeError, Reader, Result, put_varint, put_zigzag};

/// Whether an object is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectStatus {
    /// Extents point into it.
    Live,
    /// No extent points into it, and none ever will again; it may be deleted from the bucket when
    /// every cached reference has died.
    Condemned {
        /// Replicated time of the decision.
        at: TimestampMs,
    },
}

/// An object as the state keeps it.
///
/// `origin u8 · of a WAL object: broker zigzag, broker epoch varint, nonce u64, sequence varint
/// · of a merged one: job varint, nonce u64, output varint · attempt varint · size varint
/// · live bytes varint · references varint · status u8 · [condemned at zigzag]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectEntry {
    /// Makes its key.
    pub name: ObjectName,
    /// Length in bytes.
    pub size: u64,
    /// Bytes of it that extents point to.
    pub live_bytes: u64,
    /// How many extents point into it.
    pub references: u32,
    /// Live as long as `references` is not 0.
    pub status: ObjectStatus,
}

/// An object costs a controller this much memory (its slot number included).
const _: () = assert!(size_of::<(u8, ObjectEntry)>() <= 128);

/// The fewest bytes an object takes, its slot number included.
pub(super) const OBJECT_BYTES_MIN: usize = 17;

const WAL: u8 = 0;
const MERGED: u8 = 1;

const LIVE: u8 = 0;
const CONDEMNED: u8 = 1;

impl ObjectEntry {
    /// Appends the entry's bytes.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_value(out, self);
    }
}

impl StoredValue for ObjectEntry {
    fn put_body(&self, _version: u8, out: &mut Vec<u8>) {
        put_name(out, &self.name);
        put_varint(out, self.size);
        put_varint(out, self.live_bytes);
        put_varint(out, u64::from(self.references));
        match self.status {
            ObjectStatus::Live => out.push(LIVE),
            ObjectStatus::Condemned { at } => {
                out.push(CONDEMNED);
                put_zigzag(out, at.0);
            }
        }
    }

    fn read_body(_version: u8, r: &mut Reader<'_>) -> Result<Self> {
        let name = read_name(r)?;
        let size = r.varint("object size")?;
        let live_bytes = r.varint("object live bytes")?;
        let references = r.narrow("object references")?;
        let status = match r.u8("object status")? {
            LIVE => ObjectStatus::Live,
            CONDEMNED => ObjectStatus::Condemned { at: TimestampMs(r.zigzag("condemned at")?) },
            other => {
                let value = i128::from(other);
                return Err(DecodeError::Invalid { what: "object status", value });
            }
        };
        Ok(Self { name, size, live_bytes, references, status })
    }
}

fn put_name(out: &mut Vec<u8>, name: &ObjectName) {
    match name.origin {
        ObjectOrigin::Wal { author: BrokerAuthor { broker, epoch }, nonce, seq } => {
            out.push(WAL);
            put_zigzag(out, i64::from(broker.0));
            put_varint(out, epoch.0);
            out.extend_from_slice(&nonce.0.to_le_bytes());
            put_varint(out, seq.0);
        }
        ObjectOrigin::Merged { job, nonce, output } => {
            out.push(MERGED);
            put_varint(out, job.0);
            out.extend_from_slice(&nonce.0.to_le_bytes());
            put_varint(out, u64::from(output.0));
        }
    }
    put_varint(out, u64::from(name.attempt.0));
}

fn read_name(r: &mut Reader<'_>) -> Result<ObjectName> {
    let origin = match r.u8("object origin")? {
        WAL => {
            let broker = BrokerId(r.narrow_zigzag("object broker")?);
            let epoch = BrokerEpoch(r.varint("object broker epoch")?);
            ObjectOrigin::Wal {
                author: BrokerAuthor { broker, epoch },
                nonce: ProcessNonce(r.u64("object nonce")?),
                seq: ObjectSeq(r.varint("object sequence")?),
            }
        }
        MERGED => ObjectOrigin::Merged {
            job: JobId(r.varint("object job")?),
            nonce: LeaseNonce(r.u64("object nonce")?),
            output: JobOutput(r.narrow("object output")?),
        },
        other => {
            let value = i128::from(other);
            return Err(DecodeError::Invalid { what: "object origin", value });
        }
    };
    Ok(ObjectName { origin, attempt: Attempt(r.narrow("object attempt")?) })
}
