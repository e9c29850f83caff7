//! The sweep's own decisions, as plain functions: which listed objects to ask about, how many may
//! go at once, when to list again. Which objects can go at all is the control plane's decision.

use std::time::Duration;

use ottla_control_api::SweepMark;
use ottla_model::{ClusterId, ObjectName, TimestampMs};
use ottla_object_io::{ObjectEntry, keys};
use tokio::time::Instant;

use crate::limits::{LATE_ATTEMPT_MAX, SWEEP_OBJECTS_ALWAYS};

/// The content of a listing.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// All of it.
    pub listed: u64,
    /// Not old enough.
    pub young: u64,
    /// Keys that this product does not make.
    pub foreign: u64,
    /// The names to ask the control plane about.
    pub names: Vec<ObjectName>,
}

impl Seen {
    /// Looks at a listing at a time.
    pub(crate) fn look_at(
        &mut self,
        cluster: ClusterId,
        entries: &[ObjectEntry],
        now: TimestampMs,
        age: Duration,
    ) {
        let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let young_since = now.0.saturating_sub(age_ms);
        self.listed += entries.len() as u64;
        for entry in entries {
            match keys::object_name(cluster, &entry.key) {
                None => self.foreign += 1,
                Some(_) if entry.modified_ms > young_since => self.young += 1,
                Some(name) => self.names.push(name),
            }
        }
    }
}

/// How many of `objects` one pass may delete: a share, but never so few that a small bucket is not
/// swept.
pub(crate) fn deletes_max(objects: u64, share_percent: u32) -> u64 {
    let share = u128::from(objects) * u128::from(share_percent) / 100;
    u64::try_from(share).unwrap_or(u64::MAX).max(SWEEP_OBJECTS_ALWAYS)
}

/// When listings are made, and when they can stop.
#[derive(Debug)]
pub(crate) struct Listings {
    /// What the control plane said last, and since when it says so.
    mark: Option<(SweepMark, Instant)>,
    /// A listing found nothing, and nothing can come up until the mark changes.
    settled: bool,
    next: Instant,
}

impl Listings {
    /// The first one is due at once.
    pub(crate) fn new(now: Instant) -> Self {
        Self { mark: None, settled: false, next: now }
    }

    /// Notes what the control plane says.
    pub(crate) fn note_mark(&mut self, mark: SweepMark, now: Instant) {
        if self.mark.is_none_or(|(last, _)| last != mark) {
            self.mark = Some((mark, now));
            self.settled = false;
        }
    }

    pub(crate) fn due(&self, now: Instant) -> bool {
        !self.settled && now >= self.next
    }

    /// A listing was begun at `began`; `nothing_left`: it was complete, all it showed was old
    /// enough, and there was nothing to delete.
    pub(crate) fn done(&mut self, began: Instant, nothing_left: bool, age: Duration) {
        self.next = began + age / 2;
        let everything_came =
            self.mark.is_some_and(|(_, since)| began >= since + age + LATE_ATTEMPT_MAX);
        self.settled = nothing_left && everything_came;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Duration = Duration::from_secs(3600);

    #[test]
    fn small_buckets_are_swept_and_large_ones_at_a_pace() {
        assert_eq!(deletes_max(0, 25), SWEEP_OBJECTS_ALWAYS);
        assert_eq!(deletes_max(1_000_000, 25), 250_000);
        assert_eq!(deletes_max(u64::MAX, 100), u64::MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn listings_stop_when_nothing_can_come_up_and_go_on_when_something_can() {
        let start = Instant::now();
        let mark = SweepMark { epochs: 2, ..SweepMark::default() };
        let mut listings = Listings::new(start);
        assert!(listings.due(start), "what an earlier process left is looked for");
        listings.note_mark(mark, start);
        listings.done(start, true, AGE);
        assert!(!listings.due(start + AGE / 3));
        let later = start + AGE / 2;
        assert!(listings.due(later), "a late attempt could still come, and grow old");

        let calm = start + AGE + LATE_ATTEMPT_MAX;
        listings.done(calm, false, AGE);
        assert!(listings.due(calm + AGE), "after a delete there is another listing");
        listings.done(calm, true, AGE);
        listings.note_mark(mark, calm);
        assert!(!listings.due(calm + AGE * 100));

        listings.note_mark(SweepMark { decided: 1, ..mark }, calm + AGE);
        assert!(listings.due(calm + AGE));
    }
}
