//! The wall clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use ottla_model::TimestampMs;

/// A source of wall-clock time; cheap to clone. Nothing that must be correct may depend on it:
/// sessions, leases and time-outs use tokio's monotonic time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Moved(Arc<AtomicI64>),
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// The machine's clock, moved by the sum of what [`Clock::advance`] was told. Clones move with it.
    pub fn movable() -> Self {
        Self(Source::Moved(Arc::default()))
    }

    /// A clock that stands still until it is told otherwise. Clones share its hand.
    pub fn manual(start: TimestampMs) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(start.0))))
    }

    /// The time now. Before 1970: 0.
    pub fn now(&self) -> TimestampMs {
        match &self.0 {
            Source::System => TimestampMs(machine_ms()),
            Source::Moved(by) => TimestampMs(machine_ms() + by.load(Ordering::SeqCst)),
            Source::Manual(hand) => TimestampMs(hand.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual or movable clock by `ms`, back when negative. The machine's is not touched.
    pub fn advance(&self, ms: i64) {
        match &self.0 {
            Source::System => {}
            Source::Moved(hand) | Source::Manual(hand) => {
                hand.fetch_add(ms, Ordering::SeqCst);
            }
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "this is the door")]
fn machine_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
