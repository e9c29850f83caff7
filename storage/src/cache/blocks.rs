//! Blocks through the cache: looked up, waited for, or read from the store once for all.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared, join_all};
use ottla_control_api::view::ObjectRef;
use ottla_model::{ClusterId, ObjectName};
use ottla_object_io::{ReadCause, Store, StoreError, keys};
use ottla_telemetry::Metrics;
use tokio::sync::Semaphore;

use super::{Block, BlockKey, Cache, Heat};
use crate::limits::{
    BLOCK_BYTES, BLOCKS_PER_READ_MAX, CATCH_UP_READS_MAX, FREE_BLOCKS_PER_READ_MAX, TAIL_READS_MAX,
};

/// What one read brought, by block number.
type Loaded = BTreeMap<u64, Arc<Block>>;
type Load = BoxFuture<'static, Result<Arc<Loaded>, StoreError>>;

/// The cache's way to the store. Cheap to clone.
#[derive(Clone)]
pub struct Blocks(Arc<Inner>);

struct Inner {
    cache: Arc<Cache>,
    store: Arc<dyn Store>,
    cluster: ClusterId,
    metrics: Arc<Metrics>,
    tail_reads: Semaphore,
    catch_up_reads: Semaphore,
    /// Reads under way. They are kept alive by those who wait, not by this map. Tail and catch-up
    /// do not share reads: the tail must not wait in the other's queue.
    flights: Mutex<BTreeMap<(Heat, BlockKey), WeakShared<Load>>>,
}

impl Blocks {
    /// Blocks of the objects of a cluster in a store.
    pub fn new(
        cache: Arc<Cache>,
        store: Arc<dyn Store>,
        cluster: ClusterId,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self(Arc::new(Inner {
            cache,
            store,
            cluster,
            metrics,
            tail_reads: Semaphore::new(TAIL_READS_MAX),
            catch_up_reads: Semaphore::new(CATCH_UP_READS_MAX),
            flights: Mutex::default(),
        }))
    }

    /// The cache.
    pub fn cache(&self) -> &Arc<Cache> {
        &self.0.cache
    }

    /// Blocks of an object, each from the cache, from a read that is under way, or from a new
    /// read; neighbours that are missing are read together. A failed read leaves its blocks out
    /// and adds its error.
    pub async fn read(
        &self,
        object: &ObjectRef,
        blocks: Range<u64>,
        heat: Heat,
        cause: ReadCause,
    ) -> (Loaded, Option<StoreError>) {
        let mut found = Loaded::new();
        let flights = self.take_off(object, blocks, heat, cause, &mut found);
        let mut failed = None;
        for landed in join_all(flights).await {
            match landed {
                Ok(loaded) => found.extend(loaded.iter().map(|(n, block)| (*n, Arc::clone(block)))),
                Err(error) => failed = Some(error),
            }
        }
        (found, failed)
    }

    /// Puts cached blocks into `found` and returns the reads that bring the others. Whether a
    /// block is cached, on its way or missing is decided under one lock, and a read enters its
    /// blocks into the cache before it leaves the map: no block is read twice.
    fn take_off(
        &self,
        object: &ObjectRef,
        blocks: Range<u64>,
        heat: Heat,
        cause: ReadCause,
        found: &mut Loaded,
    ) -> Vec<Shared<Load>> {
        let key = |block| BlockKey { object: object.name, block };
        let mut flights = self.flights();
        let mut waiting: Vec<Shared<Load>> = Vec::new();
        let mut missing: Vec<u64> = Vec::new();
        for block in blocks {
            if let Some(cached) = self.0.cache.block(&key(block)) {
                self.0.metrics.fetch.cache_hits.inc();
                found.insert(block, cached);
            } else if let Some(flight) =
                flights.get(&(heat, key(block))).and_then(WeakShared::upgrade)
            {
                if !waiting.iter().any(|other| other.ptr_eq(&flight)) {
                    waiting.push(flight);
                }
            } else {
                self.0.metrics.fetch.cache_misses.inc();
                missing.push(block);
            }
        }
        let charges = self.0.store.charges_for_requests();
        let longest = if charges { BLOCKS_PER_READ_MAX } else { FREE_BLOCKS_PER_READ_MAX };
        for run in runs(&missing, longest) {
            let flight = self.load(object.clone(), run.clone(), heat, cause).shared();
            if let Some(weak) = flight.downgrade() {
                flights.extend(run.map(|block| ((heat, key(block)), weak.clone())));
            }
            waiting.push(flight);
        }
        waiting
    }

    /// One request for neighbouring blocks.
    fn load(&self, object: ObjectRef, blocks: Range<u64>, heat: Heat, cause: ReadCause) -> Load {
        let this = self.clone();
        let run = blocks.clone();
        // Outside of the future: a read that nobody ever polls leaves the map as well.
        let landing = Landing { blocks: self.clone(), object: object.name, run, heat };
        async move {
            let permits = match heat {
                Heat::Tail => &this.0.tail_reads,
                Heat::CatchUp => &this.0.catch_up_reads,
            };
            // The semaphores are never closed; without a permit the read would just go ahead.
            let _permit = permits.acquire().await.ok();
            let end = (blocks.end * BLOCK_BYTES).min(object.size);
            let range = (blocks.start * BLOCK_BYTES).min(end)..end;
            let key = keys::object(this.0.cluster, &object.name);
            let bytes = this.0.store.get_range(&key, range.clone(), cause).await?;
            let read = Block::of_read(&bytes);
            let loaded = blocks.clone().zip(read.iter().cloned()).collect();
            let first = BlockKey { object: object.name, block: blocks.start };
            this.0.cache.insert_read(first, read, heat);
            drop(landing);
            Ok(Arc::new(loaded))
        }
        .boxed()
    }

    fn flights(&self) -> MutexGuard<'_, BTreeMap<(Heat, BlockKey), WeakShared<Load>>> {
        self.0.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a read out of the map when it ends, also when nobody waits for it any more.
struct Landing {
    blocks: Blocks,
    object: ObjectName,
    run: Range<u64>,
    heat: Heat,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut flights = self.blocks.flights();
        for block in self.run.clone() {
            let key = (self.heat, BlockKey { object: self.object, block });
            flights.remove(&key);
        }
    }
}

/// Neighbouring numbers as ranges of at most `longest`.
fn runs(numbers: &[u64], longest: u64) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some(run) if run.end == *number && run.end - run.start < longest => {
                run.end += 1;
            }
            _ => runs.push(*number..number + 1),
        }
    }
    runs
}

#[cfg(test)]
mod runs_tests {
    use super::*;

    #[test]
    fn neighbours_are_read_together_up_to_the_limit() {
        assert_eq!(runs(&[1, 2, 3, 5, 7, 8], 8), [1..4, 5..6, 7..9]);
        let many: Vec<u64> = (0..20).collect();
        assert_eq!(runs(&many, 8), [0..8, 8..16, 16..20]);
        assert!(runs(&[], 8).is_empty());
    }
}
