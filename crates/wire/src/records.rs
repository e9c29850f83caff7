//! The records of a batch: every length in them is followed, and what rules need of each is kept:
//! where it stands in offsets and time, and whether it has a key. Keys, values and headers are
//! skipped, never kept: a walk over any batch takes what the decompressor needs, and ends where the
//! caller has seen enough.
//!
//! ```text
//! record: length varint │ attributes i8 │ timestamp delta varlong │ offset delta varint
//!         │ key length varint (−1: none) │ key │ value length varint (−1: none) │ value
//!         │ header count varint │ headers
//! header: key length varint │ key │ value length varint (−1: none) │ value
//! ```
//!
//! A record is taken only if its fields fill its length exactly. The name of a header is never null:
//! some consumers end at such a record.
//!
//! Source: Kafka's message format, version 2 (KIP-98), `DefaultRecord.readFrom`. Varints are zigzag
//! encoded.

use std::io::{self, BufRead};

use thiserror::Error;

/// What is known of a record without looking into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// Offset, less the batch's base offset; never negative.
    pub offset_delta: i32,
    /// Timestamp, less the batch's base timestamp, in milliseconds.
    pub timestamp_delta: i64,
    /// Whether it has a key (which may be empty).
    pub has_key: bool,
}

/// The body is not a sequence of records.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordsError {
    /// A record is cut short, or has a length that cannot be.
    #[error("record {record} of the batch is malformed")]
    Malformed {
        /// Which, from 0.
        record: usize,
    },
    /// The bytes of a record could not be read: what a decompressor says.
    #[error("record {record} of the batch cannot be read: {reason}")]
    Unreadable {
        /// Which, from 0.
        record: usize,
        /// Why.
        reason: String,
    },
}

/// The records of a plain body, in order. Ends after the first error.
pub fn records<B: BufRead>(body: B) -> Records<B> {
    Records { body, seen: 0, ended: false }
}

/// See [`records`].
#[derive(Debug)]
pub struct Records<B> {
    body: B,
    seen: usize,
    ended: bool,
}

impl<B: BufRead> Iterator for Records<B> {
    type Item = Result<RecordHead, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let record = self.seen;
        self.seen += 1;
        let found = match next_record(&mut self.body) {
            Ok(Some(head)) => return Some(Ok(head)),
            Ok(None) => None,
            Err(Stop::Malformed) => Some(RecordsError::Malformed { record }),
            Err(Stop::Unreadable(error)) => {
                Some(RecordsError::Unreadable { record, reason: error.to_string() })
            }
        };
        self.ended = true;
        found.map(Err)
    }
}

/// Why a record could not be read.
enum Stop {
    Malformed,
    Unreadable(io::Error),
}

/// Passes over the next record; `None` at the end of the body.
fn next_record(body: &mut impl BufRead) -> Result<Option<RecordHead>, Stop> {
    let buffered = body.fill_buf().map_err(Stop::Unreadable)?;
    if buffered.is_empty() {
        return Ok(None);
    }
    // Most records lie whole in the buffer.
    let mut rest = buffered;
    if let Ok(length) = record_length(&mut rest)
        && let Some(mut record) = rest.get(..length)
    {
        let whole = buffered.len() - rest.len() + length;
        let head = fields(&mut record)?;
        body.consume(whole);
        return Ok(Some(head));
    }
    let length = record_length(&mut Streamed { body: &mut *body, left: VARINT_BYTES_MAX })?;
    fields(&mut Streamed { body, left: length }).map(Some)
}

fn record_length(bytes: &mut impl ByteSource) -> Result<usize, Stop> {
    usize::try_from(varint(bytes)?).map_err(|_| Stop::Malformed)
}

/// The fields of a record, which must take all of its bytes.
fn fields(record: &mut impl ByteSource) -> Result<RecordHead, Stop> {
    let _attributes = record.byte()?;
    let timestamp_delta = varlong(record)?;
    let offset_delta = varint(record)?;
    let has_key = skip_nullable(record)?;
    skip_nullable(record)?;
    skip_headers(record)?;
    if offset_delta < 0 || record.left() > 0 {
        return Err(Stop::Malformed);
    }
    Ok(RecordHead { offset_delta, timestamp_delta, has_key })
}

fn skip_headers(record: &mut impl ByteSource) -> Result<(), Stop> {
    let count = usize::try_from(varint(record)?).map_err(|_| Stop::Malformed)?;
    // Checked first: a count costs its sender nothing.
    if count > record.left() / HEADER_BYTES_MIN {
        return Err(Stop::Malformed);
    }
    for _ in 0..count {
        if !skip_nullable(record)? {
            return Err(Stop::Malformed);
        }
        skip_nullable(record)?;
    }
    Ok(())
}

/// Passes over a text with its length; `false` when it is null.
fn skip_nullable(record: &mut impl ByteSource) -> Result<bool, Stop> {
    match varint(record)? {
        -1 => Ok(false),
        length => {
            record.skip(usize::try_from(length).map_err(|_| Stop::Malformed)?)?;
            Ok(true)
        }
    }
}

/// The two lengths of a header.
const HEADER_BYTES_MIN: usize = 2;
const VARINT_BYTES_MAX: usize = 5;
const VARLONG_BYTES_MAX: usize = 10;

fn varint(bytes: &mut impl ByteSource) -> Result<i32, Stop> {
    i32::try_from(zigzag(bytes, VARINT_BYTES_MAX)?).map_err(|_| Stop::Malformed)
}

fn varlong(bytes: &mut impl ByteSource) -> Result<i64, Stop> {
    zigzag(bytes, VARLONG_BYTES_MAX)
}

/// A zigzag number of at most `bytes_max` bytes.
fn zigzag(bytes: &mut impl ByteSource, bytes_max: usize) -> Result<i64, Stop> {
    let mut raw = 0u64;
    for at in 0..bytes_max {
        let byte = bytes.byte()?;
        raw |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok((raw >> 1) as i64 ^ -((raw & 1) as i64));
        }
    }
    Err(Stop::Malformed)
}

/// Bytes that are read from the front, up to an end that is known.
trait ByteSource {
    /// How many are left.
    fn left(&self) -> usize;
    fn byte(&mut self) -> Result<u8, Stop>;
    fn skip(&mut self, bytes: usize) -> Result<(), Stop>;
}

impl ByteSource for &[u8] {
    fn left(&self) -> usize {
        self.len()
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        let (first, rest) = self.split_first().ok_or(Stop::Malformed)?;
        *self = rest;
        Ok(*first)
    }

    fn skip(&mut self, bytes: usize) -> Result<(), Stop> {
        *self = self.get(bytes..).ok_or(Stop::Malformed)?;
        Ok(())
    }
}

/// The next `left` bytes of a body, of which only some are buffered.
struct Streamed<'a, B> {
    body: &'a mut B,
    left: usize,
}

impl<B: BufRead> ByteSource for Streamed<'_, B> {
    fn left(&self) -> usize {
        self.left
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        self.left = self.left.checked_sub(1).ok_or(Stop::Malformed)?;
        let buffered = self.body.fill_buf().map_err(Stop::Unreadable)?;
        let byte = *buffered.first().ok_or(Stop::Malformed)?;
        self.body.consume(1);
        Ok(byte)
    }

    fn skip(&mut self, bytes: usize) -> Result<(), Stop> {
        self.left = self.left.checked_sub(bytes).ok_or(Stop::Malformed)?;
        let mut bytes = bytes;
        while bytes > 0 {
            let buffered = self.body.fill_buf().map_err(Stop::Unreadable)?.len().min(bytes);
            if buffered == 0 {
                return Err(Stop::Malformed);
            }
            self.body.consume(buffered);
            bytes -= buffered;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
