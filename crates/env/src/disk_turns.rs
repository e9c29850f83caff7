//! Who goes first on a disk.
//!
//! A disk serves what it was given in turn. An acknowledgement waits for two syncs, each of which is
//! short, and behind a large read takes as long as that read. Readers of what is old can wait; so
//! they hold back while a sync is under way, and a sync finds at most one read before it.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// What syncs and large reads of one disk agree by; cheap to clone. All of it blocks: it is for
/// threads that may.
#[derive(Clone, Debug, Default)]
pub struct DiskTurns(Arc<Turns>);

#[derive(Debug, Default)]
struct Turns {
    /// Syncs under way.
    syncs: Mutex<usize>,
    none: Condvar,
}

impl DiskTurns {
    /// A sync goes before reads, until what this returns is dropped. Never waits.
    #[must_use = "the sync's turn ends when this is dropped"]
    pub fn sync(&self) -> SyncTurn<'_> {
        *self.0.syncs.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        SyncTurn(&self.0)
    }

    /// A large read lets syncs go before it: waits until none is under way, but no longer than
    /// `patience`.
    pub fn give_way(&self, patience: Duration) {
        let syncs = self.0.syncs.lock().unwrap_or_else(PoisonError::into_inner);
        // Its time over or not: now it reads.
        let _ = self.0.none.wait_timeout_while(syncs, patience, |syncs| *syncs > 0);
    }
}

/// A sync that is under way.
#[derive(Debug)]
pub struct SyncTurn<'a>(&'a Turns);

impl Drop for SyncTurn<'_> {
    fn drop(&mut self) {
        let mut syncs = self.0.syncs.lock().unwrap_or_else(PoisonError::into_inner);
        *syncs = syncs.saturating_sub(1);
        if *syncs == 0 {
            self.0.none.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn a_read_waits_for_the_last_sync() {
        let turns = DiskTurns::default();
        turns.give_way(LONG);
        let (first, second) = (turns.sync(), turns.sync());
        let read = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                turns.give_way(LONG);
                read.store(true, Ordering::SeqCst);
            });
            drop(first);
            assert!(!read.load(Ordering::SeqCst));
            drop(second);
        });
        assert!(read.load(Ordering::SeqCst));
    }

    #[test]
    fn a_read_does_not_wait_for_ever() {
        let turns = DiskTurns::default();
        let _never_ends = turns.sync();
        turns.give_way(Duration::from_millis(1));
    }
}
