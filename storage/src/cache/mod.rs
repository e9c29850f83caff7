//! The read cache: what was just written, and blocks read from the store.
//!
//! # What it holds
//!
//! Two compartments with budgets of their own, in bytes. The *tail* has objects as this broker
//! wrote them and blocks that were read for fetches of recent data. *Catch-up* has blocks that were
//! read for fetches of older data. A reader that goes through a day of old records fills and
//! empties the second and never touches the first: that is the scan resistance, and why a lagging
//! consumer costs neither producers nor other consumers anything. Catch-up borrows what the tail
//! does not use, and gives it back when the tail grows.
//!
//! Each compartment drops the entry that came first. A log is read in the order in which it was
//! written, by readers at a few places: an entry's worth falls with its age, and a hit says little
//! about the next one. Catch-up drops those reads before all others that were served whole: what
//! its readers are still in, or what was read ahead for them, is worth more.
//!
//! # What an entry costs
//!
//! Its bytes and a fixed overhead. A written object ([`WrittenObjects`] is how it gets here) is kept
//! as the pieces it was received in; pieces so small that they would keep a larger buffer in memory
//! are joined first. Blocks that came in one read share its buffer: they enter together and leave
//! together, because a part of them would keep all of it in memory (`reads`).
//!
//! # Single flight
//!
//! However many fetches want a block, one read brings it ([`Blocks`]). The read belongs to all who
//! wait for it: it goes on while one is left, and its error is everybody's answer.

mod block;
mod blocks;
mod fifo;
mod reads;
#[cfg(test)]
mod tests;
mod written;

pub use block::{Block, ReadBuffer};
pub use blocks::Blocks;
pub use written::WrittenObject;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ottla_model::{ObjectName, ObjectOrigin};
use ottla_telemetry::Metrics;
use ottla_telemetry::metrics::Gauge;

use crate::limits::{
    BLOCK_BYTES, CACHE_BYTES_DEFAULT, CACHE_CATCH_UP_PERCENT, CACHE_ENTRY_OVERHEAD_BYTES,
};
use crate::write::WrittenObjects;
pub(crate) use fifo::Fifo;
use reads::Reads;

/// Which compartment a block belongs to, and whose budget its read uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Heat {
    /// Near the end of a partition.
    Tail,
    /// Older.
    CatchUp,
}

/// A block of an object: its number counts [`BLOCK_BYTES`] from the object's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockKey {
    /// The object.
    pub object: ObjectName,
    /// Which of its blocks.
    pub block: u64,
}

impl BlockKey {
    /// The blocks that hold a range of bytes of an object.
    pub fn covering(range: &Range<u64>) -> Range<u64> {
        if range.is_empty() {
            return 0..0;
        }
        range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES)
    }

    /// The bytes of this block in an object of `size` bytes.
    pub fn bytes(block: u64, size: u64) -> Range<u64> {
        let start = block * BLOCK_BYTES;
        start.min(size)..(start + BLOCK_BYTES).min(size)
    }
}

/// The cache. Shared as an `Arc`; see the module.
#[derive(Debug)]
pub struct Cache {
    compartments: Mutex<Compartments>,
    held: Gauge,
}

#[derive(Debug)]
struct Compartments {
    written: Fifo<ObjectName, Arc<WrittenObject>>,
    /// The written object that was dropped last.
    passed: Option<ObjectName>,
    tail: Reads,
    catch_up: Reads,
    /// Bytes for `written` and `tail` together.
    tail_bytes_max: usize,
    /// For all three.
    bytes_max: usize,
}

impl Compartments {
    fn bytes(&self) -> usize {
        self.written.bytes() + self.tail.bytes() + self.catch_up.bytes()
    }

    /// Drops the oldest of the tail, from whichever of its two lists is above its share, and then
    /// what catch-up has borrowed.
    fn shrink(&mut self) {
        while self.written.bytes() + self.tail.bytes() > self.tail_bytes_max {
            let blocks_first =
                self.tail.bytes() > self.tail_bytes_max / 2 || self.written.is_empty();
            if blocks_first {
                self.tail.pop();
            } else {
                self.passed = self.written.pop();
            }
        }
        // The tail is within its bound, so this ends before catch-up's own share.
        while self.bytes() > self.bytes_max {
            self.catch_up.pop();
        }
    }
}

impl Cache {
    /// A cache of at most `bytes_max` bytes.
    pub fn new(bytes_max: usize, metrics: &Metrics) -> Arc<Self> {
        let catch_up_bytes_max = bytes_max / 100 * CACHE_CATCH_UP_PERCENT;
        let compartments = Compartments {
            written: Fifo::new(),
            passed: None,
            tail: Reads::new(),
            catch_up: Reads::new(),
            tail_bytes_max: bytes_max - catch_up_bytes_max,
            bytes_max,
        };
        metrics.memory.bytes_max.with(["cache"]).set_bytes(bytes_max);
        let held = metrics.memory.bytes.with(["cache"]);
        Arc::new(Self { compartments: Mutex::new(compartments), held })
    }

    /// A cache of [`CACHE_BYTES_DEFAULT`].
    pub fn with_default_size(metrics: &Metrics) -> Arc<Self> {
        Self::new(CACHE_BYTES_DEFAULT, metrics)
    }

    /// An object that this broker wrote and still holds.
    pub fn written(&self, name: &ObjectName) -> Option<Arc<WrittenObject>> {
        self.lock().written.get(name).cloned()
    }

    /// Whether who wants an object is no reader of the tail: this broker wrote it so long ago that it
    /// dropped it, or it was merged, as only older ones are.
    pub fn has_passed(&self, name: &ObjectName) -> bool {
        let ObjectOrigin::Wal { author, nonce, seq } = name.origin else { return true };
        match self.lock().passed.map(|passed| passed.origin) {
            Some(ObjectOrigin::Wal { author: writer, nonce: start, seq: passed }) => {
                (writer, start) == (author, nonce) && seq <= passed
            }
            _ => false,
        }
    }

    /// A block, from either compartment.
    pub fn block(&self, key: &BlockKey) -> Option<Arc<Block>> {
        let compartments = self.lock();
        compartments.tail.block(key).or_else(|| compartments.catch_up.block(key)).cloned()
    }

    /// Whether a block can be read without the store. Does not count as a use.
    pub fn holds(&self, key: &BlockKey) -> bool {
        let compartments = self.lock();
        compartments.written.get(&key.object).is_some()
            || compartments.tail.block(key).is_some()
            || compartments.catch_up.block(key).is_some()
    }

    /// Bytes held, overhead included.
    pub fn bytes(&self) -> usize {
        self.lock().bytes()
    }

    /// Forgets a block whose bytes turned out to be wrong, with the read it came in, and every trace of the object as
    /// written: the next look reads the store.
    pub fn forget(&self, key: &BlockKey) {
        let mut compartments = self.lock();
        compartments.tail.forget(key);
        compartments.catch_up.forget(key);
        compartments.written.remove(&key.object);
        self.report(&compartments);
    }

    /// Drops the read that a block of catch-up came in before others: it was served whole.
    pub fn retire(&self, key: &BlockKey) {
        self.lock().catch_up.retire(key);
    }

    fn insert_read(&self, first: BlockKey, blocks: Vec<Arc<Block>>, heat: Heat) {
        let mut compartments = self.lock();
        match heat {
            Heat::Tail => compartments.tail.push(first, blocks),
            Heat::CatchUp => compartments.catch_up.push(first, blocks),
        }
        compartments.shrink();
        self.report(&compartments);
    }

    fn report(&self, compartments: &Compartments) {
        self.held.set_bytes(compartments.bytes());
    }

    fn lock(&self) -> MutexGuard<'_, Compartments> {
        self.compartments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WrittenObjects for Cache {
    fn insert_written(&self, name: &ObjectName, _size: u64, chunks: Vec<Bytes>) {
        let object = Arc::new(WrittenObject::new(chunks));
        let bytes = object.size() as usize + CACHE_ENTRY_OVERHEAD_BYTES;
        let mut compartments = self.lock();
        compartments.written.push(*name, object, bytes);
        compartments.shrink();
        self.report(&compartments);
    }
}
