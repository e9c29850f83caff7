//! The state machine once more, as naively as possible: plain maps, full histories, scans.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_format::command::*;
use ottla_format::feature_level::FeatureLevel;
use ottla_model::*;

use crate::state::semantics::{PRODUCER_EXPIRY_MS, PRODUCER_IDS_SKIPPED};

/// A stored batch, kept for ever.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) base: i64,
    pub(super) object: u64,
    pub(super) position: u64,
    pub(super) length: u64,
    pub(super) records: i64,
    append_time: Option<TimestampMs>,
}

/// A stored batch of a producer.
#[derive(Clone, Debug)]
struct Sent {
    producer: BatchProducer,
    records: i32,
    base: i64,
    append_time: Option<TimestampMs>,
    at: i64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Partition {
    pub(super) batches: Vec<Stored>,
    pub(super) end: i64,
    sent: BTreeMap<i64, Vec<Sent>>,
}

#[derive(Clone, Debug)]
pub(super) struct Topic {
    name: TopicName,
    log_append: bool,
    pub(super) partitions: Vec<Partition>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    pub(super) decided: Vec<ObjectOutcome>,
    pub(super) frontier: u64,
    over: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) time: i64,
    /// Every level that was asked for.
    levels: Vec<FeatureLevel>,
    /// What is added to the time for records.
    wall_offset: i64,
    /// Every run there ever was, by epoch less one.
    pub(super) runs: Vec<(BrokerId, ProcessNonce, Run)>,
    pub(super) topics: BTreeMap<u128, Topic>,
    pub(super) objects: u64,
    producer_ids: i64,
    pub(super) deleted: BTreeSet<u128>,
    pub(super) forgotten: BTreeSet<u64>,
    pub(super) offsets: BTreeMap<(GroupId, PartitionId), CommittedOffset>,
    pub(super) groups: BTreeMap<GroupId, GroupMetadata>,
    /// When a group was last written.
    used: BTreeMap<GroupId, i64>,
    /// The group that each number was given to, by number, for ever.
    pub(super) numbers: Vec<GroupId>,
}

impl Model {
    pub(super) fn newest(&self, broker: BrokerId) -> Option<(BrokerEpoch, &Run)> {
        let at = self.runs.iter().rposition(|(id, ..)| *id == broker)?;
        Some((BrokerEpoch(at as u64 + 1), &self.runs[at].2))
    }

    fn living(&mut self, author: BrokerAuthor) -> Option<&mut Run> {
        let (id, _, run) = self.runs.get_mut((author.epoch.0 as usize).wrapping_sub(1))?;
        (*id == author.broker && !run.over).then_some(run)
    }

    pub(super) fn partition(&self, id: PartitionId) -> Option<&Partition> {
        let index = usize::try_from(id.index.0).ok()?;
        self.topics.get(&id.topic.0)?.partitions.get(index)
    }

    /// Whether any stored batch that still exists is in the object.
    pub(super) fn is_referenced(&self, object: u64) -> bool {
        let partitions = self.topics.values().flat_map(|topic| &topic.partitions);
        partitions.flat_map(|partition| &partition.batches).any(|batch| batch.object == object)
    }

    /// Whether the group exists.
    pub(super) fn has_group(&self, group: &GroupId) -> bool {
        let has_members = self.groups.get(group).is_some_and(|g| !g.members.is_empty());
        has_members || self.offsets.keys().any(|(of, _)| of == group)
    }

    fn raise(&mut self, to: FeatureLevel) -> Result<(), LevelRefusal> {
        let current = self.levels.iter().max().copied().unwrap_or(FeatureLevel::NONE);
        self.levels.push(to);
        if to < current { Err(LevelRefusal::Lower { current }) } else { Ok(()) }
    }

    #[expect(clippy::too_many_lines, reason = "one arm per command")]
    pub(super) fn apply(&mut self, command: &Command) -> Answer {
        self.time = self.time.max(command.time.0);
        if let Err(too_long) = command.body.check_texts() {
            return Answer::TooLong(too_long);
        }
        match &command.body {
            CommandBody::RegisterBroker(register) => Answer::Registered(self.register(register)),
            CommandBody::FenceBroker(author) => {
                if let Some(run) = self.living(*author) {
                    run.over = true;
                }
                Answer::Done
            }
            CommandBody::DrainBroker(_) => Answer::Done,
            CommandBody::CommitObjects(commit) => {
                self.advance(commit.author, commit.frontier);
                let decide =
                    |object: &CommitObject| self.decide(commit.author, object.seq, Some(object));
                Answer::Commits(commit.objects.iter().map(decide).collect())
            }
            CommandBody::AbandonObject(abandon) => {
                let AbandonObject { author, frontier, seq } = *abandon;
                self.advance(author, frontier);
                Answer::Commits(vec![self.decide(author, seq, None)])
            }
            CommandBody::CreateTopic(create) => Answer::TopicCreated(self.create(create)),
            CommandBody::DeleteTopic(id) => Answer::TopicDeleted(self.delete(*id)),
            CommandBody::CreatePartitions(create) => Answer::PartitionsCreated(self.grow(create)),
            CommandBody::AllocateProducerIds(allocate) => {
                Answer::ProducerIds(self.allocate(allocate))
            }
            CommandBody::CommitOffsets(commit) => {
                Answer::OffsetsCommitted(self.commit_offsets(commit))
            }
            CommandBody::PutGroup(put) => Answer::GroupStored(self.put_group(put)),
            CommandBody::Tick => {
                self.expire_producers(self.time - PRODUCER_EXPIRY_MS);
                Answer::Done
            }
            CommandBody::ExpireProducers { until } => {
                self.expire_producers(until.0);
                Answer::Done
            }
            CommandBody::ExpireGroups { until } => {
                self.expire_groups(until.0);
                Answer::Done
            }
            CommandBody::RaiseFeatureLevel { to } => Answer::FeatureLevel(self.raise(*to)),
            CommandBody::StepTime(step) => {
                let is_empty = self.topics.is_empty()
                    && self.forgotten.len() as u64 == self.objects
                    && !self.numbers.iter().any(|group| self.has_group(group));
                if step.is_accepted || is_empty {
                    self.wall_offset = step.wall.0 - self.time;
                }
                Answer::TimeStepped(step.is_accepted || is_empty)
            }
            CommandBody::AcceptLoss => {
                self.producer_ids += PRODUCER_IDS_SKIPPED;
                for (broker, _, run) in &mut self.runs {
                    (*broker, run.over) = (BrokerId(-1), true);
                }
                Answer::Done
            }
            CommandBody::ForgetObjects(ids) => {
                for id in ids.iter().filter(|id| id.0 < self.objects) {
                    if !self.is_referenced(id.0) {
                        self.forgotten.insert(id.0);
                    }
                }
                Answer::Done
            }
        }
    }

    fn register(&mut self, register: &RegisterBroker) -> Result<BrokerEpoch, RegisterRefusal> {
        let of_broker = |(id, ..): &(BrokerId, ProcessNonce, Run)| *id == register.broker;
        if let Some(newest) = self.runs.iter().rposition(of_broker) {
            let (_, nonce, run) = &self.runs[newest];
            if *nonce == register.nonce && !run.over {
                return Ok(BrokerEpoch(newest as u64 + 1));
            }
            let known =
                |run: &(BrokerId, ProcessNonce, Run)| of_broker(run) && run.1 == register.nonce;
            if *nonce != register.nonce && self.runs.iter().any(known) {
                return Err(RegisterRefusal::ReplacedByNewer);
            }
            self.runs[newest].2.over = true;
        }
        self.runs.push((register.broker, register.nonce, Run::default()));
        Ok(BrokerEpoch(self.runs.len() as u64))
    }

    fn delete(&mut self, id: TopicId) -> bool {
        self.offsets.retain(|(_, partition), _| partition.topic != id);
        let existed = self.topics.remove(&id.0).is_some();
        if existed {
            self.deleted.insert(id.0);
            let offsets = &self.offsets;
            self.groups.retain(|group, metadata| {
                !metadata.members.is_empty() || offsets.keys().any(|(g, _)| g == group)
            });
        }
        existed
    }

    fn allocate(&mut self, allocate: &AllocateProducerIds) -> Result<ProducerId, Fenced> {
        self.living(allocate.author).ok_or(Fenced)?;
        let first = ProducerId(self.producer_ids);
        self.producer_ids += i64::from(allocate.count);
        Ok(first)
    }

    fn commit_offsets(&mut self, commit: &CommitOffsets) -> Result<Vec<PartitionId>, Fenced> {
        self.living(commit.author).ok_or(Fenced)?;
        let exists = commit.offsets.iter().any(|(p, _)| self.partition(*p).is_some());
        if exists && !self.has_group(&commit.group) {
            self.numbers.push(commit.group.clone());
        }
        let mut unknown = Vec::new();
        for (partition, offset) in &commit.offsets {
            if self.partition(*partition).is_some() {
                self.used.insert(commit.group.clone(), self.time);
                self.offsets.insert((commit.group.clone(), *partition), offset.clone());
            } else {
                unknown.push(*partition);
            }
        }
        Ok(unknown)
    }

    fn put_group(&mut self, put: &PutGroup) -> Result<(), Fenced> {
        self.living(put.author).ok_or(Fenced)?;
        let has_offsets = self.offsets.keys().any(|(group, _)| *group == put.group);
        if put.metadata.members.is_empty() && !has_offsets {
            self.groups.remove(&put.group);
        } else {
            if !self.has_group(&put.group) {
                self.numbers.push(put.group.clone());
            }
            self.groups.insert(put.group.clone(), put.metadata.clone());
            self.used.insert(put.group.clone(), self.time);
        }
        Ok(())
    }

    fn expire_groups(&mut self, until: i64) {
        let groups = &self.groups;
        let due = |(group, at): &(&GroupId, &i64)| {
            let members = groups.get(*group).map_or(0, |metadata| metadata.members.len());
            members == 0 && **at <= until
        };
        let due: Vec<GroupId> = self.used.iter().filter(due).map(|(g, _)| g.clone()).collect();
        for group in due {
            self.groups.remove(&group);
            self.offsets.retain(|(of, _), _| *of != group);
        }
    }

    fn expire_producers(&mut self, until: i64) {
        for partition in self.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            partition.sent.retain(|_, sent| sent.last().is_some_and(|last| last.at > until));
        }
    }

    fn advance(&mut self, author: BrokerAuthor, frontier: ObjectSeq) {
        if let Some(run) = self.living(author) {
            run.frontier = run.frontier.max(frontier.0.min(run.decided.len() as u64));
        }
    }

    fn decide(
        &mut self,
        author: BrokerAuthor,
        seq: ObjectSeq,
        object: Option<&CommitObject>,
    ) -> ObjectOutcome {
        let Some(run) = self.living(author) else {
            return ObjectOutcome::Fenced;
        };
        let next = run.decided.len() as u64;
        if seq.0 < run.frontier {
            return ObjectOutcome::BelowFrontier;
        }
        if let Some(outcome) = run.decided.get(seq.0 as usize) {
            return outcome.clone();
        }
        if seq.0 > next {
            return ObjectOutcome::NotYet { next: ObjectSeq(next) };
        }
        let outcome = match object {
            None => ObjectOutcome::Abandoned,
            Some(object) => {
                let id = self.objects;
                self.objects += 1;
                let batches = object.batches.iter().map(|batch| self.append(id, batch));
                ObjectOutcome::Committed(Arc::from_iter(batches.collect::<Vec<_>>()))
            }
        };
        if let Some(run) = self.living(author) {
            run.decided.push(outcome.clone());
        }
        outcome
    }

    fn append(&mut self, object: u64, batch: &CommitBatch) -> BatchOutcome {
        use BatchOutcome::{Appended, Duplicate, Refused};
        let now = self.time;
        let stamp = TimestampMs(now + self.wall_offset);
        let unknown = Refused(BatchRefusal::UnknownPartition);
        let Some(topic) = self.topics.get_mut(&batch.partition.topic.0) else { return unknown };
        let append_time = topic.log_append.then_some(stamp);
        let index = batch.partition.index.0 as usize;
        let Some(partition) = topic.partitions.get_mut(index) else { return unknown };
        let records = batch.last_offset_delta + 1;
        let base = partition.end;
        let log_start = Offset(0);
        if let Some(producer) = batch.producer {
            let sent = partition.sent.entry(producer.id.0).or_default();
            if let Some(last) = sent.last() {
                let epoch = last.producer.epoch;
                if producer.epoch < epoch {
                    return Refused(BatchRefusal::StaleProducerEpoch);
                }
                let in_epoch: Vec<&Sent> =
                    sent.iter().filter(|s| s.producer.epoch == producer.epoch).collect();
                let same = |s: &&&Sent| s.producer == producer && s.records == records;
                if let Some(first) = in_epoch.iter().rev().take(5).find(same) {
                    let (base_offset, append_time) = (Offset(first.base), first.append_time);
                    return Duplicate { base_offset, append_time, log_start };
                }
                let wanted = match in_epoch.last() {
                    Some(s) => {
                        (i64::from(s.producer.base_sequence.0) + i64::from(s.records)) % (1 << 31)
                    }
                    None => 0,
                };
                if i64::from(producer.base_sequence.0) != wanted {
                    return Refused(BatchRefusal::OutOfOrderSequence);
                }
            }
            sent.push(Sent { producer, records, base, append_time, at: now });
        }
        partition.end += i64::from(records);
        partition.batches.push(Stored {
            base,
            object,
            position: batch.position.0,
            length: u64::from(batch.length),
            records: i64::from(records),
            append_time,
        });
        Appended { base_offset: Offset(base), append_time, log_start }
    }

    fn create(&mut self, create: &CreateTopic) -> Result<(), CreateTopicRefusal> {
        if self.topics.contains_key(&create.id.0) || self.deleted.contains(&create.id.0) {
            return Ok(());
        }
        for (id, topic) in &self.topics {
            if topic.name == create.name {
                return Err(CreateTopicRefusal::Exists(TopicId(*id)));
            }
            if topic.name.collides_with(&create.name) {
                return Err(CreateTopicRefusal::Collides(topic.name.clone()));
            }
        }
        let topic = Topic {
            name: create.name.clone(),
            log_append: create.configs.contains_key("message.timestamp.type"),
            partitions: vec![Partition::default(); create.partitions as usize],
        };
        self.topics.insert(create.id.0, topic);
        Ok(())
    }

    fn grow(&mut self, create: &CreatePartitions) -> Result<(), CreatePartitionsRefusal> {
        let Some(topic) = self.topics.get_mut(&create.topic.0) else {
            return Err(CreatePartitionsRefusal::UnknownTopic);
        };
        let current = topic.partitions.len() as i32;
        if create.total < current {
            return Err(CreatePartitionsRefusal::Fewer { current });
        }
        topic.partitions.resize(create.total as usize, Partition::default());
        Ok(())
    }
}

impl Partition {
    /// The extents that the batches must form: (base, end, object, position, length, time).
    pub(super) fn extents(&self) -> Vec<(i64, i64, u64, u64, u64, Option<TimestampMs>)> {
        let mut extents: Vec<(i64, i64, u64, u64, u64, Option<TimestampMs>)> = Vec::new();
        for batch in &self.batches {
            match extents.last_mut() {
                Some((_, end, object, position, length, _))
                    if *object == batch.object && *position + *length == batch.position =>
                {
                    *end += batch.records;
                    *length += batch.length;
                }
                _ => extents.push((
                    batch.base,
                    batch.base + batch.records,
                    batch.object,
                    batch.position,
                    batch.length,
                    batch.append_time,
                )),
            }
        }
        extents
    }
}
