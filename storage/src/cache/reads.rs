//! Blocks in the cache, by the reads that brought them.
//!
//! The blocks of a read are slices of one buffer, which is in memory for as long as one of them is.
//! So a read enters as a whole and leaves as a whole, and counts with all its bytes until it does.

use std::sync::Arc;

use super::{Block, BlockKey, Fifo};
use crate::limits::CACHE_ENTRY_OVERHEAD_BYTES;

/// What reads brought, each under the key of its first block. No two have a block in common: only
/// what is missing is read.
#[derive(Debug)]
pub(super) struct Reads(Fifo<BlockKey, Vec<Arc<Block>>>);

impl Reads {
    pub fn new() -> Self {
        Self(Fifo::new())
    }

    /// What all reads hold, overhead included.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }

    pub fn block(&self, key: &BlockKey) -> Option<&Arc<Block>> {
        let (first, blocks) = self.0.last_up_to(key)?;
        let at = (first.object == key.object).then(|| key.block - first.block)?;
        blocks.get(at as usize)
    }

    /// Adds the blocks of a read, in order, as the newest.
    pub fn push(&mut self, first: BlockKey, blocks: Vec<Arc<Block>>) {
        let Some(block) = blocks.first() else { return };
        let bytes = block.buffer().length() as usize + blocks.len() * CACHE_ENTRY_OVERHEAD_BYTES;
        self.0.push(first, blocks, bytes);
    }

    /// Drops the read that a block came in.
    pub fn forget(&mut self, key: &BlockKey) {
        if let Some(first) = self.read_of(key) {
            self.0.remove(&first);
        }
    }

    /// Makes the read that a block came in the next to be dropped, behind those retired before.
    pub fn retire(&mut self, key: &BlockKey) {
        if let Some(first) = self.read_of(key) {
            self.0.retire(&first);
        }
    }

    /// Drops a retired read, or else the oldest.
    pub fn pop(&mut self) {
        self.0.pop();
    }

    fn read_of(&self, key: &BlockKey) -> Option<BlockKey> {
        self.block(key)?;
        self.0.last_up_to(key).map(|(first, _)| *first)
    }
}
