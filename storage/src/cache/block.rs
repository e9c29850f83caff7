//! A block of an object as the store gave it.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::limits::{BLOCK_BYTES, CHECKED_RANGES_MAX, UNSERVED_SHARE_MAX};

/// A block with the memory of which of its bytes were found right. Batches cross blocks, so whoever
/// checks a batch's checksum notes it here, and the next reader does not check again.
#[derive(Debug)]
pub struct Block {
    bytes: Bytes,
    buffer: Arc<ReadBuffer>,
    /// Disjoint, in order, not touching.
    checked: Mutex<Vec<Range<u64>>>,
}

/// The buffer that a read filled, which its blocks are slices of: one of them keeps all of it in
/// memory.
#[derive(Debug)]
pub struct ReadBuffer {
    length: u64,
    /// Bytes that went into answers.
    served: AtomicU64,
}

impl ReadBuffer {
    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }
}

impl Block {
    /// The blocks of a read that begins with one, of which nothing is known yet.
    pub fn of_read(bytes: &Bytes) -> Vec<Arc<Self>> {
        let length = bytes.len() as u64;
        let buffer = Arc::new(ReadBuffer { length, served: AtomicU64::new(0) });
        (0..length)
            .step_by(BLOCK_BYTES as usize)
            .map(|from| {
                let part = from as usize..length.min(from + BLOCK_BYTES) as usize;
                let buffer = Arc::clone(&buffer);
                Arc::new(Self { bytes: bytes.slice(part), buffer, checked: Mutex::default() })
            })
            .collect()
    }

    /// Its bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What its bytes keep in memory.
    pub fn buffer(&self) -> &Arc<ReadBuffer> {
        &self.buffer
    }

    /// Notes that so many of its bytes went into an answer. `true`: all that readers want of the
    /// read that brought it has been served, so that is worth less than one they are still in.
    pub fn note_served(&self, bytes: u64) -> bool {
        let ReadBuffer { length, served } = &*self.buffer;
        served.fetch_add(bytes, Ordering::Relaxed) + bytes >= length - length / UNSERVED_SHARE_MAX
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
        let block = &Block::of_read(&Bytes::from_static(&[0; 100]))[0];
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
