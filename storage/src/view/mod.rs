//! The broker's view of the cluster: topics, partitions' offsets, recent extents, brokers.
//!
//! # Contract
//!
//! The view follows the control plane's watch and is a moment behind it. It never runs backward:
//! every event carries a later state. A reader that needs the current state asks the control plane
//! instead. One task writes ([`ViewTask`]); everybody reads. Reads take a lock for the length of a
//! map look-up and never across a wait.
//!
//! # Waiting
//!
//! A long poll registers for exactly its partitions ([`View::wait_on`]) *before* it looks at them.
//! A commit to one of them wakes it; commits to others do not touch it. A wake-up between looking
//! and waiting is kept, so none is lost.
//!
//! # Never backward
//!
//! Clients must not see a high watermark, last stable offset or log start go back (I-FWD). The leader's
//! answer to a question may be ahead of the watch, or behind it when it was delayed. So every answer
//! that shows offsets of the leader passes through [`View::learn`]: the view keeps what is newer, the
//! client sees the newer of both, and older events do not undo it.
//!
//! # Read your writes
//!
//! A client whose records were acknowledged finds them with its next fetch from the same broker, as
//! in Kafka. The watch may show a commit later than its answer does. So an acknowledgement passes
//! through [`View::learn_appended`] before it is sent. A fetch that comes before the watch finds that
//! the view lacks the extents below the high watermark, and asks the leader for them.
//!
//! # Reset
//!
//! A reader that fell behind gets the whole state instead of what it missed. Waiters stay
//! registered and are all woken: anything may have changed. Recent extents are forgotten, because
//! the ones in between are not known; a fetch then asks the control plane.
//!
//! # Memory
//!
//! Per partition a few words, and up to [`crate::limits::RECENT_EXTENTS_PER_PARTITION`] extents; over all
//! partitions at most [`crate::limits::RECENT_EXTENTS_MAX`], which hold at most
//! [`crate::limits::RECENT_EXTENTS_INLINE_BYTES_MAX`] by value; the oldest are forgotten first.

mod partitions;
mod task;
#[cfg(test)]
mod tests;
mod wait;

pub use task::ViewTask;
pub use wait::{PartitionSet, Wait};

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ottla_control_api::view::{Extent, TopicInfo};
use ottla_control_api::{BrokerInfo, ControlPlane, PartitionBounds};
use ottla_model::{AppliedIndex, BrokerId, Offset, PartitionId, TopicId, TopicName};
use ottla_telemetry::Metrics;
use ottla_telemetry::metrics::Gauge;
use tokio::sync::watch;

use partitions::Partitions;

/// The view. Shared as an `Arc`; see the module for what it promises.
#[derive(Debug)]
pub struct View {
    topics: RwLock<Topics>,
    brokers: RwLock<BTreeMap<BrokerId, BrokerInfo>>,
    partitions: Partitions,
    applied: watch::Sender<Progress>,
    held: Gauge,
}

#[derive(Debug, Default)]
struct Topics {
    by_id: BTreeMap<TopicId, Arc<TopicInfo>>,
    by_name: BTreeMap<TopicName, TopicId>,
    partitions: usize,
}

/// How far the view is, and whether it will go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Progress {
    applied: AppliedIndex,
    open: bool,
}

/// The watch ended: the control plane has stopped and the view will not change any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the view of the cluster ended because the control plane stopped")]
pub struct ViewEnded;

/// Extents of one partition with the offsets of the same moment.
#[derive(Clone, Debug, PartialEq)]
pub struct RecentExtents {
    /// The partition's offsets.
    pub bounds: PartitionBounds,
    /// In offset order, the first holds the offset that was asked for.
    pub extents: Vec<Arc<Extent>>,
}

impl View {
    /// Starts to follow the control plane. The view is empty until its first event; wait with
    /// [`View::reached`]. It follows until the task is stopped.
    pub fn start(control: &dyn ControlPlane, metrics: &Metrics) -> (Arc<Self>, ViewTask) {
        let progress = Progress { applied: AppliedIndex(0), open: true };
        let view = Arc::new(Self {
            topics: RwLock::default(),
            brokers: RwLock::default(),
            partitions: Partitions::new(),
            applied: watch::Sender::new(progress),
            held: metrics.memory.bytes.with(["view"]),
        });
        let task = ViewTask::start(Arc::clone(&view), control.watch());
        (view, task)
    }

    /// The living topic of a name.
    pub fn topic_by_name(&self, name: &TopicName) -> Option<Arc<TopicInfo>> {
        let topics = self.read_topics();
        topics.by_name.get(name).and_then(|id| topics.by_id.get(id)).cloned()
    }

    /// A living topic.
    pub fn topic(&self, id: TopicId) -> Option<Arc<TopicInfo>> {
        self.read_topics().by_id.get(&id).cloned()
    }

    /// All living topics, in order of their names.
    pub fn topics(&self) -> Vec<Arc<TopicInfo>> {
        let topics = self.read_topics();
        topics.by_name.values().filter_map(|id| topics.by_id.get(id)).cloned().collect()
    }

    /// All registered brokers, draining ones included, by id.
    pub fn brokers(&self) -> Vec<BrokerInfo> {
        self.brokers.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// A partition's offsets; `None` when it does not exist (yet).
    pub fn bounds(&self, partition: PartitionId) -> Option<PartitionBounds> {
        self.partitions.bounds(partition)
    }

    /// Merges the leader's offsets of a partition into the view and returns what a client may be
    /// shown: the larger of both, each offset by itself. Wakes nobody; the watch will. Offsets of a
    /// partition that the view does not have (yet) are returned as they are.
    pub fn learn(&self, partition: PartitionId, answered: PartitionBounds) -> PartitionBounds {
        self.partitions.learn(partition, answered)
    }

    /// The same for an acknowledgement: the log start at the commit, and one past the last record that
    /// was committed. Returns the log start that the client may be shown.
    pub fn learn_appended(&self, partition: PartitionId, log_start: Offset, end: Offset) -> Offset {
        // Transactions are not served, so all that is committed is stable.
        let answered = PartitionBounds { log_start, high_watermark: end, last_stable: end };
        self.learn(partition, answered).log_start
    }

    /// Recent extents of a partition from the one that holds `from` on, up to the one that reaches
    /// `max_bytes`. `None` when the view does not have that extent: ask the control plane.
    pub fn recent_extents(
        &self,
        partition: PartitionId,
        from: Offset,
        max_bytes: u64,
    ) -> Option<RecentExtents> {
        self.partitions.recent(partition, from, max_bytes)
    }

    /// How much of the log the view includes.
    pub fn applied(&self) -> AppliedIndex {
        self.applied.borrow().applied
    }

    /// Waits until the view includes `index`.
    pub async fn reached(&self, index: AppliedIndex) -> Result<(), ViewEnded> {
        let mut progress = self.applied.subscribe();
        let reached = progress.wait_for(|p| p.applied >= index || !p.open).await;
        match reached.map(|p| p.applied >= index) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(ViewEnded),
        }
    }

    /// Registers for changes of exactly these partitions. Look at them after this call, then wait.
    pub fn wait_on<P: PartitionSet>(self: &Arc<Self>, partitions: P) -> Wait<P> {
        Wait::register(Arc::clone(self), partitions)
    }

    fn read_topics(&self) -> RwLockReadGuard<'_, Topics> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_topics(&self) -> RwLockWriteGuard<'_, Topics> {
        self.topics.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_brokers(&self) -> RwLockWriteGuard<'_, BTreeMap<BrokerId, BrokerInfo>> {
        self.brokers.write().unwrap_or_else(PoisonError::into_inner)
    }
}
