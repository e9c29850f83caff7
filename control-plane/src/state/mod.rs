//! The replicated state machine: pure, deterministic, in memory.
//!
//! # Contract
//!
//! [`State::apply`] is a function of the state and the command, and of nothing else (I-PURE): no
//! clock, no randomness, no I/O, no iteration order that is not defined. Two states that applied
//! the same commands are equal, and so are their digests. Commands come decoded from the log; an
//! apply never fails and never panics. A refusal is an answer.
//!
//! Time is [`Counters::time`](ottla_format::state::Counters::time), the largest time of all
//! commands so far: it never goes backward, whatever a leader stamps. How far the wall clock is from
//! it is a number of the state, too (see [`time_step`]).
//!
//! # Shape
//!
//! | Table | Holds |
//! | --- | --- |
//! | [`Books`] | counters, state digest, dirty keys: what every change is entered in |
//! | [`Topics`] | topics, their partitions with extents and producers |
//! | [`Objects`] | committed objects with reference counts |
//! | [`Brokers`] | broker ids with their newest run and its kept outcomes |
//! | [`Groups`] | committed offsets and metadata of groups |
//!
//! # Copies
//!
//! A snapshot is written from a copy, not by stopping `apply`. `State::clone` is cheap: tables are
//! persistent ordered maps, partitions sit behind `Arc`, and a partition's extents lie in shared
//! chunks of 256. While a copy is alive, the first apply that touches a partition copies its
//! header, at most one chunk of extents and one leaf of its producers, nothing else.
//!
//! # Digest
//!
//! The digest is the sum (mod 2^128) of a hash of every single entry (partition header, extent,
//! producer, object, broker, outcome, topic, group, offset, counters) and is adjusted with each
//! change. A change that forgets to adjust it, and a copy that lost or doubled an entry, differ
//! from [`State::recompute_digest`].
//!
//! # Cost
//!
//! A command costs what it changes. Two are paid for by what came before them: deleting a topic
//! visits each of its extents once (to count what it held of which object) and changes each object
//! that held some; forgetting producers (a tick does that, too) looks at all producers of the
//! partitions in which one may be due. How many producers, and how many groups, go with one command
//! is bounded.

pub mod books;
pub mod brokers;
pub mod changed;
mod changes;
mod chunk;
mod commit;
mod digest;
pub mod dirty;
mod expiry;
pub mod extents;
mod feature_level;
pub mod groups;
mod inline;
pub mod invariants;
mod load;
mod loss;
pub mod objects;
pub mod partition;
pub mod producers;
mod promise;
mod reads;
mod records;
mod release;
mod rewrite;
pub mod semantics;
mod size;
mod sweep;
pub mod time_step;
pub mod topics;

#[cfg(test)]
mod tests;

pub use load::{LoadError, StateIdentity, StateLoader};
pub use records::{RecordBytes, RecordDigest};
pub use size::StateSize;

use ottla_control_api::view::Change;
use ottla_format::command::{Answer, Command, CommandBody, Fenced, PutGroup};
use ottla_model::{AppliedIndex, BrokerAuthor, ClusterId, ProducerId, TimestampMs};

use books::Books;
use brokers::Brokers;
use changes::Changes;
use dirty::DirtyKeys;
use groups::Groups;
use objects::Objects;
use promise::promise;
use topics::Topics;

use semantics::PRODUCER_EXPIRY_MS;

/// The whole replicated state at one applied index. See the module's essay.
#[derive(Clone, Debug)]
pub struct State {
    cluster: ClusterId,
    applied: AppliedIndex,
    books: Books,
    topics: Topics,
    objects: Objects,
    brokers: Brokers,
    groups: Groups,
}

/// What applying a command gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// For the proposer.
    pub answer: Answer,
    /// For the watchers. A partition occurs at most once.
    pub changes: Vec<Change>,
}

impl State {
    /// The state of a cluster in which nothing has happened.
    pub fn new(cluster: ClusterId) -> Self {
        Self {
            cluster,
            applied: AppliedIndex(0),
            books: Books::new(),
            topics: Topics::default(),
            objects: Objects::default(),
            brokers: Brokers::default(),
            groups: Groups::default(),
        }
    }

    /// The cluster this is the state of.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The index of the last entry that is part of this state.
    pub fn applied(&self) -> AppliedIndex {
        self.applied
    }

    /// Replicated time.
    pub fn time(&self) -> TimestampMs {
        self.books.counters.time
    }

    /// The committed objects, live and condemned.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// The digest, as adjusted by each change since the state was made or loaded.
    pub fn digest(&self) -> u128 {
        self.books.digest.sum()
    }

    /// Notes an entry that changes nothing but how far the state is (a blank or a membership
    /// entry of Raft).
    pub fn skip_to(&mut self, index: AppliedIndex) {
        self.promise_next(index);
        self.applied = index;
    }

    /// Applies the command that stands at `index` of the log, behind all that was applied.
    ///
    /// # Panics
    /// When a promise of the state is broken; see `promise.rs`.
    pub fn apply(&mut self, index: AppliedIndex, command: &Command) -> Applied {
        self.promise_next(index);
        let counters_before = self.books.counters;
        self.books.advance_time(command.time);
        let mut changes = Changes::default();
        let answer = self.apply_body(&command.body, &mut changes);
        self.books.counters_changed(counters_before);
        self.books.dirty.enforce_bound();
        self.applied = index;
        Applied { answer, changes: changes.finish() }
    }

    /// Entries come in the order of the log, each once. Index 0 is its first entry, and "none" as well.
    fn promise_next(&self, index: AppliedIndex) {
        let is_next = index > self.applied || (index, self.applied) == Default::default();
        promise("The order of the log", is_next, || {
            format!("entry {} comes behind entry {}", index.0, self.applied.0)
        });
    }

    fn apply_body(&mut self, body: &CommandBody, changes: &mut Changes) -> Answer {
        if let Err(too_long) = body.check_texts() {
            return Answer::TooLong(too_long);
        }
        match body {
            CommandBody::RegisterBroker(register) => {
                Answer::Registered(self.brokers.register(register, &mut self.books, changes))
            }
            CommandBody::FenceBroker(author) => {
                self.brokers.fence(*author, &mut self.books, changes);
                Answer::Done
            }
            CommandBody::DrainBroker(author) => {
                self.brokers.drain(*author, &mut self.books, changes);
                Answer::Done
            }
            CommandBody::CommitObjects(commit) => {
                Answer::Commits(self.commit_objects(commit, changes))
            }
            CommandBody::AbandonObject(abandon) => {
                Answer::Commits(vec![self.abandon_object(abandon)])
            }
            CommandBody::CreateTopic(create) => {
                Answer::TopicCreated(self.topics.create(create, &mut self.books, changes))
            }
            CommandBody::DeleteTopic(topic) => {
                let Self { books, topics, objects, groups, .. } = self;
                let existed = topics.delete(*topic, objects, books, changes);
                groups.topic_deleted(*topic, books);
                Answer::TopicDeleted(existed)
            }
            CommandBody::CreatePartitions(create) => Answer::PartitionsCreated(
                self.topics.create_partitions(create, &mut self.books, changes),
            ),
            CommandBody::AllocateProducerIds(allocate) => {
                Answer::ProducerIds(self.allocate_producer_ids(allocate.author, allocate.count))
            }
            CommandBody::CommitOffsets(commit) => Answer::OffsetsCommitted(
                self.living(commit.author)
                    .map(|()| self.groups.commit_offsets(commit, &self.topics, &mut self.books)),
            ),
            CommandBody::PutGroup(put) => Answer::GroupStored(self.put_group(put)),
            CommandBody::Tick => {
                let until = self.books.counters.time.0.saturating_sub(PRODUCER_EXPIRY_MS);
                self.topics.expire_producers(TimestampMs(until), &mut self.books);
                Answer::Done
            }
            CommandBody::ExpireProducers { until } => {
                self.topics.expire_producers(*until, &mut self.books);
                Answer::Done
            }
            CommandBody::ForgetObjects(ids) => {
                self.objects.forget(ids, &mut self.books);
                Answer::Done
            }
            CommandBody::ExpireGroups { until } => {
                self.groups.expire(*until, &mut self.books);
                Answer::Done
            }
            CommandBody::AcceptLoss => {
                self.accept_loss(changes);
                Answer::Done
            }
            CommandBody::StepTime(step) => Answer::TimeStepped(self.step_time(*step)),
            CommandBody::RaiseFeatureLevel { to } => {
                Answer::FeatureLevel(self.raise_feature_level(*to))
            }
        }
    }

    /// I-FENCE: the check that every command of a broker begins with.
    fn living(&self, author: BrokerAuthor) -> Result<(), Fenced> {
        self.brokers.living(author).map(|_| ()).ok_or(Fenced)
    }

    fn allocate_producer_ids(
        &mut self,
        author: BrokerAuthor,
        count: u32,
    ) -> Result<ProducerId, Fenced> {
        self.living(author)?;
        let first = self.books.counters.next_producer_id;
        let next = first.0.saturating_add(i64::from(count));
        self.books.counters.next_producer_id = ProducerId(next);
        Ok(first)
    }

    fn put_group(&mut self, put: &PutGroup) -> Result<(), Fenced> {
        self.living(put.author)?;
        self.groups.put(put, &mut self.books);
        Ok(())
    }

    /// Says that the checkpoint holds exactly this state: only what changes from here on has to be
    /// written to it.
    pub fn loaded_from_checkpoint(&mut self) {
        self.books.dirty.loaded();
    }

    /// Says that what the checkpoint holds is unknown or worthless: all of it must be written.
    pub fn lost_checkpoint(&mut self) {
        self.books.dirty.lost();
    }

    /// A copy for the checkpoint with the keys that changed since the last cut; from here on
    /// changes count towards the next one.
    pub fn cut_checkpoint(&mut self) -> (State, DirtyKeys) {
        let dirty = self.books.dirty.cut();
        (self.clone(), dirty)
    }
}
