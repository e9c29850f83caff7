//! The records of a batch, as far as rules need them: where each stands in offsets and time, and
//! whether it has a key. Keys, values and headers are skipped, never kept: a walk over any batch
//! takes one small buffer and what the decompressor needs, and ends where the caller has seen
//! enough.
//!
//! ```text
//! record: length varint │ attributes i8 │ timestamp delta varlong │ offset delta varint
//!         │ key length varint (−1: none) │ key │ value length varint │ value │ headers …
//! ```
//!
//! Source: Kafka's message format, version 2 (KIP-98). Varints are zigzag encoded.

use std::io::{self, Read};

use thiserror::Error;

use crate::limits;

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
pub fn records<R: Read>(body: R) -> Records<R> {
    let buffer = vec![0; limits::RECORDS_BUFFER_BYTES];
    Records { body, buffer, start: 0, end: 0, seen: 0, ended: false }
}

/// See [`records`].
#[derive(Debug)]
pub struct Records<R> {
    body: R,
    buffer: Vec<u8>,
    /// What was read and not looked at: `buffer[start..end]`.
    start: usize,
    end: usize,
    seen: usize,
    ended: bool,
}

impl<R: Read> Iterator for Records<R> {
    type Item = Result<RecordHead, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let record = self.seen;
        self.seen += 1;
        let found = match self.next_head() {
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

enum Stop {
    Malformed,
    Unreadable(io::Error),
}

impl<R: Read> Records<R> {
    fn next_head(&mut self) -> Result<Option<RecordHead>, Stop> {
        let bytes = self.peek().map_err(Stop::Unreadable)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let (head, length) = parse_head(bytes).ok_or(Stop::Malformed)?;
        let whole = self.skip(length).map_err(Stop::Unreadable)?;
        if whole { Ok(Some(head)) } else { Err(Stop::Malformed) }
    }

    /// The next bytes: at least [`HEAD_BYTES_MAX`], or all that are left.
    fn peek(&mut self) -> io::Result<&[u8]> {
        if self.end - self.start < HEAD_BYTES_MAX {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            while self.end < HEAD_BYTES_MAX {
                match self.body.read(&mut self.buffer[self.end..])? {
                    0 => break,
                    read => self.end += read,
                }
            }
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// Passes over so many bytes; `false` when there are fewer.
    fn skip(&mut self, mut bytes: usize) -> io::Result<bool> {
        loop {
            let here = bytes.min(self.end - self.start);
            self.start += here;
            bytes -= here;
            if bytes == 0 {
                return Ok(true);
            }
            self.start = 0;
            self.end = self.body.read(&mut self.buffer)?;
            if self.end == 0 {
                return Ok(false);
            }
        }
    }
}

/// What a record's fields up to the length of its key take at most.
const HEAD_BYTES_MAX: usize = VARINT_BYTES_MAX + 1 + VARLONG_BYTES_MAX + 2 * VARINT_BYTES_MAX;

const _: () = assert!(HEAD_BYTES_MAX <= limits::RECORDS_BUFFER_BYTES);

/// The head of the record that `bytes` begin with, and the length of the whole record, of which
/// `bytes` may be only the first part.
fn parse_head(bytes: &[u8]) -> Option<(RecordHead, usize)> {
    let (length, rest) = varint(bytes)?;
    let prefix = bytes.len() - rest.len();
    let length = usize::try_from(length).ok()?;
    if length + 1 < limits::RECORD_BYTES_MIN {
        return None;
    }
    let record = rest.get(..length).unwrap_or(rest);
    let (_attributes, fields) = record.split_first()?;
    let (timestamp_delta, fields) = varlong(fields)?;
    let (offset_delta, fields) = varint(fields)?;
    let (key_length, fields) = varint(fields)?;
    if offset_delta < 0 || key_length < -1 {
        return None;
    }
    let has_key = key_length >= 0;
    let behind_key_length = length - (record.len() - fields.len());
    // −1 becomes 0: no key takes no bytes.
    if usize::try_from(key_length).unwrap_or(0) > behind_key_length {
        return None;
    }
    Some((RecordHead { offset_delta, timestamp_delta, has_key }, prefix + length))
}

const VARINT_BYTES_MAX: usize = 5;
const VARLONG_BYTES_MAX: usize = 10;

fn varint(bytes: &[u8]) -> Option<(i32, &[u8])> {
    let (value, rest) = varlong_of(bytes, VARINT_BYTES_MAX)?;
    Some((i32::try_from(value).ok()?, rest))
}

fn varlong(bytes: &[u8]) -> Option<(i64, &[u8])> {
    varlong_of(bytes, VARLONG_BYTES_MAX)
}

/// A zigzag number of at most `bytes_max` bytes, and what follows it.
fn varlong_of(bytes: &[u8], bytes_max: usize) -> Option<(i64, &[u8])> {
    let mut raw = 0u64;
    for (i, byte) in bytes.iter().take(bytes_max).enumerate() {
        raw |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            let value = (raw >> 1) as i64 ^ -((raw & 1) as i64);
            return Some((value, bytes.get(i + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn put(out: &mut Vec<u8>, value: i64) {
        let mut raw = ((value << 1) ^ (value >> 63)) as u64;
        while raw >= 0x80 {
            out.push(raw as u8 | 0x80);
            raw >>= 7;
        }
        out.push(raw as u8);
    }

    fn record(timestamp_delta: i64, offset_delta: i64, key: Option<&[u8]>) -> Vec<u8> {
        let mut body = vec![0];
        put(&mut body, timestamp_delta);
        put(&mut body, offset_delta);
        put(&mut body, key.map_or(-1, |key| key.len() as i64));
        body.extend(key.unwrap_or_default());
        put(&mut body, 1);
        body.push(b'v');
        put(&mut body, 0);
        let mut out = Vec::new();
        put(&mut out, body.len() as i64);
        out.extend(body);
        out
    }

    #[test]
    fn records_show_offset_time_and_key() {
        let parts =
            [record(0, 0, None), record(-5, 1, Some(b"")), record(i64::MAX, 300, Some(&[1; 200]))];
        let heads: Vec<RecordHead> = records(&parts.concat()[..]).map(Result::unwrap).collect();
        let head = |offset_delta, timestamp_delta, has_key| RecordHead {
            offset_delta,
            timestamp_delta,
            has_key,
        };
        assert_eq!(heads, [head(0, 0, false), head(1, -5, true), head(300, i64::MAX, true)]);
    }

    /// Gives its bytes a few at a time.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let most = self.1.min(out.len());
            self.0.read(&mut out[..most])
        }
    }

    struct Damaged;

    impl Read for Damaged {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the rest is damaged"))
        }
    }

    #[test]
    fn records_do_not_depend_on_how_their_bytes_come() {
        let longer_than_the_buffer = vec![7; 3 * limits::RECORDS_BUFFER_BYTES];
        let parts = [
            record(0, 0, Some(b"key")),
            record(1, 1, Some(&longer_than_the_buffer)),
            record(i64::MIN, i64::from(i32::MAX), None),
        ];
        let body = parts.concat();
        let whole: Vec<_> = records(&body[..]).collect();
        assert!(whole.len() == 3 && whole.iter().all(Result::is_ok));
        for step in [1, 2, 25, 26, 27, 10_000, limits::RECORDS_BUFFER_BYTES] {
            let seen: Vec<_> = records(Trickle(&body, step)).collect();
            assert_eq!(seen, whole, "{step}");
        }
    }

    #[test]
    fn what_lies_behind_the_last_record_that_is_asked_for_is_not_read() {
        let body = vec![record(5, 0, None); 10_000].concat();
        let mut rest = &body[..];
        let first = records(&mut rest).find(|record| record.as_ref().unwrap().timestamp_delta == 5);
        assert!(first.is_some());
        assert!(body.len() - rest.len() <= limits::RECORDS_BUFFER_BYTES);
    }

    #[test]
    fn a_body_that_cannot_be_read_on_says_why_and_ends() {
        let body = &vec![record(5, 0, None); 10].concat()[..];
        let seen: Vec<_> = records(body.chain(Damaged)).collect();
        let (last, before) = seen.split_last().unwrap();
        assert!(!before.is_empty() && before.iter().all(Result::is_ok));
        let last = last.clone().unwrap_err();
        assert!(last.to_string().contains("the rest is damaged"), "{last}");
    }

    #[test]
    fn a_cut_record_is_an_error_after_the_good_ones() {
        let good = record(1, 0, Some(b"key"));
        let body = [good.clone(), good.clone()].concat();
        for cut in good.len() + 1..body.len() {
            let seen: Vec<_> = records(&body[..cut]).collect();
            assert_eq!(seen.len(), 2, "{cut}");
            assert!(seen[0].is_ok());
            assert_eq!(seen[1], Err(RecordsError::Malformed { record: 1 }));
        }
    }

    #[test]
    fn negative_deltas_and_key_lengths_are_refused() {
        assert!(records(&record(0, -1, None)[..]).any(|r| r.is_err()));
        let mut negative = vec![0, 0, 0];
        put(&mut negative, -2);
        negative.extend([0, 0, 0]);
        let mut body = Vec::new();
        put(&mut body, negative.len() as i64);
        body.extend(negative);
        assert!(records(&body[..]).any(|r| r.is_err()));
    }

    proptest! {
        #[test]
        fn random_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(records(&bytes[..]).count() <= bytes.len());
        }
    }
}
