//! The idempotent producers of a partition, by Kafka's rules.
//!
//! The order of the checks is that of Kafka's broker (`UnifiedLog.analyzeAndValidateProducerState`,
//! `ProducerAppendInfo.checkProducerEpoch` and `checkSequence`; KIP-98):
//!
//! 1. An unknown producer may begin with any sequence: its older state may have expired.
//! 2. A batch with the epoch and the exact sequence range of one of the last five is a duplicate.
//! 3. An older epoch is refused.
//! 4. A newer epoch must begin with sequence 0.
//! 5. In the same epoch, a batch must begin where the last one ended (0 follows 2147483647).

use std::sync::Arc;

use imbl::OrdMap;
use ottla_format::command::{BatchRefusal, CommitBatch};
use ottla_format::state::{ProducerEntry, RecentBatch, StateKey};
use ottla_model::{BatchProducer, Offset, PartitionId, ProducerId, Sequence, TimestampMs};

use super::books::Books;
use super::dirty::Generation;

/// What the sequence check says of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is next.
    Append,
    /// It was stored before.
    Duplicate(RecentBatch),
    /// It must not be stored.
    Refuse(BatchRefusal),
}

/// Checks a batch of `records` records against what is known of its producer.
pub fn check(known: Option<&ProducerEntry>, batch: BatchProducer, records: i32) -> Verdict {
    let Some(known) = known else {
        return Verdict::Append;
    };
    if batch.epoch < known.epoch {
        return Verdict::Refuse(BatchRefusal::StaleProducerEpoch);
    }
    let begins_the_epoch = batch.base_sequence == Sequence::ZERO;
    let in_order = if batch.epoch > known.epoch {
        begins_the_epoch
    } else {
        let last_sequence = batch.base_sequence.plus(records - 1);
        let same = |stored: &&RecentBatch| {
            stored.base_sequence == batch.base_sequence && stored.last_sequence == last_sequence
        };
        if let Some(stored) = known.batches().iter().find(same) {
            return Verdict::Duplicate(*stored);
        }
        match known.batches().last() {
            Some(last) => last.last_sequence.is_followed_by(batch.base_sequence),
            None => begins_the_epoch,
        }
    };
    if in_order { Verdict::Append } else { Verdict::Refuse(BatchRefusal::OutOfOrderSequence) }
}

/// How many records a batch of a commit has. A negative delta, which no broker sends, counts as
/// one record.
pub(super) fn records(batch: &CommitBatch) -> i32 {
    batch.last_offset_delta.clamp(0, i32::MAX - 1) + 1
}

/// A producer with the checkpoint period in which it last changed.
#[derive(Clone, Debug)]
struct Slot {
    entry: ProducerEntry,
    dirty: Generation,
}

/// See the module. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Producers(OrdMap<ProducerId, Arc<Slot>>);

impl Producers {
    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = (ProducerId, &ProducerEntry)> {
        self.0.iter().map(|(id, slot)| (*id, &slot.entry))
    }

    /// One of them.
    pub fn get(&self, id: ProducerId) -> Option<&ProducerEntry> {
        self.0.get(&id).map(|slot| &slot.entry)
    }

    /// Remembers a batch that [`check`] let pass and that was stored at `base_offset`.
    pub(super) fn stored(
        &mut self,
        partition: PartitionId,
        batch: &CommitBatch,
        producer: BatchProducer,
        (base_offset, append_time): (Offset, TimestampMs),
        books: &mut Books,
    ) {
        let key = StateKey::Producer(partition, producer.id);
        let generation = books.dirty.generation();
        let known = self.0.get_mut(&producer.id);
        let is_known = known.is_some();
        let mut new_slot;
        let slot = match known {
            Some(slot) => {
                let slot = Arc::make_mut(slot);
                books.digest.remove(&key, |out| slot.entry.put(out));
                slot
            }
            None => {
                new_slot = Slot {
                    entry: ProducerEntry::new(producer.epoch),
                    dirty: generation.wrapping_sub(1),
                };
                &mut new_slot
            }
        };
        if producer.epoch != slot.entry.epoch {
            slot.entry.begin_epoch(producer.epoch);
        }
        slot.entry.push(RecentBatch {
            base_sequence: producer.base_sequence,
            last_sequence: producer.base_sequence.plus(records(batch) - 1),
            base_offset,
            append_time,
        });
        slot.entry.last_use = books.counters.time;
        books.digest.add(&key, |out| slot.entry.put(out));
        if slot.dirty != generation {
            slot.dirty = generation;
            books.dirty.producer(partition, producer.id);
        }
        if !is_known {
            let slot = slot.clone();
            self.0.insert(producer.id, Arc::new(slot));
            books.tally.producers += 1;
        }
    }

    /// Puts in a producer as a record had it.
    pub(super) fn load(&mut self, id: ProducerId, entry: ProducerEntry) {
        self.0.insert(id, Arc::new(Slot { entry, dirty: 0 }));
    }

    /// The last use of the producer that was used longest ago; `None` when there is none. Looks at
    /// all of them.
    pub(super) fn oldest_use(&self) -> Option<TimestampMs> {
        self.iter().map(|(_, entry)| entry.last_use).min()
    }

    /// Forgets the producers whose last use was at `until` or earlier, at most `max` of them, the
    /// lowest ids first; answers how many.
    pub(super) fn expire(
        &mut self,
        partition: PartitionId,
        until: TimestampMs,
        max: usize,
        books: &mut Books,
    ) -> usize {
        let due = self.iter().filter(|(_, entry)| entry.last_use <= until);
        let due: Vec<ProducerId> = due.map(|(id, _)| id).take(max).collect();
        for id in &due {
            if let Some(slot) = self.0.remove(id) {
                let key = StateKey::Producer(partition, *id);
                books.digest.remove(&key, |out| slot.entry.put(out));
                books.tally.producers -= 1;
                books.dirty.producer(partition, *id);
            }
        }
        due.len()
    }
}
