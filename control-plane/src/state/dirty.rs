//! Which records changed since the last checkpoint.
//!
//! A set, never a queue: a key that changes a thousand times is in it once, and its value is taken
//! from the state when the checkpoint is written. Partitions and producers, which change all the
//! time, carry the number of the checkpoint period (the *generation*) in which they were last
//! entered; entering one a second time costs a comparison. Keys are short and of fixed length, so the
//! set is bounded by their number, [`DIRTY_KEYS_MAX`]: beyond it, everything counts as changed.

use std::collections::BTreeSet;

use ottla_model::{BrokerId, GroupNumber, ObjectId, Offset, PartitionId, ProducerId, TopicId};

use crate::limits::DIRTY_KEYS_MAX;

/// Keys that changed; the present values (or their absence) are in the copy cut with them. The
/// counters always count as changed.
#[derive(Clone, Debug, Default)]
pub struct DirtyKeys {
    /// All records of the state, and none of what else the checkpoint holds.
    pub(super) everything: bool,
    pub(super) topics: BTreeSet<TopicId>,
    pub(super) partitions: Vec<PartitionId>,
    /// Chunks of extents, by their first base offset.
    pub(super) extent_chunks: Vec<(PartitionId, Offset)>,
    pub(super) producers: Vec<(PartitionId, ProducerId)>,
    pub(super) object_chunks: BTreeSet<u64>,
    /// With their outcomes.
    pub(super) brokers: BTreeSet<BrokerId>,
    pub(super) groups: BTreeSet<GroupNumber>,
    pub(super) group_offsets: BTreeSet<(GroupNumber, PartitionId)>,
}

impl DirtyKeys {
    fn everything() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// How many keys are in the set.
    pub fn len(&self) -> usize {
        self.topics.len()
            + self.partitions.len()
            + self.extent_chunks.len()
            + self.producers.len()
            + self.object_chunks.len()
            + self.brokers.len()
            + self.groups.len()
            + self.group_offsets.len()
    }

    /// Whether nothing changed but the counters.
    pub fn is_empty(&self) -> bool {
        !self.everything && self.len() == 0
    }
}

/// A number of a checkpoint period, kept in what was entered during it.
pub(super) type Generation = u32;

/// The set being filled.
#[derive(Debug)]
pub(super) struct Dirty {
    generation: Generation,
    keys: DirtyKeys,
}

impl Default for Dirty {
    /// Nothing of a new state is in any checkpoint.
    fn default() -> Self {
        Self { generation: 1, keys: DirtyKeys::everything() }
    }
}

impl Clone for Dirty {
    /// A copy does not know what its own checkpoint would hold.
    fn clone(&self) -> Self {
        Self { generation: self.generation, keys: DirtyKeys::everything() }
    }
}

impl Dirty {
    /// Ends the period.
    pub(super) fn cut(&mut self) -> DirtyKeys {
        self.generation = self.generation.wrapping_add(1);
        std::mem::take(&mut self.keys)
    }

    /// The state is as its checkpoint has it.
    pub(super) fn loaded(&mut self) {
        self.keys = DirtyKeys::default();
    }

    /// Nothing of the state is in a checkpoint.
    pub(super) fn lost(&mut self) {
        self.keys = DirtyKeys::everything();
    }

    /// Called after each command; a command enters at most a few thousand keys.
    pub(super) fn enforce_bound(&mut self) {
        if self.keys.len() > DIRTY_KEYS_MAX {
            self.keys = DirtyKeys::everything();
        }
    }

    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// The caller has checked by the generation that the partition is not entered yet.
    pub(super) fn partition(&mut self, partition: PartitionId) {
        if !self.keys.everything {
            self.keys.partitions.push(partition);
        }
    }

    /// The caller has checked that it did not enter the same chunk last.
    pub(super) fn extent_chunk(&mut self, partition: PartitionId, chunk: Offset) {
        if !self.keys.everything {
            self.keys.extent_chunks.push((partition, chunk));
        }
    }

    /// The caller has checked by the generation that the producer is not entered yet.
    pub(super) fn producer(&mut self, partition: PartitionId, producer: ProducerId) {
        if !self.keys.everything {
            self.keys.producers.push((partition, producer));
        }
    }

    pub(super) fn topic(&mut self, topic: TopicId) {
        if !self.keys.everything {
            self.keys.topics.insert(topic);
        }
    }

    pub(super) fn object(&mut self, object: ObjectId) {
        if !self.keys.everything {
            self.keys.object_chunks.insert(super::objects::chunk_of(object));
        }
    }

    pub(super) fn broker(&mut self, broker: BrokerId) {
        if !self.keys.everything {
            self.keys.brokers.insert(broker);
        }
    }

    pub(super) fn group(&mut self, group: GroupNumber) {
        if !self.keys.everything {
            self.keys.groups.insert(group);
        }
    }

    pub(super) fn group_offset(&mut self, group: GroupNumber, partition: PartitionId) {
        if !self.keys.everything {
            self.keys.group_offsets.insert((group, partition));
        }
    }
}
