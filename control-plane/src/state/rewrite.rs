//! Rewriting what partitions hold: trimming their front, and replacing runs of extents.
//!
//! Both keep the promises that hold for appends: extents follow each other without a gap (I-DENSE),
//! offsets never move backward (I-FWD), and an object lives exactly as long as an extent refers to
//! it (I-LIVE).

#![cfg_attr(not(test), expect(dead_code, reason = "retention and merge jobs will rewrite"))]

use ottla_format::state::{ExtentEntry, ObjectEntry};
use ottla_model::{ObjectId, Offset, PartitionId};

use super::State;
use super::extents::SpliceError;
use super::release::Releases;

/// Why a run of extents was not replaced. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplaceError {
    /// The partition does not exist, or not any more.
    UnknownPartition,
    /// The run, or what should replace it, does not fit.
    Splice(SpliceError),
}

impl State {
    /// Moves a partition's log start forward, to its next offset at most; never back.
    pub(super) fn trim_partition(&mut self, id: PartitionId, log_start: Offset) {
        let Self { books, topics, objects, .. } = self;
        let mut releases = Releases::default();
        if let Some(partition) = topics.partition_mut(id) {
            partition.trim(id, log_start, &mut releases, books);
        }
        objects.release(&releases, books);
    }

    /// Replaces the extents of the offsets from `run.0` to `run.1`, which extents begin and end at, by
    /// others, each of which refers to one new object or holds its bytes by value. Returns the
    /// object's number.
    pub(super) fn replace_by_object(
        &mut self,
        id: PartitionId,
        run: (Offset, Offset),
        object: ObjectEntry,
        extents: impl FnOnce(ObjectId) -> Vec<ExtentEntry>,
    ) -> Result<ObjectId, ReplaceError> {
        let Self { books, topics, objects, .. } = self;
        let number = books.counters.next_object;
        let new = extents(number);
        let mut releases = Releases::default();
        let partition = topics.partition_mut(id).ok_or(ReplaceError::UnknownPartition)?;
        partition
            .replace_extents(id, run, &new, &mut releases, books)
            .map_err(ReplaceError::Splice)?;
        let before = books.counters;
        books.counters.next_object = ObjectId(number.0 + 1);
        books.counters_changed(before);
        let in_object = || new.iter().filter(|extent| extent.object().is_some());
        assert!(
            in_object().all(|extent| extent.object() == Some(number)),
            "I-LIVE: an extent refers to another object than the new one {number}"
        );
        let references = in_object().count() as u32;
        let live_bytes = in_object().map(ExtentEntry::length).sum();
        objects.insert(number, ObjectEntry { references, live_bytes, ..object }, books);
        objects.release(&releases, books);
        Ok(number)
    }
}
