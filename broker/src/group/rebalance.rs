//! From one generation to the next: the time to join, the election, the vote.

use bytes::Bytes;
use tokio::time::Instant;
use tracing::{info, warn};

use super::error::GroupError;
use super::message::{Answer, Effect, StorePurpose};
use super::roster::forget_id;
use super::state::{Group, JoinTimer, State};

impl Group {
    /// Something changed that a new generation has to reflect.
    pub(super) fn rebalance_or_complete(&mut self, now: Instant, reason: &str) {
        match self.state {
            State::PreparingRebalance => self.complete_join_if_all_are_here(now),
            State::Empty | State::CompletingRebalance | State::Stable => {
                self.prepare_rebalance(now, reason);
            }
        }
    }

    /// Everybody has to join again.
    pub(super) fn prepare_rebalance(&mut self, now: Instant, reason: &str) {
        if self.state == State::CompletingRebalance {
            self.give_up_assignment(now, GroupError::RebalanceInProgress);
        }
        self.pending_sync.clear();
        self.sync_timer = None;
        let is_initial = self.state == State::Empty;
        self.state = State::PreparingRebalance;
        info!(group = %self.id, generation = self.generation, reason, "a rebalance begins");
        if is_initial {
            let delay = self.options.initial_rebalance_delay;
            let remaining = self.roster.rebalance_timeout().saturating_sub(delay);
            let at = now + delay;
            self.set_join_timer(JoinTimer::Initial { at, delay, remaining, more_came: false });
        } else if self.all_joined() {
            self.complete_join(now);
        } else {
            self.wait_for_joins(now);
        }
    }

    fn wait_for_joins(&mut self, now: Instant) {
        let at = now + self.roster.rebalance_timeout();
        self.set_join_timer(JoinTimer::Rebalance { at });
    }

    fn set_join_timer(&mut self, timer: JoinTimer) {
        self.join_timer = Some(timer);
        self.wake_by(timer.at());
    }

    /// Ends the time to join early when there is nobody left to wait for; never the first one,
    /// which waits for members that nobody knows of: whoever leaves, is silent or does not use its
    /// id meanwhile (Kafka's `InitialDelayedJoin`, which is never completed but by its time).
    pub(super) fn complete_join_if_all_are_here(&mut self, now: Instant) {
        let is_initial = matches!(self.join_timer, Some(JoinTimer::Initial { .. }));
        if self.state == State::PreparingRebalance && !is_initial && self.all_joined() {
            self.complete_join(now);
        }
    }

    /// The time to join is over, or is extended once more for those who just came.
    pub(super) fn join_time_is_up(&mut self, now: Instant) {
        match self.join_timer {
            Some(JoinTimer::Initial { delay, remaining, more_came: true, .. })
                if !remaining.is_zero() =>
            {
                let next = self.options.initial_rebalance_delay.min(remaining);
                let timer = JoinTimer::Initial {
                    at: now + next,
                    delay: next,
                    remaining: remaining.saturating_sub(delay),
                    more_came: false,
                };
                self.set_join_timer(timer);
            }
            Some(_) => self.complete_join(now),
            None => {}
        }
    }

    /// The next generation begins with those who joined, and with static members, who keep their
    /// place until their session ends.
    pub(super) fn complete_join(&mut self, now: Instant) {
        self.join_timer = None;
        let absent: Vec<_> = self
            .roster
            .iter()
            .filter(|member| member.join.is_none() && member.instance_id.is_none())
            .map(|member| member.id.clone())
            .collect();
        for member_id in absent {
            info!(group = %self.id, %member_id, "a member did not join in time and is removed");
            self.remove(&member_id, forget_id(GroupError::UnknownMember));
        }
        if self.roster.is_empty() {
            return self.become_empty();
        }
        if !self.elect_leader() {
            warn!(group = %self.id, "no member joined; waiting until one does or all are silent");
            return self.wait_for_joins(now);
        }
        self.begin_generation(now);
    }

    /// The leader stays if it joined; else the first member that did. `false` when nobody did.
    fn elect_leader(&mut self) -> bool {
        let joined = |id: &str| self.roster.get(id).is_some_and(|member| member.join.is_some());
        if self.leader.as_deref().is_some_and(joined) {
            return true;
        }
        let elected = self.roster.iter().find(|member| member.join.is_some());
        let Some(elected) = elected.map(|member| member.id.clone()) else { return false };
        self.leader = Some(elected);
        true
    }

    fn begin_generation(&mut self, now: Instant) {
        self.count_generation();
        self.protocol = self.roster.vote();
        self.state = State::CompletingRebalance;
        info!(
            group = %self.id, generation = self.generation, members = self.roster.len(),
            protocol = self.protocol.as_deref(), leader = self.leader.as_deref(),
            "everybody joined"
        );
        let member_ids: Vec<_> = self.roster.iter().map(|member| member.id.clone()).collect();
        for member_id in member_ids {
            let ticket = self.roster.set_join(&member_id, None);
            if let (Some(ticket), Some(member)) = (ticket, self.roster.get(&member_id)) {
                let joined = self.joined(member);
                self.answer(ticket, Answer::Join(Ok(joined)));
            }
            if let Some(member) = self.roster.get_mut(&member_id) {
                member.is_new = false;
                // That of the former generation is nobody's any more.
                member.assignment = Bytes::new();
            }
            self.renew(now, &member_id);
            self.pending_sync.insert(member_id);
        }
        self.assignment_charge = None;
        let at = now + self.roster.rebalance_timeout();
        self.sync_timer = Some(at);
        self.wake_by(at);
    }

    fn become_empty(&mut self) {
        self.count_generation();
        self.state = State::Empty;
        self.protocol = None;
        self.leader = None;
        self.assignment_charge = None;
        info!(group = %self.id, generation = self.generation, "the group is empty");
        let metadata = self.metadata();
        self.effects.push(Effect::Store(StorePurpose::Empty { leaving: None }, metadata));
    }

    /// Generations are never negative: that is how clients say "none".
    fn count_generation(&mut self) {
        self.generation = self.generation.checked_add(1).unwrap_or(0);
        self.pending_sync.clear();
        self.sync_timer = None;
    }
}
