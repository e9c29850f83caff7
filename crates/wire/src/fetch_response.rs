//! The answer to a Fetch, encoded around its records.
//!
//! `kafka-protocol` would copy every record into one buffer. Here the fields between the records
//! are written into small pieces and the records stay where they are: slices of cached objects and
//! patched batch headers. The layout is that of Kafka's `FetchResponse.json`, versions 4 to 18;
//! the tests read each of them back with `kafka-protocol`'s decoder.

use bytes::{BufMut, Bytes, BytesMut};

/// The lowest version that can be encoded.
pub const VERSION_MIN: i16 = 4;
/// The highest version that can be encoded.
pub const VERSION_MAX: i16 = 18;

/// From here on lists and bytes have compact lengths and structures end with tagged fields.
const FLEXIBLE_FROM: i16 = 12;

/// A whole answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FetchResponse {
    /// How long the client is asked to pause before its next request (KIP-219).
    pub throttle_time_ms: i32,
    /// Kafka's error number for the request as a whole (not in versions below 7).
    pub error_code: i16,
    /// The topics, in the order of the request.
    pub topics: Vec<FetchTopic>,
}

/// A topic named as the request named it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FetchTopic {
    /// Its name, sent in versions below 13.
    pub name: Bytes,
    /// Its id, sent from version 13 on.
    pub id: u128,
    /// Its partitions, in the order of the request.
    pub partitions: Vec<FetchedPartition>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchedPartition {
    /// Its number.
    pub index: i32,
    /// Kafka's error number; 0 for none.
    pub error_code: i16,
    /// −1 when not known.
    pub high_watermark: i64,
    /// −1 when not known.
    pub last_stable_offset: i64,
    /// −1 when not known.
    pub log_start_offset: i64,
    /// The record batches, in as many pieces as they come.
    pub records: Vec<Bytes>,
}

impl FetchResponse {
    /// The body in pieces. `version` is within [`VERSION_MIN`] and [`VERSION_MAX`].
    pub fn encode(&self, version: i16) -> Vec<Bytes> {
        let mut out = Pieces::new(version >= FLEXIBLE_FROM);
        out.fields.put_i32(self.throttle_time_ms);
        if version >= 7 {
            out.fields.put_i16(self.error_code);
            out.fields.put_i32(0); // session id: every fetch is a full one
        }
        out.length(self.topics.len());
        for topic in &self.topics {
            topic.encode(version, &mut out);
        }
        out.end_of_struct();
        out.finish()
    }
}

impl FetchTopic {
    fn encode(&self, version: i16, out: &mut Pieces) {
        if version >= 13 {
            out.fields.put_u128(self.id);
        } else if out.flexible {
            out.length(self.name.len());
            out.fields.put_slice(&self.name);
        } else {
            // The name came in a request with the same two-byte length.
            out.fields.put_u16(self.name.len() as u16);
            out.fields.put_slice(&self.name);
        }
        out.length(self.partitions.len());
        for partition in &self.partitions {
            partition.encode(version, out);
        }
        out.end_of_struct();
    }
}

impl FetchedPartition {
    fn encode(&self, version: i16, out: &mut Pieces) {
        out.fields.put_i32(self.index);
        out.fields.put_i16(self.error_code);
        out.fields.put_i64(self.high_watermark);
        out.fields.put_i64(self.last_stable_offset);
        if version >= 5 {
            out.fields.put_i64(self.log_start_offset);
        }
        out.length(0); // aborted transactions
        if version >= 11 {
            out.fields.put_i32(-1); // preferred read replica: none
        }
        out.records(&self.records);
        out.end_of_struct();
    }
}

/// Fields collected until records come between them.
struct Pieces {
    flexible: bool,
    fields: BytesMut,
    done: Vec<Bytes>,
}

impl Pieces {
    fn new(flexible: bool) -> Self {
        Self { flexible, fields: BytesMut::with_capacity(256), done: Vec::new() }
    }

    /// The length of a list or of bytes: what is encoded is far smaller than 2 GiB, which
    /// [`crate::response::Frame`] checks for the whole.
    fn length(&mut self, length: usize) {
        if self.flexible {
            self.unsigned_varint(length as u32 + 1);
        } else {
            self.fields.put_u32(length as u32);
        }
    }

    fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.fields.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.fields.put_u8(value as u8);
    }

    fn end_of_struct(&mut self) {
        if self.flexible {
            self.fields.put_u8(0); // no tagged field
        }
    }

    fn records(&mut self, records: &[Bytes]) {
        self.length(records.iter().map(Bytes::len).sum());
        if records.iter().all(Bytes::is_empty) {
            return;
        }
        self.done.push(self.fields.split().freeze());
        self.done.extend(records.iter().filter(|piece| !piece.is_empty()).cloned());
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.done.push(self.fields.freeze());
        self.done
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::FetchResponse as Decoded;
    use kafka_protocol::protocol::Decodable;

    use super::*;

    fn partition(index: i32, records: &[&'static [u8]]) -> FetchedPartition {
        FetchedPartition {
            index,
            error_code: if index == 2 { 1 } else { 0 },
            high_watermark: 100 + i64::from(index),
            last_stable_offset: 90,
            log_start_offset: 5,
            records: records.iter().map(|r| Bytes::from_static(r)).collect(),
        }
    }

    #[test]
    fn every_version_is_read_back_by_an_independent_decoder() {
        let topic = |name: &'static str, id| FetchTopic {
            name: Bytes::from_static(name.as_bytes()),
            id,
            partitions: vec![
                partition(0, &[b"head", b"", &[7; 300]]),
                partition(1, &[]),
                partition(2, &[b""]),
            ],
        };
        let response = FetchResponse {
            throttle_time_ms: 500,
            error_code: 0,
            topics: vec![topic("one", 1), topic("two", u128::MAX)],
        };
        for version in VERSION_MIN..=VERSION_MAX {
            let whole: Vec<u8> = response.encode(version).concat();
            let mut bytes = Bytes::from(whole);
            let decoded = Decoded::decode(&mut bytes, version).unwrap();
            assert!(bytes.is_empty(), "v{version} leaves bytes over");
            assert_eq!((decoded.session_id, decoded.throttle_time_ms), (0, 500));
            for (topic, expected) in decoded.responses.iter().zip(&response.topics) {
                if version >= 13 {
                    assert_eq!(topic.topic_id.as_u128(), expected.id);
                } else {
                    assert_eq!(topic.topic.as_bytes(), &expected.name[..]);
                }
                for (p, want) in topic.partitions.iter().zip(&expected.partitions) {
                    assert_eq!((p.partition_index, p.error_code), (want.index, want.error_code));
                    assert_eq!(p.high_watermark, want.high_watermark);
                    assert_eq!(p.last_stable_offset, want.last_stable_offset);
                    let log_start = if version >= 5 { want.log_start_offset } else { -1 };
                    assert_eq!(p.log_start_offset, log_start);
                    assert_eq!(p.preferred_read_replica.0, -1);
                    assert_eq!(p.aborted_transactions, Some(vec![]));
                    assert_eq!(p.records.as_deref(), Some(&want.records.concat()[..]));
                }
            }
            assert_eq!(decoded.responses.len(), 2);
        }
    }

    #[test]
    fn records_are_handed_on_and_not_copied() {
        let records = Bytes::from(vec![1; 1000]);
        let response = FetchResponse {
            throttle_time_ms: 0,
            error_code: 0,
            topics: vec![FetchTopic {
                partitions: vec![FetchedPartition {
                    records: vec![records.clone()],
                    ..partition(0, &[])
                }],
                ..FetchTopic::default()
            }],
        };
        let pieces = response.encode(17);
        assert!(pieces.iter().any(|piece| piece.as_ptr() == records.as_ptr()));
    }
}
