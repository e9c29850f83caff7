//! The rules that a batch keeps before it is stored, and the facts that are then known of it.
//!
//! Nothing that a header says is believed where the records can be seen: how many there are, that
//! they count up from offset delta 0, and the largest timestamp are found by a walk over all of them.
//! A batch that no consumer could read is refused with it: lengths that do not fit, headers without
//! a name, bytes that are not what the codec writes. The bytes themselves are never changed.
//!
//! A [`ReceivedBatch`] has a header that is consistent and a checksum that is right. Only
//! [`ReceivedBatch::verify`] makes a [`VerifiedBatch`] of it, which is all that the write path takes;
//! [`ReceivedBatch::unopened`] is for an operator who spares the decompression of large batches.
//!
//! Source: Kafka's `LogValidator`, `DefaultRecordBatch`.

use bytes::Bytes;
use ottla_model::{BatchProducer, TimestampMs, TimestampType};

use crate::batch::{BATCH_HEADER_BYTES, BatchHeader, Compression, check};
use crate::batch_error::{BatchError, RefusedReason, RefusedRecord};
use crate::decompress::{self, OutputLimits, Scratch};
use crate::limits;
use crate::lz4_frame;
use crate::records::{RecordHead, RecordsError, records};

/// One batch that a client may produce, as far as its header tells.
#[derive(Clone, Debug)]
pub struct ReceivedBatch {
    header: BatchHeader,
    codec: Compression,
    bytes: Bytes,
}

/// What a topic asks of each record.
#[derive(Clone, Copy, Debug)]
pub struct RecordRules {
    /// Every record has a key: the topic is compacted.
    pub keys_required: bool,
    /// Timestamps are near the broker's; `None` when they do not count.
    pub timestamps: Option<TimestampLimits>,
    /// How many of the records that break a rule are named; at least one is.
    pub refused_max: usize,
}

/// How far timestamps may be from the broker's time.
#[derive(Clone, Copy, Debug)]
pub struct TimestampLimits {
    /// The broker's time.
    pub now: TimestampMs,
    /// `message.timestamp.before.max.ms`
    pub before_max_ms: i64,
    /// `message.timestamp.after.max.ms`
    pub after_max_ms: i64,
}

impl RecordRules {
    /// Takes every record.
    pub const NONE: Self = Self { keys_required: false, timestamps: None, refused_max: 1 };
}

impl TimestampLimits {
    /// Whether a record may have this timestamp. Kafka's "no timestamp" always may.
    pub fn allow(&self, timestamp: TimestampMs) -> bool {
        let behind = self.now.0.saturating_sub(timestamp.0);
        let ahead = timestamp.0.saturating_sub(self.now.0);
        timestamp == TimestampMs::NONE
            || (behind <= self.before_max_ms && ahead <= self.after_max_ms)
    }
}

impl RecordRules {
    fn refusal(&self, has_key: bool, timestamp: TimestampMs) -> Option<RefusedReason> {
        if self.keys_required && !has_key {
            return Some(RefusedReason::NoKey);
        }
        let limits = self.timestamps.filter(|limits| !limits.allow(timestamp))?;
        Some(RefusedReason::Timestamp { timestamp, now: limits.now })
    }
}

/// A batch that may be stored. Its fields are those that nothing else has to check.
#[derive(Clone, Debug)]
pub struct VerifiedBatch {
    header: BatchHeader,
    max_timestamp: TimestampMs,
    bytes: Bytes,
}

impl ReceivedBatch {
    /// Checks that `bytes` are exactly one batch that a client may produce: checksum, counts, codec,
    /// and the bits that only brokers set. Whether it is transactional is left to the caller.
    ///
    /// Costs one pass over the bytes for the CRC.
    pub fn read(bytes: Bytes) -> Result<Self, BatchError> {
        let header = check(&bytes)?;
        let codec = header.compression()?;
        check_attributes(&header)?;
        check_producer(&header)?;
        let batch = Self { header, codec, bytes };
        batch.check_count()?;
        Ok(batch)
    }

    /// The codec of its records.
    pub fn codec(&self) -> Compression {
        self.codec
    }

    /// Whether it belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.header.is_transactional()
    }

    /// Its records, as they were sent.
    fn body(&self) -> &[u8] {
        self.bytes.get(BATCH_HEADER_BYTES..).unwrap_or_default()
    }

    /// The length of its records, as they were sent.
    pub fn body_bytes(&self) -> usize {
        self.body().len()
    }

    /// Whether the maximum timestamp in the header can be true: old clients leave it at −1.
    pub fn has_plausible_max_timestamp(&self) -> bool {
        let BatchHeader { base_timestamp, max_timestamp, .. } = self.header;
        max_timestamp != TimestampMs::NONE.0 && max_timestamp >= base_timestamp
    }

    /// Looks at every record. With less than [`OutputLimits::full`], only
    /// [`BatchError::Unreadable`] says nothing about the batch.
    pub fn verify(
        &self,
        rules: &RecordRules,
        limits: OutputLimits,
        scratch: &mut Scratch,
    ) -> Result<VerifiedBatch, BatchError> {
        let max_timestamp = match self.codec {
            Compression::None => self.walk(self.body(), rules)?,
            codec => {
                let unreadable = |reason| BatchError::Unreadable { record: 0, reason };
                if codec == Compression::Lz4 {
                    lz4_frame::check(self.body()).map_err(|e| unreadable(e.to_owned()))?;
                }
                let plain = decompress::plain(codec, self.body(), limits, scratch);
                self.walk(plain.map_err(|e| unreadable(e.to_string()))?, rules)?
            }
        };
        Ok(VerifiedBatch { header: self.header, max_timestamp, bytes: self.bytes.clone() })
    }

    /// The batch with its header believed, as far as its first and its largest timestamp keep to the
    /// rules. Its keys are not looked at.
    pub fn unopened(&self, rules: &RecordRules) -> Result<VerifiedBatch, BatchError> {
        let BatchHeader { base_timestamp, max_timestamp, .. } = self.header;
        for timestamp in [base_timestamp, max_timestamp].map(TimestampMs) {
            if let Some(reason) = rules.refusal(true, timestamp) {
                return Err(BatchError::Refused(vec![RefusedRecord { record: 0, reason }]));
            }
        }
        let max_timestamp = TimestampMs(max_timestamp);
        Ok(VerifiedBatch { header: self.header, max_timestamp, bytes: self.bytes.clone() })
    }

    /// Record count and last offset delta agree, and so many records can be in the bytes: those of a
    /// compressed batch may stay closed.
    fn check_count(&self) -> Result<(), BatchError> {
        let BatchHeader { record_count: count, last_offset_delta, .. } = self.header;
        if count < 1 || last_offset_delta != count - 1 {
            return Err(BatchError::Count { count, last_offset_delta });
        }
        let bytes = self.body_bytes();
        let capacity = match self.codec {
            Compression::None => bytes,
            _ => limits::decompressed_bytes_max(bytes),
        };
        match usize::try_from(count) {
            Ok(records) if records <= capacity / limits::RECORD_BYTES_MIN => Ok(()),
            _ => Err(BatchError::CountTooLarge { count, bytes }),
        }
    }

    /// The largest timestamp of the records, all of which must be as they should.
    fn walk(
        &self,
        plain: impl std::io::BufRead,
        rules: &RecordRules,
    ) -> Result<TimestampMs, BatchError> {
        let claimed = self.header.record_count;
        let mut found = 0;
        let mut largest = TimestampMs::NONE;
        let mut refused = Vec::new();
        for record in records(plain) {
            let RecordHead { offset_delta, timestamp_delta, has_key } = record.map_err(unread)?;
            if found == claimed {
                return Err(BatchError::FalseCount { claimed, found: found.saturating_add(1) });
            }
            let timestamp = self.header.base_timestamp.checked_add(timestamp_delta);
            // Consumers take offsets from these deltas, and the next batch's from the count.
            let Some(timestamp) = timestamp.filter(|_| offset_delta == found) else {
                return Err(BatchError::Record { record: found });
            };
            let timestamp = TimestampMs(timestamp);
            largest = largest.max(timestamp);
            if let Some(reason) = rules.refusal(has_key, timestamp)
                && refused.len() < rules.refused_max.max(1)
            {
                refused.push(RefusedRecord { record: found, reason });
            }
            found += 1;
        }
        if found != claimed {
            return Err(BatchError::FalseCount { claimed, found });
        }
        if refused.is_empty() { Ok(largest) } else { Err(BatchError::Refused(refused)) }
    }
}

fn unread(error: RecordsError) -> BatchError {
    let number = |record| i32::try_from(record).unwrap_or(i32::MAX);
    match error {
        RecordsError::Malformed { record } => BatchError::Record { record: number(record) },
        RecordsError::Unreadable { record, reason } => {
            BatchError::Unreadable { record: number(record), reason }
        }
    }
}

fn check_attributes(header: &BatchHeader) -> Result<(), BatchError> {
    if header.is_control() {
        return Err(BatchError::Control);
    }
    if header.has_delete_horizon() {
        return Err(BatchError::DeleteHorizon);
    }
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return Err(BatchError::TimestampType);
    }
    Ok(())
}

fn check_producer(header: &BatchHeader) -> Result<(), BatchError> {
    if header.producer_id >= 0 && (header.producer_epoch < 0 || header.base_sequence < 0) {
        return Err(BatchError::Producer {
            id: header.producer_id,
            epoch: header.producer_epoch,
            sequence: header.base_sequence,
        });
    }
    Ok(())
}

impl VerifiedBatch {
    /// Its bytes as received: exactly one batch.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Gives up the memory that its bytes share with others.
    pub fn detach(&mut self) {
        self.bytes = Bytes::copy_from_slice(&self.bytes);
    }

    /// How many records it has.
    pub fn record_count(&self) -> u32 {
        self.header.record_count.unsigned_abs()
    }

    /// Offset of the last record, relative to the first.
    pub fn last_offset_delta(&self) -> i32 {
        self.header.last_offset_delta
    }

    /// The largest timestamp of its records, whatever the header says.
    pub fn max_timestamp(&self) -> TimestampMs {
        self.max_timestamp
    }

    /// Its checksum, which was compared with the bytes.
    pub fn crc(&self) -> u32 {
        self.header.crc
    }

    /// The idempotent producer's fields; `None` for a plain producer.
    pub fn producer(&self) -> Option<BatchProducer> {
        self.header.producer()
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
