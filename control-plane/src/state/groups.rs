//! Consumer groups: committed offsets and durable metadata.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use ottla_control_api::GroupState;
use ottla_format::command::{CommitOffsets, CommittedOffset, GroupMetadata, PutGroup};
use ottla_format::state::{StateKey, put_committed_offset, put_group_metadata};
use ottla_model::{GroupId, PartitionId, PartitionIndex, TopicId};

use super::books::Books;
use super::topics::Topics;

/// A group: it exists as long as it has metadata or an offset. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Group {
    pub(super) metadata: Option<Arc<GroupMetadata>>,
    pub(super) offsets: OrdMap<PartitionId, CommittedOffset>,
}

/// All groups. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    pub(super) by_id: OrdMap<GroupId, Arc<Group>>,
    /// Which groups have offsets in a topic, so that deleting it visits these only.
    by_topic: OrdSet<(TopicId, GroupId)>,
}

impl Groups {
    /// A group's metadata and offsets.
    pub fn get(&self, group: &GroupId) -> Option<GroupState> {
        self.by_id.get(group).map(|group| GroupState {
            metadata: group.metadata.as_deref().cloned(),
            offsets: group.offsets.iter().map(|(p, offset)| (*p, offset.clone())).collect(),
        })
    }

    /// Stores offsets; returns the partitions that do not exist.
    pub(super) fn commit_offsets(
        &mut self,
        commit: &CommitOffsets,
        topics: &Topics,
        books: &mut Books,
    ) -> Vec<PartitionId> {
        let mut unknown = Vec::new();
        for (partition, offset) in &commit.offsets {
            if topics.partition(*partition).is_none() {
                unknown.push(*partition);
                continue;
            }
            let key = StateKey::GroupOffset(commit.group.clone(), *partition);
            let before = self.load_offset(&commit.group, *partition, offset.clone());
            match before {
                Some(before) => {
                    books.digest.remove(&key, |out| put_committed_offset(out, &before));
                }
                None => books.tally.group_offsets += 1,
            }
            books.digest.add(&key, |out| put_committed_offset(out, offset));
            books.dirty.group_offset(&commit.group, *partition);
        }
        unknown
    }

    /// Replaces a group's metadata. An empty group is kept while it has offsets.
    pub(super) fn put(&mut self, put: &PutGroup, books: &mut Books) {
        let key = StateKey::Group(put.group.clone());
        let known = self.by_id.get(&put.group);
        let before = known.and_then(|group| group.metadata.clone());
        if let Some(before) = &before {
            books.digest.remove(&key, |out| put_group_metadata(out, before));
        }
        let has_offsets = known.is_some_and(|group| !group.offsets.is_empty());
        if put.metadata.members.is_empty() && !has_offsets {
            self.by_id.remove(&put.group);
        } else {
            books.digest.add(&key, |out| put_group_metadata(out, &put.metadata));
            self.load_metadata(&put.group, put.metadata.clone());
        }
        books.dirty.group(&put.group);
    }

    /// Drops the offsets that groups have in a topic that is gone.
    pub(super) fn topic_deleted(&mut self, topic: TopicId, books: &mut Books) {
        let first = (topic, GroupId::from(""));
        let groups: Vec<GroupId> = self
            .by_topic
            .range(first..)
            .take_while(|(of, _)| *of == topic)
            .map(|(_, group)| group.clone())
            .collect();
        for id in groups {
            self.drop_offsets(&id, topic, books);
            self.by_topic.remove(&(topic, id));
        }
    }

    fn drop_offsets(&mut self, id: &GroupId, topic: TopicId, books: &mut Books) {
        let Some(group) = self.by_id.get_mut(id).map(Arc::make_mut) else { return };
        let all = PartitionId { topic, index: PartitionIndex(i32::MIN) }..=PartitionId {
            topic,
            index: PartitionIndex(i32::MAX),
        };
        let gone: Vec<PartitionId> = group.offsets.range(all).map(|(p, _)| *p).collect();
        for partition in gone {
            if let Some(offset) = group.offsets.remove(&partition) {
                let key = StateKey::GroupOffset(id.clone(), partition);
                books.digest.remove(&key, |out| put_committed_offset(out, &offset));
                books.dirty.group_offset(id, partition);
                books.tally.group_offsets -= 1;
            }
        }
        if !group.offsets.is_empty() {
            return;
        }
        match &group.metadata {
            Some(metadata) if !metadata.members.is_empty() => return,
            Some(metadata) => {
                let key = StateKey::Group(id.clone());
                books.digest.remove(&key, |out| put_group_metadata(out, metadata));
                books.dirty.group(id);
            }
            None => {}
        }
        self.by_id.remove(id);
    }

    /// Puts in an offset; returns the one before.
    pub(super) fn load_offset(
        &mut self,
        id: &GroupId,
        partition: PartitionId,
        offset: CommittedOffset,
    ) -> Option<CommittedOffset> {
        let group = Arc::make_mut(self.by_id.entry(id.clone()).or_default());
        let before = group.offsets.insert(partition, offset);
        if before.is_none() {
            self.by_topic.insert((partition.topic, id.clone()));
        }
        before
    }

    /// Puts in metadata.
    pub(super) fn load_metadata(&mut self, id: &GroupId, metadata: GroupMetadata) {
        let group = Arc::make_mut(self.by_id.entry(id.clone()).or_default());
        group.metadata = Some(Arc::new(metadata));
    }
}
