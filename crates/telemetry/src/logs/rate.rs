//! How often one place in the code may speak.
//!
//! Clients can cause log lines, and a line that none can cause today may be one tomorrow. So all
//! places are held to the same number per period, here and nowhere else, and the next line of a
//! place tells how many were kept back. A line that comes once is always written. Lines of the
//! levels debug and trace are not counted: whoever asks for them wants them all.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;
use tracing::{Level, Metadata};

use crate::limits::{LINES_PER_PLACE_MAX, LINES_PERIOD};

/// File and line of a place.
type Place = (&'static str, u32);

/// What the places have said. As large as the code has places.
#[derive(Debug, Default)]
pub(super) struct PlaceLimits(Mutex<BTreeMap<Place, Window>>);

#[derive(Debug)]
struct Window {
    since: Instant,
    lines: u32,
    suppressed: u64,
}

impl PlaceLimits {
    /// `Some` when the line may be written: how many of its place were kept back since the last.
    pub(super) fn permit(&self, line: &Metadata<'static>) -> Option<u64> {
        if *line.level() > Level::INFO {
            return Some(0);
        }
        self.permit_place((line.file().unwrap_or(line.target()), line.line().unwrap_or_default()))
    }

    pub(super) fn permit_place(&self, place: Place) -> Option<u64> {
        let now = Instant::now();
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = places.entry(place).or_insert(Window { since: now, lines: 0, suppressed: 0 });
        if now.duration_since(window.since) >= LINES_PERIOD {
            window.since = now;
            window.lines = 0;
        }
        if window.lines >= LINES_PER_PLACE_MAX {
            window.suppressed = window.suppressed.saturating_add(1);
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lines_beyond_the_limit_are_counted_for_each_place_and_told_later() {
        let limits = PlaceLimits::default();
        let (here, there) = (("a.rs", 1), ("a.rs", 2));
        for _ in 0..LINES_PER_PLACE_MAX {
            assert_eq!(limits.permit_place(here), Some(0));
        }
        assert_eq!(limits.permit_place(here), None);
        assert_eq!(limits.permit_place(here), None);
        assert_eq!(limits.permit_place(there), Some(0));
        tokio::time::advance(LINES_PERIOD).await;
        assert_eq!(limits.permit_place(here), Some(2));
        assert_eq!(limits.permit_place(here), Some(0));
    }
}
