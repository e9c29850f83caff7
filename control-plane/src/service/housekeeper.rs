//! The task that looks after what happens by itself: sessions, time, snapshots, producers and groups
//! that nobody uses any more, watchers that fell behind. One step every half second; a step costs
//! next to nothing when there is nothing to do, and writes nothing but a tick every
//! [`TICK_INTERVAL`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use ottla_format::command::{CommandBody, StepTime};
use ottla_model::TimestampMs;
use ottla_telemetry::Metrics;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::proposer::Proposer;
use super::replicated_clock::ReplicatedClock;
use super::sessions::Sessions;
use crate::limits::{HOUSEKEEPING_STEP, PRODUCERS_CROWDED_MS, PRODUCERS_KEPT_MAX, TICK_INTERVAL};
use crate::raft::{Machine, Raft};
use crate::state::semantics::PRODUCER_EXPIRY_MS;

/// See the module.
pub struct Housekeeper {
    pub(super) raft: Raft,
    pub(super) machine: Machine,
    pub(super) proposer: Proposer,
    pub(super) sessions: Arc<Mutex<Sessions>>,
    pub(super) clock: Arc<Mutex<ReplicatedClock>>,
    pub(super) segments_filled: watch::Receiver<u64>,
    /// How long a group without members is remembered.
    pub(super) offsets_retention: Duration,
    /// The newest snapshot that was seen.
    pub(super) snapshot: Option<u64>,
    pub(super) metrics: Arc<Metrics>,
}

impl Housekeeper {
    /// Runs until `stopping` turns true.
    pub async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        let mut steps = interval(HOUSEKEEPING_STEP);
        steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks = Ticks { proposed: Instant::now() };
        loop {
            tokio::select! {
                _ = stopping.wait_for(|stop| *stop) => return,
                _ = steps.tick() => {}
            }
            self.step(Instant::now(), &mut ticks).await;
        }
    }

    async fn step(&mut self, now: Instant, ticks: &mut Ticks) {
        let (time, wall_when_off) = self.observe_clock(now);
        self.machine.refresh_watchers();
        let leads = self.note_metrics();
        self.purge().await;
        let over = {
            let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            if !leads {
                sessions.forget();
            }
            let living: Vec<_> = self.machine.with(|state| state.living_brokers().collect());
            sessions.step(living.into_iter(), now)
        };
        if !leads {
            return;
        }
        for author in over {
            tracing::info!(broker = author.broker.0, epoch = author.epoch.0, "a session is over");
            // The answer does not matter: what is not fenced by the next steps is asked for again.
            drop(self.proposer.propose(CommandBody::FenceBroker(author)));
        }
        if ticks.due(now, time, self.machine.with(|state| state.time())) {
            drop(self.proposer.propose(CommandBody::Tick));
        }
        self.step_time_while_nothing_has_one(wall_when_off);
        self.expire_producers(time);
        self.expire_groups(time);
        if self.segments_filled.has_changed().unwrap_or(false) {
            self.segments_filled.mark_unchanged();
            if let Err(fatal) = self.raft.trigger().snapshot().await {
                tracing::warn!(%fatal, "cannot ask for a snapshot");
            }
        }
    }

    /// Replicated time, and the machine's when that is far from it.
    fn observe_clock(&self, now: Instant) -> (TimestampMs, Option<TimestampMs>) {
        let offset_ms = self.machine.with(|state| state.wall_offset_ms());
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        clock.set_wall_offset(offset_ms);
        (clock.observe(now), clock.wall_when_off())
    }

    /// Asks for a step to a clock that was corrected before anything was given a time. The state
    /// refuses it when that is not so any more.
    fn step_time_while_nothing_has_one(&self, wall_when_off: Option<TimestampMs>) {
        let Some(wall) = wall_when_off else { return };
        if self.machine.with(|state| state.is_without_times()) {
            tracing::info!("time is stepped to the wall clock: nothing was given a time yet");
            let step = StepTime { wall, is_accepted: false };
            drop(self.proposer.propose(CommandBody::StepTime(step)));
        }
    }

    /// Asks for producers to be forgotten, when there may be some: after their time, or before it
    /// when there are too many.
    fn expire_producers(&self, time: TimestampMs) {
        let is_due = self.machine.with(|state| {
            let is_crowded = state.size().producers > PRODUCERS_KEPT_MAX;
            let kept_ms = if is_crowded { PRODUCERS_CROWDED_MS } else { PRODUCER_EXPIRY_MS };
            let until = TimestampMs(time.0.saturating_sub(kept_ms));
            state.has_producers_used_until(until).then_some(until)
        });
        if let Some(until) = is_due {
            // The answer does not matter: who is still there is asked for by the next step.
            drop(self.proposer.propose(CommandBody::ExpireProducers { until }));
        }
    }

    /// Asks for groups to be forgotten, when there are some.
    fn expire_groups(&self, time: TimestampMs) {
        let retention_ms = i64::try_from(self.offsets_retention.as_millis()).unwrap_or(i64::MAX);
        let until = TimestampMs(time.0.saturating_sub(retention_ms));
        if self.machine.with(|state| state.has_idle_groups(until)) {
            // The answer does not matter: what is still there is asked for by the next step.
            drop(self.proposer.propose(CommandBody::ExpireGroups { until }));
        }
    }

    /// Lets the log go up to the snapshot before the newest: should the newest be found damaged,
    /// the one before it and the log still make the whole state.
    async fn purge(&mut self) {
        let newest = self.raft.metrics().borrow_watched().snapshot.map(|id| id.index);
        if newest <= self.snapshot {
            return;
        }
        if let Some(before) = std::mem::replace(&mut self.snapshot, newest)
            && let Err(fatal) = self.raft.trigger().purge_log(before).await
        {
            tracing::warn!(%fatal, "cannot ask for a purge of the log");
        }
    }

    fn note_metrics(&self) -> bool {
        let metrics = self.raft.metrics();
        let raft = metrics.borrow_watched();
        let leads = raft.state == ServerState::Leader;
        let shown = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics.raft.is_leader.set(i64::from(leads));
        self.metrics.raft.term.set(shown(raft.current_term));
        // In the hold of the state's lock, as an apply does: an older index never comes after.
        let applied = &self.metrics.raft.applied_index;
        self.machine.with(|state| applied.set(shown(state.applied().0)));
        leads
    }
}

/// When a tick was last proposed.
struct Ticks {
    proposed: Instant,
}

impl Ticks {
    /// Whether the log's time lags so far behind replicated time that a tick is due: a start goes
    /// on from the log's. Not before the last tick had time to be applied.
    fn due(&mut self, now: Instant, time: TimestampMs, logged: TimestampMs) -> bool {
        let interval_ms = i64::try_from(TICK_INTERVAL.as_millis()).unwrap_or(i64::MAX);
        let is_due = now.saturating_duration_since(self.proposed) >= TICK_INTERVAL
            && time.0.saturating_sub(logged.0) >= interval_ms;
        if is_due {
            self.proposed = now;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An hour of steps, in which entries are applied at these times, in seconds; the ticks.
    fn ticks_of_an_hour(entries: impl Fn(u64) -> bool) -> (usize, Duration) {
        let t0 = Instant::now();
        let (mut ticks, mut logged, mut lag_max) =
            (Ticks { proposed: t0 }, Duration::ZERO, Duration::ZERO);
        let stamp = |time: Duration| TimestampMs(time.as_millis() as i64);
        let mut proposed = 0;
        for step in 0..2 * 3_600 {
            let at = HOUSEKEEPING_STEP * step;
            lag_max = lag_max.max(at - logged);
            let is_tick = ticks.due(t0 + at, stamp(at), stamp(logged));
            proposed += usize::from(is_tick);
            if is_tick || entries(at.as_secs()) {
                logged = at;
            }
        }
        (proposed, lag_max)
    }

    #[test]
    fn the_time_of_an_idle_clusters_log_lags_by_one_interval_at_most() {
        let (ticks, lag_max) = ticks_of_an_hour(|_| false);
        assert_eq!((ticks, lag_max), (359, TICK_INTERVAL));
    }

    #[test]
    fn a_busy_cluster_writes_no_ticks() {
        assert_eq!(ticks_of_an_hour(|second| second % 5 == 0).0, 0);
    }

    #[test]
    fn a_tick_that_is_not_applied_is_proposed_again_one_interval_later_only() {
        let t0 = Instant::now();
        let mut ticks = Ticks { proposed: t0 };
        let (time, logged) = (TimestampMs(3_600_000), TimestampMs(0));
        assert!(!ticks.due(t0, time, logged));
        assert!(ticks.due(t0 + TICK_INTERVAL, time, logged));
        assert!(!ticks.due(t0 + TICK_INTERVAL + HOUSEKEEPING_STEP, time, logged));
        assert!(ticks.due(t0 + 2 * TICK_INTERVAL, time, logged));
    }

    #[test]
    fn time_that_stands_still_is_not_written() {
        let t0 = Instant::now();
        let mut ticks = Ticks { proposed: t0 };
        assert!(!ticks.due(t0 + 10 * TICK_INTERVAL, TimestampMs(5), TimestampMs(5)));
    }
}
