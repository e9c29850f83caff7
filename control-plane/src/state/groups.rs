//! Consumer groups: committed offsets and durable metadata.
//!
//! A group gets a *number* when it comes to be, from a counter of the state, and loses it when it is
//! forgotten. Its id, a text that a client chose, is kept once; offsets, indexes and records have the
//! number. No number is given twice, so that an offset of a forgotten group can never show in one that
//! has its id later.
//!
//! A group without members is *idle* since its last member left or its last offset was committed,
//! in replicated time. Idle groups stand in an index by that time, so that what expires is found
//! without a walk. The others, those with members, stand in an index of their own: their coordinator
//! loads them after a start, because members that died with it will not ask.

use std::ops::Bound;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use ottla_control_api::GroupState;
use ottla_format::command::{CommitOffsets, CommittedOffset, GroupKind, PutGroup};
use ottla_format::state::{GroupEntry, StateKey, put_committed_offset};
use ottla_model::{GroupId, GroupNumber, PartitionId, PartitionIndex, TimestampMs, TopicId};

use super::books::Books;
use super::semantics::{GROUP_OFFSETS_EXPIRED_MAX, GROUPS_EXPIRED_MAX};
use super::size::text_bytes;
use super::topics::Topics;

/// A group: it exists as long as it has members or an offset. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Group {
    pub(super) entry: GroupEntry,
    pub(super) offsets: OrdMap<PartitionId, CommittedOffset>,
}

/// All groups. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    pub(super) numbers: OrdMap<GroupId, GroupNumber>,
    pub(super) by_number: OrdMap<GroupNumber, Arc<Group>>,
    /// Which groups have offsets in a topic, so that deleting it visits these only.
    pub(super) by_topic: OrdSet<(TopicId, GroupNumber)>,
    /// The groups without members, the longest idle first.
    pub(super) idle: OrdSet<(TimestampMs, GroupNumber)>,
    /// All others.
    pub(super) attended: OrdSet<GroupId>,
}

impl Groups {
    /// A group's metadata and offsets.
    pub fn get(&self, group: &GroupId) -> Option<GroupState> {
        self.by_number.get(self.numbers.get(group)?).map(|group| GroupState {
            kind: group.entry.kind,
            metadata: group.entry.metadata.as_deref().cloned(),
            offsets: group.offsets.iter().map(|(p, offset)| (*p, offset.clone())).collect(),
        })
    }

    /// The first `max` groups with members, in the order of their ids, behind `after`.
    pub fn with_members(&self, after: Option<&GroupId>, max: usize) -> Vec<GroupId> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.attended.range::<_, GroupId>((from, Bound::Unbounded)).take(max).cloned().collect()
    }

    /// Whether groups have been idle since `until` or longer.
    pub fn has_idle_since(&self, until: TimestampMs) -> bool {
        self.idle.get_min().is_some_and(|(since, _)| *since <= until)
    }

    /// Stores offsets; returns the partitions that do not exist.
    pub(super) fn commit_offsets(
        &mut self,
        commit: &CommitOffsets,
        topics: &Topics,
        books: &mut Books,
    ) -> Vec<PartitionId> {
        let exists = |(partition, _): &&(PartitionId, _)| topics.partition(*partition).is_some();
        let (stored, unknown): (Vec<_>, Vec<_>) = commit.offsets.iter().partition(exists);
        if !stored.is_empty() {
            let number = self.number(&commit.group, books);
            for (partition, offset) in stored {
                self.put_offset(number, *partition, offset, books);
            }
            self.used(number, books);
        }
        unknown.into_iter().map(|(partition, _)| *partition).collect()
    }

    fn put_offset(
        &mut self,
        number: GroupNumber,
        partition: PartitionId,
        offset: &CommittedOffset,
        books: &mut Books,
    ) {
        let key = StateKey::GroupOffset(number, partition);
        if let Some(before) = self.load_offset(number, partition, offset.clone()).flatten() {
            books.digest.remove(&key, |out| put_committed_offset(out, &before));
            books.tally.text_bytes -= before.metadata.len() as u64;
        } else {
            books.tally.group_offsets += 1;
        }
        books.digest.add(&key, |out| put_committed_offset(out, offset));
        books.tally.text_bytes += offset.metadata.len() as u64;
        books.dirty.group_offset(number, partition);
    }

    /// Replaces a group's metadata. A group without members is kept while it has offsets.
    pub(super) fn put(&mut self, put: &PutGroup, books: &mut Books) {
        let known = self.numbers.get(&put.group).copied();
        let group = known.and_then(|number| self.by_number.get(&number));
        let has_offsets = group.is_some_and(|group| !group.offsets.is_empty());
        if put.metadata.members.is_empty() && !has_offsets {
            known.into_iter().for_each(|number| self.remove(number, books));
            return;
        }
        let number = self.number(&put.group, books);
        self.change(number, books, |entry| {
            entry.kind = put.kind;
            entry.metadata = Some(Arc::new(put.metadata.clone()));
        });
    }

    /// The number of a group, which comes to be if there is none with this id.
    fn number(&mut self, id: &GroupId, books: &mut Books) -> GroupNumber {
        if let Some(number) = self.numbers.get(id) {
            return *number;
        }
        let number = books.counters.next_group;
        books.counters.next_group = GroupNumber(number.0 + 1);
        let entry = GroupEntry {
            id: id.clone(),
            kind: GroupKind::Classic,
            idle_since: Some(books.counters.time),
            metadata: None,
        };
        self.enter(number, &entry, books);
        self.load(number, entry);
        number
    }

    /// A group was written: if it is idle, then since now.
    fn used(&mut self, number: GroupNumber, books: &mut Books) {
        let now = books.counters.time;
        let is_current = |group: &Arc<Group>| group.entry.idle_since.is_none_or(|at| at == now);
        if !self.by_number.get(&number).is_some_and(is_current) {
            self.change(number, books, |_| {});
        }
    }

    /// Changes a group's entry, which is a use of the group.
    fn change(
        &mut self,
        number: GroupNumber,
        books: &mut Books,
        change: impl FnOnce(&mut GroupEntry),
    ) {
        let Some(group) = self.by_number.get(&number) else { return };
        let mut entry = group.entry.clone();
        self.leave(number, &entry, books);
        change(&mut entry);
        entry.idle_since = (!entry.has_members()).then_some(books.counters.time);
        self.enter(number, &entry, books);
        if let Some(group) = self.by_number.get_mut(&number) {
            Arc::make_mut(group).entry = entry;
        }
    }

    /// An entry is in the state from now on.
    fn enter(&mut self, number: GroupNumber, entry: &GroupEntry, books: &mut Books) {
        books.digest.add(&StateKey::Group(number), |out| entry.put(out));
        books.dirty.group(number);
        books.tally.text_bytes += text_bytes(entry);
        self.index(number, entry);
    }

    /// An entry is not in the state any more.
    fn leave(&mut self, number: GroupNumber, entry: &GroupEntry, books: &mut Books) {
        books.digest.remove(&StateKey::Group(number), |out| entry.put(out));
        books.dirty.group(number);
        books.tally.text_bytes -= text_bytes(entry);
        if let Some(since) = entry.idle_since {
            self.idle.remove(&(since, number));
        } else {
            self.attended.remove(&entry.id);
        }
    }

    fn index(&mut self, number: GroupNumber, entry: &GroupEntry) {
        if let Some(since) = entry.idle_since {
            self.idle.insert((since, number));
        } else {
            self.attended.insert(entry.id.clone());
        }
    }

    /// Forgets a group with its offsets.
    fn remove(&mut self, number: GroupNumber, books: &mut Books) {
        let Some(group) = self.by_number.remove(&number) else { return };
        self.leave(number, &group.entry, books);
        self.numbers.remove(&group.entry.id);
        for (partition, offset) in &group.offsets {
            self.offset_gone(number, *partition, offset, books);
            self.by_topic.remove(&(partition.topic, number));
        }
    }

    fn offset_gone(
        &self,
        number: GroupNumber,
        partition: PartitionId,
        offset: &CommittedOffset,
        books: &mut Books,
    ) {
        let key = StateKey::GroupOffset(number, partition);
        books.digest.remove(&key, |out| put_committed_offset(out, offset));
        books.tally.group_offsets -= 1;
        books.tally.text_bytes -= offset.metadata.len() as u64;
        // The offsets of a forgotten group go from the checkpoint as one range.
        if self.by_number.contains_key(&number) {
            books.dirty.group_offset(number, partition);
        }
    }

    /// Forgets groups that have been idle since `until` or longer, the longest idle first: at least
    /// one, and not many groups or offsets.
    pub(super) fn expire(&mut self, until: TimestampMs, books: &mut Books) {
        let offsets_before = books.tally.group_offsets;
        for _ in 0..GROUPS_EXPIRED_MAX {
            let first = self.idle.get_min().filter(|(since, _)| *since <= until);
            let Some((_, number)) = first.copied() else { return };
            self.remove(number, books);
            if offsets_before - books.tally.group_offsets >= GROUP_OFFSETS_EXPIRED_MAX {
                return;
            }
        }
    }

    /// Drops the offsets that groups have in a topic that is gone.
    pub(super) fn topic_deleted(&mut self, topic: TopicId, books: &mut Books) {
        let all = (topic, GroupNumber(0))..=(topic, GroupNumber(u64::MAX));
        let numbers: Vec<GroupNumber> = self.by_topic.range(all).map(|(_, n)| *n).collect();
        for number in numbers {
            self.drop_offsets(number, topic, books);
            self.by_topic.remove(&(topic, number));
        }
    }

    fn drop_offsets(&mut self, number: GroupNumber, topic: TopicId, books: &mut Books) {
        let Some(group) = self.by_number.get_mut(&number).map(Arc::make_mut) else { return };
        let all = PartitionId { topic, index: PartitionIndex(i32::MIN) }..=PartitionId {
            topic,
            index: PartitionIndex(i32::MAX),
        };
        let gone: Vec<PartitionId> = group.offsets.range(all).map(|(p, _)| *p).collect();
        let gone: Vec<_> =
            gone.into_iter().filter_map(|p| Some((p, group.offsets.remove(&p)?))).collect();
        let is_over = group.offsets.is_empty() && !group.entry.has_members();
        for (partition, offset) in &gone {
            self.offset_gone(number, *partition, offset, books);
        }
        if is_over {
            self.remove(number, books);
        }
    }

    /// Puts in a group without offsets. The caller has made sure that it is new, and indexes it.
    pub(super) fn load(&mut self, number: GroupNumber, entry: GroupEntry) {
        self.numbers.insert(entry.id.clone(), number);
        self.by_number.insert(number, Arc::new(Group { entry, offsets: OrdMap::new() }));
    }

    /// Puts in an offset; returns the one before, `None` when there is no such group.
    pub(super) fn load_offset(
        &mut self,
        number: GroupNumber,
        partition: PartitionId,
        offset: CommittedOffset,
    ) -> Option<Option<CommittedOffset>> {
        let group = Arc::make_mut(self.by_number.get_mut(&number)?);
        let before = group.offsets.insert(partition, offset);
        if before.is_none() {
            self.by_topic.insert((partition.topic, number));
        }
        Some(before)
    }

    /// Puts in a group as its record has it; `None` when it does not fit those before.
    pub(super) fn load_record(&mut self, number: GroupNumber, entry: GroupEntry) -> Option<()> {
        let is_new = !self.by_number.contains_key(&number) && !self.numbers.contains_key(&entry.id);
        if !is_new || entry.idle_since.is_some() == entry.has_members() {
            return None;
        }
        self.index(number, &entry);
        self.load(number, entry);
        Some(())
    }
}
