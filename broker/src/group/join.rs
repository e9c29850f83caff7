//! JoinGroup: who becomes a member, and who starts a rebalance by it.
//!
//! - A dynamic member without an id is told one and comes again with it (KIP-394), so that clients
//!   which give up and retry do not leave ghosts in the group. Clients before version 4 are taken
//!   at once.
//! - A static member (KIP-345) that comes back without an id replaces its former self: without a
//!   rebalance when the group is stable and the vote would not change.
//! - What a member says is kept only after its memory was charged (`budget`). A refusal changes
//!   nothing: a member that is in stays in, an id that was given out can be used again.
//! - A member that joins again with nothing new gets the present generation; the leader always
//!   starts a rebalance, because that is how it asks for one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tracing::info;

use super::budget::{Charge, Standing};
use super::error::GroupError;
use super::limits::{
    GROUP_METADATA_BYTES_MAX, NEW_MEMBER_JOIN_TIMEOUT, PENDING_ID_LIFE_MAX, REBALANCE_TIMEOUT_MAX,
};
use super::message::{Answer, Join, Ticket};
use super::options::GroupOptions;
use super::roster::{Member, forget_id};
use super::sizes::{self, Said};
use super::state::{Group, JoinTimer, PendingId, State};

fn milliseconds(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

impl Join {
    fn session_timeout(&self) -> Duration {
        milliseconds(self.session_timeout_ms)
    }

    fn rebalance_timeout(&self) -> Duration {
        let given = self.rebalance_timeout_ms;
        let wanted = milliseconds(if given < 0 { self.session_timeout_ms } else { given });
        wanted.min(REBALANCE_TIMEOUT_MAX)
    }

    /// Checks what needs no group.
    pub(super) fn check_session(&self, options: &GroupOptions) -> Result<(), GroupError> {
        let allowed = options.session_timeout_min..=options.session_timeout_max;
        if allowed.contains(&self.session_timeout()) {
            Ok(())
        } else {
            Err(GroupError::InvalidSessionTimeout)
        }
    }

    /// The id of the member that it makes, or is of.
    fn id(&self) -> &Arc<str> {
        if self.member_id.is_empty() { &self.fresh_id } else { &self.member_id }
    }
}

impl Group {
    pub(super) fn join(&mut self, now: Instant, ticket: Ticket, join: Join) {
        if let Err(error) = join.check_session(&self.options) {
            return self.refuse_join(ticket, error, join.member_id);
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
        if others + Said::by(&join, join.id()).stored() > GROUP_METADATA_BYTES_MAX {
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
        member.map_or(0, |member| member.said().stored())
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
        let bytes = sizes::pending_id(&member_id);
        let Ok(charge) = self.budget.try_charge(join.client, bytes, self.standing()) else {
            return self.refuse_join(ticket, GroupError::NotAvailable, "".into());
        };
        let expires = now + join.session_timeout().min(PENDING_ID_LIFE_MAX);
        self.pending.insert(member_id.clone(), PendingId { expires, charge });
        self.wake_by(expires);
        self.refuse_join(ticket, GroupError::MemberIdRequired, member_id);
    }

    /// Memory for a new member. That of the id it was given becomes its own.
    fn charge_member(&mut self, join: &Join, member_id: &Arc<str>) -> Option<Charge> {
        let (bytes, standing) = (Said::by(join, member_id).in_memory(), self.standing());
        if let Some(pending) = self.pending.get_mut(member_id) {
            pending.charge.try_resize(bytes, standing).ok()?;
            return self.pending.remove(member_id).map(|pending| pending.charge);
        }
        self.budget.try_charge(join.client, bytes, standing).ok()
    }

    /// Memory for what a member says now, under an id that may be new; `false` when there is none.
    pub(super) fn charge_change(&mut self, former: &str, join: &Join, id: &str) -> bool {
        let Some(member) = self.roster.get_mut(former) else { return false };
        let bytes = Said { id, protocols: &join.protocols, ..member.said() }.in_memory();
        member.charge.try_resize(bytes, Standing::Member).is_ok()
    }

    pub(super) fn add_member(
        &mut self,
        now: Instant,
        ticket: Ticket,
        join: Join,
        member_id: Arc<str>,
    ) {
        let Some(charge) = self.charge_member(&join, &member_id) else {
            return self.refuse_join(ticket, GroupError::NotAvailable, join.member_id);
        };
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
        self.roster.add(Member {
            id: member_id.clone(),
            session_timeout: join.session_timeout(),
            rebalance_timeout: join.rebalance_timeout(),
            instance_id: join.instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            protocols: join.protocols,
            assignment: Bytes::new(),
            charge,
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
                if !self.charge_change(&member_id, &join, &member_id) {
                    return self.refuse_join(ticket, GroupError::NotAvailable, member_id);
                }
                info!(group = %self.id, state = ?self.state, %member_id,
                    reason = join.reason.as_deref(), "a member joins again");
                self.update_member(ticket, &member_id, &join);
                self.rebalance_or_complete(now, "a member joined again");
            }
        }
    }

    /// Takes over what the client says about itself now, and lets its JoinGroup wait.
    pub(super) fn update_member(&mut self, ticket: Ticket, member_id: &str, join: &Join) {
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
}
