//! Consumer groups: committed offsets and durable metadata.
//!
//! A group without members is *idle* since its last member left or its last offset was committed,
//! in replicated time. Idle groups stand in an index by that time, so that what expires is found
//! without a walk. A group that an older version wrote has no such time: it stands at the very
//! front, and is given the time of the first command that looks.
//!
//! The others, those with members, stand in an index of their own: their coordinator loads them
//! after a start, because members that died with it will not ask.

use std::ops::Bound;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use ottla_control_api::GroupState;
use ottla_format::command::{CommitOffsets, CommittedOffset, GroupMetadata, PutGroup};
use ottla_format::state::{StateKey, put_committed_offset, put_group_metadata, put_idle_since};
use ottla_model::{GroupId, PartitionId, PartitionIndex, TimestampMs, TopicId};

use super::books::Books;
use super::topics::Topics;
use crate::limits::GROUPS_EXPIRED_MAX;

/// Where groups stand in the index whose time is not known.
const UNKNOWN: TimestampMs = TimestampMs(i64::MIN);

/// A group: it exists as long as it has metadata or an offset. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Group {
    pub(super) metadata: Option<Arc<GroupMetadata>>,
    pub(super) offsets: OrdMap<PartitionId, CommittedOffset>,
    /// `None` while it has members, and when it is not known.
    pub(super) idle_since: Option<TimestampMs>,
}

impl Group {
    pub(super) fn has_members(&self) -> bool {
        self.metadata.as_ref().is_some_and(|metadata| !metadata.members.is_empty())
    }

    /// Where it stands in the index of idle groups, if it does.
    pub(super) fn idle_place(&self) -> Option<TimestampMs> {
        (!self.has_members()).then(|| self.idle_since.unwrap_or(UNKNOWN))
    }
}

/// All groups. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    pub(super) by_id: OrdMap<GroupId, Arc<Group>>,
    /// Which groups have offsets in a topic, so that deleting it visits these only.
    by_topic: OrdSet<(TopicId, GroupId)>,
    /// The groups without members, the longest idle first.
    pub(super) idle: OrdSet<(TimestampMs, GroupId)>,
    /// All others.
    pub(super) attended: OrdSet<GroupId>,
}

impl Groups {
    /// A group's metadata and offsets.
    pub fn get(&self, group: &GroupId) -> Option<GroupState> {
        self.by_id.get(group).map(|group| GroupState {
            metadata: group.metadata.as_deref().cloned(),
            offsets: group.offsets.iter().map(|(p, offset)| (*p, offset.clone())).collect(),
        })
    }

    /// The first `max` groups with members, in the order of their ids, behind `after`.
    pub fn with_members(&self, after: Option<&GroupId>, max: usize) -> Vec<GroupId> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.attended.range::<_, GroupId>((from, Bound::Unbounded)).take(max).cloned().collect()
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
        if unknown.len() < commit.offsets.len() {
            self.used(&commit.group, books);
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
            self.set_idle(&put.group, None, books);
            self.by_id.remove(&put.group);
        } else {
            books.digest.add(&key, |out| put_group_metadata(out, &put.metadata));
            self.load_metadata(&put.group, put.metadata.clone());
            self.used(&put.group, books);
        }
        if put.metadata.members.is_empty() {
            self.attended.remove(&put.group);
        } else {
            self.attended.insert(put.group.clone());
        }
        books.dirty.group(&put.group);
    }

    /// Forgets groups that have been idle since `until` or longer.
    pub(super) fn expire(&mut self, until: TimestampMs, books: &mut Books) {
        let due = self.idle.iter().take_while(|(since, _)| *since <= until);
        let due: Vec<_> = due.take(GROUPS_EXPIRED_MAX).cloned().collect();
        for (since, id) in due {
            if since == UNKNOWN {
                self.used(&id, books);
                continue;
            }
            let topics = self.by_id.get(&id).into_iter();
            let topics: OrdSet<TopicId> =
                topics.flat_map(|group| group.offsets.keys()).map(|p| p.topic).collect();
            for topic in topics {
                self.drop_offsets(&id, topic, books);
                self.by_topic.remove(&(topic, id.clone()));
            }
        }
    }

    /// Whether groups have been idle since `until` or longer.
    pub fn has_idle_since(&self, until: TimestampMs) -> bool {
        self.idle.get_min().is_some_and(|(since, _)| *since <= until)
    }

    /// A group was written: if it is idle, then since now.
    fn used(&mut self, id: &GroupId, books: &mut Books) {
        let now = books.counters.time;
        let has_members = self.by_id.get(id).is_some_and(|group| group.has_members());
        self.set_idle(id, (!has_members).then_some(now), books);
    }

    fn set_idle(&mut self, id: &GroupId, since: Option<TimestampMs>, books: &mut Books) {
        let Some(group) = self.by_id.get_mut(id).map(Arc::make_mut) else { return };
        let before = std::mem::replace(&mut group.idle_since, since);
        self.idle.remove(&(before.unwrap_or(UNKNOWN), id.clone()));
        if let Some(since) = since {
            self.idle.insert((since, id.clone()));
        }
        if before == since {
            return;
        }
        let key = StateKey::GroupIdle(id.clone());
        if let Some(before) = before {
            books.digest.remove(&key, |out| put_idle_since(out, before));
        }
        if let Some(since) = since {
            books.digest.add(&key, |out| put_idle_since(out, since));
        }
        books.dirty.group(id);
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
        if group.has_members() {
            return;
        }
        if let Some(metadata) = &group.metadata {
            let key = StateKey::Group(id.clone());
            books.digest.remove(&key, |out| put_group_metadata(out, metadata));
            books.dirty.group(id);
        }
        self.set_idle(id, None, books);
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

    /// Puts in the time since which a group is idle; `None` when there is no such group.
    pub(super) fn load_idle(&mut self, id: &GroupId, since: TimestampMs) -> Option<()> {
        Arc::make_mut(self.by_id.get_mut(id)?).idle_since = Some(since);
        Some(())
    }

    /// Makes the indexes of idle groups and of those with members.
    pub(super) fn index(&mut self) {
        let place = |(id, group): (&GroupId, &Arc<Group>)| Some((group.idle_place()?, id.clone()));
        self.idle = self.by_id.iter().filter_map(place).collect();
        let attended = self.by_id.iter().filter(|(_, group)| group.has_members());
        self.attended = attended.map(|(id, _)| id.clone()).collect();
    }

    /// Puts in metadata.
    pub(super) fn load_metadata(&mut self, id: &GroupId, metadata: GroupMetadata) {
        let group = Arc::make_mut(self.by_id.entry(id.clone()).or_default());
        group.metadata = Some(Arc::new(metadata));
    }
}
