//! The state as records, and the digest recomputed from scratch.

use ottla_format::state::{
    CHUNK_LENGTH, StateKey, StateRecord, put_committed_offset, put_deleted_topics,
    put_extent_chunk, put_object_chunk, put_outcome,
};
use ottla_model::PartitionId;

use super::State;
use super::books::Books;
use super::digest::Digest;
use super::partition::Partition;

/// A record's key and value.
pub type RecordBytes = (Vec<u8>, Vec<u8>);

pub(super) fn record(key: &StateKey, put_value: impl FnOnce(&mut Vec<u8>)) -> RecordBytes {
    let mut value = Vec::new();
    put_value(&mut value);
    (key.to_bytes(), value)
}

impl State {
    /// All records, in the order of their kinds, each after what it belongs to: the order in
    /// which [`State::from_records`] wants them. It is also the order of the keys' bytes.
    pub fn records(&self) -> impl Iterator<Item = RecordBytes> + '_ {
        let counters = record(&StateKey::Counters, |out| self.books.counters.put(out));
        std::iter::once(counters)
            .chain(self.topic_records())
            .chain(self.object_records())
            .chain(self.broker_records())
            .chain(self.group_records())
            .chain(self.deleted_topics_record())
    }

    fn topic_records(&self) -> impl Iterator<Item = RecordBytes> + '_ {
        let topics = self
            .topics
            .iter()
            .map(|topic| record(&StateKey::Topic(topic.info().id), |out| topic.entry().put(out)));
        let partitions = || self.topics.iter().flat_map(|topic| topic.partitions());
        let headers = partitions().map(|(id, partition)| {
            record(&StateKey::Partition(id), |out| partition.entry().put(out))
        });
        let extents = partitions().flat_map(|(id, partition)| {
            partition.extents.chunks().filter_map(move |chunk| {
                let key = StateKey::Extents(id, chunk.first_offset()?);
                Some(record(&key, |out| put_extent_chunk(out, chunk.extents())))
            })
        });
        let producers = partitions().flat_map(|(id, partition)| {
            partition.producers.iter().map(move |(producer, entry)| {
                record(&StateKey::Producer(id, producer), |out| entry.put(out))
            })
        });
        topics.chain(headers).chain(extents).chain(producers)
    }

    pub(super) fn deleted_topics_record(&self) -> Option<RecordBytes> {
        let deleted = self.topics.deleted()?;
        Some(record(&StateKey::DeletedTopics, |out| put_deleted_topics(out, deleted)))
    }

    fn object_records(&self) -> impl Iterator<Item = RecordBytes> + '_ {
        self.objects.chunks().map(|(number, chunk)| {
            record(&StateKey::Objects(number), |out| put_object_chunk(out, chunk))
        })
    }

    fn broker_records(&self) -> impl Iterator<Item = RecordBytes> + '_ {
        let brokers = self
            .brokers
            .iter()
            .map(|(id, broker)| record(&StateKey::Broker(id), |out| broker.entry.put(out)));
        let outcomes = self.brokers.iter().flat_map(|(id, broker)| {
            broker.outcomes.iter().map(move |(seq, outcome)| {
                record(&StateKey::Outcome(id, *seq), |out| put_outcome(out, outcome))
            })
        });
        brokers.chain(outcomes)
    }

    fn group_records(&self) -> impl Iterator<Item = RecordBytes> + '_ {
        let groups = self.groups.by_number.iter();
        let entries = groups
            .clone()
            .map(|(number, group)| record(&StateKey::Group(*number), |out| group.entry.put(out)));
        let offsets = groups.flat_map(|(number, group)| {
            group.offsets.iter().map(move |(partition, offset)| {
                let key = StateKey::GroupOffset(*number, *partition);
                record(&key, |out| put_committed_offset(out, offset))
            })
        });
        entries.chain(offsets)
    }

    /// The digest, from every entry anew. Equal to [`State::digest`], always.
    pub fn recompute_digest(&self) -> u128 {
        self.digest_with(|digest, id, partition| {
            for extent in partition.extents.iter() {
                digest.add(&StateKey::Extents(id, extent.base_offset), |out| extent.put(out));
            }
        })
    }

    /// The digest of a state that was just loaded: its extents were hashed as they were put in.
    pub(super) fn digest_as_loaded(&self) -> u128 {
        self.digest_with(|digest, _, partition| digest.put_in(partition.extents.digest()))
    }

    fn digest_with(&self, add_extents: impl Fn(&mut Digest, PartitionId, &Partition)) -> u128 {
        let mut books = Books::new();
        books.digest = Digest::default();
        books.counters = self.books.counters;
        books.enter_counters();
        let digest = &mut books.digest;
        for topic in self.topics.iter() {
            digest.add(&StateKey::Topic(topic.info().id), |out| topic.entry().put(out));
        }
        if let Some(deleted) = self.topics.deleted() {
            digest.add(&StateKey::DeletedTopics, |out| put_deleted_topics(out, deleted));
        }
        for (object, entry) in self.objects.iter() {
            digest.add(&StateKey::Objects(object.0), |out| entry.put(out));
        }
        for (id, broker) in self.brokers.iter() {
            digest.add(&StateKey::Broker(id), |out| broker.entry.put(out));
            for (seq, outcome) in &broker.outcomes {
                digest.add(&StateKey::Outcome(id, *seq), |out| put_outcome(out, outcome));
            }
        }
        for (number, group) in &self.groups.by_number {
            digest.add(&StateKey::Group(*number), |out| group.entry.put(out));
            for (partition, offset) in &group.offsets {
                let key = StateKey::GroupOffset(*number, *partition);
                digest.add(&key, |out| put_committed_offset(out, offset));
            }
        }
        for (id, partition) in self.topics.iter().flat_map(|topic| topic.partitions()) {
            add_partition(&mut books.digest, id, partition);
            add_extents(&mut books.digest, id, partition);
        }
        books.digest.sum()
    }
}

/// The digest of a state, taken from its records as they pass by: how what was written is verified
/// without building the state a second time.
#[derive(Debug, Default)]
pub struct RecordDigest(Digest);

impl RecordDigest {
    /// Enters a record's entries.
    pub fn add(&mut self, record: &StateRecord) {
        match record {
            StateRecord::Extents(id, _, extents) => {
                for extent in extents {
                    let key = StateKey::Extents(*id, extent.base_offset);
                    self.0.add(&key, |out| extent.put(out));
                }
            }
            StateRecord::Objects(chunk, objects) => {
                let first = chunk.saturating_mul(CHUNK_LENGTH as u64);
                for (slot, object) in objects {
                    let key = StateKey::Objects(first.saturating_add(u64::from(*slot)));
                    self.0.add(&key, |out| object.put(out));
                }
            }
            whole => {
                self.0.add(&whole.key(), |out| whole.put_value(out));
            }
        }
    }

    /// The digest of the records so far.
    pub fn sum(&self) -> u128 {
        self.0.sum()
    }
}

fn add_partition(digest: &mut Digest, id: PartitionId, partition: &Partition) {
    digest.add(&StateKey::Partition(id), |out| partition.entry().put(out));
    for (producer, entry) in partition.producers.iter() {
        digest.add(&StateKey::Producer(id, producer), |out| entry.put(out));
    }
}
