//! How large the state is: entries by kind, counted as they come and go, and the memory that they
//! take. Costs an apply nothing but additions.

use std::mem::size_of;

use ottla_format::state::{ExtentEntry, ObjectEntry, ProducerEntry};

use super::State;
use super::partition::Partition;

/// What a partition takes besides its header: its share of the topic's tree, the reference counts,
/// the first allocation of its extents. Measured: `cargo run --release --example state_memory`.
const PARTITION_OVERHEAD_BYTES: u64 = 192;
/// What a producer takes besides its entry: most partitions have few, whose tree is mostly empty.
const PRODUCER_OVERHEAD_BYTES: u64 = 192;
/// What a topic, with its names and settings, or a group, with its members, takes about.
const NAMED_BYTES: u64 = 1_024;
/// What a committed offset takes: key, entry, an entry of the tree.
const GROUP_OFFSET_BYTES: u64 = 96;

/// Entries that are counted one by one, because nothing else knows their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub extents: u64,
    pub objects: u64,
    pub producers: u64,
    pub group_offsets: u64,
}

/// How many entries of each kind a state has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateSize {
    /// Topics.
    pub topics: u64,
    /// Partitions of all topics.
    pub partitions: u64,
    /// Extents of all partitions.
    pub extents: u64,
    /// Objects, condemned ones included.
    pub objects: u64,
    /// Idempotent producers, once per partition that they wrote to.
    pub producers: u64,
    /// Groups.
    pub groups: u64,
    /// Committed offsets of all groups.
    pub group_offsets: u64,
}

impl StateSize {
    /// About how much memory the entries take, without what copies of the state keep alive.
    pub fn bytes(&self) -> u64 {
        let partition = size_of::<Partition>() as u64 + PARTITION_OVERHEAD_BYTES;
        let producer = size_of::<ProducerEntry>() as u64 + PRODUCER_OVERHEAD_BYTES;
        (self.topics + self.groups) * NAMED_BYTES
            + self.partitions * partition
            + self.extents * size_of::<ExtentEntry>() as u64
            + self.objects * size_of::<(u8, ObjectEntry)>() as u64
            + self.producers * producer
            + self.group_offsets * GROUP_OFFSET_BYTES
    }
}

impl State {
    /// How large the state is.
    pub fn size(&self) -> StateSize {
        let Tally { extents, objects, producers, group_offsets } = self.books.tally;
        StateSize {
            topics: self.topics.len() as u64,
            partitions: self.topics.partition_count() as u64,
            extents,
            objects,
            producers,
            groups: self.groups.by_id.len() as u64,
            group_offsets,
        }
    }

    /// The same, counted anew.
    pub(super) fn recount(&self) -> StateSize {
        let partitions = || self.topics.iter().flat_map(|topic| topic.partitions());
        StateSize {
            topics: self.topics.iter().count() as u64,
            partitions: partitions().count() as u64,
            extents: partitions().map(|(_, p)| p.extents.iter_from(0).count() as u64).sum(),
            objects: self.objects.iter().count() as u64,
            producers: partitions().map(|(_, p)| p.producers.iter().count() as u64).sum(),
            groups: self.groups.by_id.len() as u64,
            group_offsets: self.groups.by_id.values().map(|g| g.offsets.len() as u64).sum(),
        }
    }
}
