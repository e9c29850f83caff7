//! One partition of a fetch on its way: what is read for it, and what came of it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use ottla_control_api::view::Extent;
use ottla_model::Offset;
use ottla_object_io::ReadCause;

use super::assemble::{Source, Stop, StoredBatch, batches};
use super::gather::{Gathered, Wanted};
use super::plan::Offer;
use super::{FetchPartition, ReadError};
use crate::cache::Heat;
use crate::limits::{COPY_BATCH_BYTES_MAX, PINNED_SHARE_MIN};

/// One partition of a fetch on its way.
pub(super) struct Part {
    pub wanted: FetchPartition,
    /// One past the last offset that may be read.
    pub end: Offset,
    pub heat: Heat,
    /// Extents with the places where reading begins, and the position up to which is read.
    pub sources: Vec<(Source, u64)>,
    pub allotted: u64,
    /// With the number of the source they come from.
    pub batches: Vec<(usize, StoredBatch)>,
    /// There is more than was read.
    pub cut: bool,
    pub error: Option<ReadError>,
}

impl Part {
    pub(super) fn cause(&self) -> ReadCause {
        match self.heat {
            Heat::Tail => ReadCause::Tail,
            Heat::CatchUp => ReadCause::CatchUp,
        }
    }

    pub(super) fn offer(&self) -> Offer {
        let available = self.sources.iter().map(|(source, _)| source.length()).sum();
        Offer { available, max_bytes: self.wanted.max_bytes as u64 }
    }

    /// Takes the first `bytes` of the sources, and whole extents where the place is not known.
    pub(super) fn take_up_to(&mut self, bytes: u64) {
        self.allotted = bytes;
        let mut left = bytes;
        for (source, until) in &mut self.sources {
            if left == 0 {
                // A part that is not read at all is not half read either.
                *until = source.place.position;
                continue;
            }
            let take = source.length().min(left);
            left -= take;
            *until = (*until).max(source.place.position + take);
        }
    }

    /// Reads a source further, up to `until`.
    pub(super) fn extend(&mut self, at: usize, until: u64) {
        if let Some((_, read_until)) = self.sources.get_mut(at) {
            *read_until = until.max(*read_until);
        }
    }

    pub(super) fn until(&self, at: usize) -> u64 {
        self.sources.get(at).map_or(0, |(_, until)| *until)
    }

    pub(super) fn wanted_ranges(&self) -> impl Iterator<Item = Wanted> {
        self.sources
            .iter()
            .filter_map(|(source, until)| source.wanted(source.place.position..*until))
    }

    /// Whether anything is taken of one source, and what must be read of an object for it; nothing is
    /// taken of those behind the first of which nothing is.
    pub(super) fn taken_of(&self, at: usize) -> Option<Option<Wanted>> {
        let (source, until) = self.sources.get(at)?;
        let range = source.place.position..*until;
        (!range.is_empty()).then(|| source.wanted(range))
    }

    /// Reads nothing of a source and of those after it.
    pub(super) fn drop_from(&mut self, at: usize) {
        for (source, until) in self.sources.iter_mut().skip(at) {
            *until = source.place.position;
        }
    }

    /// Reads nothing, although there is something.
    pub(super) fn cut_to_nothing(&mut self) {
        self.cut |= !self.sources.is_empty();
        self.sources.clear();
    }

    /// What was located and not read: one range of each source, in order.
    pub(super) fn unread(&self) -> impl Iterator<Item = Wanted> {
        self.sources.iter().filter_map(|(source, until)| {
            let end = source.extent.positions().end;
            source.wanted(source.place.position.max(*until)..end)
        })
    }

    /// Where in objects the first `sent` batches lie: one range of each source that has any.
    pub(super) fn sent_ranges(&self, sent: usize) -> Vec<Wanted> {
        let mut ranges: Vec<(usize, Range<u64>)> = Vec::new();
        for (at, batch) in self.batches.iter().take(sent) {
            match ranges.last_mut() {
                Some((last, range)) if last == at => range.end = batch.end_position,
                _ => {
                    let start = batch.end_position - batch.bytes.len() as u64;
                    ranges.push((*at, start..batch.end_position));
                }
            }
        }
        let wanted =
            |(at, range)| self.sources.get(at).and_then(|(s, _): &(Source, _)| s.wanted(range));
        ranges.into_iter().filter_map(wanted).collect()
    }

    /// Puts the batches together from what was gathered; says where and why it stopped before the
    /// end of the sources. A source that was located anew may begin before the end of the one before.
    pub(super) fn assemble(&mut self, gathered: &Gathered) -> Option<(usize, Stop)> {
        self.batches.clear();
        let mut from = self.wanted.offset;
        for (at, (source, until)) in self.sources.iter().enumerate() {
            if *until <= source.place.position {
                return Some((at, Stop::Cut(source.place.position)));
            }
            let Some(bytes) = gathered.of(&source.extent) else {
                return Some((at, Stop::Cut(source.place.position)));
            };
            let (found, stop) = batches(&source.extent, source.place, *until, bytes);
            let readable = found
                .into_iter()
                .filter(|batch| batch.last_offset() >= from && batch.last_offset() < self.end);
            self.batches.extend(readable.map(|batch| (at, batch)));
            from = self.batches.last().map_or(from, |(_, batch)| batch.last_offset().plus(1));
            if !matches!(stop, Stop::End) {
                return Some((at, stop));
            }
        }
        None
    }

    /// Whether there is more to read than the `sent` batches.
    pub(super) fn is_cut(&self, sent: usize) -> bool {
        self.cut || sent < self.batches.len()
    }

    /// Ends the part: what came before is served, the next fetch meets the error.
    pub(super) fn fail(&mut self, error: ReadError, extent: &Extent) {
        tracing::warn!(
            partition = %self.wanted.partition, object = %extent.bytes, %error, "read partition"
        );
        self.error = Some(error);
    }
}

/// Whether an answer of the first `sent` batches of each part would keep buffers in memory that are
/// much larger than it.
pub(super) fn pins_too_much(parts: &[Part], sent: &[usize], gathered: &Gathered) -> bool {
    let mut buffers = BTreeMap::new();
    let mut bytes = 0;
    for (part, sent) in parts.iter().zip(sent) {
        for (at, batch) in part.batches.iter().take(*sent) {
            let length = batch.bytes.len();
            let source = part.sources.get(*at);
            let object = source.and_then(|(source, _)| source.extent.object());
            let object = object.and_then(|object| gathered.object(object));
            // Bytes that are copied anyway pin nothing.
            if let Some(object) = object.filter(|_| length >= COPY_BATCH_BYTES_MAX) {
                let range = batch.end_position - length as u64..batch.end_position;
                for buffer in object.buffers(&range) {
                    buffers.insert(Arc::as_ptr(buffer), buffer.length());
                }
                bytes += length as u64;
            }
        }
    }
    bytes.saturating_mul(PINNED_SHARE_MIN) < buffers.into_values().sum()
}
