//! Static members (KIP-345): they come back under their instance id.
//!
//! A static member that joins without an id replaces its former self, whose id is fenced from then
//! on: without a rebalance when the group is stable and the vote would not change.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::info;

use super::error::GroupError;
use super::message::{Answer, Effect, Join, JoinRefused, StorePurpose, Ticket};
use super::state::{Group, State};

impl Group {
    pub(super) fn join_static(
        &mut self,
        now: Instant,
        ticket: Ticket,
        join: Join,
        instance_id: &str,
    ) {
        let member_id = join.fresh_id.clone();
        match self.roster.static_member(instance_id).cloned() {
            Some(former) => self.replace_static(now, ticket, join, &former, member_id),
            None => self.add_member(now, ticket, join, member_id),
        }
    }

    fn replace_static(
        &mut self,
        now: Instant,
        ticket: Ticket,
        join: Join,
        former: &str,
        member_id: Arc<str>,
    ) {
        if !self.charge_change(former, &join, &member_id) {
            return self.refuse_join(ticket, GroupError::NotAvailable, "".into());
        }
        info!(
            group = %self.id, state = ?self.state, %member_id, former,
            instance_id = join.instance_id.as_deref(), reason = join.reason.as_deref(),
            "a static member returns"
        );
        let leader_before = self.leader.clone();
        self.rename_static(former, member_id.clone());
        self.update_member(ticket, &member_id, &join);
        self.renew(now, &member_id);
        match self.state {
            State::Stable if self.protocol == self.roster.vote() => {
                let purpose = StorePurpose::StaticReturn {
                    ticket,
                    member_id,
                    generation: self.generation,
                    can_skip_assignment: join.can_skip_assignment,
                    leader_before,
                };
                let metadata = self.metadata();
                self.effects.push(Effect::Store(purpose, metadata));
            }
            State::Stable => self.rebalance_or_complete(now, "a static member changed the vote"),
            // The former id may already be with the leader, whose assignment would miss the new one.
            State::CompletingRebalance => self.prepare_rebalance(now, "a static member returned"),
            State::PreparingRebalance | State::Empty => self.complete_join_if_all_are_here(now),
        }
    }

    /// Gives a static member a new id; whoever still speaks under the former one is fenced.
    fn rename_static(&mut self, former: &str, member_id: Arc<str>) {
        let Some(mut member) = self.roster.remove(former) else { return };
        let fenced =
            JoinRefused { error: GroupError::FencedInstance, member_id: member.id.clone() };
        member.refuse_waiting(fenced, &mut self.effects);
        if self.is_leader(former) {
            self.leader = Some(member_id.clone());
        }
        if self.pending_sync.remove(former) {
            self.pending_sync.insert(member_id.clone());
        }
        member.id = member_id;
        member.is_new = false;
        self.roster.add(member);
    }

    /// A static member's return is stored (or not): answers it, unless a rebalance began
    /// meanwhile, which answers it at its end.
    pub(super) fn static_return_stored(
        &mut self,
        now: Instant,
        purpose: StorePurpose,
        result: Result<(), GroupError>,
    ) {
        let StorePurpose::StaticReturn {
            ticket,
            member_id,
            generation,
            can_skip_assignment,
            leader_before,
        } = purpose
        else {
            return;
        };
        let waits = self.roster.get(&member_id).is_some_and(|member| member.join == Some(ticket));
        if !waits || self.state != State::Stable || self.generation != generation {
            return;
        }
        self.roster.set_join(&member_id, None);
        self.renew(now, &member_id);
        if let Err(error) = result {
            // The member keeps its new id here, so that the former one stays fenced; the client
            // was not told the new one and comes again without any.
            return self.refuse_join(ticket, error, "".into());
        }
        let Some(member) = self.roster.get(&member_id) else { return };
        let mut joined = self.joined(member);
        let is_leader = self.is_leader(&member_id);
        if can_skip_assignment {
            joined.skip_assignment = is_leader;
        } else if is_leader {
            // An older client would compute an assignment that nobody asks for. It is told the
            // former leader's id, which is nobody's now, and so takes itself for a follower.
            joined.leader = leader_before;
            joined.members = Vec::new();
        }
        self.answer(ticket, Answer::Join(Ok(joined)));
    }
}
