//! LeaveGroup: members that go, or are sent away by an operator.

use tokio::time::Instant;
use tracing::info;

use super::error::GroupError;
use super::message::{Answer, Effect, Leave, Leaving, StorePurpose, Ticket};
use super::roster::forget_id;
use super::state::Group;

impl Group {
    pub(super) fn leave(&mut self, now: Instant, ticket: Ticket, leave: Leave) {
        let members = self.roster.len();
        let results: Vec<_> = leave.members.iter().map(|member| self.leave_one(member)).collect();
        if self.roster.len() < members {
            self.rebalance_or_complete(now, "a member left");
        } else {
            // An id that was given out and not used is nobody's loss; a rebalance may wait for it.
            self.complete_join_if_all_are_here(now);
        }
        // The last one is answered when the empty group is stored.
        for effect in &mut self.effects {
            if let Effect::Store(StorePurpose::Empty { leaving }, _) = effect {
                *leaving = Some((ticket, results));
                return;
            }
        }
        self.answer(ticket, Answer::Leave(Ok(results)));
    }

    fn leave_one(&mut self, leaving: &Leaving) -> Result<(), GroupError> {
        let instance_id = leaving.instance_id.as_deref();
        let member_id = if leaving.member_id.is_empty() {
            // An operator removes a static member by its instance id alone.
            let found = instance_id.and_then(|id| self.roster.static_member(id));
            found.cloned().ok_or(GroupError::UnknownMember)?
        } else {
            if !self.pending.contains_key(&leaving.member_id) {
                self.check_member(&leaving.member_id, instance_id)?;
            }
            leaving.member_id.clone()
        };
        info!(group = %self.id, %member_id, reason = leaving.reason.as_deref(), "a member leaves");
        self.remove(&member_id, forget_id(GroupError::UnknownMember));
        Ok(())
    }

    /// The empty group is stored, or is not: then the next coordinator will find members that are
    /// gone, and their sessions will end there. Nobody is harmed by it.
    pub(super) fn empty_stored(&mut self, leaving: Option<(Ticket, Vec<Result<(), GroupError>>)>) {
        if let Some((ticket, results)) = leaving {
            self.answer(ticket, Answer::Leave(Ok(results)));
        }
    }
}
