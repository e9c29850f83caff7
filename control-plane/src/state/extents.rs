//! A partition's extents: a growing sequence in immutable chunks that copies share.
//!
//! Full chunks are never changed again; only the tail is, and a push while a copy is alive copies
//! the tail once (at most 255 extents). Each full chunk knows the largest timestamp up to its end,
//! which grows from chunk to chunk, so that searches by offset and by time are both binary.

use std::sync::Arc;

use imbl::Vector;
use ottla_format::state::{CHUNK_LENGTH, ExtentEntry};
use ottla_model::{Offset, TimestampMs};

use super::chunk::writable;

/// A full chunk.
#[derive(Clone, Debug)]
struct Sealed {
    extents: Arc<Vec<ExtentEntry>>,
    /// The largest timestamp in this chunk and all before it.
    max_timestamp_so_far: TimestampMs,
}

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ExtentLog {
    sealed: Vector<Sealed>,
    /// Fewer than [`CHUNK_LENGTH`] extents.
    tail: Arc<Vec<ExtentEntry>>,
    /// The largest timestamp of all extents.
    max_timestamp: TimestampMs,
    /// The sum of all extents' hashes in the state digest: they leave it together.
    digest: u128,
}

impl Default for ExtentLog {
    fn default() -> Self {
        Self {
            sealed: Vector::new(),
            tail: Arc::default(),
            max_timestamp: TimestampMs(i64::MIN),
            digest: 0,
        }
    }
}

impl ExtentLog {
    /// How many extents there are.
    pub fn len(&self) -> usize {
        self.sealed.len() * CHUNK_LENGTH + self.tail.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends an extent with its hash in the state digest.
    pub(super) fn push(&mut self, extent: ExtentEntry, hash: u128) {
        self.digest = self.digest.wrapping_add(hash);
        self.max_timestamp = self.max_timestamp.max(extent.max_timestamp);
        let tail = writable(&mut self.tail);
        tail.push(extent);
        if tail.len() == CHUNK_LENGTH {
            let extents = std::mem::take(&mut self.tail);
            let max_timestamp_so_far = self.max_timestamp;
            self.sealed.push_back(Sealed { extents, max_timestamp_so_far });
        }
    }

    /// The chunks from number `from` on, in order; the last may be partly filled, none is empty.
    /// Begins at the same cost wherever `from` is: an iterator that skips would walk all before it.
    pub fn chunks(&self, from: usize) -> impl Iterator<Item = (usize, &[ExtentEntry])> {
        let numbered = (from..=self.sealed.len()).filter_map(|at| Some((at, self.chunk(at)?)));
        numbered.filter(|(_, extents)| !extents.is_empty())
    }

    /// The sum of all extents' hashes in the state digest.
    pub(super) fn digest(&self) -> u128 {
        self.digest
    }

    /// The number of the chunk that the next extent goes to.
    pub(super) fn next_chunk(&self) -> usize {
        self.sealed.len()
    }

    /// The extent with this number, counted from the oldest.
    pub fn get(&self, at: usize) -> Option<&ExtentEntry> {
        self.chunk(at / CHUNK_LENGTH)?.get(at % CHUNK_LENGTH)
    }

    /// The extents from number `from` on.
    pub fn iter_from(&self, from: usize) -> impl Iterator<Item = &ExtentEntry> {
        let skip_first = from % CHUNK_LENGTH;
        self.chunks(from / CHUNK_LENGTH).flat_map(|(_, chunk)| chunk).skip(skip_first)
    }

    /// The number of the first extent whose last offset is `offset` or later.
    pub fn find_offset(&self, offset: Offset) -> Option<usize> {
        let before = |extent: &ExtentEntry| extent.last_offset < offset;
        let chunk =
            self.first_sealed(|sealed| sealed.extents.last().is_none_or(|last| !before(last)));
        let extents = self.chunk(chunk)?;
        let within = extents.partition_point(before);
        (within < extents.len()).then_some(chunk * CHUNK_LENGTH + within)
    }

    /// The number of the first extent whose largest timestamp is `timestamp` or later.
    pub fn find_timestamp(&self, timestamp: TimestampMs) -> Option<usize> {
        let chunk = self.first_sealed(|sealed| sealed.max_timestamp_so_far >= timestamp);
        let extents = self.chunk(chunk)?;
        let within = extents.iter().position(|extent| extent.max_timestamp >= timestamp)?;
        Some(chunk * CHUNK_LENGTH + within)
    }

    /// The number of the first extent with the largest timestamp.
    pub fn find_max_timestamp(&self) -> Option<usize> {
        self.find_timestamp(self.max_timestamp)
    }

    fn chunk(&self, number: usize) -> Option<&[ExtentEntry]> {
        if number == self.sealed.len() {
            return Some(&self.tail);
        }
        self.sealed.get(number).map(|chunk| chunk.extents.as_slice())
    }

    /// The number of the first full chunk for which `reached` holds (and holds for all after it),
    /// the tail's number if for none.
    fn first_sealed(&self, reached: impl Fn(&Sealed) -> bool) -> usize {
        let (mut low, mut high) = (0, self.sealed.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.sealed.get(middle).is_some_and(&reached) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use ottla_model::{BytePosition, ObjectId};

    use super::*;

    /// Extents of two records each; timestamps go up and down.
    fn extent(at: usize) -> ExtentEntry {
        let base = 2 * at as i64;
        ExtentEntry {
            base_offset: Offset(base),
            last_offset: Offset(base + 1),
            object: ObjectId(at as u64),
            position: BytePosition(0),
            length: 100,
            max_timestamp: TimestampMs((at as i64 * 7919) % 1000),
            log_append: false,
        }
    }

    fn log(extents: usize) -> ExtentLog {
        let mut log = ExtentLog::default();
        for at in 0..extents {
            log.push(extent(at), at as u128);
        }
        log
    }

    #[test]
    fn every_extent_is_found_by_each_of_its_offsets_at_any_depth() {
        for length in [0, 1, 255, 256, 257, 512, 1000] {
            let log = log(length);
            assert_eq!(log.len(), length);
            for at in 0..length {
                assert_eq!(log.get(at), Some(&extent(at)));
                assert_eq!(log.find_offset(Offset(2 * at as i64)), Some(at));
                assert_eq!(log.find_offset(Offset(2 * at as i64 + 1)), Some(at));
            }
            assert_eq!(log.find_offset(Offset(2 * length as i64)), None);
            let all: Vec<_> = log.iter_from(length / 2).copied().collect();
            assert_eq!(all, (length / 2..length).map(extent).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_time_is_found_as_a_scan_would_find_it() {
        for length in [0, 1, 300, 1000] {
            let log = log(length);
            for time in -1..=1000 {
                let scanned = (0..length).find(|at| extent(*at).max_timestamp.0 >= time);
                assert_eq!(log.find_timestamp(TimestampMs(time)), scanned);
            }
            let max = (0..length).map(|at| extent(at).max_timestamp.0).max();
            let first = (0..length).find(|at| Some(extent(*at).max_timestamp.0) == max);
            assert_eq!(log.find_max_timestamp(), first);
        }
    }

    #[test]
    fn a_copy_keeps_what_it_had_and_shares_the_full_chunks() {
        let mut log = log(600);
        let copy = log.clone();
        log.push(extent(600), 600);
        assert_eq!((copy.len(), log.len()), (600, 601));
        assert!(Arc::ptr_eq(&copy.sealed[1].extents, &log.sealed[1].extents));
        assert!(!Arc::ptr_eq(&copy.tail, &log.tail));
    }
}
