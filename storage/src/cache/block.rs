//! A block of an object as the store gave it.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::limits::{CHECKED_RANGES_MAX, UNSERVED_SHARE_MAX};

/// A block with the memory of which of its bytes were found right. Batches cross blocks, so whoever
/// checks a batch's checksum notes it here, and the next reader does not check again.
#[derive(Debug)]
pub struct Block {
    bytes: Bytes,
    /// Disjoint, in order, not touching.
    checked: Mutex<Vec<Range<u64>>>,
    /// Bytes that went into answers.
    served: AtomicU64,
}

impl Block {
    /// A block of which nothing is known yet.
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes, checked: Mutex::default(), served: AtomicU64::new(0) }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Notes that so many of its bytes went into an answer. `true`: all that a reader wants of it has
    /// been served, so it is worth less than a block that readers are still in.
    pub fn note_served(&self, bytes: u64) -> bool {
        let served = self.served.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let length = self.bytes.len() as u64;
        served >= length - length / UNSERVED_SHARE_MAX
    }

    /// Whether all bytes of a range (within the block) were found right.
    pub fn is_checked(&self, range: &Range<u64>) -> bool {
        let checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        range.is_empty() || checked.iter().any(|c| c.start <= range.start && range.end <= c.end)
    }

    /// Notes that a range (within the block) was found right.
    pub fn note_checked(&self, range: Range<u64>) {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let first = checked.partition_point(|c| c.end < range.start);
        let after = checked.partition_point(|c| c.start <= range.end);
        let mut joined = range;
        if let Some(touched) = checked.get(first..after.max(first)) {
            for part in touched {
                joined = joined.start.min(part.start)..joined.end.max(part.end);
            }
        }
        checked.splice(first..after.max(first), [joined]);
        checked.truncate(CHECKED_RANGES_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_checks_become_one() {
        let block = Block::new(Bytes::from_static(&[0; 100]));
        assert!(!block.is_checked(&(0..1)));
        block.note_checked(10..20);
        block.note_checked(30..40);
        assert!(block.is_checked(&(12..20)));
        assert!(!block.is_checked(&(12..31)));
        block.note_checked(20..30);
        assert!(block.is_checked(&(10..40)));
        block.note_checked(0..5);
        assert!(!block.is_checked(&(0..10)));
        block.note_checked(0..100);
        assert!(block.is_checked(&(0..100)));
        assert_eq!(block.checked.lock().unwrap().len(), 1);
    }
}
