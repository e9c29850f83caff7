//! A committed object.

use ottla_model::{
    Attempt, BrokerAuthor, BrokerEpoch, BrokerId, ObjectName, ObjectSeq, ProcessNonce, TimestampMs,
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
/// `broker zigzag · broker epoch varint · nonce u64 · sequence varint · attempt varint
/// · size varint · live bytes varint · references varint · status u8 · [condemned at zigzag]`
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
        put_zigzag(out, i64::from(self.name.author.broker.0));
        put_varint(out, self.name.author.epoch.0);
        out.extend_from_slice(&self.name.nonce.0.to_le_bytes());
        put_varint(out, self.name.seq.0);
        put_varint(out, u64::from(self.name.attempt.0));
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
        let broker = BrokerId(r.narrow_zigzag("object broker")?);
        let epoch = BrokerEpoch(r.varint("object broker epoch")?);
        let name = ObjectName {
            author: BrokerAuthor { broker, epoch },
            nonce: ProcessNonce(r.u64("object nonce")?),
            seq: ObjectSeq(r.varint("object sequence")?),
            attempt: Attempt(r.narrow("object attempt")?),
        };
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
