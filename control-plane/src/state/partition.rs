//! One partition: its offsets, extents and producers, and the append to it.

use ottla_control_api::PartitionBounds;
use ottla_format::command::{BatchOutcome, CommitBatch};
use ottla_format::state::{ExtentEntry, ExtentLocation, PartitionEntry, StateKey};
use ottla_model::{BytePosition, ExtentFlags, ObjectId, Offset, PartitionId, TimestampMs};

use super::books::Books;
use super::dirty::Generation;
use super::extents::{Extents, SpliceError, Spliced};
use super::producers::{Producers, Verdict, check, records};
use super::promise::promise;
use super::release::Releases;

/// A partition. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Partition {
    pub(super) log_start: Offset,
    pub(super) next_offset: Offset,
    pub(super) extents: Extents,
    pub(super) producers: Producers,
    /// Its place in the index of expiries: no producer was used last before. `None`: no producers.
    pub(super) used_since: Option<TimestampMs>,
    /// The checkpoint period in which it last changed, and the chunk of extents that was entered
    /// last in that period: appends enter the same one again and again.
    dirty: Generation,
    dirty_chunk: Option<Offset>,
}

/// Batches of one object that follow each other in it and go to one partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run<'a> {
    pub(super) partition: PartitionId,
    pub(super) object: ObjectId,
    /// The topic has log-append time.
    pub(super) log_append: bool,
    pub(super) batches: &'a [CommitBatch],
}

impl Partition {
    /// Its offsets. Without transactions, everything committed is stable.
    pub fn bounds(&self) -> PartitionBounds {
        PartitionBounds {
            log_start: self.log_start,
            high_watermark: self.next_offset,
            last_stable: self.next_offset,
        }
    }

    /// Its extents.
    pub fn extents(&self) -> &Extents {
        &self.extents
    }

    /// Its producers.
    pub fn producers(&self) -> &Producers {
        &self.producers
    }

    /// Its header, as a record has it.
    pub fn entry(&self) -> PartitionEntry {
        PartitionEntry {
            log_start: self.log_start,
            next_offset: self.next_offset,
            extents: self.extents.len() as u64,
        }
    }

    pub(super) fn load(entry: PartitionEntry) -> Self {
        Self { log_start: entry.log_start, next_offset: entry.next_offset, ..Self::default() }
    }

    pub(super) fn mark_dirty(&mut self, partition: PartitionId, books: &mut Books) {
        let generation = books.dirty.generation();
        if self.dirty != generation {
            self.dirty = generation;
            self.dirty_chunk = None;
            books.dirty.partition(partition);
        }
    }

    /// Enters a chunk of extents; the partition itself is entered already.
    fn mark_chunk_dirty(&mut self, partition: PartitionId, chunk: Offset, books: &mut Books) {
        if self.dirty_chunk != Some(chunk) {
            self.dirty_chunk = Some(chunk);
            books.dirty.extent_chunk(partition, chunk);
        }
    }

    /// Stores what may be stored of a run; one outcome per batch is pushed to `outcomes`. The new
    /// extents are those from the old next offset on.
    ///
    /// An extent holds batches that follow each other without a gap; a batch that is not stored is
    /// dead bytes and ends the extent before it, so that base offsets within an extent follow from
    /// last offset deltas alone. One that has no room for a batch more, because its offsets or bytes
    /// would not be counted in 32 bits, ends, too.
    pub(super) fn append(
        &mut self,
        run: Run<'_>,
        books: &mut Books,
        outcomes: &mut Vec<BatchOutcome>,
    ) {
        let before = self.entry();
        self.mark_dirty(run.partition, books);
        let mut open = None;
        for batch in run.batches {
            outcomes.push(self.append_batch(run, batch, &mut open, books));
        }
        self.close(run.partition, open, books);
        self.promise_dense(run.partition);
        self.enter_header(run.partition, before, books);
    }

    fn append_batch(
        &mut self,
        run: Run<'_>,
        batch: &CommitBatch,
        open: &mut Option<ExtentEntry>,
        books: &mut Books,
    ) -> BatchOutcome {
        let log_start = self.log_start;
        let verdict = match batch.producer {
            Some(producer) => check(self.producers.get(producer.id), producer, records(batch)),
            None => Verdict::Append,
        };
        match verdict {
            Verdict::Append => {}
            Verdict::Duplicate(stored) => {
                self.close(run.partition, open.take(), books);
                let append_time = Some(stored.append_time).filter(|t| *t != TimestampMs::NONE);
                let base_offset = stored.base_offset;
                return BatchOutcome::Duplicate { base_offset, append_time, log_start };
            }
            Verdict::Refuse(refusal) => {
                self.close(run.partition, open.take(), books);
                return BatchOutcome::Refused(refusal);
            }
        }
        let base_offset = self.next_offset;
        let append_time = run.log_append.then_some(books.counters.append_time());
        // Saturates after 2^63 records, which nobody stores.
        self.next_offset = Offset(base_offset.0.saturating_add(i64::from(records(batch))));
        let is_continued =
            open.as_mut().is_some_and(|extent| extend(extent, batch, self.next_offset));
        if !is_continued {
            let next = begin(run, batch, base_offset, append_time);
            self.close(run.partition, open.replace(next), books);
        }
        if let Some(producer) = batch.producer {
            let stored = (base_offset, append_time.unwrap_or(TimestampMs::NONE));
            self.producers.stored(run.partition, batch, producer, stored, books);
        }
        BatchOutcome::Appended { base_offset, append_time, log_start }
    }

    /// Moves the log start forward, to the next offset at most; never back. Extents that end before
    /// it go, and with them what they held of their objects. The first one that stays may begin
    /// before the log start.
    pub(super) fn trim(
        &mut self,
        id: PartitionId,
        log_start: Offset,
        releases: &mut Releases,
        books: &mut Books,
    ) {
        let log_start = log_start.min(self.next_offset);
        if log_start <= self.log_start {
            return;
        }
        let before = self.entry();
        self.log_start = log_start;
        let hashes = self.extents.digest();
        let spliced = self.extents.trim(log_start, |extent| extent_hash(id, extent, books));
        self.spliced(id, (before, hashes), &spliced, books);
        releases.add(&spliced.removed);
    }

    /// Replaces the extents of the offsets from `first` to `last` by others that cover exactly the
    /// same ones. The caller counts what `new` holds of its objects.
    pub(super) fn replace_extents(
        &mut self,
        id: PartitionId,
        (first, last): (Offset, Offset),
        new: &[ExtentEntry],
        releases: &mut Releases,
        books: &mut Books,
    ) -> Result<(), SpliceError> {
        let before = self.entry();
        let hashes = self.extents.digest();
        let hash = |extent: &ExtentEntry| extent_hash(id, extent, books);
        let spliced = self.extents.replace(first, last, new, hash)?;
        books.tally.inline_bytes += inline_bytes(new);
        self.spliced(id, (before, hashes), &spliced, books);
        releases.add(&spliced.removed);
        Ok(())
    }

    /// Enters what a splice changed: digest, dirty keys, the number of extents.
    fn spliced(
        &mut self,
        id: PartitionId,
        (before, hashes): (PartitionEntry, u128),
        spliced: &Spliced,
        books: &mut Books,
    ) {
        self.promise_dense(id);
        self.mark_dirty(id, books);
        for chunk in &spliced.chunks {
            books.dirty.extent_chunk(id, *chunk);
        }
        books.digest.take_out(hashes);
        books.digest.put_in(self.extents.digest());
        books.tally.extents = books.tally.extents + self.extents.len() as u64 - before.extents;
        self.enter_header(id, before, books);
    }

    /// Adjusts the digest when the header is not what it was before.
    pub(super) fn enter_header(&self, id: PartitionId, before: PartitionEntry, books: &mut Books) {
        let after = self.entry();
        if after != before {
            let key = StateKey::Partition(id);
            books.digest.remove(&key, |out| before.put(out));
            books.digest.add(&key, |out| after.put(out));
        }
    }

    /// I-DENSE, what its ends show of it: extents reach to the next offset, and the first one holds
    /// the log start. That they follow each other is checked where they are put in.
    fn promise_dense(&self, id: PartitionId) {
        let (first, last) = (self.extents.iter().next(), self.extents.last());
        let is_dense = match (first, last) {
            (Some(first), Some(last)) => {
                first.holds(self.log_start) && last.last_offset().plus(1) == self.next_offset
            }
            _ => self.log_start == self.next_offset,
        };
        promise("I-DENSE", is_dense, || {
            format!("partition {id} is {:?} with extents from {first:?} to {last:?}", self.entry())
        });
    }

    fn close(&mut self, partition: PartitionId, open: Option<ExtentEntry>, books: &mut Books) {
        if let Some(extent) = open {
            self.push(partition, extent, books);
        }
    }

    /// Puts an extent behind all others; the caller has moved the next offset and entered the partition.
    pub(super) fn push(&mut self, partition: PartitionId, extent: ExtentEntry, books: &mut Books) {
        let key = StateKey::Extents(partition, extent.base_offset);
        let hash = books.digest.add(&key, |out| extent.put(out));
        books.tally.extents += 1;
        books.tally.inline_bytes += extent.inline_bytes();
        let chunk = self.extents.push(extent, hash);
        self.mark_chunk_dirty(partition, chunk, books);
    }
}

fn begin(
    run: Run<'_>,
    batch: &CommitBatch,
    base_offset: Offset,
    append_time: Option<TimestampMs>,
) -> ExtentEntry {
    let flags = if run.log_append { ExtentFlags::LOG_APPEND_TIME } else { ExtentFlags::NONE };
    let (object, position, length) = (run.object, batch.position, batch.length);
    ExtentEntry {
        base_offset,
        last_offset_delta: (records(batch) - 1).unsigned_abs(),
        max_timestamp: append_time.unwrap_or(batch.max_timestamp),
        flags,
        location: ExtentLocation::Object { object, position, length },
    }
}

/// Adds the next batch of its object to an extent; `false`, and no change, when it does not follow or
/// has no room.
fn extend(extent: &mut ExtentEntry, batch: &CommitBatch, next_offset: Offset) -> bool {
    let ExtentLocation::Object { position, length, .. } = &mut extent.location else {
        return false;
    };
    let end = position.0.checked_add(u64::from(*length)).map(BytePosition);
    let longer = length.checked_add(batch.length);
    let last_offset_delta = u32::try_from(next_offset.0 - 1 - extent.base_offset.0);
    let (Some(longer), Ok(last_offset_delta)) = (longer, last_offset_delta) else { return false };
    if end != Some(batch.position) {
        return false;
    }
    *length = longer;
    extent.last_offset_delta = last_offset_delta;
    if !extent.flags.contains(ExtentFlags::LOG_APPEND_TIME) {
        extent.max_timestamp = extent.max_timestamp.max(batch.max_timestamp);
    }
    true
}

/// How many bytes extents hold by value.
pub(super) fn inline_bytes<'a>(extents: impl IntoIterator<Item = &'a ExtentEntry>) -> u64 {
    extents.into_iter().map(ExtentEntry::inline_bytes).sum()
}

/// An extent's entry in the state digest.
fn extent_hash(id: PartitionId, extent: &ExtentEntry, books: &mut Books) -> u128 {
    books.digest.hash(&StateKey::Extents(id, extent.base_offset), |out| extent.put(out))
}
