//! Chunks of extents, and branches of chunks.

use std::sync::Arc;

use ottla_format::state::ExtentEntry;
use ottla_model::{Offset, TimestampMs};

use crate::state::chunk::writable;

/// Extents that follow each other. Shared by copies; changed only as the tail.
#[derive(Clone, Debug)]
pub struct Chunk {
    extents: Arc<Vec<ExtentEntry>>,
    /// The largest timestamp of its extents.
    max_timestamp: TimestampMs,
    /// The sum of its extents' hashes in the state digest.
    digest: u128,
}

impl Default for Chunk {
    fn default() -> Self {
        Self { extents: Arc::default(), max_timestamp: TimestampMs(i64::MIN), digest: 0 }
    }
}

impl Chunk {
    pub(super) fn new(extents: Vec<ExtentEntry>, hash: impl FnMut(&ExtentEntry) -> u128) -> Self {
        let digest = extents.iter().map(hash).fold(0u128, u128::wrapping_add);
        let max_timestamp = extents.iter().map(|extent| extent.max_timestamp).max();
        let max_timestamp = max_timestamp.unwrap_or(TimestampMs(i64::MIN));
        Self { extents: Arc::new(extents), max_timestamp, digest }
    }

    /// Its extents.
    pub fn extents(&self) -> &[ExtentEntry] {
        &self.extents
    }

    /// Its extents, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, ExtentEntry> {
        self.extents.iter()
    }

    /// How many extents it has.
    pub fn len(&self) -> usize {
        self.extents.len()
    }

    /// Whether it has none; no chunk that can be reached from outside.
    pub fn is_empty(&self) -> bool {
        self.extents.is_empty()
    }

    /// The base offset of its first extent, which names it.
    pub fn first_offset(&self) -> Option<Offset> {
        self.extents.first().map(|extent| extent.base_offset)
    }

    pub(super) fn last(&self) -> Option<&ExtentEntry> {
        self.extents.last()
    }

    pub(super) fn max_timestamp(&self) -> TimestampMs {
        self.max_timestamp
    }

    pub(super) fn digest(&self) -> u128 {
        self.digest
    }

    pub(super) fn push(&mut self, extent: ExtentEntry, hash: u128) {
        self.max_timestamp = self.max_timestamp.max(extent.max_timestamp);
        self.digest = self.digest.wrapping_add(hash);
        writable(&mut self.extents).push(extent);
    }

    #[cfg(test)]
    pub(super) fn shares_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.extents, &other.extents)
    }
}

/// Chunks that follow each other. Never empty.
#[derive(Clone, Debug)]
pub(super) struct Branch {
    pub chunks: Vec<Chunk>,
    max_timestamp: TimestampMs,
}

impl Branch {
    pub fn new(chunks: Vec<Chunk>) -> Self {
        let max_timestamp = chunks.iter().map(Chunk::max_timestamp).max();
        let max_timestamp = max_timestamp.unwrap_or(TimestampMs(i64::MIN));
        Self { chunks, max_timestamp }
    }

    pub fn push(&mut self, chunk: Chunk) {
        self.max_timestamp = self.max_timestamp.max(chunk.max_timestamp());
        self.chunks.push(chunk);
    }

    pub fn first_offset(&self) -> Offset {
        let first = self.chunks.first().and_then(Chunk::first_offset);
        first.expect("no branch is empty, and no chunk in one")
    }

    pub fn max_timestamp(&self) -> TimestampMs {
        self.max_timestamp
    }
}
