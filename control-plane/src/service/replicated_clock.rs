//! The time that commands carry.
//!
//! It follows the wall clock, but never goes back, and never runs faster than twice real speed
//! (counted on the monotonic clock). Only time that the process lived through counts as real: what
//! lies between two observations counts for at most `OBSERVED_MAX`, and the housekeeper observes
//! twice a second. A wall clock that jumps ahead, a process that was frozen for an hour, and a node
//! that was down for a day all find replicated time behind the wall clock, and it catches up at
//! twice real speed: nothing expires at once because of them.
//!
//! A start goes on from the last time in the log. A leader that has nothing to write moves that on
//! with a tick every [`TICK_INTERVAL`](crate::limits::TICK_INTERVAL). So a start lags by the time
//! that the node was down, and by no more than one interval of the time that it was idle before. We
//! decided against a step at start instead: a start cannot tell a long stop from a clock that is
//! wrong.
//!
//! A clock that was wrong when the cluster began is another matter: see [`crate::state::time_step`].
//! The wall clock of this module is the machine's less the state's wall offset.

use std::time::Duration;

use ottla_env::Clock;
use ottla_model::TimestampMs;
use tokio::time::Instant;

use crate::limits::{
    CLOCK_STEP_ACCEPTED_FOR, CLOCK_STEP_REPORTED_MS, HOUSEKEEPING_LATE, HOUSEKEEPING_STEP,
};
use crate::state::State;

/// The most real time that lies between two observations of a process that lives.
const OBSERVED_MAX: Duration =
    Duration::from_millis((HOUSEKEEPING_STEP.as_millis() + HOUSEKEEPING_LATE.as_millis()) as u64);

/// See the module.
#[derive(Debug)]
pub struct ReplicatedClock {
    clock: Clock,
    /// The state's.
    wall_offset_ms: i64,
    time: TimestampMs,
    observed: Instant,
    /// Below a millisecond; carried on.
    rest: Duration,
    /// The difference was reported and is not over.
    off: bool,
}

impl ReplicatedClock {
    /// Goes on from the state's time; a state that never had one takes the wall clock's.
    pub fn new(clock: Clock, state: &State, now: Instant) -> Self {
        let mut replicated = Self {
            clock,
            wall_offset_ms: state.wall_offset_ms(),
            time: state.time(),
            observed: now,
            rest: Duration::ZERO,
            off: false,
        };
        let wall = replicated.wall();
        if replicated.time.0 <= 0 {
            replicated.time = wall;
        }
        let behind_ms = wall.0.saturating_sub(replicated.time.0);
        replicated.off = behind_ms > CLOCK_STEP_REPORTED_MS;
        if replicated.off {
            tracing::info!(
                behind_ms,
                "replicated time stood still while the node was down; it catches up at twice real \
                 speed, or at once with {}",
                replicated.accepting_setting()
            );
        }
        replicated
    }

    /// Takes over the state's wall offset, which a step of time has changed.
    pub fn set_wall_offset(&mut self, offset_ms: i64) {
        self.wall_offset_ms = offset_ms;
    }

    /// What the machine's clock shows, when that is so far from replicated time that a step is worth
    /// asking for.
    pub fn wall_when_off(&self) -> Option<TimestampMs> {
        let ahead_ms = self.wall().0.saturating_sub(self.time.0);
        is_off(ahead_ms).then(|| self.clock.now())
    }

    /// The wall clock as replicated time follows it.
    fn wall(&self) -> TimestampMs {
        TimestampMs(self.clock.now().0.saturating_sub(self.wall_offset_ms))
    }

    /// The setting, with its value, that has the next start follow the machine's clock at once.
    fn accepting_setting(&self) -> String {
        format!("controller.accept_clock_step_at = {}", self.clock.now().0 / 1_000)
    }

    /// Replicated time at `now`.
    pub fn observe(&mut self, now: Instant) -> TimestampMs {
        let lived = now.saturating_duration_since(self.observed).min(OBSERVED_MAX) + self.rest;
        self.observed = now;
        let lived_ms = i64::try_from(lived.as_millis()).unwrap_or(i64::MAX);
        self.rest = lived.saturating_sub(Duration::from_millis(lived_ms.unsigned_abs()));
        let wall = self.wall();
        let fastest = TimestampMs(self.time.0.saturating_add(lived_ms.saturating_mul(2)));
        self.time = wall.clamp(self.time, fastest);
        self.report(wall);
        self.time
    }

    fn report(&mut self, wall: TimestampMs) {
        let ahead_ms = wall.0.saturating_sub(self.time.0);
        let off = is_off(ahead_ms);
        if off && !self.off {
            tracing::warn!(
                ahead_ms,
                "the wall clock made a step; replicated time follows it at most at twice real \
                 speed and never backward. If the wall clock is right now, a start with {} follows \
                 it at once",
                self.accepting_setting()
            );
        } else if !off && self.off {
            tracing::info!("replicated time agrees with the wall clock again");
        }
        self.off = off;
    }
}

fn is_off(ahead_ms: i64) -> bool {
    ahead_ms.saturating_abs() > CLOCK_STEP_REPORTED_MS
}

/// Whether the setting accepts a step of time at a start now. It names a time, so that what was accepted
/// once does not make every later start follow a clock that may be wrong then.
pub fn is_step_accepted(setting: Option<u64>, wall: TimestampMs) -> bool {
    let Some(at) = setting else { return false };
    let since_ms = i128::from(wall.0) - i128::from(at) * 1_000;
    let is_accepted = (0..CLOCK_STEP_ACCEPTED_FOR.as_millis() as i128).contains(&since_ms);
    if !is_accepted {
        tracing::warn!(
            accept_clock_step_at = at,
            now = wall.0 / 1_000,
            "the setting accepts a step of time at a start on the day from then on only: this start \
             makes none"
        );
    }
    is_accepted
}

#[cfg(test)]
mod tests {
    use ottla_format::command::{Command, CommandBody, StepTime};
    use ottla_model::{AppliedIndex, ClusterId};

    use super::*;

    /// A state in which so much time went by.
    fn state_at(ms: i64) -> State {
        let mut state = State::new(ClusterId(1));
        state.apply(AppliedIndex(1), &Command { time: TimestampMs(ms), body: CommandBody::Tick });
        state
    }

    #[test]
    fn a_step_of_the_state_is_followed_at_once_and_without_a_jump_of_time() {
        const YEARS: i64 = 70 * 365 * 86_400_000;
        let (clock, t0) = (Clock::manual(TimestampMs(START + YEARS)), Instant::now());
        let mut state = state_at(0);
        let mut time = ReplicatedClock::new(clock.clone(), &state, t0);
        assert_eq!(time.observe(t0).0, START + YEARS);
        assert_eq!(time.wall_when_off(), None);
        clock.advance(-YEARS);
        assert_eq!(time.observe(t0 + at(500)).0, START + YEARS, "it waits");

        let wall = time.wall_when_off().unwrap();
        let body = CommandBody::StepTime(StepTime { wall, is_accepted: true });
        state.apply(AppliedIndex(2), &Command { time: time.observe(t0 + at(500)), body });
        time.set_wall_offset(state.wall_offset_ms());

        assert_eq!(time.wall_when_off(), None);
        clock.advance(500);
        assert_eq!(time.observe(t0 + at(1_000)).0, START + YEARS + 500, "it goes on");
        let again = ReplicatedClock::new(clock, &state, t0);
        assert_eq!(again.wall_when_off(), None, "the next start knows");
    }

    const START: i64 = 1_700_000_000_000;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_step_is_accepted_for_a_day_only() {
        let accepted = |setting, seconds: i64| {
            is_step_accepted(setting, TimestampMs(seconds.saturating_mul(1_000)))
        };
        assert!(!accepted(None, 1_000_000));
        assert!(accepted(Some(1_000_000), 1_000_000));
        assert!(accepted(Some(1_000_000), 1_086_399));
        assert!(!accepted(Some(1_000_000), 1_086_400));
        assert!(!accepted(Some(1_000_000), 999_999));
        assert!(!accepted(Some(u64::MAX), i64::MAX));
    }

    #[test]
    fn it_follows_the_wall_clock() {
        let (clock, t0) = (Clock::manual(TimestampMs(START)), Instant::now());
        let mut time = ReplicatedClock::new(clock.clone(), &state_at(0), t0);
        for step in 1..100 {
            clock.advance(500);
            assert_eq!(time.observe(t0 + at(500 * step)).0, START + 500 * step as i64);
        }
    }

    #[test]
    fn a_jump_ahead_is_followed_at_twice_real_speed() {
        let (clock, t0) = (Clock::manual(TimestampMs(START)), Instant::now());
        let mut time = ReplicatedClock::new(clock.clone(), &state_at(START), t0);
        clock.advance(3_600_000);
        assert_eq!(time.observe(t0 + at(500)).0, START + 1_000);
        assert_eq!(time.observe(t0 + at(1_000)).0, START + 2_000);
    }

    #[test]
    fn it_never_goes_back() {
        let (clock, t0) = (Clock::manual(TimestampMs(START)), Instant::now());
        let mut time = ReplicatedClock::new(clock.clone(), &state_at(START), t0);
        clock.advance(-5_000);
        assert_eq!(time.observe(t0 + at(500)).0, START);
        clock.advance(6_000);
        assert_eq!(time.observe(t0 + at(1_000)).0, START + 1_000);
    }

    #[test]
    fn a_frozen_process_lives_through_no_more_than_one_late_step() {
        let (clock, t0) = (Clock::manual(TimestampMs(START)), Instant::now());
        let mut time = ReplicatedClock::new(clock.clone(), &state_at(START), t0);
        clock.advance(86_400_000);
        let after = time.observe(t0 + Duration::from_secs(86_400)).0;
        assert_eq!(after, START + 2 * OBSERVED_MAX.as_millis() as i64);
    }

    #[test]
    fn parts_of_a_millisecond_add_up() {
        let (clock, t0) = (Clock::manual(TimestampMs(START)), Instant::now());
        let mut time = ReplicatedClock::new(clock.clone(), &state_at(START), t0);
        clock.advance(1_000);
        for step in 1..=1_000u64 {
            time.observe(t0 + Duration::from_micros(100 * step));
        }
        assert_eq!(time.observe(t0 + at(100)).0, START + 200);
    }
}
