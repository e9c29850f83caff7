//! Broker sessions: who renewed when, on the leader's monotonic clock. They are not replicated;
//! what is replicated is the fence that ends one. A node that begins to lead, or finds that its
//! own step came late, grants every living broker a fresh period first: a pause of the leader
//! is not a silence of the brokers.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_model::BrokerAuthor;
use tokio::time::Instant;

use crate::limits::{FENCE_RETRY, HOUSEKEEPING_LATE, HOUSEKEEPING_STEP};

/// See the module.
#[derive(Debug)]
pub struct Sessions {
    period: Duration,
    ends: BTreeMap<BrokerAuthor, Instant>,
    last_step: Instant,
}

impl Sessions {
    /// No sessions yet: the first step grants every living broker one.
    pub fn new(period: Duration, now: Instant) -> Self {
        Self { period, ends: BTreeMap::new(), last_step: now }
    }

    /// How long a session lasts.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// A broker showed that it lives.
    pub fn renew(&mut self, author: BrokerAuthor, now: Instant) {
        self.ends.insert(author, now + self.period);
    }

    /// Forgets all sessions: the next step grants fresh ones. For whoever does not lead.
    pub fn forget(&mut self) {
        self.ends.clear();
    }

    /// Compares with who lives by the state, and returns whose session is over: they are to be
    /// fenced. A fence that does not happen is asked for again.
    pub fn step(
        &mut self,
        living: impl Iterator<Item = BrokerAuthor>,
        now: Instant,
    ) -> Vec<BrokerAuthor> {
        let since = now.saturating_duration_since(self.last_step);
        self.last_step = now;
        if since > HOUSEKEEPING_STEP + HOUSEKEEPING_LATE {
            tracing::warn!(late_ms = since.as_millis(), "own step was late: sessions begin anew");
            self.ends.clear();
        }
        let mut known = std::mem::take(&mut self.ends);
        let mut over = Vec::new();
        for author in living {
            let mut end = known.remove(&author).unwrap_or(now + self.period);
            if end <= now {
                over.push(author);
                end = now + FENCE_RETRY;
            }
            self.ends.insert(author, end);
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use ottla_model::{BrokerEpoch, BrokerId};

    use super::*;

    fn broker(id: i32) -> BrokerAuthor {
        BrokerAuthor { broker: BrokerId(id), epoch: BrokerEpoch(1) }
    }

    /// Steps every half second for `seconds`; returns who was over, with the second.
    fn run(
        sessions: &mut Sessions,
        from: Instant,
        seconds: u64,
        living: &[BrokerAuthor],
    ) -> Vec<(u64, i32)> {
        let mut over = Vec::new();
        for step in 1..=2 * seconds {
            let now = from + HOUSEKEEPING_STEP * step as u32;
            for author in sessions.step(living.iter().copied(), now) {
                over.push((step / 2, author.broker.0));
            }
        }
        over
    }

    #[test]
    fn a_silent_broker_is_over_after_the_period_and_asked_for_again() {
        let t0 = Instant::now();
        let mut sessions = Sessions::new(Duration::from_secs(9), t0);
        sessions.renew(broker(1), t0);
        assert_eq!(run(&mut sessions, t0, 12, &[broker(1)]), [(9, 1), (11, 1)]);
    }

    #[test]
    fn a_broker_that_renews_stays() {
        let t0 = Instant::now();
        let mut sessions = Sessions::new(Duration::from_secs(9), t0);
        for second in 0..30u64 {
            let now = t0 + Duration::from_secs(second);
            sessions.renew(broker(1), now);
            assert!(run(&mut sessions, now, 1, &[broker(1)]).is_empty());
        }
    }

    #[test]
    fn a_late_step_of_our_own_grants_fresh_periods() {
        let t0 = Instant::now();
        let mut sessions = Sessions::new(Duration::from_secs(9), t0);
        sessions.renew(broker(1), t0);
        let frozen = t0 + Duration::from_secs(3_600);
        assert!(sessions.step([broker(1)].into_iter(), frozen).is_empty());
        assert_eq!(run(&mut sessions, frozen, 9, &[broker(1)]), [(9, 1)]);
    }

    #[test]
    fn brokers_that_are_gone_are_forgotten() {
        let t0 = Instant::now();
        let mut sessions = Sessions::new(Duration::from_secs(9), t0);
        sessions.renew(broker(1), t0);
        sessions.renew(broker(2), t0);
        assert!(run(&mut sessions, t0, 1, &[broker(2)]).is_empty());
        assert_eq!(sessions.ends.len(), 1);
    }
}
