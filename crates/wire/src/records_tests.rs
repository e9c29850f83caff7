use std::io::{BufReader, Read};

use proptest::prelude::*;

use super::*;
use crate::limits;

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
        let seen: Vec<_> = records(BufReader::with_capacity(64, Trickle(&body, step))).collect();
        assert_eq!(seen, whole, "{step}");
    }
}

#[test]
fn what_lies_behind_the_last_record_that_is_asked_for_is_not_read() {
    let body = vec![record(5, 0, None); 10_000].concat();
    let mut rest = &body[..];
    let first = records(&mut rest).find(|record| record.as_ref().unwrap().timestamp_delta == 5);
    assert!(first.is_some());
    assert_eq!(body.len() - rest.len(), record(5, 0, None).len());
}

#[test]
fn a_body_that_cannot_be_read_on_says_why_and_ends() {
    let body = &vec![record(5, 0, None); 10].concat()[..];
    let seen: Vec<_> = records(body.chain(BufReader::new(Damaged))).collect();
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
