//! The bytes of a [`Command`] in the Raft log.
//!
//! ```text
//! command   kind u8 · version u8 · time zigzag · body
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
//! 14 AcceptLoss
//! 15 ExpireGroups         until zigzag
//! 16 ExpireProducers      until zigzag
//! 17 StepTime             wall zigzag · accepted u8: 0 or 1
//! 18 RaiseFeatureLevel    to varint
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
//! Each kind has versions of its own, all 1 today. A command is written in the lowest version that can
//! express it, and read in no other. Kind and version come first, in all versions, so that what is not
//! known is named before anything else is read (see [`crate::feature_level`]).
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

use crate::codec::{
    DecodeError, Reader, Result, check_feature_level, put_flag, put_text, put_varint, put_zigzag,
};
use crate::command::{
    AbandonObject, AllocateProducerIds, Command, CommandBody, CommitOffsets, CommittedOffset,
    CreatePartitions, CreateTopic, PutGroup, RegisterBroker, StepTime,
};
use crate::command_kind::CommandKind;
use crate::feature_level::{self, FeatureLevel};
use crate::state::{
    StoredValue, put_group_kind, put_group_metadata, put_profile, read_group_kind,
    read_group_metadata, read_profile,
};

/// The version of the values of records that version 1 of a command has in it.
const VALUES_VERSION: u8 = 1;

/// The fewest bytes that a list item can take, for [`Reader::count`].
const CONFIG_BYTES_MIN: usize = 2;
const OFFSET_BYTES_MIN: usize = 20;

/// The version of a body's encoding: the lowest one that can express it.
fn version_of(body: &CommandBody) -> u8 {
    match body {
        CommandBody::RegisterBroker(_)
        | CommandBody::FenceBroker(_)
        | CommandBody::DrainBroker(_)
        | CommandBody::CommitObjects(_)
        | CommandBody::AbandonObject(_)
        | CommandBody::CreateTopic(_)
        | CommandBody::DeleteTopic(_)
        | CommandBody::CreatePartitions(_)
        | CommandBody::AllocateProducerIds(_)
        | CommandBody::CommitOffsets(_)
        | CommandBody::PutGroup(_)
        | CommandBody::Tick
        | CommandBody::ForgetObjects(_)
        | CommandBody::AcceptLoss
        | CommandBody::ExpireGroups { .. }
        | CommandBody::ExpireProducers { .. }
        | CommandBody::StepTime(_)
        | CommandBody::RaiseFeatureLevel { .. } => 1,
    }
}

impl CommandBody {
    /// The feature level that a cluster must have for this to be proposed.
    pub fn needed_level(&self) -> FeatureLevel {
        let level = feature_level::of_command(self.kind(), version_of(self));
        level.expect("what is written is in the table: a test encodes every kind")
    }
}

/// Reads what every command begins with, and refuses what this version of Ottla does not know.
fn read_kind(r: &mut Reader<'_>) -> Result<(CommandKind, u8)> {
    let number = r.u8("command kind")?;
    let version = r.u8("command version")?;
    let kind = CommandKind::of_number(number);
    let kind = kind.ok_or(DecodeError::Unknown { what: "command kind", value: number.into() })?;
    match feature_level::of_command(kind, version) {
        Some(_) => Ok((kind, version)),
        None if version == 0 => Err(DecodeError::Invalid { what: "command version", value: 0 }),
        None => {
            let supported = feature_level::newest_of_command(kind);
            let (found, supported) = (version.into(), supported.into());
            Err(DecodeError::UnsupportedVersion { what: kind.name(), found, supported })
        }
    }
}

impl Command {
    /// Appends the command's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.body.kind() as u8);
        out.push(version_of(&self.body));
        put_zigzag(out, self.time.0);
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
            CommandBody::RaiseFeatureLevel { to } => put_varint(out, u64::from(to.0)),
        }
    }

    /// Says whether this version of Ottla knows what encoded bytes begin with: cheap, for all commands of
    /// a log.
    ///
    /// # Errors
    /// One that [is of another version](DecodeError::is_of_another_version) when it does not. Damage
    /// further behind is not looked for.
    pub fn check_known(bytes: &[u8]) -> Result<()> {
        let mut r = Reader::new(bytes);
        let (kind, _) = read_kind(&mut r)?;
        if kind == CommandKind::RaiseFeatureLevel {
            r.zigzag("command time")?;
            check_feature_level(read_level(&mut r)?)?;
        }
        Ok(())
    }

    /// Reads a command that fills `bytes` exactly.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let r = &mut reader;
        let (kind, _) = read_kind(r)?;
        let time = TimestampMs(r.zigzag("command time")?);
        let body = match kind {
            CommandKind::RegisterBroker => CommandBody::RegisterBroker(read_register_broker(r)?),
            CommandKind::FenceBroker => CommandBody::FenceBroker(read_author(r)?),
            CommandKind::DrainBroker => CommandBody::DrainBroker(read_author(r)?),
            CommandKind::CommitObjects => CommandBody::CommitObjects(read_commit_objects(r)?),
            CommandKind::AbandonObject => CommandBody::AbandonObject(AbandonObject {
                author: read_author(r)?,
                frontier: ObjectSeq(r.varint("frontier")?),
                seq: ObjectSeq(r.varint("object sequence")?),
            }),
            CommandKind::CreateTopic => CommandBody::CreateTopic(read_create_topic(r)?),
            CommandKind::DeleteTopic => CommandBody::DeleteTopic(read_topic(r)?),
            CommandKind::CreatePartitions => CommandBody::CreatePartitions(CreatePartitions {
                topic: read_topic(r)?,
                total: r.narrow_zigzag("partition total")?,
            }),
            CommandKind::AllocateProducerIds => {
                CommandBody::AllocateProducerIds(AllocateProducerIds {
                    author: read_author(r)?,
                    count: r.narrow("producer id count")?,
                })
            }
            CommandKind::CommitOffsets => CommandBody::CommitOffsets(read_commit_offsets(r)?),
            CommandKind::PutGroup => CommandBody::PutGroup(PutGroup {
                author: read_author(r)?,
                group: GroupId::from(r.text("group id")?),
                kind: read_group_kind(r)?,
                metadata: read_group_metadata(r)?,
            }),
            CommandKind::Tick => CommandBody::Tick,
            CommandKind::ForgetObjects => CommandBody::ForgetObjects(read_object_ids(r)?),
            CommandKind::AcceptLoss => CommandBody::AcceptLoss,
            CommandKind::ExpireGroups => CommandBody::ExpireGroups { until: read_until(r)? },
            CommandKind::ExpireProducers => CommandBody::ExpireProducers { until: read_until(r)? },
            CommandKind::StepTime => CommandBody::StepTime(StepTime {
                wall: TimestampMs(r.zigzag("wall clock")?),
                is_accepted: r.flag("accepted step")?,
            }),
            CommandKind::RaiseFeatureLevel => CommandBody::RaiseFeatureLevel { to: read_level(r)? },
        };
        reader.finish("command")?;
        Ok(Self { time, body })
    }
}

fn read_level(r: &mut Reader<'_>) -> Result<FeatureLevel> {
    Ok(FeatureLevel(r.narrow("feature level")?))
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
        offset.put_body(VALUES_VERSION, out);
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
        offsets
            .push((PartitionId { topic, index }, CommittedOffset::read_body(VALUES_VERSION, r)?));
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
