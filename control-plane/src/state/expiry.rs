//! Where to look for the producers that were used longest ago.
//!
//! A partition with producers stands in this index once, with a time before which none of them was
//! used last. Producers are used all the time without a change of the index: when the time comes, the
//! partition is looked at and put back with the time of the then oldest one. The index is rebuilt
//! when a state is loaded, and may then know better times than the one before. So what is forgotten
//! must not depend on it: a partition is touched only when its time is found to be exact. As every
//! other time is exact or too early, that partition then has the oldest producer of all, on every
//! node, whatever the indexes looked like.

use imbl::OrdSet;
use ottla_model::{PartitionId, TimestampMs};

use super::partition::Partition;

/// See the module. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Expiry(OrdSet<(TimestampMs, PartitionId)>);

impl Expiry {
    /// After an append: a partition that got its first producer enters the index.
    pub(super) fn watch(&mut self, id: PartitionId, partition: &mut Partition) {
        if partition.used_since.is_none() {
            self.put(id, partition, partition.producers.oldest_use());
        }
    }

    /// A partition enters that is not in the index; with `None` it has no producers.
    pub(super) fn put(
        &mut self,
        id: PartitionId,
        partition: &mut Partition,
        used_since: Option<TimestampMs>,
    ) {
        partition.used_since = used_since;
        self.0.extend(used_since.map(|since| (since, id)));
    }

    /// A partition is deleted.
    pub(super) fn drop_partition(&mut self, id: PartitionId, partition: &Partition) {
        if let Some(since) = partition.used_since {
            self.0.remove(&(since, id));
        }
    }

    /// Whether a partition may have producers that were used last at `until` or earlier.
    pub(super) fn has_due(&self, until: TimestampMs) -> bool {
        self.0.get_min().is_some_and(|(since, _)| *since <= until)
    }

    /// Takes the first of these partitions out, with its time.
    pub(super) fn pop_due(&mut self, until: TimestampMs) -> Option<(TimestampMs, PartitionId)> {
        let first = *self.0.get_min().filter(|(since, _)| *since <= until)?;
        self.0.remove(&first);
        Some(first)
    }
}
