//! The part of the replicated state that a broker is shown, and how it changes.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use ottla_model::{
    AppliedIndex, BrokerId, BytePosition, ExtentFlags, ObjectId, ObjectName, Offset, PartitionId,
    TimestampMs, TopicId, TopicName,
};

use crate::messages::{BrokerInfo, PartitionBounds};

/// A contiguous run of one partition's record batches, in one object or by value. It holds whole
/// batches and no dead bytes, so every batch's base offset follows from the extent's base offset and
/// the batches' own last offset deltas (or stands in its header, see
/// [`ExtentFlags::FINAL_HEADERS`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// The largest timestamp of its records (the append time, when it has one).
    pub max_timestamp: TimestampMs,
    /// Properties of all its batches.
    pub flags: ExtentFlags,
    /// Its bytes.
    pub bytes: ExtentBytes,
}

/// The bytes of an extent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtentBytes {
    /// By reference.
    Object(ObjectRange),
    /// By value; few.
    Inline(Bytes),
}

/// A range of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRange {
    /// The object.
    pub object: Arc<ObjectRef>,
    /// First byte in the object.
    pub position: BytePosition,
    /// Length in bytes.
    pub length: u32,
}

impl Extent {
    /// Length in bytes.
    pub fn length(&self) -> u64 {
        match &self.bytes {
            ExtentBytes::Object(range) => u64::from(range.length),
            ExtentBytes::Inline(bytes) => bytes.len() as u64,
        }
    }

    /// Where its bytes are: positions in its object, or in the bytes that it holds itself.
    pub fn positions(&self) -> Range<u64> {
        let start = match &self.bytes {
            ExtentBytes::Object(range) => range.position.0,
            ExtentBytes::Inline(_) => 0,
        };
        start..start.saturating_add(self.length())
    }

    /// The time of all its records, when the log gave them one. `None` when it did not, and when each
    /// batch's header says it.
    pub fn append_time(&self) -> Option<TimestampMs> {
        let is_one = self.flags.contains(ExtentFlags::LOG_APPEND_TIME)
            && !self.flags.contains(ExtentFlags::FINAL_HEADERS);
        is_one.then_some(self.max_timestamp)
    }

    /// The object that holds it; `None` when it holds its bytes itself.
    pub fn object(&self) -> Option<&Arc<ObjectRef>> {
        match &self.bytes {
            ExtentBytes::Object(range) => Some(&range.object),
            ExtentBytes::Inline(_) => None,
        }
    }

    /// How many bytes it holds by value.
    pub fn inline_bytes(&self) -> usize {
        match &self.bytes {
            ExtentBytes::Object(_) => 0,
            ExtentBytes::Inline(bytes) => bytes.len(),
        }
    }
}

impl fmt::Display for ExtentBytes {
    /// The object's name, or that there is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(range) => range.object.name.fmt(f),
            Self::Inline(bytes) => write!(f, "{} inline bytes", bytes.len()),
        }
    }
}

/// An object that extents point into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRef {
    /// The control plane's number.
    pub id: ObjectId,
    /// Makes the key, and is checked against the object's header.
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
