//! The read path: fetches and look-ups by timestamp.
//!
//! # The life of a fetch
//!
//! 1. *Locate* (`locate`): the partition's offsets and the extents from the asked offset on, from
//!    the broker's view or, for older data and doubtful offsets, from the control plane.
//! 2. *Plan* ([`plan`]): how much each partition may bring, and which blocks of which objects that
//!    takes; neighbouring ranges of one object are read once. Pure.
//! 3. *Read* (`gather`): the blocks, all at the same time, through the cache.
//! 4. *Assemble* (`assemble`): the batches, checked; whole batches only.
//! 5. *Spend* ([`plan::spend`]): the request's bytes in request order. Pure.
//! 6. *Patch* (`patch`): base offset and leader epoch into copies of the headers. Records are
//!    not copied: the answer is pieces of the cache's buffers.
//!
//! An extent that holds its bytes by value passes all steps but the third: it brings its bytes along, and
//! nothing of it is read from the store or kept in the cache.
//!
//! When that is less than the client waits for, the fetch waits for a change of its partitions and
//! begins again.
//!
//! # Memory
//!
//! A fetch that waits keeps its partitions in a compact form ([`FetchPartitions`]), and nothing of an
//! earlier pass. A pass over many partitions takes several times as much: it reserves that from the
//! budget of its [`PassMemory`] before it begins and returns it when it ends. A pass waits for
//! questions to the control plane and for reads, which have deadlines. For the right to hold blocks it
//! may wait for other clients, at most for [`HOLD_WAIT_MAX`](crate::limits::HOLD_WAIT_MAX).
//!
//! # Faults stay local
//!
//! A partition whose data cannot be read is answered with what came before the trouble, or with an
//! error of its own; the others are not touched. A damaged block is read again once. A missing
//! object is looked up again once, because it may have been replaced; an empty success never
//! stands for missing data.

mod ahead;
mod assemble;
mod fetch;
mod gather;
mod leader;
mod locate;
mod part;
mod partitions;
mod patch;
mod places;
pub mod plan;
#[cfg(test)]
mod tests;
mod timestamp;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_control_api::{CallError, ControlPlane, PartitionBounds};
use ottla_model::{ClusterId, Offset, PartitionId};
use ottla_object_io::{Store, StoreError};
use ottla_telemetry::Metrics;
use thiserror::Error;

use crate::cache::{Blocks, Cache};
use crate::fair_turns::FairTurns;
use crate::limits::{BLOCK_BYTES, LOOK_UP_BLOCKS_MAX, RECORD_WALKS_MAX};
use crate::view::View;
use crate::write::{Budget, BudgetMetrics};
use ahead::Ahead;
use gather::Gather;
pub use partitions::FetchPartitions;
use places::Places;

/// Reads partitions. Cheap to share as an `Arc`.
pub struct Reader {
    view: Arc<View>,
    control: Arc<dyn ControlPlane>,
    gather: Arc<Gather>,
    ahead: Ahead,
    places: Places,
    /// Bytes of the extents that look-ups by timestamp read.
    look_ups: Budget,
    /// Turns of walks over records.
    walks: FairTurns,
    metrics: Arc<Metrics>,
}

/// Which records a reader may see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// All that are committed to the log.
    #[default]
    Uncommitted,
    /// Records below the last stable offset.
    Committed,
}

impl Isolation {
    /// One past the last offset that may be read.
    pub fn end(self, bounds: &PartitionBounds) -> Offset {
        match self {
            Self::Uncommitted => bounds.high_watermark,
            Self::Committed => bounds.last_stable,
        }
    }
}

/// A client's fetch.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// How long to wait for `min_bytes`.
    pub max_wait: Duration,
    /// Answer as soon as this many record bytes can be read.
    pub min_bytes: usize,
    /// Record bytes of the answer; one batch may exceed it.
    pub max_bytes: usize,
    /// Which records it may see.
    pub isolation: Isolation,
    /// What from where, in the order in which `max_bytes` is spent.
    pub partitions: Arc<FetchPartitions>,
    /// Where a pass over many partitions reserves its memory; `None`: it is not bounded.
    pub memory: Option<PassMemory>,
}

/// The budget of passes, and for whom a fetch takes from it.
#[derive(Clone, Debug)]
pub struct PassMemory {
    /// Shared by all fetches.
    pub budget: Budget,
    /// The key of the client's share.
    pub client: IpAddr,
    /// Whether a pass waits for its memory. One that does not wait is answered without records when
    /// there is none.
    pub may_wait: bool,
}

/// One partition of a [`FetchRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    /// Which.
    pub partition: PartitionId,
    /// The first record wanted.
    pub offset: Offset,
    /// Record bytes from this partition; the answer's first batch may exceed it.
    pub max_bytes: usize,
}

/// The result of one partition's fetch.
#[derive(Clone, Debug)]
pub struct FetchedPartition {
    /// The partition's offsets at the moment the records were found; all 0 when it is not known.
    pub bounds: PartitionBounds,
    /// Whole record batches, in offset order.
    pub records: Records,
    /// Why there is no more. An answer with records has no error: the next fetch, from where they
    /// end, gets it.
    pub error: Option<ReadError>,
}

/// Record batches as they go into an answer: pieces to be written one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// The pieces.
    pub pieces: Vec<Bytes>,
    /// Their total length in bytes.
    pub length: usize,
}

/// Why records could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// The offset is below the log start or above the high watermark. Checked with the leader.
    #[error("the offset is outside of the partition")]
    OffsetOutOfRange,
    /// No such partition.
    #[error("the partition does not exist")]
    UnknownPartition,
    /// The object store did not give the bytes.
    #[error("the records could not be read: {0}")]
    Storage(#[from] StoreError),
    /// The bytes are wrong, also when read again.
    #[error("the stored records are damaged: {0}")]
    Corrupt(String),
    /// The control plane did not answer.
    #[error("the records could not be found: {0}")]
    Unavailable(#[from] CallError),
}

impl ReadError {
    fn label(&self) -> &'static str {
        match self {
            Self::OffsetOutOfRange => "offset_out_of_range",
            Self::UnknownPartition => "unknown_partition",
            Self::Storage(_) => "storage",
            Self::Corrupt(_) => "corrupt",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

impl Reader {
    /// A reader of a cluster's partitions.
    pub fn new(
        view: Arc<View>,
        cache: Arc<Cache>,
        store: Arc<dyn Store>,
        control: Arc<dyn ControlPlane>,
        cluster: ClusterId,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let blocks = Blocks::new(cache, Arc::clone(&store), cluster, Arc::clone(&metrics));
        let gather = Gather::new(blocks, store, cluster, Arc::clone(&metrics));
        Arc::new(Self {
            view,
            control,
            gather: Arc::new(gather),
            ahead: Ahead::default(),
            places: Places::new(),
            look_ups: look_ups_budget(&metrics),
            walks: FairTurns::new(RECORD_WALKS_MAX),
            metrics,
        })
    }

    /// Ends what runs in the background: reads ahead. Fetches go on working.
    pub async fn stop(&self) {
        self.ahead.stop().await;
    }
}

fn look_ups_budget(metrics: &Metrics) -> Budget {
    let shown = BudgetMetrics {
        held: metrics.memory.bytes.with(["look_ups"]),
        held_max: metrics.memory.bytes_max.with(["look_ups"]),
        waited: metrics.kafka.request_wait.clone(),
    };
    Budget::new(LOOK_UP_BLOCKS_MAX * BLOCK_BYTES as usize, shown)
}
