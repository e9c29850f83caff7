//! Who may store offsets for a group.

use tokio::time::Instant;

use super::error::GroupError;
use super::message::{Answer, Commit, Effect, Ticket};
use super::state::{Group, State};

impl Group {
    /// Checks the sender and hands the offsets on; the result of writing them is the answer.
    pub(super) fn commit(&mut self, now: Instant, ticket: Ticket, commit: Commit) {
        if let Err(error) = self.check_commit(&commit) {
            return self.answer(ticket, Answer::Commit(Err(error)));
        }
        if commit.generation >= 0 {
            // A commit is a sign of life.
            self.renew(now, &commit.member_id);
        }
        self.known = true;
        self.effects.push(Effect::Commit(ticket, commit.offsets));
    }

    fn check_commit(&self, commit: &Commit) -> Result<(), GroupError> {
        if commit.generation < 0 && self.state == State::Empty {
            // An operator, or a client that assigns partitions to itself.
            return Ok(());
        }
        if !self.known {
            let knows = commit.knows_group_not_found;
            return Err(if knows {
                GroupError::GroupNotFound
            } else {
                GroupError::IllegalGeneration
            });
        }
        self.check_member(&commit.member_id, commit.instance_id.as_deref())?;
        if commit.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        if self.state == State::CompletingRebalance {
            // Its partitions may be another member's in this generation.
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }
}
