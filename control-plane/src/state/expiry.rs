//! Which partitions to look at when time passes.
//!
//! A partition with producers stands in this index once, with a time before which none of them is
//! due. Producers are used all the time without a change of the index: when the time comes, the
//! partition is looked at and put back with the then oldest one. What expires at a tick is
//! therefore exact (every producer whose last use is older than the expiry, and no other) and does
//! not depend on the index, which is rebuilt when a state is loaded.

use imbl::OrdSet;
use ottla_model::{PartitionId, TimestampMs};

use super::partition::Partition;

/// See the module. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Expiry(OrdSet<(TimestampMs, PartitionId)>);

impl Expiry {
    /// After an append: a partition that got its first producer enters the index.
    pub(super) fn watch(&mut self, id: PartitionId, partition: &mut Partition) {
        if partition.expiry_check.is_none()
            && let Some(due) = partition.producers.next_expiry()
        {
            partition.expiry_check = Some(due);
            self.0.insert((due, id));
        }
    }

    /// A partition enters with a known time.
    pub(super) fn restore(&mut self, id: PartitionId, due: TimestampMs) {
        self.0.insert((due, id));
    }

    /// A partition is deleted.
    pub(super) fn drop_partition(&mut self, id: PartitionId, partition: &Partition) {
        if let Some(due) = partition.expiry_check {
            self.0.remove(&(due, id));
        }
    }

    /// Takes out a partition whose time has come.
    pub(super) fn pop_due(&mut self, now: TimestampMs) -> Option<PartitionId> {
        let (due, id) = *self.0.get_min().filter(|(due, _)| *due <= now)?;
        self.0.remove(&(due, id));
        Some(id)
    }
}
