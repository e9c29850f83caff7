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
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until it is told otherwise. Clones share its hand.
    pub fn manual(start: TimestampMs) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(start.0))))
    }

    /// The time now. Before 1970: 0.
    #[allow(clippy::disallowed_methods, reason = "this is the door")]
    pub fn now(&self) -> TimestampMs {
        match &self.0 {
            Source::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                TimestampMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
            Source::Manual(hand) => TimestampMs(hand.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock by `ms`, back when negative. The machine's clock is not touched.
    pub fn advance(&self, ms: i64) {
        if let Source::Manual(hand) = &self.0 {
            hand.fetch_add(ms, Ordering::SeqCst);
        }
    }
}
