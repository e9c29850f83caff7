//! Signs of life and the passing of time.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::{info, warn};

use super::error::GroupError;
use super::limits::TIMER_LATE_MAX;
use super::message::{Effect, Heartbeat};
use super::roster::forget_id;
use super::state::{Group, JoinTimer, State};

impl Group {
    pub(super) fn heartbeat(
        &mut self,
        now: Instant,
        heartbeat: &Heartbeat,
    ) -> Result<(), GroupError> {
        self.check_member(&heartbeat.member_id, heartbeat.instance_id.as_deref())?;
        if heartbeat.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        self.renew(now, &heartbeat.member_id);
        match self.state {
            State::Empty => Err(GroupError::UnknownMember),
            State::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            // Clients begin to send heartbeats as soon as they know the generation.
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    /// Does what is due at `now`.
    pub fn tick(&mut self, now: Instant) -> Vec<Effect> {
        if self.wake_at.is_some_and(|due| now > due + TIMER_LATE_MAX) {
            self.forgive_our_own_silence(now);
        }
        self.expire_pending(now);
        self.expire_members(now);
        if self.join_timer.is_some_and(|timer| timer.at() <= now) {
            self.join_time_is_up(now);
        }
        if self.sync_timer.is_some_and(|at| at <= now) {
            self.sync_time_is_up(now);
        }
        self.wake_at = self.next_due();
        self.take_effects()
    }

    /// This process stood still: what members sent meanwhile was not read yet. Nobody is taken for
    /// dead because of that.
    fn forgive_our_own_silence(&mut self, now: Instant) {
        warn!(group = %self.id, "the clock of sessions was late; all members get a fresh session");
        for member in self.roster.iter_mut().filter(|member| member.expires.is_some()) {
            let fresh = now + member.session_timeout;
            member.expires = member.expires.map(|at| at.max(fresh));
        }
        for pending in self.pending.values_mut() {
            pending.expires = pending.expires.max(now + self.options.session_timeout_min);
        }
        let rebalance_end = now + self.roster.rebalance_timeout();
        if let Some(JoinTimer::Rebalance { at }) = &mut self.join_timer {
            *at = (*at).max(rebalance_end);
        }
        self.sync_timer = self.sync_timer.map(|at| at.max(rebalance_end));
    }

    fn expire_pending(&mut self, now: Instant) {
        let before = self.pending.len();
        self.pending.retain(|_, pending| pending.expires > now);
        if self.pending.len() < before && self.state == State::PreparingRebalance {
            self.complete_join_if_all_are_here(now);
        }
    }

    fn expire_members(&mut self, now: Instant) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let silent: Vec<Arc<str>> =
            self.roster.iter().filter(|m| due(m.expires)).map(|m| m.id.clone()).collect();
        for member_id in silent {
            let Some(member) = self.roster.get_mut(&member_id) else { continue };
            if !due(member.expires) {
                // The removal of another one gave it a fresh session.
                continue;
            }
            if member.waits_for_us() {
                member.expires = None;
                continue;
            }
            info!(group = %self.id, %member_id, "a member was silent for its session timeout");
            self.remove(&member_id, forget_id(GroupError::UnknownMember));
            match self.state {
                State::Stable | State::CompletingRebalance => {
                    self.rebalance_or_complete(now, "a member was silent");
                }
                State::PreparingRebalance => self.complete_join_if_all_are_here(now),
                State::Empty => {}
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let members = self.roster.iter().filter_map(|member| member.expires);
        let pending = self.pending.values().map(|pending| pending.expires);
        let join = self.join_timer.map(|timer| timer.at());
        members.chain(pending).chain(join).chain(self.sync_timer).min()
    }
}
