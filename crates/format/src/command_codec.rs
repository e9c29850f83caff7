//! The bytes of a [`Command`] in the Raft log.
//!
//! ```text
//! command   version u8 · time zigzag · kind u8 · body
//!
//! 1  RegisterBroker       broker zigzag · nonce u64 · broker profile
//! 2  FenceBroker          author
//! 3  DrainBroker          author
//! 4  CommitObjects        author · frontier varint · list of object
//! 5  AbandonObject        author · frontier varint · seq varint
//! 6  CreateTopic          id u128 · name text · partitions zigzag · replication factor zigzag
//!                         · list of (name text · value text), ascending by name
//! 7  DeleteTopic          id u128
//! 8  CreatePartitions     id u128 · total zigzag
//! 9  AllocateProducerIds  author · count varint
//! 10 CommitOffsets        author · group text · list of (topic u128 · partition zigzag
//!                         · committed offset)
//! 11 PutGroup             author · group text · group kind u8 · group metadata
//!                         (broker profile, committed offset, group kind and metadata: as in
//!                         the state's records)
//! 12 Tick
//! 13 ForgetObjects        list of (id zigzag, as the difference to the one before)
//! 14 AcceptLoss           (version 2)
//! 15 ExpireGroups         until zigzag (version 2)
//! 16 ExpireProducers      until zigzag (version 2)
//! 17 StepTime             wall zigzag · accepted u8: 0 or 1 (version 3)
//!
//! author    broker zigzag · broker epoch varint
//! object    seq varint · attempt varint · size varint · list of batch
//! batch     flags u8
//!           [topic u128]         unless bit 0: the topic of the batch before
//!           [index zigzag]       unless bit 1: the partition of the batch before
//!           [gap zigzag]         unless bit 2: starts where the batch before ends
//!           length varint · last offset delta zigzag
//!           max timestamp zigzag, as the difference to the batch before
//!           [producer id zigzag · producer epoch zigzag]
//!                                only with bit 3, unless bit 4: those of the last producer
//!           [base sequence zigzag]   only with bit 3: has a producer
//! ```
//!
//! A command has the lowest version that knows its kind: 1 up to kind 13, 2 up to kind 16, 3 from
//! there on.
//!
//! A commit is most of the log, so its batches are written as what differs from the batch before;
//! the first of a command differs from all zeros. A batch of a steady idempotent producer takes
//! about 12 bytes. The frame of the log carries the checksum; the codec itself guarantees that any
//! bytes are decoded to a command or to an error, that no memory is reserved by a claimed count,
//! and that each command has one encoding that the decoder gives back unchanged.

mod commit_objects;

use std::collections::BTreeMap;

use ottla_model::{
    BrokerAuthor, BrokerEpoch, BrokerId, GroupId, ObjectId, ObjectSeq, PartitionId, PartitionIndex,
    ProcessNonce, TimestampMs, TopicId, TopicName,
};

use commit_objects::{put_commit_objects, read_commit_objects};

use crate::codec::{DecodeError, Reader, Result, put_flag, put_text, put_varint, put_zigzag};
use crate::command::{
    AbandonObject, AllocateProducerIds, Command, CommandBody, CommitOffsets, CreatePartitions,
    CreateTopic, PutGroup, RegisterBroker, StepTime,
};
use crate::state::{
    put_committed_offset, put_group_kind, put_group_metadata, put_profile, read_committed_offset,
    read_group_kind, read_group_metadata, read_profile,
};

/// The highest version that this code writes and reads.
pub const COMMAND_VERSION: u8 = 3;

const REGISTER_BROKER: u8 = 1;
const FENCE_BROKER: u8 = 2;
const DRAIN_BROKER: u8 = 3;
const COMMIT_OBJECTS: u8 = 4;
const ABANDON_OBJECT: u8 = 5;
const CREATE_TOPIC: u8 = 6;
const DELETE_TOPIC: u8 = 7;
const CREATE_PARTITIONS: u8 = 8;
const ALLOCATE_PRODUCER_IDS: u8 = 9;
const COMMIT_OFFSETS: u8 = 10;
const PUT_GROUP: u8 = 11;
const TICK: u8 = 12;
const FORGET_OBJECTS: u8 = 13;
const ACCEPT_LOSS: u8 = 14;
const EXPIRE_GROUPS: u8 = 15;
const EXPIRE_PRODUCERS: u8 = 16;
const STEP_TIME: u8 = 17;

/// The fewest bytes that a list item can take, for [`Reader::count`].
const CONFIG_BYTES_MIN: usize = 2;
const OFFSET_BYTES_MIN: usize = 20;

/// The lowest version that knows a kind of command.
fn version_of(kind: u8) -> u8 {
    match kind {
        0..=FORGET_OBJECTS => 1,
        ACCEPT_LOSS..=EXPIRE_PRODUCERS => 2,
        _ => 3,
    }
}

fn kind_of(body: &CommandBody) -> u8 {
    match body {
        CommandBody::RegisterBroker(_) => REGISTER_BROKER,
        CommandBody::FenceBroker(_) => FENCE_BROKER,
        CommandBody::DrainBroker(_) => DRAIN_BROKER,
        CommandBody::CommitObjects(_) => COMMIT_OBJECTS,
        CommandBody::AbandonObject(_) => ABANDON_OBJECT,
        CommandBody::CreateTopic(_) => CREATE_TOPIC,
        CommandBody::DeleteTopic(_) => DELETE_TOPIC,
        CommandBody::CreatePartitions(_) => CREATE_PARTITIONS,
        CommandBody::AllocateProducerIds(_) => ALLOCATE_PRODUCER_IDS,
        CommandBody::CommitOffsets(_) => COMMIT_OFFSETS,
        CommandBody::PutGroup(_) => PUT_GROUP,
        CommandBody::Tick => TICK,
        CommandBody::ForgetObjects(_) => FORGET_OBJECTS,
        CommandBody::AcceptLoss => ACCEPT_LOSS,
        CommandBody::ExpireGroups { .. } => EXPIRE_GROUPS,
        CommandBody::ExpireProducers { .. } => EXPIRE_PRODUCERS,
        CommandBody::StepTime(_) => STEP_TIME,
    }
}

impl Command {
    /// Appends the command's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let kind = kind_of(&self.body);
        out.push(version_of(kind));
        put_zigzag(out, self.time.0);
        out.push(kind);
        match &self.body {
            CommandBody::RegisterBroker(register) => put_register_broker(out, register),
            CommandBody::FenceBroker(author) | CommandBody::DrainBroker(author) => {
                put_author(out, *author);
            }
            CommandBody::CommitObjects(commit) => put_commit_objects(out, commit),
            CommandBody::AbandonObject(abandon) => {
                put_author(out, abandon.author);
                put_varint(out, abandon.frontier.0);
                put_varint(out, abandon.seq.0);
            }
            CommandBody::CreateTopic(create) => put_create_topic(out, create),
            CommandBody::DeleteTopic(topic) => put_topic(out, *topic),
            CommandBody::CreatePartitions(create) => {
                put_topic(out, create.topic);
                put_zigzag(out, i64::from(create.total));
            }
            CommandBody::AllocateProducerIds(allocate) => {
                put_author(out, allocate.author);
                put_varint(out, u64::from(allocate.count));
            }
            CommandBody::CommitOffsets(commit) => put_commit_offsets(out, commit),
            CommandBody::PutGroup(put) => {
                put_author(out, put.author);
                put_text(out, put.group.as_str());
                put_group_kind(out, put.kind);
                put_group_metadata(out, &put.metadata);
            }
            CommandBody::ForgetObjects(objects) => put_object_ids(out, objects),
            CommandBody::Tick | CommandBody::AcceptLoss => {}
            CommandBody::ExpireGroups { until } | CommandBody::ExpireProducers { until } => {
                put_zigzag(out, until.0);
            }
            CommandBody::StepTime(step) => {
                put_zigzag(out, step.wall.0);
                put_flag(out, step.is_accepted);
            }
        }
    }

    /// Reads a command that fills `bytes` exactly.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let r = &mut reader;
        let version = r.u8("command version")?;
        if !(1..=COMMAND_VERSION).contains(&version) {
            return Err(DecodeError::UnsupportedVersion {
                what: "command",
                found: u16::from(version),
                supported: u16::from(COMMAND_VERSION),
            });
        }
        let time = TimestampMs(r.zigzag("command time")?);
        let kind = r.u8("command kind")?;
        if version != version_of(kind) {
            return Err(DecodeError::Invalid { what: "command kind", value: i128::from(kind) });
        }
        let body = match kind {
            REGISTER_BROKER => CommandBody::RegisterBroker(read_register_broker(r)?),
            FENCE_BROKER => CommandBody::FenceBroker(read_author(r)?),
            DRAIN_BROKER => CommandBody::DrainBroker(read_author(r)?),
            COMMIT_OBJECTS => CommandBody::CommitObjects(read_commit_objects(r)?),
            ABANDON_OBJECT => CommandBody::AbandonObject(AbandonObject {
                author: read_author(r)?,
                frontier: ObjectSeq(r.varint("frontier")?),
                seq: ObjectSeq(r.varint("object sequence")?),
            }),
            CREATE_TOPIC => CommandBody::CreateTopic(read_create_topic(r)?),
            DELETE_TOPIC => CommandBody::DeleteTopic(read_topic(r)?),
            CREATE_PARTITIONS => CommandBody::CreatePartitions(CreatePartitions {
                topic: read_topic(r)?,
                total: r.narrow_zigzag("partition total")?,
            }),
            ALLOCATE_PRODUCER_IDS => CommandBody::AllocateProducerIds(AllocateProducerIds {
                author: read_author(r)?,
                count: r.narrow("producer id count")?,
            }),
            COMMIT_OFFSETS => CommandBody::CommitOffsets(read_commit_offsets(r)?),
            PUT_GROUP => CommandBody::PutGroup(PutGroup {
                author: read_author(r)?,
                group: GroupId::from(r.text("group id")?),
                kind: read_group_kind(r)?,
                metadata: read_group_metadata(r)?,
            }),
            TICK => CommandBody::Tick,
            FORGET_OBJECTS => CommandBody::ForgetObjects(read_object_ids(r)?),
            ACCEPT_LOSS => CommandBody::AcceptLoss,
            EXPIRE_GROUPS => CommandBody::ExpireGroups { until: read_until(r)? },
            EXPIRE_PRODUCERS => CommandBody::ExpireProducers { until: read_until(r)? },
            STEP_TIME => CommandBody::StepTime(StepTime {
                wall: TimestampMs(r.zigzag("wall clock")?),
                is_accepted: r.flag("accepted step")?,
            }),
            other => {
                return Err(DecodeError::Invalid {
                    what: "command kind",
                    value: i128::from(other),
                });
            }
        };
        reader.finish("command")?;
        Ok(Self { time, body })
    }
}

fn read_until(r: &mut Reader<'_>) -> Result<TimestampMs> {
    Ok(TimestampMs(r.zigzag("last use")?))
}

fn put_author(out: &mut Vec<u8>, author: BrokerAuthor) {
    put_zigzag(out, i64::from(author.broker.0));
    put_varint(out, author.epoch.0);
}

fn read_author(r: &mut Reader<'_>) -> Result<BrokerAuthor> {
    Ok(BrokerAuthor {
        broker: BrokerId(r.narrow_zigzag("broker id")?),
        epoch: BrokerEpoch(r.varint("broker epoch")?),
    })
}

fn put_topic(out: &mut Vec<u8>, topic: TopicId) {
    out.extend_from_slice(&topic.0.to_le_bytes());
}

fn read_topic(r: &mut Reader<'_>) -> Result<TopicId> {
    Ok(TopicId(r.u128("topic id")?))
}

fn put_register_broker(out: &mut Vec<u8>, register: &RegisterBroker) {
    let RegisterBroker { broker, nonce, profile } = register;
    put_zigzag(out, i64::from(broker.0));
    out.extend_from_slice(&nonce.0.to_le_bytes());
    put_profile(out, profile);
}

fn read_register_broker(r: &mut Reader<'_>) -> Result<RegisterBroker> {
    Ok(RegisterBroker {
        broker: BrokerId(r.narrow_zigzag("broker id")?),
        nonce: ProcessNonce(r.u64("nonce")?),
        profile: read_profile(r)?.into(),
    })
}

fn put_create_topic(out: &mut Vec<u8>, create: &CreateTopic) {
    put_topic(out, create.id);
    put_text(out, create.name.as_str());
    put_zigzag(out, i64::from(create.partitions));
    put_zigzag(out, i64::from(create.replication_factor));
    put_configs(out, &create.configs);
}

fn read_create_topic(r: &mut Reader<'_>) -> Result<CreateTopic> {
    Ok(CreateTopic {
        id: read_topic(r)?,
        name: read_topic_name(r)?,
        partitions: r.narrow_zigzag("partition count")?,
        replication_factor: r.narrow_zigzag("replication factor")?,
        configs: read_configs(r)?,
    })
}

pub(crate) fn read_topic_name(r: &mut Reader<'_>) -> Result<TopicName> {
    let name = r.text("topic name")?;
    TopicName::new(name)
        .map_err(|_| DecodeError::Invalid { what: "topic name", value: name.len() as i128 })
}

pub(crate) fn put_configs(out: &mut Vec<u8>, configs: &BTreeMap<String, String>) {
    put_varint(out, configs.len() as u64);
    for (name, value) in configs {
        put_text(out, name);
        put_text(out, value);
    }
}

pub(crate) fn read_configs(r: &mut Reader<'_>) -> Result<BTreeMap<String, String>> {
    let count = r.count(CONFIG_BYTES_MIN, "config count")?;
    let mut configs = BTreeMap::new();
    for at in 0..count {
        let name = r.text("config name")?;
        let ascends = configs.last_key_value().is_none_or(|(last, _): (&String, _)| **last < *name);
        if !ascends {
            return Err(DecodeError::Invalid { what: "config order", value: at as i128 });
        }
        configs.insert(name.to_owned(), r.text("config value")?.to_owned());
    }
    Ok(configs)
}

fn put_commit_offsets(out: &mut Vec<u8>, commit: &CommitOffsets) {
    put_author(out, commit.author);
    put_text(out, commit.group.as_str());
    put_varint(out, commit.offsets.len() as u64);
    for (partition, offset) in &commit.offsets {
        put_topic(out, partition.topic);
        put_zigzag(out, i64::from(partition.index.0));
        put_committed_offset(out, offset);
    }
}

fn read_commit_offsets(r: &mut Reader<'_>) -> Result<CommitOffsets> {
    let author = read_author(r)?;
    let group = GroupId::from(r.text("group id")?);
    let count = r.count(OFFSET_BYTES_MIN, "offset count")?;
    let mut offsets = Vec::with_capacity(count);
    for _ in 0..count {
        let topic = read_topic(r)?;
        let index = PartitionIndex(r.narrow_zigzag("partition index")?);
        offsets.push((PartitionId { topic, index }, read_committed_offset(r)?));
    }
    Ok(CommitOffsets { author, group, offsets })
}

fn put_object_ids(out: &mut Vec<u8>, objects: &[ObjectId]) {
    put_varint(out, objects.len() as u64);
    let mut before = 0u64;
    for object in objects {
        put_zigzag(out, object.0.wrapping_sub(before) as i64);
        before = object.0;
    }
}

fn read_object_ids(r: &mut Reader<'_>) -> Result<Vec<ObjectId>> {
    let count = r.count(1, "object id count")?;
    let mut objects = Vec::with_capacity(count);
    let mut before = 0u64;
    for _ in 0..count {
        before = before.wrapping_add(r.zigzag("object id")? as u64);
        objects.push(ObjectId(before));
    }
    Ok(objects)
}

#[cfg(test)]
mod tests;
