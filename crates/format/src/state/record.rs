//! Whole records: a key with the value that belongs to it.

use ottla_model::{BrokerId, GroupNumber, ObjectSeq, Offset, PartitionId, ProducerId, TopicId};

use super::broker::read_outcome;
use super::object::OBJECT_BYTES_MIN;
use super::partition::EXTENT_BYTES_MIN;
use super::{
    BrokerEntry, CHUNK_LENGTH, Counters, ExtentEntry, GroupEntry, ObjectEntry, PartitionEntry,
    ProducerEntry, StateKey, TopicEntry, put_committed_offset, put_outcome, read_committed_offset,
};
use crate::codec::{DecodeError, Reader, Result, put_varint};
use crate::command::{CommittedOffset, ObjectOutcome};

/// One record of the state.
#[derive(Clone, Debug, PartialEq)]
pub enum StateRecord {
    /// The cluster's counters.
    Counters(Counters),
    /// A topic.
    Topic(TopicId, TopicEntry),
    /// A partition.
    Partition(PartitionId, PartitionEntry),
    /// A chunk of a partition's extents, with the base offset of the first.
    Extents(PartitionId, Offset, Vec<ExtentEntry>),
    /// A producer in a partition.
    Producer(PartitionId, ProducerId, ProducerEntry),
    /// A chunk of the objects: slot (number modulo 256) and entry, ascending; holes are left out.
    Objects(u64, Vec<(u8, ObjectEntry)>),
    /// A broker id.
    Broker(BrokerId, BrokerEntry),
    /// The outcome of an object.
    Outcome(BrokerId, ObjectSeq, ObjectOutcome),
    /// A group.
    Group(GroupNumber, GroupEntry),
    /// A group's offset in a partition.
    GroupOffset(GroupNumber, PartitionId, CommittedOffset),
    /// The topics that were deleted last, oldest deletion first. Absent when there is none.
    DeletedTopics(Vec<TopicId>),
}

/// Appends the value of an extent chunk.
pub fn put_extent_chunk(out: &mut Vec<u8>, extents: &[ExtentEntry]) {
    put_varint(out, extents.len() as u64);
    for extent in extents {
        extent.put(out);
    }
}

/// Appends the value of an object chunk.
pub fn put_object_chunk(out: &mut Vec<u8>, objects: &[(u8, ObjectEntry)]) {
    put_varint(out, objects.len() as u64);
    for (slot, object) in objects {
        out.push(*slot);
        object.put(out);
    }
}

impl StateRecord {
    /// The record's key.
    pub fn key(&self) -> StateKey {
        match self {
            Self::Counters(_) => StateKey::Counters,
            Self::Topic(topic, _) => StateKey::Topic(*topic),
            Self::Partition(partition, _) => StateKey::Partition(*partition),
            Self::Extents(partition, chunk, _) => StateKey::Extents(*partition, *chunk),
            Self::Producer(partition, producer, _) => StateKey::Producer(*partition, *producer),
            Self::Objects(chunk, _) => StateKey::Objects(*chunk),
            Self::Broker(broker, _) => StateKey::Broker(*broker),
            Self::Outcome(broker, seq, _) => StateKey::Outcome(*broker, *seq),
            Self::Group(group, _) => StateKey::Group(*group),
            Self::GroupOffset(group, partition, _) => StateKey::GroupOffset(*group, *partition),
            Self::DeletedTopics(_) => StateKey::DeletedTopics,
        }
    }

    /// Appends the value's bytes.
    pub fn put_value(&self, out: &mut Vec<u8>) {
        match self {
            Self::Counters(counters) => counters.put(out),
            Self::Topic(_, topic) => topic.put(out),
            Self::Partition(_, partition) => partition.put(out),
            Self::Extents(_, _, extents) => put_extent_chunk(out, extents),
            Self::Producer(_, _, producer) => producer.put(out),
            Self::Objects(_, objects) => put_object_chunk(out, objects),
            Self::Broker(_, broker) => broker.put(out),
            Self::Outcome(_, _, outcome) => put_outcome(out, outcome),
            Self::Group(_, group) => group.put(out),
            Self::GroupOffset(_, _, offset) => put_committed_offset(out, offset),
            Self::DeletedTopics(topics) => put_deleted_topics(out, topics.iter().copied()),
        }
    }

    /// Reads a record whose key and value fill their bytes exactly.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Self> {
        let key = StateKey::decode(key)?;
        let mut reader = Reader::new(value);
        let r = &mut reader;
        let record = match key {
            StateKey::Counters => Self::Counters(Counters::read(r)?),
            StateKey::Topic(topic) => Self::Topic(topic, TopicEntry::read(r)?),
            StateKey::Partition(partition) => Self::Partition(partition, PartitionEntry::read(r)?),
            StateKey::Extents(partition, chunk) => {
                let count = chunk_count(r, EXTENT_BYTES_MIN, "extent chunk length")?;
                let extents = (0..count).map(|_| ExtentEntry::read(r)).collect::<Result<_>>()?;
                Self::Extents(partition, chunk, extents)
            }
            StateKey::Producer(partition, producer) => {
                Self::Producer(partition, producer, ProducerEntry::read(r)?)
            }
            StateKey::Objects(chunk) => Self::Objects(chunk, read_object_chunk(r)?),
            StateKey::Broker(broker) => Self::Broker(broker, BrokerEntry::read(r)?),
            StateKey::Outcome(broker, seq) => Self::Outcome(broker, seq, read_outcome(r)?),
            StateKey::Group(group) => Self::Group(group, GroupEntry::read(r)?),
            StateKey::GroupOffset(group, partition) => {
                Self::GroupOffset(group, partition, read_committed_offset(r)?)
            }
            StateKey::DeletedTopics => Self::DeletedTopics(read_deleted_topics(r)?),
        };
        reader.finish("state record")?;
        Ok(record)
    }
}

/// Appends the value of the deleted topics.
pub fn put_deleted_topics(out: &mut Vec<u8>, topics: impl ExactSizeIterator<Item = TopicId>) {
    put_varint(out, topics.len() as u64);
    for topic in topics {
        out.extend_from_slice(&topic.0.to_le_bytes());
    }
}

fn read_deleted_topics(r: &mut Reader<'_>) -> Result<Vec<TopicId>> {
    let count = r.count(size_of::<u128>(), "deleted topic count")?;
    (0..count).map(|_| r.u128("deleted topic").map(TopicId)).collect()
}

fn chunk_count(r: &mut Reader<'_>, item_bytes_min: usize, what: &'static str) -> Result<usize> {
    let count = r.count(item_bytes_min, what)?;
    if count == 0 || count > CHUNK_LENGTH {
        return Err(DecodeError::Invalid { what, value: count as i128 });
    }
    Ok(count)
}

fn read_object_chunk(r: &mut Reader<'_>) -> Result<Vec<(u8, ObjectEntry)>> {
    let count = chunk_count(r, OBJECT_BYTES_MIN, "object chunk length")?;
    let mut objects: Vec<(u8, ObjectEntry)> = Vec::with_capacity(count);
    for _ in 0..count {
        let slot = r.u8("object slot")?;
        if objects.last().is_some_and(|(last, _)| *last >= slot) {
            return Err(DecodeError::Invalid { what: "object slot", value: i128::from(slot) });
        }
        objects.push((slot, ObjectEntry::read(r)?));
    }
    Ok(objects)
}
