//! A partition.

use ottla_model::Offset;

use super::version::{StoredValue, put_value};
use crate::codec::{Reader, Result, put_varint, put_zigzag};

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
