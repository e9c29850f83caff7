//! The memory that a partition has of an idempotent producer.

use ottla_model::{Offset, ProducerEpoch, Sequence, TimestampMs};

use super::version::{StoredValue, put_value};
use crate::codec::{DecodeError, Reader, Result, put_varint, put_zigzag};

/// How many batches of a producer are remembered: as many as it may have in flight (KIP-98,
/// `ProducerStateEntry.NUM_BATCHES_TO_RETAIN`).
pub const RECENT_BATCHES: usize = 5;

/// One stored batch, enough to recognise and answer a second send of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentBatch {
    /// Sequence of its first record.
    pub base_sequence: Sequence,
    /// Sequence of its last record; below `base_sequence` when the batch straddles the wrap.
    pub last_sequence: Sequence,
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Its log-append time, [`TimestampMs::NONE`] with create time.
    pub append_time: TimestampMs,
}

impl RecentBatch {
    const EMPTY: Self = Self {
        base_sequence: Sequence(0),
        last_sequence: Sequence(0),
        base_offset: Offset(0),
        append_time: TimestampMs::NONE,
    };
}

/// A producer's last batches in a partition.
///
/// `epoch zigzag · last use zigzag · count u8 · (base sequence varint · last sequence varint
/// · base offset zigzag · append time zigzag)`, oldest batch first
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerEntry {
    /// The newest epoch seen.
    pub epoch: ProducerEpoch,
    /// Replicated time of the last stored batch.
    pub last_use: TimestampMs,
    count: u8,
    batches: [RecentBatch; RECENT_BATCHES],
}

impl ProducerEntry {
    /// A producer of which nothing is stored yet.
    pub fn new(epoch: ProducerEpoch) -> Self {
        Self {
            epoch,
            last_use: TimestampMs::NONE,
            count: 0,
            batches: [RecentBatch::EMPTY; RECENT_BATCHES],
        }
    }

    /// The remembered batches of the epoch, oldest first.
    pub fn batches(&self) -> &[RecentBatch] {
        &self.batches[..usize::from(self.count)]
    }

    /// Remembers one more batch; the sixth displaces the oldest.
    pub fn push(&mut self, batch: RecentBatch) {
        let count = usize::from(self.count);
        if count < RECENT_BATCHES {
            self.batches[count] = batch;
            self.count += 1;
        } else {
            self.batches.rotate_left(1);
            self.batches[RECENT_BATCHES - 1] = batch;
        }
    }

    /// Begins a newer epoch: the batches of the older one are no duplicates of anything any more.
    pub fn begin_epoch(&mut self, epoch: ProducerEpoch) {
        *self = Self { last_use: self.last_use, ..Self::new(epoch) };
    }

    /// Appends the value's bytes.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_value(out, self);
    }
}

impl StoredValue for ProducerEntry {
    fn put_body(&self, _version: u8, out: &mut Vec<u8>) {
        put_zigzag(out, i64::from(self.epoch.0));
        put_zigzag(out, self.last_use.0);
        out.push(self.count);
        for batch in self.batches() {
            put_varint(out, u64::from(batch.base_sequence.0 as u32));
            put_varint(out, u64::from(batch.last_sequence.0 as u32));
            put_zigzag(out, batch.base_offset.0);
            put_zigzag(out, batch.append_time.0);
        }
    }

    fn read_body(_version: u8, r: &mut Reader<'_>) -> Result<Self> {
        let epoch = ProducerEpoch(r.narrow_zigzag("producer epoch")?);
        let mut entry = Self::new(epoch);
        entry.last_use = TimestampMs(r.zigzag("producer last use")?);
        let count = r.u8("recent batch count")?;
        if usize::from(count) > RECENT_BATCHES {
            return Err(DecodeError::Invalid {
                what: "recent batch count",
                value: i128::from(count),
            });
        }
        for _ in 0..count {
            entry.push(RecentBatch {
                base_sequence: read_sequence(r)?,
                last_sequence: read_sequence(r)?,
                base_offset: Offset(r.zigzag("recent batch offset")?),
                append_time: TimestampMs(r.zigzag("recent batch append time")?),
            });
        }
        Ok(entry)
    }
}

fn read_sequence(r: &mut Reader<'_>) -> Result<Sequence> {
    Ok(Sequence(r.narrow::<u32>("recent batch sequence")? as i32))
}
