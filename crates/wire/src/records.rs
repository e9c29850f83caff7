//! The records of a decompressed batch body, as far as rules need them: where each stands in
//! offsets and time, and whether it has a key. Keys, values and headers are never looked into.
//!
//! ```text
//! record: length varint │ attributes i8 │ timestamp delta varlong │ offset delta varint
//!         │ key length varint (−1: none) │ key │ value length varint │ value │ headers …
//! ```
//!
//! Source: Kafka's message format, version 2 (KIP-98). Varints are zigzag encoded.

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
    /// Length in bytes, its length prefix included.
    pub length: usize,
}

/// The body is not a sequence of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("record {record} of the batch is malformed")]
pub struct RecordsError {
    /// Which, from 0.
    pub record: usize,
}

/// The records of a body, in order. Ends after the first error.
pub fn records(body: &[u8]) -> Records<'_> {
    Records { rest: body, seen: 0 }
}

/// See [`records`].
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    seen: usize,
}

impl Iterator for Records<'_> {
    type Item = Result<RecordHead, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = self.seen;
        self.seen += 1;
        match split_record(self.rest) {
            Some((head, rest)) => {
                self.rest = rest;
                Some(Ok(head))
            }
            None => {
                self.rest = &[];
                Some(Err(RecordsError { record }))
            }
        }
    }
}

fn split_record(bytes: &[u8]) -> Option<(RecordHead, &[u8])> {
    let (length, body) = varint(bytes)?;
    let prefix = bytes.len() - body.len();
    let (record, rest) = body.split_at_checked(usize::try_from(length).ok()?)?;
    if record.len() + 1 < limits::RECORD_BYTES_MIN {
        return None;
    }
    let (_attributes, fields) = record.split_first()?;
    let (timestamp_delta, fields) = varlong(fields)?;
    let (offset_delta, fields) = varint(fields)?;
    let (key_length, fields) = varint(fields)?;
    if offset_delta < 0 || key_length < -1 {
        return None;
    }
    let has_key = key_length >= 0;
    // −1 becomes 0: no key takes no bytes.
    fields.get(usize::try_from(key_length).unwrap_or(0)..)?;
    let length = prefix + record.len();
    Some((RecordHead { offset_delta, timestamp_delta, has_key, length }, rest))
}

fn varint(bytes: &[u8]) -> Option<(i32, &[u8])> {
    let (value, rest) = varlong_of(bytes, 5)?;
    Some((i32::try_from(value).ok()?, rest))
}

fn varlong(bytes: &[u8]) -> Option<(i64, &[u8])> {
    varlong_of(bytes, 10)
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
        let heads: Vec<RecordHead> = records(&parts.concat()).map(Result::unwrap).collect();
        let head = |i: usize, offset_delta, timestamp_delta, has_key| RecordHead {
            offset_delta,
            timestamp_delta,
            has_key,
            length: parts[i].len(),
        };
        assert_eq!(
            heads,
            [head(0, 0, 0, false), head(1, 1, -5, true), head(2, 300, i64::MAX, true)]
        );
    }

    #[test]
    fn a_cut_record_is_an_error_after_the_good_ones() {
        let good = record(1, 0, Some(b"key"));
        let body = [good.clone(), good.clone()].concat();
        for cut in good.len() + 1..body.len() {
            let seen: Vec<_> = records(&body[..cut]).collect();
            assert_eq!(seen.len(), 2, "{cut}");
            assert!(seen[0].is_ok());
            assert_eq!(seen[1], Err(RecordsError { record: 1 }));
        }
    }

    #[test]
    fn negative_deltas_and_key_lengths_are_refused() {
        assert!(records(&record(0, -1, None)).any(|r| r.is_err()));
        let mut negative = vec![0, 0, 0];
        put(&mut negative, -2);
        negative.extend([0, 0, 0]);
        let mut body = Vec::new();
        put(&mut body, negative.len() as i64);
        body.extend(negative);
        assert!(records(&body).any(|r| r.is_err()));
    }

    proptest! {
        #[test]
        fn random_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(records(&bytes).count() <= bytes.len());
        }
    }
}
