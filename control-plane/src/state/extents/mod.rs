//! A partition's extents: an ordered sequence that can grow, be rewritten in the middle and be
//! trimmed at its front, in immutable chunks that copies share.
//!
//! # Shape
//!
//! Extents follow each other without a gap. They lie in *chunks* of at most [`CHUNK_LENGTH`], and
//! chunks lie in *branches* of at most `BRANCH_CHUNKS_MAX`, like leaves and inner nodes of a tree
//! of fixed depth. The last chunk (the *tail*) stands apart: appends touch nothing else. A chunk is
//! named by the base offset of its first extent, so a change in the middle renames nothing behind it.
//! Chunks and branches each know the largest timestamp below them.
//!
//! # Operations
//!
//! | Operation | Costs |
//! | --- | --- |
//! | append | one extent; a copy of the tail while a copy of the state shares it |
//! | replace a run, trim the front | the extents of the chunks at both ends, what is put in, and a branch at both ends |
//! | find by offset | three binary searches |
//! | find by time | a scan of the branches, of one branch's chunks, of one chunk |
//! | copy | nothing that depends on the number of extents |
//!
//! All are pure functions of their arguments. An operation that cannot keep the sequence whole is
//! refused and changes nothing.
//!
//! # Digest
//!
//! The state digest has one entry for each extent, keyed by partition and base offset. Every chunk
//! keeps the sum of its entries' hashes, so that whole chunks leave at no cost for each extent. How
//! extents are divided into chunks is no part of the digest: two states that came to the same
//! extents by different ways are equal.

mod chunk;
mod splice;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use imbl::Vector;
use ottla_format::state::{CHUNK_LENGTH, ExtentEntry};
use ottla_model::{Offset, TimestampMs};

use super::promise::promise;
use chunk::Branch;
pub use chunk::Chunk;
pub(super) use splice::{SpliceError, Spliced};

/// Chunks of one branch: a full one holds 65,536 extents, so that a scan over the branches of the
/// deepest partition is short.
const BRANCH_CHUNKS_MAX: usize = 256;

/// See the module. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Extents {
    branches: Vector<Arc<Branch>>,
    /// The last chunk; not full. Empty only when it was just closed, or when there is no extent.
    tail: Chunk,
    /// How many extents there are.
    count: usize,
    /// The sum of all extents' hashes in the state digest.
    digest: u128,
}

impl Extents {
    /// How many extents there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The sum of all extents' hashes in the state digest.
    pub(super) fn digest(&self) -> u128 {
        self.digest
    }

    /// The last extent.
    pub fn last(&self) -> Option<&ExtentEntry> {
        let closed = || self.branches.last()?.chunks.last()?.last();
        self.tail.last().or_else(closed)
    }

    /// Appends an extent with its hash in the state digest; returns the name of the chunk it is in.
    ///
    /// # Panics
    /// When it does not follow the last extent: the caller's offsets are wrong, and records would
    /// be lost (I-DENSE).
    pub(super) fn push(&mut self, extent: ExtentEntry, hash: u128) -> Offset {
        let follows = self.last().is_none_or(|l| l.last_offset().plus(1) == extent.base_offset);
        promise("I-DENSE", follows, || format!("{extent:?} does not follow {:?}", self.last()));
        let key = self.tail.first_offset().unwrap_or(extent.base_offset);
        self.tail.push(extent, hash);
        self.count += 1;
        self.digest = self.digest.wrapping_add(hash);
        if self.tail.len() == CHUNK_LENGTH {
            self.close_tail();
        }
        key
    }

    /// Puts a stored chunk behind all others, as it was divided when it was stored. `None` when it
    /// does not follow them.
    pub(super) fn push_chunk(
        &mut self,
        extents: Vec<ExtentEntry>,
        hash: impl FnMut(&ExtentEntry) -> u128,
    ) -> Option<()> {
        let first = extents.first()?;
        let follows = self.last().is_none_or(|l| l.last_offset().plus(1) == first.base_offset);
        if !follows || !is_contiguous(&extents) || extents.len() > CHUNK_LENGTH {
            return None;
        }
        self.close_tail();
        self.tail = Chunk::new(extents, hash);
        self.count += self.tail.len();
        self.digest = self.digest.wrapping_add(self.tail.digest());
        if self.tail.len() == CHUNK_LENGTH {
            self.close_tail();
        }
        Some(())
    }

    /// All chunks, in order. None is empty.
    pub fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.chunks_at(Place::default())
    }

    /// The chunk with this name.
    pub fn chunk(&self, first: Offset) -> Option<&Chunk> {
        let chunk = self.chunks_at(self.place_of(first)).next()?;
        (chunk.first_offset() == Some(first)).then_some(chunk)
    }

    /// All extents, in order.
    pub fn iter(&self) -> impl Iterator<Item = &ExtentEntry> {
        self.chunks().flat_map(Chunk::iter)
    }

    /// The extents from the one that holds `offset` on, or all when they begin behind it.
    pub fn from_offset(&self, offset: Offset) -> impl Iterator<Item = &ExtentEntry> {
        self.chunks_at(self.place_of(offset))
            .flat_map(Chunk::iter)
            .skip_while(move |extent| extent.last_offset() < offset)
    }

    /// The first extent, in offset order, whose largest timestamp is `timestamp` or later.
    pub fn find_timestamp(&self, timestamp: TimestampMs) -> Option<&ExtentEntry> {
        let branch = self.branches.iter().find(|branch| branch.max_timestamp() >= timestamp);
        let chunk = match branch {
            Some(branch) => branch.chunks.iter().find(|c| c.max_timestamp() >= timestamp)?,
            None => &self.tail,
        };
        chunk.iter().find(|extent| extent.max_timestamp >= timestamp)
    }

    /// The first extent with the largest timestamp.
    pub fn find_max_timestamp(&self) -> Option<&ExtentEntry> {
        let of_branches = self.branches.iter().map(|branch| branch.max_timestamp());
        let max = of_branches.chain(self.tail.iter().map(|e| e.max_timestamp)).max()?;
        self.find_timestamp(max)
    }

    /// Where the chunk is that holds an offset: the last one that begins at it or before.
    fn place_of(&self, offset: Offset) -> Place {
        if self.tail.first_offset().is_some_and(|first| first <= offset) {
            return Place { branch: self.branches.len(), chunk: 0 };
        }
        let (mut low, mut high) = (0, self.branches.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.branches.get(middle) {
                Some(branch) if branch.first_offset() <= offset => low = middle + 1,
                _ => high = middle,
            }
        }
        let branch = low.saturating_sub(1);
        let Some(found) = self.branches.get(branch) else { return Place::default() };
        let behind = found.chunks.partition_point(|c| c.first_offset() <= Some(offset));
        Place { branch, chunk: behind.saturating_sub(1) }
    }

    fn chunks_at(&self, from: Place) -> impl Iterator<Item = &Chunk> {
        let branches = from.branch..self.branches.len();
        let closed = branches.filter_map(|at| self.branches.get(at)).enumerate();
        let closed = closed.flat_map(move |(at, branch)| {
            let skipped = if at == 0 { from.chunk } else { 0 };
            branch.chunks.get(skipped..).unwrap_or_default()
        });
        closed.chain((!self.tail.is_empty()).then_some(&self.tail))
    }

    /// Puts the tail into the last branch; the next extent begins another.
    fn close_tail(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        let chunk = std::mem::take(&mut self.tail);
        match self.branches.back_mut() {
            Some(branch) if branch.chunks.len() < BRANCH_CHUNKS_MAX => {
                Arc::make_mut(branch).push(chunk);
            }
            _ => self.branches.push_back(Arc::new(Branch::new(vec![chunk]))),
        }
    }

    /// What every operation keeps, checked from scratch; the first thing that is wrong.
    pub(super) fn check(&self, hash: impl FnMut(&ExtentEntry) -> u128) -> Result<(), String> {
        let all: Vec<_> = self.iter().cloned().collect();
        let whole = Chunk::new(all.clone(), hash);
        let sums = self.chunks().fold(0u128, |sum, chunk| sum.wrapping_add(chunk.digest()));
        let branches_know = self.branches.iter().all(|branch| {
            let max = branch.chunks.iter().map(Chunk::max_timestamp).max();
            max == Some(branch.max_timestamp()) && branch.chunks.len() <= BRANCH_CHUNKS_MAX
        });
        let chunks_know = self.chunks().all(|chunk| {
            let max = chunk.iter().map(|extent| extent.max_timestamp).max();
            max == Some(chunk.max_timestamp()) && chunk.len() <= CHUNK_LENGTH
        });
        let expected = [
            (is_contiguous(&all), "extents do not follow each other"),
            (all.len() == self.count, "the count of extents is wrong"),
            (self.tail.len() < CHUNK_LENGTH, "the tail is full"),
            (chunks_know && branches_know, "a chunk or branch has a wrong summary"),
            (whole.digest() == self.digest && sums == self.digest, "the digest is not their sum"),
        ];
        match expected.into_iter().find(|(holds, _)| !holds) {
            Some((_, what)) => Err(what.to_owned()),
            None => Ok(()),
        }
    }
}

/// A place in the tree: a branch (the tail counts as one behind all others) and a chunk in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    branch: usize,
    chunk: usize,
}

/// Whether each extent begins where the one before ends.
fn is_contiguous(extents: &[ExtentEntry]) -> bool {
    extents.windows(2).all(|pair| match pair {
        [earlier, later] => earlier.last_offset().plus(1) == later.base_offset,
        _ => true,
    })
}
