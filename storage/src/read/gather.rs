//! Bringing the bytes of objects together: written objects and blocks from the cache, the rest
//! from the store, all at the same time.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::join_all;
use ottla_control_api::view::{Extent, ExtentBytes, ObjectRef};
use ottla_format::object::{OBJECT_HEADER_BYTES, ObjectHeader};
use ottla_model::{ClusterId, ObjectName};
use ottla_object_io::{ReadCause, Store, StoreError, keys};
use ottla_telemetry::Metrics;
use ottla_telemetry::metrics::Gauge;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::plan::{ObjectBlocks, blocks_of};
use crate::cache::{Block, BlockKey, Blocks, Fifo, Heat, ReadBuffer, WrittenObject};
use crate::limits::{
    BLOCK_BYTES, CHECKED_OBJECTS_MAX, HELD_CATCH_UP_BLOCKS_MAX, HELD_TAIL_BLOCKS_MAX,
};

/// Reads ranges of objects.
pub(super) struct Gather {
    blocks: Blocks,
    store: Arc<dyn Store>,
    cluster: ClusterId,
    metrics: Arc<Metrics>,
    /// Objects whose header was seen to be that of the extent's object.
    known: Mutex<Fifo<ObjectName, ()>>,
    /// Blocks from the store that fetches may hold while they work.
    held_tail: Semaphore,
    held_catch_up: Semaphore,
    held_bytes: Gauge,
}

/// The right of a fetch to hold blocks, until it is dropped.
pub(super) struct Held<'a> {
    _permit: SemaphorePermit<'a>,
    bytes: i64,
    all: &'a Gauge,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.all.sub(self.bytes);
    }
}

/// A range of an object that is wanted.
pub(super) type Wanted = (Arc<ObjectRef>, Range<u64>);

/// What was gathered, by object. It keeps the bytes alive whatever the cache drops meanwhile.
#[derive(Debug, Default)]
pub(super) struct Gathered(BTreeMap<ObjectName, ObjectBytes>);

/// The bytes of an extent, as a pass has them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Available<'a> {
    /// The gathered bytes of its object.
    Object(&'a ObjectBytes),
    /// All of them: the extent holds them by value.
    Inline(&'a Bytes),
}

/// The gathered bytes of one object.
#[derive(Debug, Default)]
pub(super) struct ObjectBytes {
    written: Option<Arc<WrittenObject>>,
    blocks: BTreeMap<u64, Arc<Block>>,
    failed: Option<StoreError>,
}

impl Gather {
    pub(super) fn new(
        blocks: Blocks,
        store: Arc<dyn Store>,
        cluster: ClusterId,
        metrics: Arc<Metrics>,
    ) -> Self {
        let held_max = (HELD_TAIL_BLOCKS_MAX + HELD_CATCH_UP_BLOCKS_MAX) * BLOCK_BYTES as usize;
        metrics.memory.bytes_max.with(["read"]).set_bytes(held_max);
        let held_bytes = metrics.memory.bytes.with(["read"]);
        Self {
            blocks,
            store,
            cluster,
            metrics,
            held_bytes,
            known: Mutex::new(Fifo::new()),
            held_tail: Semaphore::new(HELD_TAIL_BLOCKS_MAX),
            held_catch_up: Semaphore::new(HELD_CATCH_UP_BLOCKS_MAX),
        }
    }

    /// Reads all ranges, adding to what was gathered before.
    pub(super) async fn read(
        &self,
        wanted: &[Wanted],
        heat: Heat,
        cause: ReadCause,
        gathered: &mut Gathered,
    ) {
        let mut from_store = Vec::new();
        for plan in blocks_of(wanted) {
            let name = plan.object.name;
            let ranges = || wanted.iter().filter(|(o, _)| o.name == name).map(|(_, range)| range);
            match self.blocks.cache().written(&name) {
                Some(written) if ranges().all(|range| range.end <= written.size()) => {
                    self.metrics.fetch.cache_hits.inc();
                    gathered.0.entry(name).or_default().written = Some(written);
                }
                _ => from_store.push(plan),
            }
        }
        let reads = from_store.iter().map(|plan| self.read_object(plan, heat, cause));
        for (plan, (blocks, failed)) in from_store.iter().zip(join_all(reads).await) {
            let object = gathered.0.entry(plan.object.name).or_default();
            object.blocks.extend(blocks);
            object.failed = failed;
        }
    }

    async fn read_object(
        &self,
        plan: &ObjectBlocks,
        heat: Heat,
        cause: ReadCause,
    ) -> (BTreeMap<u64, Arc<Block>>, Option<StoreError>) {
        let runs =
            plan.blocks.iter().map(|run| self.blocks.read(&plan.object, run.clone(), heat, cause));
        let mut found = BTreeMap::new();
        let mut failed = None;
        for (blocks, error) in join_all(runs).await {
            found.extend(blocks);
            failed = failed.or(error);
        }
        if failed.is_none()
            && let Err(error) = self.check_header(&plan.object, &found, cause).await
        {
            failed = Some(error);
            found.clear();
        }
        (found, failed)
    }

    /// Makes sure, once per object, that under the key lies the object that the extents name.
    async fn check_header(
        &self,
        object: &ObjectRef,
        blocks: &BTreeMap<u64, Arc<Block>>,
        cause: ReadCause,
    ) -> Result<(), StoreError> {
        if self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&object.name).is_some() {
            return Ok(());
        }
        let key = keys::object(self.cluster, &object.name);
        let first = match blocks.get(&0) {
            Some(block) => block.bytes().clone(),
            None => self.store.get_range(&key, 0..OBJECT_HEADER_BYTES as u64, cause).await?,
        };
        let wrong = match ObjectHeader::decode(&first) {
            Ok(header) if header.belongs_to(self.cluster, &object.name) => None,
            Ok(header) => Some(format!("its header names another object: {header:?}")),
            Err(error) => Some(error.to_string()),
        };
        if let Some(reason) = wrong {
            self.forget(object, &(0..1));
            return Err(StoreError::Corrupt { key, reason });
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.push(object.name, (), 1);
        while known.bytes() > CHECKED_OBJECTS_MAX {
            known.pop();
        }
        Ok(())
    }

    /// The blocks of a range that only the store has.
    pub(super) fn missing(&self, (object, range): &Wanted) -> impl Iterator<Item = BlockKey> {
        let object = object.name;
        BlockKey::covering(range)
            .map(move |block| BlockKey { object, block })
            .filter(|key| !self.blocks.cache().holds(key))
    }

    /// Waits until `blocks` more blocks may be held for fetches. A caller that needs both kinds
    /// asks for catch-up first, so that nobody who waits for it keeps the tail from going on.
    pub(super) async fn hold(&self, blocks: usize, heat: Heat) -> Option<Held<'_>> {
        let (held, max) = match heat {
            Heat::Tail => (&self.held_tail, HELD_TAIL_BLOCKS_MAX),
            Heat::CatchUp => (&self.held_catch_up, HELD_CATCH_UP_BLOCKS_MAX),
        };
        if blocks == 0 {
            return None;
        }
        let blocks = blocks.min(max);
        // The semaphores are never closed.
        let permit = held.acquire_many(blocks as u32).await.ok()?;
        let bytes = blocks as i64 * BLOCK_BYTES as i64;
        self.held_bytes.add(bytes);
        Some(Held { _permit: permit, bytes, all: &self.held_bytes })
    }

    /// Notes that ranges went into an answer: reads of which nothing is left to be served make room
    /// for others first.
    pub(super) fn note_served(&self, ranges: &[Wanted], gathered: &Gathered) {
        for (object, range) in ranges {
            let Some(bytes) = gathered.object(object) else { continue };
            for (number, block) in &bytes.blocks {
                let (from, to) = within(range, number * BLOCK_BYTES, block);
                if from < to && block.note_served((to - from) as u64) {
                    let key = BlockKey { object: object.name, block: *number };
                    self.blocks.cache().retire(&key);
                }
            }
        }
    }

    /// Whether an object of this broker has left its cache for its age.
    pub(super) fn has_passed(&self, object: &ObjectRef) -> bool {
        self.blocks.cache().has_passed(&object.name)
    }

    /// Drops a damaged range from the cache, so that the next read asks the store.
    pub(super) fn forget(&self, object: &ObjectRef, range: &Range<u64>) {
        for block in BlockKey::covering(range) {
            self.blocks.cache().forget(&BlockKey { object: object.name, block });
        }
    }
}

impl Gathered {
    pub(super) fn object(&self, object: &ObjectRef) -> Option<&ObjectBytes> {
        self.0.get(&object.name)
    }

    /// The bytes of an extent; `None` when nothing was gathered of its object.
    pub(super) fn of<'a>(&'a self, extent: &'a Extent) -> Option<Available<'a>> {
        match &extent.bytes {
            ExtentBytes::Object(range) => self.object(&range.object).map(Available::Object),
            ExtentBytes::Inline(bytes) => Some(Available::Inline(bytes)),
        }
    }

    /// Adds what another one gathered.
    pub(super) fn add(&mut self, other: Gathered) {
        for (name, bytes) in other.0 {
            let object = self.0.entry(name).or_default();
            object.written = object.written.take().or(bytes.written);
            object.blocks.extend(bytes.blocks);
            object.failed = object.failed.take().or(bytes.failed);
        }
    }

    /// Makes the next read of an object replace what it was written as.
    pub(super) fn distrust(&mut self, object: &ObjectRef) {
        if let Some(bytes) = self.0.get_mut(&object.name) {
            bytes.written = None;
        }
    }
}

impl Available<'_> {
    /// The bytes between two positions of the extent as far as they are there, in pieces, and the
    /// error that is to blame when they do not reach the end.
    pub(super) fn pieces(self, range: &Range<u64>) -> (Vec<Bytes>, Option<StoreError>) {
        match self {
            Self::Object(object) => object.pieces(range),
            Self::Inline(bytes) => {
                let end = (range.end as usize).min(bytes.len());
                (vec![bytes.slice((range.start as usize).min(end)..end)], None)
            }
        }
    }

    /// Whether a range was found right before. Bytes by value are few: they are always checked.
    pub(super) fn is_checked(self, range: &Range<u64>) -> bool {
        match self {
            Self::Object(object) => object.is_checked(range),
            Self::Inline(_) => false,
        }
    }

    /// Notes that a range was found right.
    pub(super) fn note_checked(self, range: &Range<u64>) {
        if let Self::Object(object) = self {
            object.note_checked(range);
        }
    }
}

impl ObjectBytes {
    /// The bytes of a range as far as they were gathered: the pieces from its start on, and the
    /// error that is to blame when they do not reach its end.
    fn pieces(&self, range: &Range<u64>) -> (Vec<Bytes>, Option<StoreError>) {
        if let Some(pieces) = self.written.as_ref().and_then(|written| written.pieces(range)) {
            return (pieces, None);
        }
        let mut pieces = Vec::new();
        for number in BlockKey::covering(range) {
            let start = number * BLOCK_BYTES;
            let part = self.blocks.get(&number).and_then(|block| {
                let (from, to) = within(range, start, block);
                (from <= to).then(|| block.bytes().slice(from..to))
            });
            match part {
                Some(part) => pieces.push(part),
                None => return (pieces, self.failed.clone()),
            }
        }
        (pieces, None)
    }

    /// Whether all bytes of a range were found right before. Bytes that this broker wrote, it has
    /// checked when it was received.
    fn is_checked(&self, range: &Range<u64>) -> bool {
        self.is_written(range)
            || self.each_part(range, |block, part| block.is_checked(&part)).into_iter().all(|c| c)
    }

    /// The buffers of the blocks that a range lies in; none when it comes out of an object as it was
    /// written.
    pub(super) fn buffers(&self, range: &Range<u64>) -> impl Iterator<Item = &Arc<ReadBuffer>> {
        let read = if self.is_written(range) { 0..0 } else { BlockKey::covering(range) };
        read.filter_map(|number| self.blocks.get(&number).map(|block| block.buffer()))
    }

    /// Whether a range comes out of an object as it was written.
    fn is_written(&self, range: &Range<u64>) -> bool {
        self.written.as_ref().is_some_and(|written| range.end <= written.size())
    }

    /// Notes that a range was found right.
    fn note_checked(&self, range: &Range<u64>) {
        self.each_part(range, |block, part| block.note_checked(part));
    }

    fn each_part<T>(
        &self,
        range: &Range<u64>,
        mut look: impl FnMut(&Block, Range<u64>) -> T,
    ) -> Vec<T> {
        BlockKey::covering(range)
            .filter_map(|number| self.blocks.get(&number).map(|block| (number, block)))
            .map(|(number, block)| {
                let (from, to) = within(range, number * BLOCK_BYTES, block);
                look(block, from as u64..to as u64)
            })
            .collect()
    }
}

/// The part of a block that starts at `start` which lies in `range`.
fn within(range: &Range<u64>, start: u64, block: &Block) -> (usize, usize) {
    let from = range.start.saturating_sub(start) as usize;
    let to = (range.end.saturating_sub(start) as usize).min(block.bytes().len());
    (from, to)
}
