//! Batches by value: an extent whose bytes the state itself holds.
//!
//! It is appended like one that refers to an object and keeps the same promises; it belongs to no
//! object, so nothing has to outlive it. Its bytes are shared by all copies of the state, by answers
//! and by watchers, and are in the log, in snapshots and in the digest. They are few, at most
//! [`EXTENT_INLINE_BYTES_MAX`] in an extent, and counted in the size of the state.

#![cfg_attr(not(test), expect(dead_code, reason = "no command brings batches by value yet"))]

use std::sync::Arc;

use ottla_format::state::{EXTENT_INLINE_BYTES_MAX, ExtentEntry, ExtentLocation};
use ottla_model::{ExtentFlags, Offset, PartitionId, TimestampMs};

use super::State;
use super::books::Books;
use super::changes::Changes;
use super::partition::Partition;
use super::reads::shown_extent;

/// Batches of one partition that become one extent.
#[derive(Clone, Debug)]
pub(super) struct InlineRun {
    /// Whole batches, one after the other.
    pub(super) bytes: Arc<[u8]>,
    /// Offset of the last record, less that of the first.
    pub(super) last_offset_delta: u32,
    /// The largest timestamp of the records.
    pub(super) max_timestamp: TimestampMs,
    pub(super) flags: ExtentFlags,
}

impl State {
    /// Appends batches by value and returns their first offset. `None`, and no change, when the
    /// partition does not exist, or there are no bytes or more than an extent may hold.
    pub(super) fn append_inline(
        &mut self,
        id: PartitionId,
        run: InlineRun,
        changes: &mut Changes,
    ) -> Option<Offset> {
        if !(1..=EXTENT_INLINE_BYTES_MAX).contains(&run.bytes.len()) {
            return None;
        }
        let Self { books, topics, .. } = self;
        let partition = topics.partition_mut(id)?;
        let base_offset = partition.append_inline(id, run, books);
        let added = partition.extents.from_offset(base_offset);
        let shown = added.filter_map(|extent| shown_extent(extent, |_| None)).map(Arc::new);
        changes.partition(id, partition.bounds(), shown.collect());
        Some(base_offset)
    }
}

impl Partition {
    fn append_inline(&mut self, id: PartitionId, run: InlineRun, books: &mut Books) -> Offset {
        let InlineRun { bytes, last_offset_delta, max_timestamp, flags } = run;
        let before = self.entry();
        self.mark_dirty(id, books);
        let base_offset = self.next_offset;
        self.next_offset = base_offset.plus(i64::from(last_offset_delta) + 1);
        let location = ExtentLocation::Inline(bytes);
        let extent = ExtentEntry { base_offset, last_offset_delta, max_timestamp, flags, location };
        self.push(id, extent, books);
        self.enter_header(id, before, books);
        base_offset
    }
}
