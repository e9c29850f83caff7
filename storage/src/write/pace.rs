//! The conclusions from the store's latest answers for the next upload: when it counts as slow,
//! whether a rival may be spent on it, and how many uploads run at the same time.
//!
//! **Hedges** are earned by uploads that begin: when the whole store is slow they add little.
//!
//! **Slots** are halved when the store refuses an attempt for now, and grow by one with each round of
//! successes, as a TCP window does. Fewer uploads are larger ones: the same bytes take fewer
//! requests. Together with the growing pauses between the attempts of each, a store that serves less
//! than it is asked for gets at most about two requests for each one that it serves, and one that
//! serves nothing a few each second. Uploads that run already go on.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{
    HEDGE_DELAY_MAX, HEDGE_DELAY_MIN, HEDGE_DELAY_UNKNOWN, HEDGE_EARNED, HEDGES_SAVED_MAX,
    LATENCIES_KEPT, SLOTS_HALVED_EVERY, UPLOADS_MIN,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Pace {
    recent: VecDeque<Duration>,
    hedges: f64,
    slots: f64,
    slots_max: f64,
    /// When the slots were halved last.
    halved: Option<Instant>,
}

impl Pace {
    /// For a store that nothing is known of, and at most so many uploads at the same time.
    pub(crate) fn new(uploads_max: usize) -> Self {
        let slots_max = uploads_max.max(1) as f64;
        Self {
            recent: VecDeque::with_capacity(LATENCIES_KEPT),
            hedges: HEDGES_SAVED_MAX,
            slots: slots_max,
            slots_max,
            halved: None,
        }
    }

    /// How many uploads may run at the same time.
    pub(crate) fn slots(&self) -> usize {
        self.slots as usize
    }

    /// An upload begins: the delay after which it is slow.
    pub(crate) fn begin(&mut self) -> Duration {
        self.hedges = (self.hedges + HEDGE_EARNED).min(HEDGES_SAVED_MAX);
        if self.recent.len() < LATENCIES_KEPT / 8 {
            return HEDGE_DELAY_UNKNOWN;
        }
        let mut sorted: Vec<Duration> = self.recent.iter().copied().collect();
        sorted.sort_unstable();
        let p95 = sorted.get(sorted.len() * 95 / 100).copied().unwrap_or(HEDGE_DELAY_UNKNOWN);
        (p95 * 3 / 2).clamp(HEDGE_DELAY_MIN, HEDGE_DELAY_MAX)
    }

    /// Whether a hedge was earned; it is then spent.
    pub(crate) fn take_hedge(&mut self) -> bool {
        let may = self.hedges >= 1.0;
        if may {
            self.hedges -= 1.0;
        }
        may
    }

    /// An attempt succeeded after this time.
    pub(crate) fn succeeded(&mut self, took: Duration) {
        self.slots = (self.slots + 1.0 / self.slots).min(self.slots_max);
        if self.recent.len() >= LATENCIES_KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back(took);
    }

    /// The store refused an attempt for now.
    pub(crate) fn refused(&mut self, now: Instant) {
        if self.halved.is_none_or(|last| last + SLOTS_HALVED_EVERY <= now) {
            self.halved = Some(now);
            self.slots = (self.slots / 2.0).max(UPLOADS_MIN).min(self.slots_max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn slots_are_halved_by_refusals_and_grow_with_successes() {
        let (mut pace, now) = (Pace::new(16), Instant::now());
        pace.refused(now);
        pace.refused(now);
        assert_eq!(pace.slots(), 8, "refusals that come together count once");
        (1..10).for_each(|n| pace.refused(now + SLOTS_HALVED_EVERY * n));
        assert_eq!(pace.slots(), UPLOADS_MIN as usize);
        (0..200).for_each(|_| pace.succeeded(QUICK));
        assert_eq!(pace.slots(), 16);
    }

    #[tokio::test(start_paused = true)]
    async fn a_writer_that_is_held_to_one_upload_keeps_that_one() {
        let mut pace = Pace::new(1);
        pace.refused(Instant::now());
        assert_eq!(pace.slots(), 1);
    }

    #[test]
    fn the_hedge_delay_follows_recent_latencies_within_bounds() {
        let mut pace = Pace::new(16);
        assert_eq!(pace.begin(), HEDGE_DELAY_UNKNOWN);
        (0..LATENCIES_KEPT).for_each(|_| pace.succeeded(Duration::from_millis(400)));
        assert_eq!(pace.begin(), Duration::from_millis(600));
        (0..LATENCIES_KEPT).for_each(|_| pace.succeeded(QUICK));
        assert_eq!(pace.begin(), HEDGE_DELAY_MIN);
        (0..LATENCIES_KEPT).for_each(|_| pace.succeeded(Duration::from_secs(60)));
        assert_eq!(pace.begin(), HEDGE_DELAY_MAX);
        assert_eq!(pace.recent.len(), LATENCIES_KEPT);
    }

    #[test]
    fn hedges_add_at_most_a_tenth_to_a_slow_stores_load() {
        let mut pace = Pace::new(16);
        while pace.take_hedge() {}
        let hedges = (0..1000)
            .filter(|_| {
                pace.begin();
                pace.take_hedge()
            })
            .count();
        assert!((99..=100).contains(&hedges), "{hedges}");
    }
}
