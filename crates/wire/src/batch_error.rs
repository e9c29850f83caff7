//! The defects of a record batch, and whose fault each is.

use ottla_model::TimestampMs;

/// What is wrong with a batch. The text is meant for the producer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// No batch at all.
    #[error("there is no record batch")]
    Empty,
    /// The bytes end before the batch does.
    #[error("the record batch is cut off: {have} bytes of {need}")]
    Truncated {
        /// Bytes there are.
        have: usize,
        /// Bytes the batch says it has.
        need: usize,
    },
    /// A length that no batch can have.
    #[error("the record batch has an impossible length field: {0}")]
    Length(i32),
    /// A format that is not record batch version 2.
    #[error("the record batch has magic {0}; only 2 is supported")]
    Magic(i8),
    /// The checksum does not match the bytes.
    #[error("the record batch is corrupt: CRC-32C {computed:#010x}, stored {stored:#010x}")]
    Crc {
        /// Of the bytes as they are.
        computed: u32,
        /// In the header.
        stored: u32,
    },
    /// Something follows the one batch that is allowed.
    #[error("exactly one record batch per partition is allowed; {0} bytes follow the first")]
    SeveralBatches(usize),
    /// Bits 0–2 of the attributes name no codec.
    #[error("the record batch names the unknown compression codec {0}")]
    UnknownCompression(u16),
    /// A bit that only brokers may set.
    #[error("clients cannot write control batches")]
    Control,
    /// A bit that only brokers may set.
    #[error("clients cannot set a delete horizon")]
    DeleteHorizon,
    /// A bit that only brokers may set, whatever the topic's timestamp type.
    #[error("a producer cannot set the timestamp type LogAppendTime")]
    TimestampType,
    /// A producer id without a usable epoch or sequence.
    #[error(
        "producer id {id} needs an epoch and a sequence of 0 or more, not {epoch} and {sequence}"
    )]
    Producer {
        /// The id given.
        id: i64,
        /// The epoch given.
        epoch: i16,
        /// The base sequence given.
        sequence: i32,
    },
    /// Record count and last offset delta contradict each other, or there is no record.
    #[error("record count {count} does not fit last offset delta {last_offset_delta}")]
    Count {
        /// Number of records given.
        count: i32,
        /// Last offset delta given.
        last_offset_delta: i32,
    },
    /// More records are claimed than the compressed bytes can hold.
    #[error("{count} records cannot fit the {bytes} bytes of the record batch")]
    CountTooLarge {
        /// Number of records given.
        count: i32,
        /// Bytes after the header.
        bytes: usize,
    },
    /// A record whose lengths do not fit, whose offset delta is not its place, whose timestamp is
    /// beyond all numbers, or with a header that has no name.
    #[error("record {record} of the batch is malformed")]
    Record {
        /// Which, from 0.
        record: i32,
    },
    /// The records could not be decompressed up to their end.
    #[error("record {record} of the batch cannot be read: {reason}")]
    Unreadable {
        /// The first that was not read, from 0.
        record: i32,
        /// Why.
        reason: String,
    },
    /// There are fewer or more records than the header says.
    #[error("the record batch has {found} records, and its header says {claimed}")]
    FalseCount {
        /// What the header says.
        claimed: i32,
        /// How many there are: "one more" stands for any more.
        found: i32,
    },
    /// Records that the topic does not take.
    #[error("the topic does not take {} of the records; the first: {}", .0.len(), first(.0))]
    Refused(Vec<RefusedRecord>),
}

fn first(refused: &[RefusedRecord]) -> String {
    refused.first().map(ToString::to_string).unwrap_or_default()
}

/// A record that a topic does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {record}: {reason}")]
pub struct RefusedRecord {
    /// Which, from 0.
    pub record: i32,
    /// Why.
    pub reason: RefusedReason,
}

impl RefusedRecord {
    fn is_for_its_time(&self) -> bool {
        matches!(self.reason, RefusedReason::Timestamp { .. })
    }
}

/// Why a topic does not take a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusedReason {
    /// The topic is compacted.
    #[error("a compacted topic needs a key")]
    NoKey,
    /// Too far from the broker's time.
    #[error("timestamp {timestamp} is too far from the broker's {now}")]
    Timestamp {
        /// The record's.
        timestamp: TimestampMs,
        /// The broker's.
        now: TimestampMs,
    },
}

/// What a [`BatchError`] means for who sent the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchErrorKind {
    /// The bytes were damaged on their way or in memory.
    Corrupt,
    /// The bytes are what the sender meant, and break a rule.
    Invalid,
    /// A timestamp is one that the topic does not take.
    InvalidTimestamp,
    /// A codec that is not known here.
    UnsupportedCompression,
}

impl BatchError {
    /// What it means.
    pub fn kind(&self) -> BatchErrorKind {
        match self {
            Self::Truncated { .. } | Self::Length(_) | Self::Crc { .. } => BatchErrorKind::Corrupt,
            // 0 and 1 are Kafka's older formats, which it refuses as invalid.
            Self::Magic(0 | 1) => BatchErrorKind::Invalid,
            Self::Magic(_) => BatchErrorKind::Corrupt,
            Self::UnknownCompression(_) => BatchErrorKind::UnsupportedCompression,
            Self::Empty
            | Self::SeveralBatches(_)
            | Self::Control
            | Self::DeleteHorizon
            | Self::Producer { .. }
            | Self::Count { .. }
            | Self::CountTooLarge { .. }
            | Self::Record { .. }
            | Self::Unreadable { .. }
            | Self::FalseCount { .. } => BatchErrorKind::Invalid,
            Self::TimestampType => BatchErrorKind::InvalidTimestamp,
            // As Kafka: one of them is enough.
            Self::Refused(refused) => match refused.iter().any(RefusedRecord::is_for_its_time) {
                true => BatchErrorKind::InvalidTimestamp,
                false => BatchErrorKind::Invalid,
            },
        }
    }
}
