//! The part of the replicated state that a broker is shown, and how it changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_model::{
    AppliedIndex, BrokerId, BytePosition, ObjectId, ObjectName, Offset, PartitionId, TimestampMs,
    TopicId, TopicName,
};

use crate::messages::{BrokerInfo, PartitionBounds};

/// A contiguous run of one partition's record batches in one object. It holds whole batches and no
/// dead bytes, so every batch's base offset follows from the extent's base offset and the batches'
/// own last offset deltas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// First byte in the object.
    pub position: BytePosition,
    /// Length in bytes.
    pub length: u64,
    /// The largest timestamp of its records (the append time, when it has one).
    pub max_timestamp: TimestampMs,
    /// The time of all its records, for topics with log-append time at the commit.
    pub append_time: Option<TimestampMs>,
    /// The object that holds it.
    pub object: Arc<ObjectRef>,
}

/// An object that extents point into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRef {
    /// The control plane's number.
    pub id: ObjectId,
    /// Writer, sequence and attempt: makes the key, and is checked against the object's header.
    pub name: ObjectName,
    /// Length in bytes.
    pub size: u64,
}

/// A topic as brokers see it.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicInfo {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// Number of partitions.
    pub partitions: i32,
    /// Virtual replication factor to show.
    pub replication_factor: i16,
    /// Configs that were set, by name.
    pub configs: BTreeMap<String, String>,
}

/// A partition as a watch starts with it.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionSnapshot {
    /// Which.
    pub partition: PartitionId,
    /// Its offsets.
    pub bounds: PartitionBounds,
}

/// A whole view, at one applied index.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterView {
    /// What the view includes.
    pub applied: AppliedIndex,
    /// Living brokers, by id.
    pub brokers: Vec<BrokerInfo>,
    /// Topics, by id.
    pub topics: Vec<Arc<TopicInfo>>,
    /// Partitions, in order.
    pub partitions: Vec<PartitionSnapshot>,
}

/// One step of a watch.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// Forget what you have; this is the state.
    Reset(Arc<ClusterView>),
    /// What the entries up to `applied` changed, in order. Entries without visible change may be
    /// reported with an empty list, so that a reader sees how far it is.
    Changes {
        /// The last entry included.
        applied: AppliedIndex,
        /// The changes.
        changes: Arc<[Change]>,
    },
}

/// One change of what brokers see.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A topic was created, grew, or got other configs.
    Topic(Arc<TopicInfo>),
    /// A topic is gone.
    TopicDeleted(TopicId),
    /// A partition's offsets moved, with the extents that were added, in offset order. The bounds
    /// are those after the last of them.
    Partition {
        /// Which.
        partition: PartitionId,
        /// Its offsets now.
        bounds: PartitionBounds,
        /// What was added.
        extents: Vec<Arc<Extent>>,
    },
    /// A broker registered, or changed.
    Broker(BrokerInfo),
    /// A broker's run ended.
    BrokerGone(BrokerId),
}
