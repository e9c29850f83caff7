//! Keys of state records.

use ottla_model::{
    BrokerId, GroupNumber, ObjectSeq, Offset, PartitionId, PartitionIndex, ProducerId, TopicId,
};

use crate::codec::{DecodeError, Reader, Result};

/// The first byte of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum StateKeyKind {
    /// The cluster's counters.
    Counters = 1,
    /// A topic.
    Topic = 2,
    /// A partition.
    Partition = 3,
    /// A chunk of a partition's extents.
    Extents = 4,
    /// A producer in a partition.
    Producer = 5,
    /// A chunk of the objects.
    Objects = 6,
    /// A broker id.
    Broker = 7,
    /// The outcome of an object.
    Outcome = 8,
    /// A group.
    Group = 9,
    /// A group's offset in a partition.
    GroupOffset = 10,
    /// The topics that were deleted last.
    DeletedTopics = 11,
}

impl StateKeyKind {
    /// All of them, in the order of their numbers, which begin at 1.
    pub const ALL: [Self; 11] = [
        Self::Counters,
        Self::Topic,
        Self::Partition,
        Self::Extents,
        Self::Producer,
        Self::Objects,
        Self::Broker,
        Self::Outcome,
        Self::Group,
        Self::GroupOffset,
        Self::DeletedTopics,
    ];

    /// The name of a value of this kind in errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counters => "the value of the counters",
            Self::Topic => "the value of a topic",
            Self::Partition => "the value of a partition",
            Self::Extents => "a chunk of extents",
            Self::Producer => "the value of a producer",
            Self::Objects => "a chunk of objects",
            Self::Broker => "the value of a broker",
            Self::Outcome => "the outcome of an object",
            Self::Group => "the value of a group",
            Self::GroupOffset => "the value of a committed offset",
            Self::DeletedTopics => "the list of deleted topics",
        }
    }
}

/// What a record is about. No key holds a text: clients choose texts, and what repeats in keys must be
/// short.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StateKey {
    /// The cluster's counters.
    Counters,
    /// A topic.
    Topic(TopicId),
    /// A partition.
    Partition(PartitionId),
    /// A chunk of a partition's extents, by the base offset of the first; never negative. In the
    /// state digest: one extent.
    Extents(PartitionId, Offset),
    /// A producer in a partition.
    Producer(PartitionId, ProducerId),
    /// The objects whose number divided by 256 is this.
    Objects(u64),
    /// A broker id.
    Broker(BrokerId),
    /// The outcome of an object of a broker id's newest run.
    Outcome(BrokerId, ObjectSeq),
    /// A group.
    Group(GroupNumber),
    /// A group's offset in a partition.
    GroupOffset(GroupNumber, PartitionId),
    /// The topics that were deleted last.
    DeletedTopics,
}

impl StateKey {
    /// The kind of the record.
    pub fn kind(&self) -> StateKeyKind {
        match self {
            Self::Counters => StateKeyKind::Counters,
            Self::Topic(_) => StateKeyKind::Topic,
            Self::Partition(_) => StateKeyKind::Partition,
            Self::Extents(..) => StateKeyKind::Extents,
            Self::Producer(..) => StateKeyKind::Producer,
            Self::Objects(_) => StateKeyKind::Objects,
            Self::Broker(_) => StateKeyKind::Broker,
            Self::Outcome(..) => StateKeyKind::Outcome,
            Self::Group(_) => StateKeyKind::Group,
            Self::GroupOffset(..) => StateKeyKind::GroupOffset,
            Self::DeletedTopics => StateKeyKind::DeletedTopics,
        }
    }

    /// Appends the key's bytes.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Counters => out.push(StateKeyKind::Counters as u8),
            Self::DeletedTopics => out.push(StateKeyKind::DeletedTopics as u8),
            Self::Topic(topic) => Self::put_topic_prefix(out, StateKeyKind::Topic, *topic),
            Self::Partition(partition) => {
                Self::put_partition_prefix(out, StateKeyKind::Partition, *partition);
            }
            Self::Extents(partition, chunk) => {
                Self::put_partition_prefix(out, StateKeyKind::Extents, *partition);
                out.extend_from_slice(&chunk.0.to_be_bytes());
            }
            Self::Producer(partition, producer) => {
                Self::put_partition_prefix(out, StateKeyKind::Producer, *partition);
                out.extend_from_slice(&producer.0.to_be_bytes());
            }
            Self::Objects(chunk) => {
                out.push(StateKeyKind::Objects as u8);
                out.extend_from_slice(&chunk.to_be_bytes());
            }
            Self::Broker(broker) => Self::put_broker_prefix(out, StateKeyKind::Broker, *broker),
            Self::Outcome(broker, seq) => {
                Self::put_broker_prefix(out, StateKeyKind::Outcome, *broker);
                out.extend_from_slice(&seq.0.to_be_bytes());
            }
            Self::Group(group) => Self::put_group_prefix(out, StateKeyKind::Group, *group),
            Self::GroupOffset(group, partition) => {
                Self::put_group_prefix(out, StateKeyKind::GroupOffset, *group);
                out.extend_from_slice(&partition.topic.0.to_be_bytes());
                out.extend_from_slice(&partition.index.0.to_be_bytes());
            }
        }
    }

    /// The key's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        self.put(&mut out);
        out
    }

    /// What all keys of this kind about this topic begin with.
    pub fn put_topic_prefix(out: &mut Vec<u8>, kind: StateKeyKind, topic: TopicId) {
        out.push(kind as u8);
        out.extend_from_slice(&topic.0.to_be_bytes());
    }

    /// What all keys of this kind about this partition begin with.
    pub fn put_partition_prefix(out: &mut Vec<u8>, kind: StateKeyKind, partition: PartitionId) {
        Self::put_topic_prefix(out, kind, partition.topic);
        out.extend_from_slice(&partition.index.0.to_be_bytes());
    }

    /// What all keys of this kind about this broker id begin with.
    pub fn put_broker_prefix(out: &mut Vec<u8>, kind: StateKeyKind, broker: BrokerId) {
        out.push(kind as u8);
        out.extend_from_slice(&broker.0.to_be_bytes());
    }

    /// What all keys of this kind about this group begin with.
    pub fn put_group_prefix(out: &mut Vec<u8>, kind: StateKeyKind, group: GroupNumber) {
        out.push(kind as u8);
        out.extend_from_slice(&group.0.to_be_bytes());
    }

    /// Reads a key that fills `bytes` exactly.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let r = &mut reader;
        let kind = r.u8("state key kind")?;
        let key = match kind {
            1 => Self::Counters,
            2 => Self::Topic(read_topic(r)?),
            3 => Self::Partition(read_partition(r)?),
            4 => Self::Extents(read_partition(r)?, Offset(read_u64(r)? as i64)),
            5 => Self::Producer(read_partition(r)?, ProducerId(read_u64(r)? as i64)),
            6 => Self::Objects(read_u64(r)?),
            7 => Self::Broker(BrokerId(read_u32(r)? as i32)),
            8 => Self::Outcome(BrokerId(read_u32(r)? as i32), ObjectSeq(read_u64(r)?)),
            9 => Self::Group(GroupNumber(read_u64(r)?)),
            10 => Self::GroupOffset(GroupNumber(read_u64(r)?), read_partition(r)?),
            11 => Self::DeletedTopics,
            other => {
                return Err(DecodeError::Unknown { what: "state key kind", value: other.into() });
            }
        };
        reader.finish("state key")?;
        Ok(key)
    }
}

fn read_u32(r: &mut Reader<'_>) -> Result<u32> {
    r.u32("state key").map(u32::swap_bytes)
}

fn read_u64(r: &mut Reader<'_>) -> Result<u64> {
    r.u64("state key").map(u64::swap_bytes)
}

fn read_topic(r: &mut Reader<'_>) -> Result<TopicId> {
    r.u128("state key").map(|id| TopicId(id.swap_bytes()))
}

fn read_partition(r: &mut Reader<'_>) -> Result<PartitionId> {
    Ok(PartitionId { topic: read_topic(r)?, index: PartitionIndex(read_u32(r)? as i32) })
}
