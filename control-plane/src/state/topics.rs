//! Topics and their partitions.

use std::sync::Arc;

use imbl::{OrdMap, Vector};
use ottla_control_api::view::{Change, TopicInfo};
use ottla_format::command::{
    CreatePartitions, CreatePartitionsRefusal, CreateTopic, CreateTopicRefusal,
};
use ottla_format::state::{StateKey, TopicEntry, put_deleted_topics};
use ottla_model::{PartitionId, PartitionIndex, TimestampMs, TopicId, TopicName};

use super::books::Books;
use super::changes::Changes;
use super::expiry::Expiry;
use super::objects::Objects;
use super::partition::Partition;
use super::release::Releases;
use super::semantics::{
    DELETED_TOPICS_KEPT_MAX, LOG_APPEND_TIME, PARTITIONS_MAX, PRODUCERS_EXPIRED_MAX,
    TIMESTAMP_TYPE_CONFIG,
};

/// A topic. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Topic {
    info: Arc<TopicInfo>,
    /// `message.timestamp.type` is `LogAppendTime`.
    log_append: bool,
    pub(super) partitions: Vector<Arc<Partition>>,
}

impl Topic {
    pub(super) fn new(info: TopicInfo) -> Self {
        let log_append =
            info.configs.get(TIMESTAMP_TYPE_CONFIG).is_some_and(|t| t == LOG_APPEND_TIME);
        Self { info: Arc::new(info), log_append, partitions: Vector::new() }
    }

    /// What brokers are shown.
    pub fn info(&self) -> &Arc<TopicInfo> {
        &self.info
    }

    /// Its partitions with their ids, in order.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionId, &Partition)> {
        let topic = self.info.id;
        (0..)
            .map(PartitionIndex)
            .zip(&self.partitions)
            .map(move |(index, partition)| (PartitionId { topic, index }, &**partition))
    }

    /// The bytes of its name and configs.
    pub(super) fn text_bytes(&self) -> u64 {
        let configs = self.info.configs.iter().map(|(name, value)| name.len() + value.len());
        (self.info.name.as_str().len() + configs.sum::<usize>()) as u64
    }

    /// Its own record; the partitions have theirs.
    pub fn entry(&self) -> TopicEntry {
        TopicEntry {
            name: self.info.name.clone(),
            partitions: self.info.partitions,
            replication_factor: self.info.replication_factor,
            configs: self.info.configs.clone(),
        }
    }

    fn add_partitions(&mut self, total: i32, books: &mut Books) {
        let topic = self.info.id;
        for index in (self.partitions.len() as i32..total).map(PartitionIndex) {
            let id = PartitionId { topic, index };
            let mut partition = Partition::default();
            books.digest.add(&StateKey::Partition(id), |out| partition.entry().put(out));
            partition.mark_dirty(id, books);
            self.partitions.push_back(Arc::new(partition));
        }
    }
}

/// A topic being appended to, and what is kept of its partitions outside of them.
pub(super) struct TopicMut<'a> {
    pub(super) log_append: bool,
    pub(super) expiry: &'a mut Expiry,
    partitions: &'a mut Vector<Arc<Partition>>,
}

impl TopicMut<'_> {
    pub(super) fn partition_mut(
        &mut self,
        index: PartitionIndex,
    ) -> Option<(TopicAspects<'_>, &mut Partition)> {
        let index = usize::try_from(index.0).ok()?;
        let partition = Arc::make_mut(self.partitions.get_mut(index)?);
        Some((TopicAspects { log_append: self.log_append, expiry: self.expiry }, partition))
    }
}

/// What an append needs of the topic besides the partition.
pub(super) struct TopicAspects<'a> {
    pub(super) log_append: bool,
    pub(super) expiry: &'a mut Expiry,
}

/// All topics. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Topics {
    by_id: OrdMap<TopicId, Arc<Topic>>,
    /// By name with `.` replaced by `_`: two names that fold alike cannot both live.
    by_folded_name: OrdMap<String, TopicId>,
    partition_count: usize,
    expiry: Expiry,
    /// The topics that were deleted last, oldest first. An id never comes back (I-ONE).
    deleted: Vector<TopicId>,
}

fn folded(name: &TopicName) -> String {
    name.as_str().replace('.', "_")
}

impl Topics {
    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.by_id.values().map(|topic| &**topic)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// One of them.
    pub fn get(&self, topic: TopicId) -> Option<&Topic> {
        self.by_id.get(&topic).map(|topic| &**topic)
    }

    /// A partition.
    pub fn partition(&self, id: PartitionId) -> Option<&Partition> {
        let index = usize::try_from(id.index.0).ok()?;
        self.by_id.get(&id.topic)?.partitions.get(index).map(|partition| &**partition)
    }

    /// How many partitions all topics have.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    pub(super) fn topic_mut(&mut self, topic: TopicId) -> Option<TopicMut<'_>> {
        let Topic { log_append, partitions, .. } = Arc::make_mut(self.by_id.get_mut(&topic)?);
        Some(TopicMut { log_append: *log_append, partitions, expiry: &mut self.expiry })
    }

    pub(super) fn partition_mut(&mut self, id: PartitionId) -> Option<&mut Partition> {
        partition_mut(&mut self.by_id, id)
    }

    /// Puts in the next partition of a topic whose record came before.
    pub(super) fn load_partition(&mut self, id: PartitionId, partition: Partition) -> Option<()> {
        let topic = Arc::make_mut(self.by_id.get_mut(&id.topic)?);
        if usize::try_from(id.index.0) != Ok(topic.partitions.len()) {
            return None;
        }
        topic.partitions.push_back(Arc::new(partition));
        self.partition_count += 1;
        Some(())
    }

    /// After a load: enters every partition that has producers into the index of expiries.
    pub(super) fn index_expiries(&mut self) {
        let Self { by_id, expiry, .. } = self;
        let ids: Vec<TopicId> = by_id.keys().copied().collect();
        for id in ids {
            let Some(topic) = by_id.get_mut(&id).map(Arc::make_mut) else { continue };
            for (index, partition) in (0..).map(PartitionIndex).zip(topic.partitions.iter_mut()) {
                expiry.watch(PartitionId { topic: id, index }, Arc::make_mut(partition));
            }
        }
    }

    pub(super) fn create(
        &mut self,
        create: &CreateTopic,
        books: &mut Books,
        changes: &mut Changes,
    ) -> Result<(), CreateTopicRefusal> {
        // A repeated command. When the topic was deleted since, it stays deleted.
        if self.by_id.contains_key(&create.id) || self.deleted.contains(&create.id) {
            return Ok(());
        }
        if let Some(topic) =
            self.by_folded_name.get(&folded(&create.name)).and_then(|id| self.get(*id))
        {
            let name = &topic.info.name;
            return Err(if *name == create.name {
                CreateTopicRefusal::Exists(topic.info.id)
            } else {
                CreateTopicRefusal::Collides(name.clone())
            });
        }
        // 1 or more, says the proposer; a topic without partitions cannot exist.
        let partitions = create.partitions.max(1);
        if self.partition_count.saturating_add(partitions as usize) > PARTITIONS_MAX {
            return Err(CreateTopicRefusal::TooManyPartitions);
        }
        let mut topic = Topic::new(TopicInfo {
            id: create.id,
            name: create.name.clone(),
            partitions,
            replication_factor: create.replication_factor,
            configs: create.configs.clone(),
        });
        topic.add_partitions(partitions, books);
        books.digest.add(&StateKey::Topic(create.id), |out| topic.entry().put(out));
        books.dirty.topic(create.id);
        books.tally.text_bytes += topic.text_bytes();
        changes.push(Change::Topic(Arc::clone(&topic.info)));
        self.insert(topic);
        Ok(())
    }

    /// Puts in a topic, with the partitions it has so far.
    pub(super) fn insert(&mut self, topic: Topic) {
        self.partition_count += topic.partitions.len();
        self.by_folded_name.insert(folded(&topic.info.name), topic.info.id);
        self.by_id.insert(topic.info.id, Arc::new(topic));
    }

    pub(super) fn create_partitions(
        &mut self,
        create: &CreatePartitions,
        books: &mut Books,
        changes: &mut Changes,
    ) -> Result<(), CreatePartitionsRefusal> {
        let Some(topic) = self.by_id.get(&create.topic) else {
            return Err(CreatePartitionsRefusal::UnknownTopic);
        };
        let current = topic.info.partitions;
        if create.total < current {
            return Err(CreatePartitionsRefusal::Fewer { current });
        }
        let added = (create.total - current) as usize;
        if added == 0 {
            return Ok(());
        }
        if self.partition_count.saturating_add(added) > PARTITIONS_MAX {
            return Err(CreatePartitionsRefusal::TooManyPartitions);
        }
        let Some(topic) = self.by_id.get_mut(&create.topic).map(Arc::make_mut) else {
            return Err(CreatePartitionsRefusal::UnknownTopic);
        };
        let key = StateKey::Topic(create.topic);
        books.digest.remove(&key, |out| topic.entry().put(out));
        topic.add_partitions(create.total, books);
        topic.info = Arc::new(TopicInfo { partitions: create.total, ..(*topic.info).clone() });
        books.digest.add(&key, |out| topic.entry().put(out));
        books.dirty.topic(create.topic);
        changes.push(Change::Topic(Arc::clone(&topic.info)));
        self.partition_count += added;
        Ok(())
    }

    /// Deletes a topic with all that hangs on it: every extent releases its object.
    pub(super) fn delete(
        &mut self,
        id: TopicId,
        objects: &mut Objects,
        books: &mut Books,
        changes: &mut Changes,
    ) -> bool {
        let Some(topic) = self.by_id.remove(&id) else {
            return false;
        };
        self.by_folded_name.remove(&folded(&topic.info.name));
        self.partition_count -= topic.partitions.len();
        books.tally.text_bytes -= topic.text_bytes();
        let mut releases = Releases::default();
        for (id, partition) in topic.partitions() {
            self.expiry.drop_partition(id, partition);
            books.digest.remove(&StateKey::Partition(id), |out| partition.entry().put(out));
            books.digest.take_out(partition.extents.digest());
            partition.extents.chunks().for_each(|chunk| releases.add(chunk.extents()));
            books.tally.extents -= partition.extents.len() as u64;
            for (producer, entry) in partition.producers.iter() {
                books.digest.remove(&StateKey::Producer(id, producer), |out| entry.put(out));
                books.tally.producers -= 1;
            }
        }
        objects.release(&releases, books);
        books.digest.remove(&StateKey::Topic(id), |out| topic.entry().put(out));
        self.remember_deleted(id, books);
        books.dirty.topic(id);
        changes.push(Change::TopicDeleted(id));
        true
    }

    fn remember_deleted(&mut self, id: TopicId, books: &mut Books) {
        if let Some(deleted) = self.deleted() {
            books.digest.remove(&StateKey::DeletedTopics, |out| put_deleted_topics(out, deleted));
        }
        self.deleted.push_back(id);
        if self.deleted.len() > DELETED_TOPICS_KEPT_MAX {
            self.deleted.pop_front();
        }
        if let Some(deleted) = self.deleted() {
            books.digest.add(&StateKey::DeletedTopics, |out| put_deleted_topics(out, deleted));
        }
    }

    /// The topics that were deleted last, as their record has them; `None` when there is none.
    pub(super) fn deleted(&self) -> Option<impl ExactSizeIterator<Item = TopicId> + '_> {
        (!self.deleted.is_empty()).then(|| self.deleted.iter().copied())
    }

    pub(super) fn load_deleted(&mut self, topics: Vec<TopicId>) {
        self.deleted = topics.into();
    }

    /// Forgets producers whose last use was at `until` or earlier, at most [`PRODUCERS_EXPIRED_MAX`]:
    /// first those of the partition with the one that was used longest ago.
    pub(super) fn expire_producers(&mut self, until: TimestampMs, books: &mut Books) {
        let mut left = PRODUCERS_EXPIRED_MAX;
        while left > 0
            && let Some((since, id)) = self.expiry.pop_due(until)
        {
            let Self { by_id, expiry, .. } = self;
            let Some(partition) = partition_mut(by_id, id) else { continue };
            let mut oldest = partition.producers.oldest_use();
            if oldest == Some(since) {
                let expired = partition.producers.expire(id, until, left, books);
                left -= expired;
                if left > 0 {
                    oldest = partition.producers.oldest_use();
                }
            }
            expiry.put(id, partition, oldest);
        }
    }

    /// Whether there may be producers whose last use was at `until` or earlier. When not, the next
    /// [`Topics::expire_producers`] finds that out for good.
    pub(super) fn has_producers_used_until(&self, until: TimestampMs) -> bool {
        self.expiry.has_due(until)
    }
}

fn partition_mut(
    topics: &mut OrdMap<TopicId, Arc<Topic>>,
    id: PartitionId,
) -> Option<&mut Partition> {
    let topic = Arc::make_mut(topics.get_mut(&id.topic)?);
    let index = usize::try_from(id.index.0).ok()?;
    topic.partitions.get_mut(index).map(Arc::make_mut)
}
