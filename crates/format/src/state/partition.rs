//! A partition and its extents.

use ottla_model::{BytePosition, ObjectId, Offset, TimestampMs};

use super::version::{StoredValue, put_value};
use crate::codec::{DecodeError, Reader, Result, put_flag, put_varint, put_zigzag};

/// A partition's offsets.
///
/// `log start zigzag · next offset zigzag · extents varint`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionEntry {
    /// The first offset that can be read.
    pub log_start: Offset,
    /// The offset of the next record.
    pub next_offset: Offset,
    /// How many extents it has; its extent chunks must hold exactly as many.
    pub extents: u64,
}

impl PartitionEntry {
    /// Appends the value's bytes.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_value(out, self);
    }
}

impl StoredValue for PartitionEntry {
    fn put_body(&self, _version: u8, out: &mut Vec<u8>) {
        put_zigzag(out, self.log_start.0);
        put_zigzag(out, self.next_offset.0);
        put_varint(out, self.extents);
    }

    fn read_body(_version: u8, r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            log_start: Offset(r.zigzag("log start")?),
            next_offset: Offset(r.zigzag("next offset")?),
            extents: r.varint("extent count")?,
        })
    }
}

/// One extent as the state keeps it: the object by its number only.
///
/// `base offset zigzag · last less base varint · object varint · position varint · length varint
/// · max timestamp zigzag · log append u8`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtentEntry {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// The object that holds it.
    pub object: ObjectId,
    /// First byte in the object.
    pub position: BytePosition,
    /// Length in bytes.
    pub length: u64,
    /// The largest timestamp of its records; with `log_append` the time of all of them.
    pub max_timestamp: TimestampMs,
    /// The topic had log-append time at the commit.
    pub log_append: bool,
}

/// A live extent costs a controller this much memory, and there are tens of millions of them.
const _: () = assert!(size_of::<ExtentEntry>() <= 64);

/// The fewest bytes an extent takes.
pub(super) const EXTENT_BYTES_MIN: usize = 7;

impl ExtentEntry {
    /// Whether a record of it has this offset.
    pub fn holds(&self, offset: Offset) -> bool {
        self.base_offset <= offset && offset <= self.last_offset
    }

    /// The time of all its records, with log-append time.
    pub fn append_time(&self) -> Option<TimestampMs> {
        self.log_append.then_some(self.max_timestamp)
    }

    /// Appends the entry's bytes.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_value(out, self);
    }
}

impl StoredValue for ExtentEntry {
    fn put_body(&self, _version: u8, out: &mut Vec<u8>) {
        put_zigzag(out, self.base_offset.0);
        put_varint(out, self.last_offset.0.wrapping_sub(self.base_offset.0) as u64);
        put_varint(out, self.object.0);
        put_varint(out, self.position.0);
        put_varint(out, self.length);
        put_zigzag(out, self.max_timestamp.0);
        put_flag(out, self.log_append);
    }

    fn read_body(_version: u8, r: &mut Reader<'_>) -> Result<Self> {
        let base_offset = r.zigzag("extent base offset")?;
        let delta: i64 = r.narrow("extent last offset")?;
        let last_offset = base_offset
            .checked_add(delta)
            .ok_or(DecodeError::Invalid { what: "extent last offset", value: i128::from(delta) })?;
        Ok(Self {
            base_offset: Offset(base_offset),
            last_offset: Offset(last_offset),
            object: ObjectId(r.varint("extent object")?),
            position: BytePosition(r.varint("extent position")?),
            length: r.varint("extent length")?,
            max_timestamp: TimestampMs(r.zigzag("extent max timestamp")?),
            log_append: r.flag("extent log append")?,
        })
    }
}
