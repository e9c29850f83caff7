//! How large the state is: entries by kind, counted as they come and go, and the memory that they
//! take. Costs an apply nothing but additions.

use std::mem::size_of;

use ottla_format::command::{GroupMember, GroupMetadata};
use ottla_format::state::{ExtentEntry, GroupEntry, ObjectEntry, ProducerEntry};

use super::State;
use super::groups::Group;
use super::partition::{Partition, inline_bytes};

/// What a partition takes besides its header: its share of the topic's tree, the reference counts,
/// the first allocation of its extents. Measured: `cargo run --release --example state_memory`.
const PARTITION_OVERHEAD_BYTES: u64 = 192;
/// What a producer takes besides its entry: most partitions have few, whose tree is mostly empty.
const PRODUCER_OVERHEAD_BYTES: u64 = 192;
/// What a topic or a group takes besides its texts: entries of the trees and indexes, the allocations
/// of single texts.
const NAMED_BYTES: u64 = 1_024;
/// What a committed offset takes besides its text: key, entry, an entry of the tree. Measured as above.
const GROUP_OFFSET_BYTES: u64 = 176;

/// Entries that are counted one by one, because nothing else knows their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub extents: u64,
    pub objects: u64,
    pub producers: u64,
    pub group_offsets: u64,
    pub inline_bytes: u64,
    pub text_bytes: u64,
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
    /// Bytes that extents hold by value.
    pub inline_bytes: u64,
    /// Bytes of what clients chose: names and configs of topics, ids and metadata of groups, texts
    /// beside offsets.
    pub text_bytes: u64,
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
            + self.inline_bytes
            + self.text_bytes
    }
}

impl State {
    /// How large the state is.
    pub fn size(&self) -> StateSize {
        let Tally { extents, objects, producers, group_offsets, inline_bytes, text_bytes } =
            self.books.tally;
        StateSize {
            topics: self.topics.len() as u64,
            partitions: self.topics.partition_count() as u64,
            extents,
            objects,
            producers,
            groups: self.groups.by_number.len() as u64,
            group_offsets,
            inline_bytes,
            text_bytes,
        }
    }

    /// The same, counted anew.
    pub(super) fn recount(&self) -> StateSize {
        let partitions = || self.topics.iter().flat_map(|topic| topic.partitions());
        let (topics, groups) = (self.topics.iter(), || self.groups.by_number.values());
        StateSize {
            topics: self.topics.iter().count() as u64,
            partitions: partitions().count() as u64,
            extents: partitions().map(|(_, p)| p.extents.iter().count() as u64).sum(),
            objects: self.objects.iter().count() as u64,
            producers: partitions().map(|(_, p)| p.producers.iter().count() as u64).sum(),
            groups: self.groups.numbers.len() as u64,
            group_offsets: groups().map(|group| group.offsets.len() as u64).sum(),
            inline_bytes: partitions().map(|(_, p)| inline_bytes(p.extents.iter())).sum(),
            text_bytes: topics.map(|topic| topic.text_bytes()).sum::<u64>()
                + groups().map(|group| group.text_bytes()).sum::<u64>(),
        }
    }
}

impl Group {
    /// The bytes of its clients' texts: in the entry and beside the offsets.
    pub(super) fn text_bytes(&self) -> u64 {
        let offsets = self.offsets.values().map(|offset| offset.metadata.len() as u64);
        text_bytes(&self.entry) + offsets.sum::<u64>()
    }
}

/// The bytes of the texts in a group's entry, metadata and assignments of members included.
pub(super) fn text_bytes(entry: &GroupEntry) -> u64 {
    let of_member = |member: &GroupMember| {
        let protocols = member.protocols.iter().map(|(name, bytes)| name.len() + bytes.len());
        member.member_id.len()
            + member.instance_id.as_deref().map_or(0, str::len)
            + member.client_id.len()
            + member.client_host.len()
            + protocols.sum::<usize>()
            + member.assignment.len()
    };
    let of_metadata = |metadata: &GroupMetadata| {
        metadata.protocol_type.len() + metadata.members.iter().map(of_member).sum::<usize>()
    };
    (entry.id.as_str().len() + entry.metadata.as_deref().map_or(0, of_metadata)) as u64
}
