//! An extent: a contiguous run of one partition's record batches, and where their bytes are.

use std::sync::Arc;

use ottla_model::{BytePosition, ExtentFlags, ObjectId, Offset, TimestampMs};

use super::CHUNK_LENGTH;
use super::version::{StoredValue, put_value};
use crate::codec::{DecodeError, Reader, Result, put_bytes, put_varint, put_zigzag};

/// The most bytes that an extent holds by value: a batch of a partition that gets few. What is larger
/// is worth an object. Every controller keeps them in memory and in its log, and every broker that
/// watches gets them.
pub const EXTENT_INLINE_BYTES_MAX: usize = 16 << 10;

/// A chunk of extents is one record, written anew when one of them changes.
const _: () = assert!(CHUNK_LENGTH * EXTENT_INLINE_BYTES_MAX <= 4 << 20);

/// One extent as the state keeps it.
///
/// `base offset zigzag · last less base varint · max timestamp zigzag · flags u8, with 0x80 for inline
/// · of an object: object varint, position varint, length varint · inline: bytes`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtentEntry {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset of its last record, less that of its first.
    pub last_offset_delta: u32,
    /// The largest timestamp of its records.
    pub max_timestamp: TimestampMs,
    /// Properties of all its batches.
    pub flags: ExtentFlags,
    /// Where its bytes are.
    pub location: ExtentLocation,
}

/// Where the bytes of an extent are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtentLocation {
    /// By reference: a range of an object.
    Object {
        /// The object.
        object: ObjectId,
        /// First byte in the object.
        position: BytePosition,
        /// Length in bytes.
        length: u32,
    },
    /// By value: at least one byte, and at most [`EXTENT_INLINE_BYTES_MAX`].
    Inline(Arc<[u8]>),
}

/// A live extent costs a controller this much memory, and there are tens of millions of them. Offsets
/// and lengths within one extent have 32 bits for it; a longer run is several extents.
const _: () = assert!(size_of::<ExtentEntry>() <= 48);

/// The fewest bytes an extent takes.
pub(super) const EXTENT_BYTES_MIN: usize = 6;

/// Stands among the flags of an extent that holds its bytes by value: tens of millions of extents would
/// each pay for a byte of its own.
const INLINE: u8 = 0x80;
const _: () = assert!(ExtentFlags::from_bits(INLINE).is_none(), "no flag may have this bit");

impl ExtentEntry {
    /// Offset of its last record.
    pub fn last_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.last_offset_delta))
    }

    /// Whether a record of it has this offset.
    pub fn holds(&self, offset: Offset) -> bool {
        self.base_offset <= offset && offset <= self.last_offset()
    }

    /// Length in bytes.
    pub fn length(&self) -> u64 {
        match &self.location {
            ExtentLocation::Object { length, .. } => u64::from(*length),
            ExtentLocation::Inline(bytes) => bytes.len() as u64,
        }
    }

    /// The object that holds it; `None` when it holds its bytes itself.
    pub fn object(&self) -> Option<ObjectId> {
        match self.location {
            ExtentLocation::Object { object, .. } => Some(object),
            ExtentLocation::Inline(_) => None,
        }
    }

    /// How many bytes it holds by value.
    pub fn inline_bytes(&self) -> u64 {
        match &self.location {
            ExtentLocation::Object { .. } => 0,
            ExtentLocation::Inline(bytes) => bytes.len() as u64,
        }
    }

    /// Appends the entry's bytes.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_value(out, self);
    }
}

impl StoredValue for ExtentEntry {
    fn put_body(&self, _version: u8, out: &mut Vec<u8>) {
        put_zigzag(out, self.base_offset.0);
        put_varint(out, u64::from(self.last_offset_delta));
        put_zigzag(out, self.max_timestamp.0);
        match &self.location {
            ExtentLocation::Object { object, position, length } => {
                out.push(self.flags.bits());
                put_varint(out, object.0);
                put_varint(out, position.0);
                put_varint(out, u64::from(*length));
            }
            ExtentLocation::Inline(bytes) => {
                out.push(self.flags.bits() | INLINE);
                put_bytes(out, bytes);
            }
        }
    }

    fn read_body(_version: u8, r: &mut Reader<'_>) -> Result<Self> {
        let base_offset = Offset(r.zigzag("extent base offset")?);
        let last_offset_delta = r.narrow("extent last offset")?;
        if base_offset.0.checked_add(i64::from(last_offset_delta)).is_none() {
            return Err(invalid("extent last offset", last_offset_delta));
        }
        let max_timestamp = TimestampMs(r.zigzag("extent max timestamp")?);
        let bits = r.u8("extent flags")?;
        let known = ExtentFlags::from_bits(bits & !INLINE);
        let flags = known.ok_or_else(|| invalid("extent flags", bits))?;
        let location = if bits & INLINE == 0 { read_range(r)? } else { read_inline(r)? };
        Ok(Self { base_offset, last_offset_delta, max_timestamp, flags, location })
    }
}

fn read_range(r: &mut Reader<'_>) -> Result<ExtentLocation> {
    Ok(ExtentLocation::Object {
        object: ObjectId(r.varint("extent object")?),
        position: BytePosition(r.varint("extent position")?),
        length: r.narrow("extent length")?,
    })
}

fn read_inline(r: &mut Reader<'_>) -> Result<ExtentLocation> {
    let bytes = r.bytes("extent bytes")?;
    if bytes.is_empty() || bytes.len() > EXTENT_INLINE_BYTES_MAX {
        return Err(invalid("number of an extent's inline bytes", bytes.len() as u64));
    }
    Ok(ExtentLocation::Inline(Arc::from(bytes)))
}

fn invalid(what: &'static str, value: impl Into<i128>) -> DecodeError {
    DecodeError::Invalid { what, value: value.into() }
}
