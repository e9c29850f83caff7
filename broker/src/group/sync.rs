//! SyncGroup: the leader's assignment, stored first, then handed to everybody.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;
use tracing::{info, warn};

use super::budget::{Charge, Standing};
use super::error::GroupError;
use super::limits::GROUP_METADATA_BYTES_MAX;
use super::message::{Answer, Effect, StorePurpose, Sync, Synced, Ticket};
use super::sizes;
use super::state::{Group, State};

impl Group {
    pub(super) fn sync(&mut self, now: Instant, ticket: Ticket, sync: Sync) {
        if let Err(error) = self.check_sync(&sync) {
            return self.answer(ticket, Answer::Sync(Err(error)));
        }
        match self.state {
            State::Empty => self.answer(ticket, Answer::Sync(Err(GroupError::UnknownMember))),
            State::PreparingRebalance => {
                self.answer(ticket, Answer::Sync(Err(GroupError::RebalanceInProgress)));
            }
            State::CompletingRebalance => self.wait_for_assignment(now, ticket, sync),
            State::Stable => {
                self.synced(&sync.member_id);
                self.renew(now, &sync.member_id);
                let assignment = self.roster.get(&sync.member_id).map(|m| m.assignment.clone());
                let synced = self.synced_answer(assignment.unwrap_or_default());
                self.answer(ticket, synced);
            }
        }
    }

    fn check_sync(&self, sync: &Sync) -> Result<(), GroupError> {
        self.check_member(&sync.member_id, sync.instance_id.as_deref())?;
        if sync.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        let differs = |theirs: &Option<Arc<str>>, ours: &Option<Arc<str>>| {
            theirs.as_ref().zip(ours.as_ref()).is_some_and(|(theirs, ours)| theirs != ours)
        };
        if differs(&sync.protocol_type, &self.protocol_type)
            || differs(&sync.protocol, &self.protocol)
        {
            return Err(GroupError::InconsistentProtocol);
        }
        Ok(())
    }

    fn wait_for_assignment(&mut self, now: Instant, ticket: Ticket, sync: Sync) {
        self.synced(&sync.member_id);
        if let Some(member) = self.roster.get_mut(&sync.member_id)
            && let Some(superseded) = member.sync.replace(ticket)
        {
            // The client asks again on a new connection; nobody reads the old one.
            self.answer(superseded, Answer::Sync(Err(GroupError::RebalanceInProgress)));
        }
        if self.is_leader(&sync.member_id) && self.assignment.is_none() {
            self.store_assignment(now, sync.assignments);
        }
    }

    fn store_assignment(&mut self, now: Instant, mut assignment: BTreeMap<Arc<str>, Bytes>) {
        assignment.retain(|member_id, _| self.roster.get(member_id).is_some());
        let without = self.roster.iter().filter(|m| !assignment.contains_key(&m.id)).count();
        info!(
            group = %self.id, generation = self.generation, members = self.roster.len(),
            without_assignment = without, "the leader brought the assignment"
        );
        let metadata = self.metadata_with(&assignment);
        if sizes::metadata(&self.id, &metadata) > GROUP_METADATA_BYTES_MAX {
            return self.assignment_failed(now, GroupError::MetadataTooLarge);
        }
        let Some(charge) = self.charge_assignment(&assignment) else {
            return self.assignment_failed(now, GroupError::NotAvailable);
        };
        self.assignment_charge = Some(charge);
        self.assignment = Some(assignment);
        let purpose = StorePurpose::Assignment { generation: self.generation };
        self.effects.push(Effect::Store(purpose, metadata));
    }

    /// Memory for an assignment, on the leader's account.
    fn charge_assignment(&self, assignment: &BTreeMap<Arc<str>, Bytes>) -> Option<Charge> {
        let leader = self.leader.as_deref().and_then(|id| self.roster.get(id))?;
        let bytes = sizes::assignment(assignment.iter());
        self.budget.try_charge(leader.charge.client(), bytes, Standing::Member).ok()
    }

    /// The assignment of a generation is stored, or is not. When a new rebalance began meanwhile,
    /// nobody was given it and nobody will be.
    pub(super) fn assignment_stored(
        &mut self,
        now: Instant,
        generation: i32,
        result: Result<(), GroupError>,
    ) {
        if self.state != State::CompletingRebalance || generation != self.generation {
            return;
        }
        if let Err(error) = result {
            return self.assignment_failed(now, error);
        }
        let Some(mut assignment) = self.assignment.take() else { return };
        self.state = State::Stable;
        let mut waiting = Vec::new();
        for member in self.roster.iter_mut() {
            member.assignment = assignment.remove(&member.id).unwrap_or_default();
            if let Some(ticket) = member.sync.take() {
                waiting.push((ticket, member.id.clone(), member.assignment.clone()));
            }
        }
        for (ticket, member_id, assignment) in waiting {
            let synced = self.synced_answer(assignment);
            self.answer(ticket, synced);
            // Its session may have run out while it waited for us.
            self.renew(now, &member_id);
        }
    }

    fn assignment_failed(&mut self, now: Instant, error: GroupError) {
        warn!(group = %self.id, generation = self.generation, %error, "no assignment");
        self.give_up_assignment(now, error);
        self.rebalance_or_complete(now, "the assignment could not be stored");
    }

    /// Answers everybody who waits for the assignment with an error.
    pub(super) fn give_up_assignment(&mut self, now: Instant, error: GroupError) {
        self.assignment = None;
        self.assignment_charge = None;
        let mut waiting = Vec::new();
        for member in self.roster.iter_mut() {
            member.assignment = Bytes::new();
            waiting.extend(member.sync.take().map(|ticket| (ticket, member.id.clone())));
        }
        for (ticket, member_id) in waiting {
            self.answer(ticket, Answer::Sync(Err(error)));
            self.renew(now, &member_id);
        }
    }

    /// This member asked for its assignment.
    fn synced(&mut self, member_id: &str) {
        self.pending_sync.remove(member_id);
        if self.pending_sync.is_empty() {
            self.sync_timer = None;
        }
    }

    /// Members that never asked for their assignment are gone.
    pub(super) fn sync_time_is_up(&mut self, now: Instant) {
        self.sync_timer = None;
        let silent = std::mem::take(&mut self.pending_sync);
        for member_id in &silent {
            info!(group = %self.id, %member_id, "a member did not ask for its assignment and is removed");
            self.remove(member_id, super::roster::forget_id(GroupError::UnknownMember));
        }
        if !silent.is_empty() {
            self.prepare_rebalance(now, "members did not ask for their assignment");
        }
    }

    fn synced_answer(&self, assignment: Bytes) -> Answer {
        Answer::Sync(Ok(Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment,
        }))
    }
}
