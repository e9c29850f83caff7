//! Record batches as producers send them: magic 2, base offset 0, without keys and headers.
//!
//! Written from Kafka's format and not with `ottla-wire`, so that the two check each other.

use std::io::Write as _;

use bytes::Bytes;

/// Bytes of the header, before the records.
const HEADER_BYTES: usize = 61;

/// Kafka's attribute for gzip.
const GZIP: u16 = 1;

/// A plain batch of `values`, all with one timestamp.
#[must_use]
pub fn of_values(values: &[&[u8]], timestamp: i64) -> Bytes {
    let records: Vec<_> = values.iter().map(|value| (timestamp, *value)).collect();
    with_header(&records, 0, encoded(&records)).into()
}

/// A batch of (timestamp, value), its records compressed with gzip.
#[must_use]
pub fn gzipped(records: &[(i64, &[u8])]) -> Bytes {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&encoded(records)).expect("memory takes all");
    let body = encoder.finish().expect("memory takes all");
    with_header(records, GZIP, body).into()
}

/// A batch of (timestamp, value).
#[must_use]
pub fn plain(records: &[(i64, &[u8])]) -> Bytes {
    with_header(records, 0, encoded(records)).into()
}

/// The batch with some of its bytes changed, and its length and checksum set to what they then are.
#[must_use]
pub fn changed(batch: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut bytes = batch.to_vec();
    change(&mut bytes);
    seal(&mut bytes);
    bytes.into()
}

fn encoded(records: &[(i64, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (delta, (time, value)) in records.iter().enumerate() {
        let mut record = vec![0];
        push_varint(&mut record, time - records[0].0);
        push_varint(&mut record, delta as i64);
        push_varint(&mut record, -1);
        push_varint(&mut record, value.len() as i64);
        record.extend_from_slice(value);
        push_varint(&mut record, 0);
        push_varint(&mut body, record.len() as i64);
        body.extend(record);
    }
    body
}

fn with_header(records: &[(i64, &[u8])], attributes: u16, body: Vec<u8>) -> Vec<u8> {
    let times = || records.iter().map(|(time, _)| *time);
    let (first, max) = (times().next().unwrap_or_default(), times().max().unwrap_or_default());
    let count = records.len() as i32;
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[12..16].fill(0xff);
    bytes[16] = 2;
    bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
    bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    bytes[27..35].copy_from_slice(&first.to_be_bytes());
    bytes[35..43].copy_from_slice(&max.to_be_bytes());
    // No producer id, epoch and sequence.
    bytes[43..57].fill(0xff);
    bytes[57..61].copy_from_slice(&count.to_be_bytes());
    bytes.extend(body);
    seal(&mut bytes);
    bytes
}

fn seal(bytes: &mut [u8]) {
    let length = bytes.len() as i32 - 12;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// Appends a number as records carry it: zigzag, seven bits a byte, the lowest first.
pub fn push_varint(out: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)) as u64;
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}
