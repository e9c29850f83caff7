//! The time that commands carry.
//!
//! It follows the wall clock, but never goes back, and never runs faster than twice real speed
//! (counted on the monotonic clock). Only time that the process lived through counts as real: what
//! lies between two observations counts for at most `OBSERVED_MAX`, and the housekeeper observes
//! twice a second. A wall clock that jumps ahead, a process that was frozen for an hour, and a node
//! that was down for a day all find replicated time behind the wall clock, and it catches up at
//! twice real speed: nothing expires at once because of them.

use std::time::Duration;

use ottla_env::Clock;
use ottla_model::TimestampMs;
use tokio::time::Instant;

use crate::limits::{CLOCK_STEP_REPORTED_MS, HOUSEKEEPING_LATE, HOUSEKEEPING_STEP};

/// The most real time that lies between two observations of a process that lives.
const OBSERVED_MAX: Duration =
    Duration::from_millis((HOUSEKEEPING_STEP.as_millis() + HOUSEKEEPING_LATE.as_millis()) as u64);

/// See the module.
#[derive(Debug)]
pub struct ReplicatedClock {
    clock: Clock,
    time: TimestampMs,
    observed: Instant,
    /// Below a millisecond; carried on.
    rest: Duration,
    /// The difference was reported and is not over.
    off: bool,
}

impl ReplicatedClock {
    /// Goes on from the state's time; a state that never had one takes the wall clock's.
    pub fn new(clock: Clock, state: TimestampMs, now: Instant) -> Self {
        let wall = clock.now();
        let time = if state.0 <= 0 { wall } else { state };
        let behind_ms = wall.0.saturating_sub(time.0);
        let off = behind_ms > CLOCK_STEP_REPORTED_MS;
        if off {
            tracing::info!(
                behind_ms,
                "replicated time stood still since the last stop; it catches up at twice real speed"
            );
        }
        Self { clock, time, observed: now, rest: Duration::ZERO, off }
    }

    /// Replicated time at `now`.
    pub fn observe(&mut self, now: Instant) -> TimestampMs {
        let lived = now.saturating_duration_since(self.observed).min(OBSERVED_MAX) + self.rest;
        self.observed = now;
        let lived_ms = i64::try_from(lived.as_millis()).unwrap_or(i64::MAX);
        self.rest = lived.saturating_sub(Duration::from_millis(lived_ms.unsigned_abs()));
        let wall = self.clock.now();
        let fastest = TimestampMs(self.time.0.saturating_add(lived_ms.saturating_mul(2)));
        self.time = wall.clamp(self.time, fastest);
        self.report(wall);
        self.time
    }

    fn report(&mut self, wall: TimestampMs) {
        let ahead_ms = wall.0.saturating_sub(self.time.0);
        let off = ahead_ms.abs() > CLOCK_STEP_REPORTED_MS;
        if off && !self.off {
            tracing::warn!(
                ahead_ms,
                "the wall clock made a step; replicated time follows it at most at twice real \
                 speed and never backward"
            );
        } else if !off && self.off {
            tracing::info!("replicated time agrees with the wall clock again");
        }
        self.off = off;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_700_000_000_000;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn it_follows_the_wall_clock() {
        let (clock, t0) = (Clock::manual(TimestampMs(START)), Instant::now());
        let mut time = ReplicatedClock::new(clock.clone(), TimestampMs(0), t0);
        for step in 1..100 {
            clock.advance(500);
            assert_eq!(time.observe(t0 + at(500 * step)).0, START + 500 * step as i64);
        }
    }

    #[test]
    fn a_jump_ahead_is_followed_at_twice_real_speed() {
        let (clock, t0) = (Clock::manual(TimestampMs(START)), Instant::now());
        let mut time = ReplicatedClock::new(clock.clone(), TimestampMs(START), t0);
        clock.advance(3_600_000);
        assert_eq!(time.observe(t0 + at(500)).0, START + 1_000);
        assert_eq!(time.observe(t0 + at(1_000)).0, START + 2_000);
    }

    #[test]
    fn it_never_goes_back() {
        let (clock, t0) = (Clock::manual(TimestampMs(START)), Instant::now());
        let mut time = ReplicatedClock::new(clock.clone(), TimestampMs(START), t0);
        clock.advance(-5_000);
        assert_eq!(time.observe(t0 + at(500)).0, START);
        clock.advance(6_000);
        assert_eq!(time.observe(t0 + at(1_000)).0, START + 1_000);
    }

    #[test]
    fn a_frozen_process_lives_through_no_more_than_one_late_step() {
        let (clock, t0) = (Clock::manual(TimestampMs(START)), Instant::now());
        let mut time = ReplicatedClock::new(clock.clone(), TimestampMs(START), t0);
        clock.advance(86_400_000);
        let after = time.observe(t0 + Duration::from_secs(86_400)).0;
        assert_eq!(after, START + 2 * OBSERVED_MAX.as_millis() as i64);
    }

    #[test]
    fn parts_of_a_millisecond_add_up() {
        let (clock, t0) = (Clock::manual(TimestampMs(START)), Instant::now());
        let mut time = ReplicatedClock::new(clock.clone(), TimestampMs(START), t0);
        clock.advance(1_000);
        for step in 1..=1_000u64 {
            time.observe(t0 + Duration::from_micros(100 * step));
        }
        assert_eq!(time.observe(t0 + at(100)).0, START + 200);
    }
}
