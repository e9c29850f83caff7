//! Requests and answers that are not commands themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_format::command::{CommittedOffset, GroupKind, GroupMetadata};
use ottla_model::{
    AppliedIndex, BrokerAuthor, BrokerProfile, ClusterId, Offset, PartitionId, TimestampMs,
    TopicId, TopicName,
};

use crate::view::Extent;

/// Answer to a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The cluster this control plane runs.
    pub cluster: ClusterId,
    /// The broker with its new epoch.
    pub author: BrokerAuthor,
    /// The broker's view must have reached this before it serves clients.
    pub applied: AppliedIndex,
    /// The session ends when it is not renewed for this long.
    pub session_ms: u64,
}

/// A registered, living broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerInfo {
    /// Id and epoch.
    pub author: BrokerAuthor,
    /// Where it is and what it runs.
    pub profile: Arc<BrokerProfile>,
    /// It is leaving: not shown to clients.
    pub draining: bool,
}

/// A topic to create. The caller draws `id` at random once and keeps it over retries.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateTopicRequest {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// Number of partitions.
    pub partitions: i32,
    /// Virtual replication factor to show.
    pub replication_factor: i16,
    /// Validated configs, by name, as given.
    pub configs: BTreeMap<String, String>,
}

/// A group as the state machine holds it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct GroupState {
    /// By which protocol its members agree.
    pub kind: GroupKind,
    /// `None` when only offsets were ever committed.
    pub metadata: Option<GroupMetadata>,
    /// Committed offsets by partition.
    pub offsets: BTreeMap<PartitionId, CommittedOffset>,
}

/// Which extents to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FindExtents {
    /// Where.
    pub partition: PartitionId,
    /// From the extent that holds this offset on (or the next one after a gap).
    pub from: Offset,
    /// Stop after the extent that reaches this many bytes.
    pub max_bytes: u64,
}

/// Some extents of a partition, in offset order.
#[derive(Clone, Debug, PartialEq)]
pub struct ExtentPage {
    /// The partition's offsets at the same moment; `None`: the partition does not exist.
    pub bounds: Option<PartitionBounds>,
    /// The extents. Empty when none fits.
    pub extents: Vec<Arc<Extent>>,
}

/// A partition's offsets at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionBounds {
    /// The first offset that can be read.
    pub log_start: Offset,
    /// One past the last committed record.
    pub high_watermark: Offset,
    /// One past the last record that a read-committed consumer may see.
    pub last_stable: Offset,
}

/// A question for a record by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampQuery {
    /// The first record, in offset order, whose timestamp is this or later. The answer starts with
    /// the first extent whose maximum reaches it, and has at most one extent.
    AtOrAfter(TimestampMs),
    /// The record with the largest timestamp. The answer has at most one extent: the first with
    /// the largest maximum.
    Max,
}
