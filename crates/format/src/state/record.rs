//! Whole records: a key with the value that belongs to it.

use ottla_model::{BrokerId, GroupNumber, ObjectSeq, Offset, PartitionId, ProducerId, TopicId};

use super::extent::EXTENT_BYTES_MIN;
use super::object::OBJECT_BYTES_MIN;
use super::version::{StoredValue, check_lowest, chunk_version, put_chunk};
use super::{
    BrokerEntry, CHUNK_LENGTH, Counters, ExtentEntry, GroupEntry, ObjectEntry, PartitionEntry,
    ProducerEntry, StateKey, StateKeyKind, TopicEntry, put_committed_offset, put_outcome,
};
use crate::codec::{DecodeError, Reader, Result, put_varint};
use crate::command::{CommittedOffset, ObjectOutcome};
use crate::feature_level;

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
    put_chunk(out, extents, |extent| extent, |_, _| {});
}

/// Appends the value of an object chunk.
pub fn put_object_chunk(out: &mut Vec<u8>, objects: &[(u8, ObjectEntry)]) {
    put_chunk(out, objects, |(_, object)| object, |(slot, _), out| out.push(*slot));
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

    /// The version of the value: the lowest that can express it.
    pub fn version(&self) -> u8 {
        match self {
            Self::Counters(counters) => counters.version(),
            Self::Topic(_, topic) => topic.version(),
            Self::Partition(_, partition) => partition.version(),
            Self::Extents(_, _, extents) => chunk_version(extents.iter()),
            Self::Producer(_, _, producer) => producer.version(),
            Self::Objects(_, objects) => chunk_version(objects.iter().map(|(_, object)| object)),
            Self::Broker(_, broker) => broker.version(),
            Self::Outcome(_, _, outcome) => outcome.version(),
            Self::Group(_, group) => group.version(),
            Self::GroupOffset(_, _, offset) => offset.version(),
            Self::DeletedTopics(_) => DELETED_TOPICS_VERSION,
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
        let v = read_version(r, key.kind())?;
        let record = match key {
            StateKey::Counters => Self::Counters(Counters::read_body(v, r)?),
            StateKey::Topic(topic) => Self::Topic(topic, TopicEntry::read_body(v, r)?),
            StateKey::Partition(id) => Self::Partition(id, PartitionEntry::read_body(v, r)?),
            StateKey::Extents(partition, chunk) => {
                let count = chunk_count(r, EXTENT_BYTES_MIN, "extent chunk length")?;
                let extents = (0..count).map(|_| ExtentEntry::read_body(v, r));
                Self::Extents(partition, chunk, extents.collect::<Result<_>>()?)
            }
            StateKey::Producer(partition, producer) => {
                Self::Producer(partition, producer, ProducerEntry::read_body(v, r)?)
            }
            StateKey::Objects(chunk) => Self::Objects(chunk, read_object_chunk(v, r)?),
            StateKey::Broker(broker) => Self::Broker(broker, BrokerEntry::read_body(v, r)?),
            StateKey::Outcome(broker, seq) => {
                Self::Outcome(broker, seq, ObjectOutcome::read_body(v, r)?)
            }
            StateKey::Group(group) => Self::Group(group, GroupEntry::read_body(v, r)?),
            StateKey::GroupOffset(group, partition) => {
                Self::GroupOffset(group, partition, CommittedOffset::read_body(v, r)?)
            }
            StateKey::DeletedTopics => Self::DeletedTopics(read_deleted_topics(r)?),
        };
        reader.finish("state record")?;
        check_lowest(v, record.version())?;
        Ok(record)
    }
}

/// Reads what every value begins with, and refuses a version that is not known.
fn read_version(r: &mut Reader<'_>, kind: StateKeyKind) -> Result<u8> {
    let version = r.u8("version of a value")?;
    match feature_level::of_value(kind, version) {
        Some(_) => Ok(version),
        None if version == 0 => Err(DecodeError::Invalid { what: "version of a value", value: 0 }),
        None => {
            let supported = feature_level::newest_of_value(kind).into();
            let found = version.into();
            Err(DecodeError::UnsupportedVersion { what: kind.name(), found, supported })
        }
    }
}

const DELETED_TOPICS_VERSION: u8 = 1;

/// Appends the value of the deleted topics.
pub fn put_deleted_topics(out: &mut Vec<u8>, topics: impl ExactSizeIterator<Item = TopicId>) {
    out.push(DELETED_TOPICS_VERSION);
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

fn read_object_chunk(version: u8, r: &mut Reader<'_>) -> Result<Vec<(u8, ObjectEntry)>> {
    let count = chunk_count(r, OBJECT_BYTES_MIN, "object chunk length")?;
    let mut objects: Vec<(u8, ObjectEntry)> = Vec::with_capacity(count);
    for _ in 0..count {
        let slot = r.u8("object slot")?;
        if objects.last().is_some_and(|(last, _)| *last >= slot) {
            return Err(DecodeError::Invalid { what: "object slot", value: i128::from(slot) });
        }
        objects.push((slot, ObjectEntry::read_body(version, r)?));
    }
    Ok(objects)
}
