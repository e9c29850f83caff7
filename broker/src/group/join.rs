//! JoinGroup: who becomes a member, and who starts a rebalance by it.
//!
//! - A dynamic member without an id is told one and comes again with it (KIP-394), so that clients
//!   which give up and retry do not leave ghosts in the group. Clients before version 4 are taken
//!   at once.
//! - A static member (KIP-345) that comes back without an id replaces its former self: without a
//!   rebalance when the group is stable and the vote would not change.
//! - A member that joins again with nothing new gets the present generation; the leader always
//!   starts a rebalance, because that is how it asks for one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tracing::info;

use super::error::GroupError;
use super::limits::{GROUP_METADATA_BYTES_MAX, NEW_MEMBER_JOIN_TIMEOUT};
use super::message::{Answer, Effect, Join, JoinRefused, StorePurpose, Ticket};
use super::roster::{Member, forget_id, protocols_bytes};
use super::state::{Group, JoinTimer, State};

fn milliseconds(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

impl Join {
    fn session_timeout(&self) -> Duration {
        milliseconds(self.session_timeout_ms)
    }

    fn rebalance_timeout(&self) -> Duration {
        let given = self.rebalance_timeout_ms;
        milliseconds(if given < 0 { self.session_timeout_ms } else { given })
    }
}

impl Group {
    pub(super) fn join(&mut self, now: Instant, ticket: Ticket, join: Join) {
        let session = join.session_timeout();
        if session < self.options.session_timeout_min || session > self.options.session_timeout_max
        {
            return self.refuse_join(ticket, GroupError::InvalidSessionTimeout, join.member_id);
        }
        let has_id = !join.member_id.is_empty();
        if has_id && !self.known {
            return self.refuse_join(ticket, GroupError::UnknownMember, join.member_id);
        }
        if !self.has_room_for(&join.member_id) {
            self.remove(&join.member_id, forget_id(GroupError::GroupFull));
            self.complete_join_if_all_are_here(now);
            return self.refuse_join(ticket, GroupError::GroupFull, "".into());
        }
        if !self.supports(&join.protocol_type, &join.protocols) {
            return self.refuse_join(ticket, GroupError::InconsistentProtocol, join.member_id);
        }
        let others = self.roster.bytes() - self.said_before(&join);
        if others + protocols_bytes(&join.protocols) > GROUP_METADATA_BYTES_MAX {
            return self.refuse_join(ticket, GroupError::GroupFull, join.member_id);
        }
        self.known = true;
        match (has_id, join.instance_id.clone()) {
            (false, Some(instance_id)) => self.join_static(now, ticket, join, &instance_id),
            (false, None) => self.join_dynamic(now, ticket, join),
            (true, _) => self.join_again(now, ticket, join),
        }
    }

    /// The bytes that a join replaces, when it is not a new member's.
    fn said_before(&self, join: &Join) -> usize {
        let former = join.instance_id.as_ref().and_then(|id| self.roster.static_member(id));
        let member = self.roster.get(former.unwrap_or(&join.member_id));
        member.map_or(0, |member| protocols_bytes(&member.protocols))
    }

    /// An empty group takes any protocols, others what all members share.
    fn supports(&self, protocol_type: &str, protocols: &[(Arc<str>, Bytes)]) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type) && self.roster.supports_any(protocols)
    }

    fn join_dynamic(&mut self, now: Instant, ticket: Ticket, join: Join) {
        let member_id = join.fresh_id.clone();
        if !join.can_be_told_its_id {
            return self.add_member(now, ticket, join, member_id);
        }
        if !self.has_room_for_pending() {
            return self.refuse_join(ticket, GroupError::GroupFull, "".into());
        }
        let expires = now + join.session_timeout();
        self.pending.insert(member_id.clone(), expires);
        self.wake_by(expires);
        self.refuse_join(ticket, GroupError::MemberIdRequired, member_id);
    }

    fn join_static(&mut self, now: Instant, ticket: Ticket, join: Join, instance_id: &str) {
        let member_id = join.fresh_id.clone();
        match self.roster.static_member(instance_id).cloned() {
            Some(former) => self.replace_static(now, ticket, join, &former, member_id),
            None => self.add_member(now, ticket, join, member_id),
        }
    }

    fn add_member(&mut self, now: Instant, ticket: Ticket, join: Join, member_id: Arc<str>) {
        info!(
            group = %self.id, state = ?self.state, %member_id,
            instance_id = join.instance_id.as_deref(), reason = join.reason.as_deref(),
            "a member joins"
        );
        if let Some(JoinTimer::Initial { more_came, .. }) = &mut self.join_timer {
            *more_came = true;
        }
        if self.roster.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        self.pending.remove(&member_id);
        self.roster.add(Member {
            id: member_id.clone(),
            session_timeout: join.session_timeout(),
            rebalance_timeout: join.rebalance_timeout(),
            instance_id: join.instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            protocols: join.protocols,
            assignment: Bytes::new(),
            join: Some(ticket),
            sync: None,
            is_new: true,
            expires: Some(now + NEW_MEMBER_JOIN_TIMEOUT),
        });
        self.wake_by(now + NEW_MEMBER_JOIN_TIMEOUT);
        self.leader.get_or_insert(member_id);
        self.rebalance_or_complete(now, "a member joined");
    }

    fn join_again(&mut self, now: Instant, ticket: Ticket, join: Join) {
        let member_id = join.member_id.clone();
        if self.pending.contains_key(&member_id) {
            // Ids are only given out to dynamic members.
            if join.instance_id.is_some() {
                return self.refuse_join(ticket, GroupError::UnknownMember, member_id);
            }
            return self.add_member(now, ticket, join, member_id);
        }
        if let Err(error) = self.check_member(&member_id, join.instance_id.as_deref()) {
            return self.refuse_join(ticket, error, member_id);
        }
        let Some(member) = self.roster.get(&member_id) else {
            return self.refuse_join(ticket, GroupError::UnknownMember, member_id);
        };
        let nothing_new = member.protocols == join.protocols;
        let current = match self.state {
            State::Empty | State::PreparingRebalance => None,
            // Most likely the answer to its first JoinGroup was lost.
            State::CompletingRebalance => nothing_new.then(|| self.joined(member)),
            State::Stable => {
                (nothing_new && !self.is_leader(&member_id)).then(|| self.joined(member))
            }
        };
        match current {
            Some(joined) => self.answer(ticket, Answer::Join(Ok(joined))),
            None => {
                info!(group = %self.id, state = ?self.state, %member_id,
                    reason = join.reason.as_deref(), "a member joins again");
                self.update_member(ticket, &member_id, &join);
                self.rebalance_or_complete(now, "a member joined again");
            }
        }
    }

    /// Takes over what the client says about itself now, and lets its JoinGroup wait.
    fn update_member(&mut self, ticket: Ticket, member_id: &str, join: &Join) {
        self.roster.update_protocols(member_id, join.protocols.clone());
        if let Some(member) = self.roster.get_mut(member_id) {
            member.rebalance_timeout = join.rebalance_timeout();
            member.session_timeout = join.session_timeout();
        }
        if let Some(superseded) = self.roster.set_join(member_id, Some(ticket)) {
            // The client asks again on a new connection; nobody reads the old one.
            self.refuse_join(superseded, GroupError::RebalanceInProgress, member_id.into());
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
