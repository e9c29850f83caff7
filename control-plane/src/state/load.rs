//! A state from its records: the other way of `records`.

use ottla_control_api::view::TopicInfo;
use ottla_format::codec::DecodeError;
use ottla_format::state::{ExtentEntry, StateKey, StateRecord, TopicEntry};
use ottla_model::{AppliedIndex, ClusterId, Offset, PartitionId, TopicId};
use thiserror::Error;

use super::State;
use super::brokers::Broker;
use super::partition::{Partition, inline_bytes};
use super::topics::Topic;

/// Why records make no state. All of them mean: do not use what they came from.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LoadError {
    /// A record cannot be read.
    #[error("a record of the state cannot be read: {0}")]
    Decode(#[from] DecodeError),
    /// Records do not fit each other.
    #[error("the records of the state do not fit each other: {what} ({key:?})")]
    Inconsistent {
        /// What is wrong.
        what: &'static str,
        /// At which record.
        key: StateKey,
    },
    /// Every record is well, but they are not all, or not the right ones.
    #[error("the state has digest {computed:032x}, {stored:032x} was recorded for it")]
    Digest {
        /// What was recorded with the records.
        stored: u128,
        /// What they have.
        computed: u128,
    },
}

/// What must be known of a state besides its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateIdentity {
    /// The cluster it is of.
    pub cluster: ClusterId,
    /// The last entry that is part of it.
    pub applied: AppliedIndex,
    /// Its digest.
    pub digest: u128,
}

/// Builds a state from records that come in the order of [`State::records`], or in the order of
/// their keys.
#[derive(Debug)]
pub struct StateLoader {
    identity: StateIdentity,
    state: State,
}

impl StateLoader {
    /// Begins with none.
    pub fn new(identity: StateIdentity) -> Self {
        let mut state = State::new(identity.cluster);
        state.applied = identity.applied;
        Self { identity, state }
    }

    /// Puts in the next record.
    pub fn load(&mut self, record: StateRecord) -> Result<(), LoadError> {
        self.state.load(record)
    }

    /// Ends: verifies that the records make the state of the identity.
    pub fn finish(mut self) -> Result<State, LoadError> {
        self.state.finish_load()?;
        let (stored, computed) = (self.identity.digest, self.state.digest_as_loaded());
        if computed != stored {
            return Err(LoadError::Digest { stored, computed });
        }
        self.state.books.digest.set(computed);
        Ok(self.state)
    }
}

impl State {
    /// Which state this is.
    pub fn identity(&self) -> StateIdentity {
        StateIdentity { cluster: self.cluster, applied: self.applied, digest: self.digest() }
    }

    /// Builds the state of `identity` from the bytes of its records; see [`StateLoader`].
    pub fn from_records(
        identity: StateIdentity,
        records: impl IntoIterator<Item = (impl AsRef<[u8]>, impl AsRef<[u8]>)>,
    ) -> Result<Self, LoadError> {
        let mut loader = StateLoader::new(identity);
        for (key, value) in records {
            loader.load(StateRecord::decode(key.as_ref(), value.as_ref())?)?;
        }
        loader.finish()
    }
    fn load(&mut self, record: StateRecord) -> Result<(), LoadError> {
        let key = record.key();
        let inconsistent = |what| LoadError::Inconsistent { what, key };
        match record {
            StateRecord::Counters(counters) => self.books.counters = counters,
            StateRecord::Topic(id, entry) => {
                let topic = Topic::new(shown(id, entry));
                self.books.tally.text_bytes += topic.text_bytes();
                self.topics.insert(topic);
            }
            StateRecord::Partition(id, entry) => self
                .topics
                .load_partition(id, Partition::load(entry))
                .ok_or(inconsistent("a partition out of place"))?,
            StateRecord::Extents(id, first, extents) => {
                self.books.tally.extents += extents.len() as u64;
                self.books.tally.inline_bytes += inline_bytes(&extents);
                self.load_extents(id, first, extents).ok_or(inconsistent("extents out of place"))?
            }
            StateRecord::Producer(id, producer, entry) => {
                self.books.tally.producers += 1;
                self.topics
                    .partition_mut(id)
                    .ok_or(inconsistent("a producer without its partition"))?
                    .producers
                    .load(producer, entry);
            }
            StateRecord::Objects(chunk, objects) => {
                self.books.tally.objects += objects.len() as u64;
                self.objects.load_chunk(chunk, objects);
            }
            StateRecord::Broker(id, entry) => self.brokers.load(id, entry),
            StateRecord::Outcome(id, seq, outcome) => {
                let broker: &mut Broker = self
                    .brokers
                    .broker_mut(id)
                    .ok_or(inconsistent("an outcome without its broker"))?;
                broker.outcomes.insert(seq, outcome);
            }
            StateRecord::DeletedTopics(topics) => self.topics.load_deleted(topics),
            StateRecord::Group(number, entry) => {
                self.groups
                    .load_record(number, entry)
                    .ok_or(inconsistent("a group out of place"))?;
            }
            StateRecord::GroupOffset(number, partition, offset) => {
                self.groups
                    .load_offset(number, partition, offset)
                    .ok_or(inconsistent("an offset without its group"))?;
                self.books.tally.group_offsets += 1;
            }
        }
        Ok(())
    }

    fn load_extents(
        &mut self,
        id: PartitionId,
        first: Offset,
        extents: Vec<ExtentEntry>,
    ) -> Option<()> {
        let Self { topics, books, .. } = self;
        if extents.first()?.base_offset != first {
            return None;
        }
        topics.partition_mut(id)?.extents.push_chunk(extents, |extent| {
            let key = StateKey::Extents(id, extent.base_offset);
            books.digest.add(&key, |out| extent.put(out))
        })
    }

    /// What only shows when all records are there; makes the indexes that no record holds.
    fn finish_load(&mut self) -> Result<(), LoadError> {
        for topic in self.topics.iter() {
            if topic.partitions.len() as i64 != i64::from(topic.info().partitions) {
                let key = StateKey::Topic(topic.info().id);
                return Err(LoadError::Inconsistent { what: "partitions are missing", key });
            }
        }
        self.topics.index_expiries();
        let groups = self.groups.by_number.values();
        self.books.tally.text_bytes += groups.map(|group| group.text_bytes()).sum::<u64>();
        Ok(())
    }
}

fn shown(id: TopicId, entry: TopicEntry) -> TopicInfo {
    TopicInfo {
        id,
        name: entry.name,
        partitions: entry.partitions,
        replication_factor: entry.replication_factor,
        configs: entry.configs,
    }
}
