//! Offsets, recent extents and waiters of all partitions, in shards with a lock each.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ottla_control_api::PartitionBounds;
use ottla_control_api::view::Extent;
use ottla_model::{Offset, PartitionId, TopicId};
use tokio::sync::Notify;

use super::RecentExtents;
use crate::limits::{
    RECENT_EXTENTS_INLINE_BYTES_MAX, RECENT_EXTENTS_MAX, RECENT_EXTENTS_PER_PARTITION, VIEW_SHARDS,
};

#[derive(Debug)]
pub(super) struct Partitions {
    shards: Vec<Mutex<BTreeMap<PartitionId, Partition>>>,
    tickets: AtomicU64,
}

#[derive(Debug, Default)]
struct Partition {
    bounds: PartitionBounds,
    /// The newest extents without a hole between them, in offset order.
    recent: VecDeque<Arc<Extent>>,
    waiters: BTreeMap<u64, Arc<Notify>>,
}

impl Partition {
    fn wake(&self) {
        for notify in self.waiters.values() {
            notify.notify_one();
        }
    }

    /// Moves the offsets forward to `newer`, each by itself, and never back.
    fn advance(&mut self, newer: PartitionBounds) {
        let PartitionBounds { log_start, high_watermark, last_stable } = &mut self.bounds;
        *log_start = newer.log_start.max(*log_start);
        *high_watermark = newer.high_watermark.max(*high_watermark);
        *last_stable = newer.last_stable.max(*last_stable);
    }

    /// Forgets extents that lie below the log start.
    fn trim(&mut self) {
        let start = self.bounds.log_start;
        while self.recent.front().is_some_and(|extent| extent.last_offset < start) {
            self.recent.pop_front();
        }
    }
}

/// The order in which extents came, over all partitions: the oldest are forgotten first. Belongs
/// to the one task that writes.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    order: VecDeque<Arrival>,
    inline_bytes: usize,
}

#[derive(Debug)]
struct Arrival {
    partition: PartitionId,
    base_offset: Offset,
    /// How many bytes the extent holds by value.
    inline_bytes: usize,
}

impl Arrivals {
    /// How many recent extents there are at most.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// How many bytes they hold by value at most.
    pub(super) fn inline_bytes(&self) -> usize {
        self.inline_bytes
    }

    fn push(&mut self, partition: PartitionId, extent: &Extent) {
        let (base_offset, inline_bytes) = (extent.base_offset, extent.inline_bytes());
        self.inline_bytes += inline_bytes;
        self.order.push_back(Arrival { partition, base_offset, inline_bytes });
    }

    /// The one to be forgotten, when there are too many or they hold too much.
    fn pop_surplus(&mut self) -> Option<Arrival> {
        let is_full =
            self.len() > RECENT_EXTENTS_MAX || self.inline_bytes > RECENT_EXTENTS_INLINE_BYTES_MAX;
        let oldest = if is_full { self.order.pop_front() } else { None };
        self.inline_bytes -= oldest.as_ref().map_or(0, |arrival| arrival.inline_bytes);
        oldest
    }
}

impl Partitions {
    pub(super) fn new() -> Self {
        let shards = (0..VIEW_SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, tickets: AtomicU64::new(0) }
    }

    fn shard(&self, partition: PartitionId) -> MutexGuard<'_, BTreeMap<PartitionId, Partition>> {
        // Topic ids are random, partition numbers consecutive: both spread well.
        let mixed = (partition.topic.0 as usize).wrapping_add(partition.index.0 as usize);
        lock(&self.shards[mixed % VIEW_SHARDS])
    }

    pub(super) fn bounds(&self, partition: PartitionId) -> Option<PartitionBounds> {
        self.shard(partition).get(&partition).map(|p| p.bounds)
    }

    pub(super) fn learn(
        &self,
        partition: PartitionId,
        answered: PartitionBounds,
    ) -> PartitionBounds {
        match self.shard(partition).get_mut(&partition) {
            Some(known) => {
                known.advance(answered);
                known.bounds
            }
            None => answered,
        }
    }

    pub(super) fn recent(
        &self,
        partition: PartitionId,
        from: Offset,
        max_bytes: u64,
    ) -> Option<RecentExtents> {
        let shard = self.shard(partition);
        let known = shard.get(&partition)?;
        let first = known.recent.partition_point(|extent| extent.last_offset < from);
        if known.recent.get(first)?.base_offset > from {
            return None;
        }
        let mut bytes = 0;
        let mut extents = Vec::new();
        for extent in known.recent.range(first..) {
            if bytes >= max_bytes && !extents.is_empty() {
                break;
            }
            bytes += extent.length();
            extents.push(Arc::clone(extent));
        }
        Some(RecentExtents { bounds: known.bounds, extents })
    }

    pub(super) fn next_ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::Relaxed)
    }

    /// A partition that does not exist never changes: registering for it does nothing.
    pub(super) fn register(&self, partition: PartitionId, ticket: u64, notify: &Arc<Notify>) {
        if let Some(known) = self.shard(partition).get_mut(&partition) {
            known.waiters.insert(ticket, Arc::clone(notify));
        }
    }

    pub(super) fn unregister(&self, partition: PartitionId, ticket: u64) {
        if let Some(known) = self.shard(partition).get_mut(&partition) {
            known.waiters.remove(&ticket);
        }
    }

    /// Makes an empty partition unless it exists.
    pub(super) fn ensure(&self, partition: PartitionId) {
        self.shard(partition).entry(partition).or_default();
    }

    pub(super) fn change(
        &self,
        arrivals: &mut Arrivals,
        partition: PartitionId,
        bounds: PartitionBounds,
        extents: &[Arc<Extent>],
    ) {
        let mut shard = self.shard(partition);
        let known = shard.entry(partition).or_default();
        known.advance(bounds);
        for extent in extents {
            let follows =
                known.recent.back().is_none_or(|last| last.last_offset < extent.base_offset);
            if !follows {
                // Extents of these offsets were replaced: what is kept may be out of date.
                known.recent.clear();
            }
            known.recent.push_back(Arc::clone(extent));
            arrivals.push(partition, extent);
            if known.recent.len() > RECENT_EXTENTS_PER_PARTITION {
                known.recent.pop_front();
            }
        }
        known.trim();
        known.wake();
        drop(shard);
        self.forget_oldest(arrivals);
    }

    fn forget_oldest(&self, arrivals: &mut Arrivals) {
        while let Some(Arrival { partition, base_offset, .. }) = arrivals.pop_surplus() {
            let mut shard = self.shard(partition);
            let Some(known) = shard.get_mut(&partition) else { continue };
            if known.recent.front().is_some_and(|extent| extent.base_offset == base_offset) {
                known.recent.pop_front();
            }
        }
    }

    /// Removes a topic's partitions and wakes who waits for them.
    pub(super) fn remove_topic(&self, topic: TopicId) {
        for shard in &self.shards {
            lock(shard).retain(|partition, known| {
                let stays = partition.topic != topic;
                if !stays {
                    known.wake();
                }
                stays
            });
        }
    }

    /// Takes over a whole state: partitions that are not in it go, the others keep their waiters.
    pub(super) fn reset(
        &self,
        arrivals: &mut Arrivals,
        all: &BTreeMap<PartitionId, PartitionBounds>,
    ) {
        *arrivals = Arrivals::default();
        for shard in &self.shards {
            lock(shard).retain(|partition, known| {
                known.recent.clear();
                known.wake();
                all.contains_key(partition)
            });
        }
        for (partition, bounds) in all {
            self.shard(*partition).entry(*partition).or_default().advance(*bounds);
        }
    }

    #[cfg(test)]
    pub(super) fn waiters(&self) -> usize {
        self.shards.iter().map(|s| lock(s).values().map(|p| p.waiters.len()).sum::<usize>()).sum()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
