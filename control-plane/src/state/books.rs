//! The records in which every change of the state is entered.

use ottla_format::state::{Counters, StateKey};
use ottla_model::TimestampMs;

use super::digest::Digest;
use super::dirty::Dirty;
use super::promise::promise;
use super::size::Tally;

/// Counters, digest, dirty keys and the number of entries. Every function that changes a table gets
/// them, so that none can change it unseen.
#[derive(Clone, Debug)]
pub struct Books {
    pub(super) counters: Counters,
    pub(super) digest: Digest,
    pub(super) dirty: Dirty,
    pub(super) tally: Tally,
}

impl Books {
    pub(super) fn new() -> Self {
        let mut books = Self {
            counters: Counters::START,
            digest: Digest::default(),
            dirty: Dirty::default(),
            tally: Tally::default(),
        };
        books.enter_counters();
        books
    }

    /// Replicated time never goes backward.
    pub(super) fn advance_time(&mut self, time: TimestampMs) {
        self.counters.time = self.counters.time.max(time);
    }

    /// Enters the present counters into a digest that has none.
    pub(super) fn enter_counters(&mut self) {
        let Self { counters, digest, .. } = self;
        digest.add(&StateKey::Counters, |out| counters.put(out));
    }

    /// Adjusts the digest after a command moved the counters.
    pub(super) fn counters_changed(&mut self, before: Counters) {
        if self.counters != before {
            promise("I-ONE", never_back(&before, &self.counters), || {
                format!("the counters went from {before:?} to {:?}", self.counters)
            });
            self.digest.remove(&StateKey::Counters, |out| before.put(out));
            self.enter_counters();
        }
    }
}

/// Time never goes back, and no number is given out twice.
fn never_back(before: &Counters, after: &Counters) -> bool {
    before.time <= after.time
        && before.next_broker_epoch <= after.next_broker_epoch
        && before.next_object <= after.next_object
        && before.next_producer_id <= after.next_producer_id
        && before.next_group <= after.next_group
}
