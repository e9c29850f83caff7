//! The content of a checkpoint's write: the records of the dirty keys, as a copy has them.

use ottla_format::state::{
    StateKey, StateKeyKind, put_committed_offset, put_extent_chunk, put_object_chunk, put_outcome,
};
use ottla_model::{BrokerId, GroupNumber, Offset, PartitionId, ProducerId, TopicId};

use super::State;
use super::dirty::DirtyKeys;
use super::records::{RecordBytes, record};

/// One step of bringing a checkpoint up to date. Steps are done in order: a prefix is removed
/// before what is put under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordChange {
    /// The record has this key and value now.
    Put(RecordBytes),
    /// The record is gone, if it was there.
    Remove(Vec<u8>),
    /// All records whose keys begin with this are gone.
    RemovePrefix(Vec<u8>),
}

impl State {
    /// The steps that turn the records of the state as of the cut before `dirty` into this copy's.
    /// Calls `write` for each.
    pub fn changed_records(&self, dirty: &DirtyKeys, write: &mut dyn FnMut(RecordChange)) {
        if dirty.everything {
            write(RecordChange::RemovePrefix(Vec::new()));
            self.records().for_each(|record| write(RecordChange::Put(record)));
            return;
        }
        let counters = record(&StateKey::Counters, |out| self.books.counters.put(out));
        write(RecordChange::Put(counters));
        if !dirty.topics.is_empty() {
            self.deleted_topics_record().map(RecordChange::Put).into_iter().for_each(&mut *write);
        }
        dirty.topics.iter().for_each(|topic| self.changed_topic(*topic, write));
        dirty.partitions.iter().for_each(|id| self.changed_partition(*id, write));
        for (partition, chunk) in &dirty.extent_chunks {
            self.changed_extents(*partition, *chunk, write);
        }
        for (partition, producer) in &dirty.producers {
            self.changed_producer(*partition, *producer, write);
        }
        for number in &dirty.object_chunks {
            let chunk = self.objects.chunk(*number);
            put_or_remove(
                &StateKey::Objects(*number),
                chunk,
                |c, out| put_object_chunk(out, c),
                write,
            );
        }
        dirty.brokers.iter().for_each(|broker| self.changed_broker(*broker, write));
        dirty.groups.iter().for_each(|group| self.changed_group(*group, write));
        for (group, partition) in &dirty.group_offsets {
            let known = self.groups.by_number.get(group);
            let offset = known.and_then(|group| group.offsets.get(partition));
            let key = StateKey::GroupOffset(*group, *partition);
            put_or_remove(&key, offset, |offset, out| put_committed_offset(out, offset), write);
        }
    }

    /// A topic's own record; when it is gone, everything that belonged to it.
    fn changed_topic(&self, id: TopicId, write: &mut dyn FnMut(RecordChange)) {
        if let Some(topic) = self.topics.get(id) {
            let topic_record = record(&StateKey::Topic(id), |out| topic.entry().put(out));
            write(RecordChange::Put(topic_record));
            return;
        }
        let kinds = [
            StateKeyKind::Topic,
            StateKeyKind::Partition,
            StateKeyKind::Extents,
            StateKeyKind::Producer,
        ];
        for kind in kinds {
            let mut prefix = Vec::new();
            StateKey::put_topic_prefix(&mut prefix, kind, id);
            write(RecordChange::RemovePrefix(prefix));
        }
    }

    /// A partition's header.
    fn changed_partition(&self, id: PartitionId, write: &mut dyn FnMut(RecordChange)) {
        // A partition that is gone was removed with its topic.
        let Some(partition) = self.topics.partition(id) else { return };
        let header = record(&StateKey::Partition(id), |out| partition.entry().put(out));
        write(RecordChange::Put(header));
    }

    /// A chunk of extents; gone when it was trimmed, or rewritten under other names.
    fn changed_extents(&self, id: PartitionId, chunk: Offset, write: &mut dyn FnMut(RecordChange)) {
        let Some(partition) = self.topics.partition(id) else { return };
        let key = StateKey::Extents(id, chunk);
        let found = partition.extents.chunk(chunk);
        put_or_remove(&key, found, |c, out| put_extent_chunk(out, c.extents()), write);
    }

    fn changed_producer(
        &self,
        id: PartitionId,
        producer: ProducerId,
        write: &mut dyn FnMut(RecordChange),
    ) {
        let Some(partition) = self.topics.partition(id) else { return };
        let entry = partition.producers.get(producer);
        let key = StateKey::Producer(id, producer);
        put_or_remove(&key, entry, |entry, out| entry.put(out), write);
    }

    /// A broker's record and all of its kept outcomes, which are few: most of those in the last
    /// checkpoint are below the frontier now.
    fn changed_broker(&self, id: BrokerId, write: &mut dyn FnMut(RecordChange)) {
        let mut prefix = Vec::new();
        StateKey::put_broker_prefix(&mut prefix, StateKeyKind::Outcome, id);
        write(RecordChange::RemovePrefix(prefix));
        let broker = self.brokers.get(id);
        put_or_remove(&StateKey::Broker(id), broker, |broker, out| broker.entry.put(out), write);
        let Some(broker) = broker else { return };
        for (seq, outcome) in &broker.outcomes {
            let key = StateKey::Outcome(id, *seq);
            write(RecordChange::Put(record(&key, |out| put_outcome(out, outcome))));
        }
    }

    /// A group's own record; when it is gone, with its offsets. Numbers are not given twice: nothing is
    /// put under this one again.
    fn changed_group(&self, number: GroupNumber, write: &mut dyn FnMut(RecordChange)) {
        let known = self.groups.by_number.get(&number);
        let key = StateKey::Group(number);
        put_or_remove(&key, known, |group, out| group.entry.put(out), write);
        if known.is_none() {
            let mut prefix = Vec::new();
            StateKey::put_group_prefix(&mut prefix, StateKeyKind::GroupOffset, number);
            write(RecordChange::RemovePrefix(prefix));
        }
    }
}

fn put_or_remove<T: ?Sized>(
    key: &StateKey,
    value: Option<&T>,
    put: impl FnOnce(&T, &mut Vec<u8>),
    write: &mut dyn FnMut(RecordChange),
) {
    write(match value {
        Some(value) => RecordChange::Put(record(key, |out| put(value, out))),
        None => RecordChange::Remove(key.to_bytes()),
    });
}
