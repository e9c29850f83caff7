//! The reads of the state that brokers may make.

use std::sync::Arc;

use bytes::Bytes;
use ottla_control_api::view::{
    ClusterView, Extent, ExtentBytes, ObjectRange, ObjectRef, PartitionSnapshot,
};
use ottla_control_api::{ExtentPage, FindExtents, GroupState, PartitionBounds, TimestampQuery};
use ottla_format::state::{ExtentEntry, ExtentLocation};
use ottla_model::{BrokerAuthor, GroupId, ObjectId, PartitionId, TimestampMs};

use super::State;
use super::objects::Objects;
use crate::limits::{EXTENT_PAGE_INLINE_BYTES_MAX, EXTENT_PAGE_MAX};

const NO_PARTITION: ExtentPage = ExtentPage { bounds: None, extents: Vec::new() };

/// An extent as brokers see it. `find` knows the object that it refers to. Bytes that it holds by
/// value are shared, not copied.
pub(super) fn shown_extent(
    extent: &ExtentEntry,
    find: impl FnOnce(ObjectId) -> Option<Arc<ObjectRef>>,
) -> Option<Extent> {
    let bytes = match &extent.location {
        ExtentLocation::Object { object, position, length } => ExtentBytes::Object(ObjectRange {
            object: find(*object)?,
            position: *position,
            length: *length,
        }),
        ExtentLocation::Inline(bytes) => ExtentBytes::Inline(Bytes::from_owner(Arc::clone(bytes))),
    };
    Some(Extent {
        base_offset: extent.base_offset,
        last_offset: extent.last_offset(),
        max_timestamp: extent.max_timestamp,
        flags: extent.flags,
        bytes,
    })
}

/// Resolves the objects of extents; neighbours often share theirs.
struct Resolver<'a> {
    objects: &'a Objects,
    last: Option<Arc<ObjectRef>>,
}

impl Resolver<'_> {
    /// `None` cannot happen in a state that holds I-LIVE: every referenced object exists.
    fn resolve(&mut self, extent: &ExtentEntry) -> Option<Arc<Extent>> {
        shown_extent(extent, |object| self.object(object)).map(Arc::new)
    }

    fn object(&mut self, id: ObjectId) -> Option<Arc<ObjectRef>> {
        if let Some(last) = self.last.as_ref().filter(|last| last.id == id) {
            return Some(Arc::clone(last));
        }
        self.last = self.objects.reference(id);
        self.last.clone()
    }
}

impl State {
    /// The whole view of a broker. Costs as much as there are partitions.
    pub fn view(&self) -> ClusterView {
        let partitions = self.topics.iter().flat_map(|topic| topic.partitions());
        ClusterView {
            applied: self.applied,
            brokers: self.brokers.infos().collect(),
            topics: self.topics.iter().map(|topic| Arc::clone(topic.info())).collect(),
            partitions: partitions
                .map(|(partition, state)| PartitionSnapshot { partition, bounds: state.bounds() })
                .collect(),
        }
    }

    /// A partition's offsets; `None` when it does not exist.
    pub fn bounds(&self, partition: PartitionId) -> Option<PartitionBounds> {
        self.topics.partition(partition).map(|partition| partition.bounds())
    }

    /// Extents from an offset on: at least one, if there is one, and at most [`EXTENT_PAGE_MAX`],
    /// up to the one that reaches [`EXTENT_PAGE_INLINE_BYTES_MAX`].
    pub fn find_extents(&self, find: &FindExtents) -> ExtentPage {
        let Some(partition) = self.topics.partition(find.partition) else {
            return NO_PARTITION;
        };
        let extents = partition.extents();
        let mut resolver = Resolver { objects: &self.objects, last: None };
        let mut found = Vec::new();
        let (mut bytes, mut inline) = (0u64, 0u64);
        for extent in extents.from_offset(find.from).take(EXTENT_PAGE_MAX) {
            found.extend(resolver.resolve(extent));
            bytes = bytes.saturating_add(extent.length());
            inline += extent.inline_bytes();
            if bytes >= find.max_bytes || inline >= EXTENT_PAGE_INLINE_BYTES_MAX {
                break;
            }
        }
        ExtentPage { bounds: Some(partition.bounds()), extents: found }
    }

    /// The first extent that can hold what is asked for; at most one.
    pub fn find_timestamp(&self, partition: PartitionId, query: TimestampQuery) -> ExtentPage {
        let Some(partition) = self.topics.partition(partition) else {
            return NO_PARTITION;
        };
        let extents = partition.extents();
        let found = match query {
            TimestampQuery::AtOrAfter(time) => extents.find_timestamp(time),
            TimestampQuery::Max => extents.find_max_timestamp(),
        };
        let mut resolver = Resolver { objects: &self.objects, last: None };
        let extent = found.and_then(|extent| resolver.resolve(extent));
        ExtentPage { bounds: Some(partition.bounds()), extents: extent.into_iter().collect() }
    }

    /// A group; `None` when it has neither metadata nor offsets.
    pub fn group(&self, group: &GroupId) -> Option<GroupState> {
        self.groups.get(group)
    }

    /// The first `max` groups with members, in the order of their ids, behind `after`.
    pub fn groups_with_members(&self, after: Option<&GroupId>, max: usize) -> Vec<GroupId> {
        self.groups.with_members(after, max)
    }

    /// Whether the author's run is not over.
    pub fn is_living(&self, author: BrokerAuthor) -> bool {
        self.brokers.living(author).is_some()
    }

    /// The authors whose runs are not over: they have sessions.
    pub fn living_brokers(&self) -> impl Iterator<Item = BrokerAuthor> {
        self.brokers.infos().map(|info| info.author)
    }

    /// Whether there may be producers whose last use was at `until` or earlier; to be asked before a
    /// command is written to forget them.
    pub fn has_producers_used_until(&self, until: TimestampMs) -> bool {
        self.topics.has_producers_used_until(until)
    }

    /// Whether groups have been without members and without a commit since `until` or longer.
    pub fn has_idle_groups(&self, until: TimestampMs) -> bool {
        self.groups.has_idle_since(until)
    }
}
