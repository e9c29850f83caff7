//! Rewriting: a contiguous run of extents is replaced by others, or taken off the front.
//!
//! Both are one operation, a *splice*: the chunks that the run touches are taken out, their extents
//! outside of the run and the new ones between them are divided into chunks again, and the branches
//! around them are put together again. Small leftovers are joined with a neighbour, so that many
//! small changes do not leave many small chunks or branches behind.

use std::sync::Arc;

use imbl::Vector;
use ottla_format::state::{CHUNK_LENGTH, ExtentEntry};
use ottla_model::Offset;
use thiserror::Error;

use super::chunk::{Branch, Chunk};
use super::{BRANCH_CHUNKS_MAX, Extents, is_contiguous};

/// Below a quarter of its length, a chunk or branch is joined with a neighbour.
const JOIN_BELOW: usize = 4;

/// Why extents cannot be replaced. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(in crate::state) enum SpliceError {
    /// No extent begins at the first offset of the run, or none ends at its last.
    #[error("the run does not begin and end with extents")]
    NotARun,
    /// The new extents do not cover exactly the same offsets without a gap.
    #[error("the new extents do not cover the run")]
    NotCovering,
}

/// What a splice did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::state) struct Spliced {
    /// The extents that are gone, in order.
    pub removed: Vec<ExtentEntry>,
    /// Names of the chunks that were changed, made or are gone.
    pub chunks: Vec<Offset>,
}

impl Extents {
    /// Replaces the extents from the one that begins at `first` up to the one that ends at `last` by
    /// `new`, which must cover exactly the same offsets. `hash` gives an extent's entry in the state
    /// digest.
    pub(in crate::state) fn replace(
        &mut self,
        first: Offset,
        last: Offset,
        new: &[ExtentEntry],
        hash: impl FnMut(&ExtentEntry) -> u128,
    ) -> Result<Spliced, SpliceError> {
        let begins = self.from_offset(first).next().is_some_and(|e| e.base_offset == first);
        let ends = self.from_offset(last).next().is_some_and(|e| e.last_offset() == last);
        if !begins || !ends || first > last {
            return Err(SpliceError::NotARun);
        }
        let covers = new.first().is_some_and(|extent| extent.base_offset == first)
            && new.last().is_some_and(|extent| extent.last_offset() == last)
            && is_contiguous(new);
        if !covers {
            return Err(SpliceError::NotCovering);
        }
        Ok(self.splice(first, last, new, hash))
    }

    /// Takes away the extents that end before `log_start`. The first one that stays may begin before
    /// it: an extent is never cut.
    pub(in crate::state) fn trim(
        &mut self,
        log_start: Offset,
        hash: impl FnMut(&ExtentEntry) -> u128,
    ) -> Spliced {
        let gone = |extent: &&ExtentEntry| extent.last_offset() < log_start;
        let Some(first) = self.iter().next().filter(gone).map(|extent| extent.base_offset) else {
            return Spliced::default();
        };
        let stays = self.from_offset(log_start).next().map(|extent| extent.base_offset);
        let behind = stays.or(self.last().map(|extent| extent.last_offset().plus(1)));
        let last = behind.map_or(first, |behind| Offset(behind.0 - 1));
        self.splice(first, last, &[], hash)
    }

    /// See the module. Extents begin at `first` and end at `last`.
    fn splice(
        &mut self,
        first: Offset,
        last: Offset,
        new: &[ExtentEntry],
        hash: impl FnMut(&ExtentEntry) -> u128,
    ) -> Spliced {
        self.close_tail();
        let from = self.place_of(first);
        let to = self.place_of(last);
        let mut branches = std::mem::take(&mut self.branches);
        let behind = branches.split_off((to.branch + 1).min(branches.len()));
        let mut touched = branches.split_off(from.branch);

        let mut before: Vec<Chunk> = Vec::new();
        let mut rewritten: Vec<Chunk> = Vec::new();
        let mut after: Vec<Chunk> = Vec::new();
        for (branch, at) in std::mem::take(&mut touched).into_iter().zip(from.branch..) {
            for (chunk, place) in branch.chunks.iter().zip(0..) {
                let part = match (at, place) {
                    place if place < (from.branch, from.chunk) => &mut before,
                    place if place > (to.branch, to.chunk) => &mut after,
                    _ => &mut rewritten,
                };
                part.push(chunk.clone());
            }
        }
        let mut spliced = Spliced::default();
        let mut extents: Vec<ExtentEntry> = Vec::new();
        let mut is_placed = false;
        for extent in rewritten.iter().flat_map(Chunk::iter) {
            if extent.last_offset() < first {
                extents.push(extent.clone());
                continue;
            }
            if !is_placed {
                extents.extend_from_slice(new);
                is_placed = true;
            }
            if extent.base_offset > last {
                extents.push(extent.clone())
            } else {
                spliced.removed.push(extent.clone())
            }
        }
        join_with_neighbours(&mut extents, &mut before, &mut after, &mut rewritten);
        let made = divided(extents, CHUNK_LENGTH, hash);

        for chunk in &rewritten {
            self.digest = self.digest.wrapping_sub(chunk.digest());
        }
        for chunk in &made {
            self.digest = self.digest.wrapping_add(chunk.digest());
        }
        self.count = self.count - spliced.removed.len() + new.len();
        spliced.chunks = rewritten.iter().chain(&made).filter_map(Chunk::first_offset).collect();
        spliced.chunks.sort_unstable();
        spliced.chunks.dedup();

        before.extend(made);
        before.extend(after);
        self.branches = joined(branches, before, behind);
        self.open_tail();
        spliced
    }

    /// Takes the last chunk out as the tail, unless it is full.
    fn open_tail(&mut self) {
        let Some(last) = self.branches.back_mut() else { return };
        if last.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK_LENGTH) {
            return;
        }
        let mut chunks = last.chunks.clone();
        self.tail = chunks.pop().unwrap_or_default();
        if chunks.is_empty() {
            self.branches.pop_back();
        } else {
            *last = Arc::new(Branch::new(chunks));
        }
    }
}

/// Takes a neighbour's extents in when there are too few for a chunk of their own. The neighbour then
/// is one of those that are rewritten.
fn join_with_neighbours(
    extents: &mut Vec<ExtentEntry>,
    before: &mut Vec<Chunk>,
    after: &mut Vec<Chunk>,
    rewritten: &mut Vec<Chunk>,
) {
    if extents.len() >= CHUNK_LENGTH / JOIN_BELOW {
        return;
    }
    if let Some(chunk) = before.pop() {
        extents.splice(0..0, chunk.iter().cloned());
        rewritten.push(chunk);
    } else if !after.is_empty() {
        let chunk = after.remove(0);
        extents.extend(chunk.iter().cloned());
        rewritten.push(chunk);
    }
}

/// Divides extents into as few chunks as possible, of about the same length.
fn divided(
    extents: Vec<ExtentEntry>,
    most: usize,
    mut hash: impl FnMut(&ExtentEntry) -> u128,
) -> Vec<Chunk> {
    let pieces = extents.len().div_ceil(most).max(1);
    let length = extents.len().div_ceil(pieces).max(1);
    extents.chunks(length).map(|piece| Chunk::new(piece.to_vec(), &mut hash)).collect()
}

/// Puts chunks between branches, in branches of their own; joined with a neighbour when they are few.
fn joined(
    mut front: Vector<Arc<Branch>>,
    mut chunks: Vec<Chunk>,
    mut behind: Vector<Arc<Branch>>,
) -> Vector<Arc<Branch>> {
    if chunks.len() < BRANCH_CHUNKS_MAX / JOIN_BELOW {
        if let Some(branch) = front.pop_back() {
            chunks.splice(0..0, branch.chunks.iter().cloned());
        } else if let Some(branch) = behind.pop_front() {
            chunks.extend(branch.chunks.iter().cloned());
        }
    }
    let pieces = chunks.len().div_ceil(BRANCH_CHUNKS_MAX).max(1);
    let length = chunks.len().div_ceil(pieces).max(1);
    front.extend(chunks.chunks(length).map(|piece| Arc::new(Branch::new(piece.to_vec()))));
    front.append(behind);
    front
}
