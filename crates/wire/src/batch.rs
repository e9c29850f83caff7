//! Record batches: the 61-byte header, and the patch of the copy that a consumer gets.
//!
//! A header says what its sender likes. The facts that the write path may rely on are in
//! [`VerifiedBatch`](crate::verify::VerifiedBatch).
//!
//! ```text
//!  0  base offset            i64   the broker's; producers send 0
//!  8  length                 i32   of what follows this field: whole batch − 12
//! 12  partition leader epoch i32   the broker's
//! 16  magic                  i8    2
//! 17  CRC-32C                u32   of everything from the attributes on
//! 21  attributes             i16   0–2 codec, 3 timestamp type, 4 transactional, 5 control,
//!                                  6 delete horizon
//! 23  last offset delta      i32   number of records − 1
//! 27  base timestamp         i64
//! 35  max timestamp          i64
//! 43  producer id            i64   −1: none
//! 51  producer epoch         i16
//! 53  base sequence          i32
//! 57  record count           i32
//! 61  records
//! ```
//!
//! Base offset and leader epoch stand before the CRC's range on purpose: a broker sets them without
//! touching the rest. The log-append time does lie in that range; its new checksum is derived from
//! the old one and the changed header alone, because CRCs are linear (see [`patched_header`]).
//!
//! Source: Kafka's `DefaultRecordBatch` (KIP-98).

use ottla_model::{
    BatchProducer, LEADER_EPOCH, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs,
    TimestampType,
};

use crate::batch_error::BatchError;

/// Length of a batch's header in bytes.
pub const BATCH_HEADER_BYTES: usize = 61;

/// Bytes before and including the length field, which counts what follows it.
const LENGTH_OVERHEAD: usize = 12;
const LEADER_EPOCH_AT: usize = 12;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;

const MAGIC: i8 = 2;

const ATTRIBUTE_CODEC: u16 = 0b0000_0111;
const ATTRIBUTE_LOG_APPEND_TIME: u16 = 0b0000_1000;
const ATTRIBUTE_TRANSACTIONAL: u16 = 0b0001_0000;
const ATTRIBUTE_CONTROL: u16 = 0b0010_0000;
const ATTRIBUTE_DELETE_HORIZON: u16 = 0b0100_0000;

/// How a batch's records are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// snappy, raw or in the framing of snappy-java.
    Snappy,
    /// The LZ4 frame format.
    Lz4,
    /// Zstandard (RFC 8878; KIP-110).
    Zstd,
}

/// A record batch's header, as it stands in the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record. Of no meaning in what a producer sends and in stored objects.
    pub base_offset: i64,
    /// Length of the whole batch in bytes, header included.
    pub length: u32,
    /// Leader epoch; of no meaning where the base offset has none.
    pub leader_epoch: i32,
    /// CRC-32C from the attributes to the end.
    pub crc: u32,
    /// See the drawing above.
    pub attributes: u16,
    /// Offset of the last record, relative to the first.
    pub last_offset_delta: i32,
    /// Timestamp of the first record, in milliseconds since 1970.
    pub base_timestamp: i64,
    /// The largest timestamp of the records, by the sender's word. Old clients leave it at −1.
    pub max_timestamp: i64,
    /// −1 for none.
    pub producer_id: i64,
    /// −1 for none.
    pub producer_epoch: i16,
    /// Sequence of the first record; −1 for none.
    pub base_sequence: i32,
    /// Number of records.
    pub record_count: i32,
}

impl BatchHeader {
    /// The codec; an error for the three values that name none.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        match self.attributes & ATTRIBUTE_CODEC {
            0 => Ok(Compression::None),
            1 => Ok(Compression::Gzip),
            2 => Ok(Compression::Snappy),
            3 => Ok(Compression::Lz4),
            4 => Ok(Compression::Zstd),
            codec => Err(BatchError::UnknownCompression(codec)),
        }
    }

    /// Whether it belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & ATTRIBUTE_TRANSACTIONAL != 0
    }

    /// Whether it holds transaction markers rather than records.
    pub fn is_control(&self) -> bool {
        self.attributes & ATTRIBUTE_CONTROL != 0
    }

    /// Whether the base timestamp is a delete horizon (KIP-534): only brokers write these.
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes & ATTRIBUTE_DELETE_HORIZON != 0
    }

    /// Whose clock its timestamps come from.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & ATTRIBUTE_LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// The idempotent producer's fields; `None` for a plain producer.
    pub fn producer(&self) -> Option<BatchProducer> {
        (self.producer_id >= 0).then_some(BatchProducer {
            id: ProducerId(self.producer_id),
            epoch: ProducerEpoch(self.producer_epoch),
            base_sequence: Sequence(self.base_sequence),
        })
    }
}

fn array<const N: usize>(bytes: &[u8; BATCH_HEADER_BYTES], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// Reads the header of the batch that `bytes` begin with: magic and length are checked, nothing
/// else. More may follow the batch.
pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = parse_head(bytes)?;
    let need = header.length as usize;
    if need > bytes.len() {
        return Err(BatchError::Truncated { have: bytes.len(), need });
    }
    Ok(header)
}

/// As [`parse`], but only the first [`BATCH_HEADER_BYTES`] bytes of the batch need to be present.
pub fn parse_head(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    if bytes.is_empty() {
        return Err(BatchError::Empty);
    }
    let truncated = BatchError::Truncated { have: bytes.len(), need: BATCH_HEADER_BYTES };
    let raw: &[u8; BATCH_HEADER_BYTES] = bytes.first_chunk().ok_or(truncated)?;

    let magic = i8::from_be_bytes(array(raw, 16));
    if magic != MAGIC {
        return Err(BatchError::Magic(magic));
    }
    let length_field = i32::from_be_bytes(array(raw, 8));
    let length = usize::try_from(length_field)
        .ok()
        .and_then(|rest| rest.checked_add(LENGTH_OVERHEAD))
        .filter(|whole| *whole >= BATCH_HEADER_BYTES)
        .ok_or(BatchError::Length(length_field))?;
    Ok(BatchHeader {
        base_offset: i64::from_be_bytes(array(raw, 0)),
        length: u32::try_from(length).map_err(|_| BatchError::Length(length_field))?,
        leader_epoch: i32::from_be_bytes(array(raw, LEADER_EPOCH_AT)),
        crc: u32::from_be_bytes(array(raw, CRC_AT)),
        attributes: u16::from_be_bytes(array(raw, ATTRIBUTES_AT)),
        last_offset_delta: i32::from_be_bytes(array(raw, 23)),
        base_timestamp: i64::from_be_bytes(array(raw, 27)),
        max_timestamp: i64::from_be_bytes(array(raw, MAX_TIMESTAMP_AT)),
        producer_id: i64::from_be_bytes(array(raw, 43)),
        producer_epoch: i16::from_be_bytes(array(raw, 51)),
        base_sequence: i32::from_be_bytes(array(raw, 53)),
        record_count: i32::from_be_bytes(array(raw, 57)),
    })
}

/// Checks that `bytes` are exactly one batch with the right checksum, whoever wrote it.
pub fn check(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = parse(bytes)?;
    let length = header.length as usize;
    if bytes.len() > length {
        return Err(BatchError::SeveralBatches(bytes.len() - length));
    }
    let computed = crc32c::crc32c(bytes.get(ATTRIBUTES_AT..).unwrap_or_default());
    if computed != header.crc {
        return Err(BatchError::Crc { computed, stored: header.crc });
    }
    Ok(header)
}

/// The consecutive batches of an extent, each with its own bytes. Ends after the first error.
/// Checks what [`parse`] checks: stored batches were verified before they were written, and whole
/// objects carry checksums of their own.
pub fn walk(bytes: &[u8]) -> Walk<'_> {
    Walk { rest: bytes }
}

/// See [`walk`].
#[derive(Clone, Debug)]
pub struct Walk<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Walk<'a> {
    type Item = Result<(BatchHeader, &'a [u8]), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match parse(self.rest) {
            Ok(header) => {
                let (batch, rest) = self.rest.split_at_checked(header.length as usize)?;
                self.rest = rest;
                Some(Ok((header, batch)))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

/// The header of the response copy of a batch: base offset and leader epoch set, and with
/// `append_time` also attribute bit 3, the max timestamp and the checksum that follows from them.
///
/// The new checksum costs no pass over the records. A CRC is linear: appending the same body to
/// two headers shifts the difference of their checksums by the body's length, so
/// `new = old ^ shift(crc(header) ^ crc(patched header))`.
///
/// Only the first [`BATCH_HEADER_BYTES`] bytes of `batch` need to be present.
pub fn patched_header(
    batch: &[u8],
    base_offset: Offset,
    append_time: Option<TimestampMs>,
) -> Result<[u8; BATCH_HEADER_BYTES], BatchError> {
    let original: &[u8; BATCH_HEADER_BYTES] = batch
        .first_chunk()
        .ok_or(BatchError::Truncated { have: batch.len(), need: BATCH_HEADER_BYTES })?;
    let mut patched = *original;
    patched[..8].copy_from_slice(&base_offset.0.to_be_bytes());
    patched[LEADER_EPOCH_AT..LEADER_EPOCH_AT + 4].copy_from_slice(&LEADER_EPOCH.0.to_be_bytes());
    if let Some(time) = append_time {
        let attributes =
            u16::from_be_bytes(array(original, ATTRIBUTES_AT)) | ATTRIBUTE_LOG_APPEND_TIME;
        patched[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
        patched[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&time.0.to_be_bytes());

        let length_field = i32::from_be_bytes(array(original, 8));
        let body_bytes = usize::try_from(length_field)
            .ok()
            .and_then(|rest| (rest + LENGTH_OVERHEAD).checked_sub(BATCH_HEADER_BYTES))
            .ok_or(BatchError::Length(length_field))?;
        let change =
            crc32c::crc32c(&original[ATTRIBUTES_AT..]) ^ crc32c::crc32c(&patched[ATTRIBUTES_AT..]);
        // Combining with the checksum 0 is the shift alone.
        let shifted = crc32c::crc32c_combine(change, 0, body_bytes);
        let crc = u32::from_be_bytes(array(original, CRC_AT)) ^ shifted;
        patched[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    }
    Ok(patched)
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
