//! The state of one group, and what its transitions share.
//!
//! ```text
//!              first join                    everybody joined, or time is up
//!     Empty ───────────────▶ PreparingRebalance ─────────────▶ CompletingRebalance
//!       ▲                       ▲   │    ▲                          │       │
//!       │      nobody is left   │   │    └──────── join, leave, ────┘       │ the leader's assignment
//!       └───────────────────────┼───┘              silence                  ▼ is stored
//!                               └──────────────────────────────────────── Stable
//!                                 join with news, leave, silence
//! ```
//!
//! Kafka has a fifth state, Dead, for a group that left its coordinator while requests still held
//! it. Here such a group has no machine any more: its runner is gone, and requests are answered
//! without one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use ottla_model::GroupId;
use tokio::time::Instant;
use tracing::info;

use super::budget::{Charge, GroupBudget, Standing};
use super::error::GroupError;
use super::limits;
use super::message::{Answer, Effect, JoinRefused, Joined, JoinedMember, Request, Ticket};
use super::options::GroupOptions;
use super::roster::{Member, Roster};

/// Where a group is between two generations. The names are Kafka's, and shown to operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No members; perhaps offsets.
    Empty,
    /// Members have to join again; waits for them.
    PreparingRebalance,
    /// Members know the generation; waits for the leader's assignment.
    CompletingRebalance,
    /// Members have their assignments, and these are stored.
    Stable,
}

/// What ends the time to join.
#[derive(Clone, Copy, Debug)]
pub(super) enum JoinTimer {
    /// The first generation after an empty group: more members are probably on their way.
    Initial {
        at: Instant,
        /// How long this period is.
        delay: std::time::Duration,
        /// How much longer it may become.
        remaining: std::time::Duration,
        /// Somebody joined in this period.
        more_came: bool,
    },
    /// Any other: members may need their rebalance timeout to notice.
    Rebalance { at: Instant },
}

impl JoinTimer {
    pub fn at(&self) -> Instant {
        match self {
            Self::Initial { at, .. } | Self::Rebalance { at } => *at,
        }
    }
}

/// A member id that was given out and not used yet.
#[derive(Debug)]
pub(super) struct PendingId {
    /// When it is forgotten.
    pub expires: Instant,
    /// Its cost in bytes.
    pub charge: Charge,
}

/// One group: takes requests, the passing of time and the results of its own effects; gives
/// effects. It does no I/O, draws no number and reads no clock.
///
/// The fields are shared with the files of its transitions (`join`, `rebalance`, `sync`, `leave`,
/// `session`, `offsets`, `durable`), one `impl` block each.
#[derive(Debug)]
pub struct Group {
    pub(super) id: GroupId,
    pub(super) options: GroupOptions,
    pub(super) state: State,
    /// Counts completed rebalances.
    pub(super) generation: i32,
    pub(super) protocol_type: Option<Arc<str>>,
    pub(super) protocol: Option<Arc<str>>,
    pub(super) leader: Option<Arc<str>>,
    pub(super) roster: Roster,
    /// Member ids that were given out and not used yet.
    pub(super) pending: BTreeMap<Arc<str>, PendingId>,
    /// Members of this generation that did not ask for their assignment yet.
    pub(super) pending_sync: BTreeSet<Arc<str>>,
    pub(super) join_timer: Option<JoinTimer>,
    pub(super) sync_timer: Option<Instant>,
    /// The assignment that is being stored. At most one per generation: a second one from a leader
    /// that asks again is not looked at (G2, one owner per partition and generation).
    pub(super) assignment: Option<BTreeMap<Arc<str>, Bytes>>,
    /// What the assignment costs that is being stored, or that members have.
    pub(super) assignment_charge: Option<Charge>,
    /// It had a member or an offset before.
    pub(super) known: bool,
    /// Something of it is in the control plane, as far as this machine was told.
    pub(super) stored: bool,
    /// Where the memory comes from that members use.
    pub(super) budget: GroupBudget,
    /// Not later than the first thing that time will bring.
    pub(super) wake_at: Option<Instant>,
    pub(super) effects: Vec<Effect>,
}

impl Group {
    /// A group nothing is stored of.
    pub fn new(id: GroupId, options: GroupOptions, budget: GroupBudget) -> Self {
        Self {
            id,
            options,
            state: State::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            roster: Roster::default(),
            pending: BTreeMap::new(),
            pending_sync: BTreeSet::new(),
            join_timer: None,
            sync_timer: None,
            assignment: None,
            assignment_charge: None,
            known: false,
            stored: false,
            budget,
            wake_at: None,
            effects: Vec::new(),
        }
    }

    /// Takes a request; the ticket is answered by an effect, now or later.
    pub fn handle(&mut self, now: Instant, ticket: Ticket, request: Request) -> Vec<Effect> {
        match request {
            Request::Join(join) => self.join(now, ticket, join),
            Request::Sync(sync) => self.sync(now, ticket, sync),
            Request::Heartbeat(heartbeat) => {
                let result = self.heartbeat(now, &heartbeat);
                self.answer(ticket, Answer::Heartbeat(result));
            }
            Request::Leave(leave) => self.leave(now, ticket, leave),
            Request::Commit(commit) => self.commit(now, ticket, commit),
        }
        self.take_effects()
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Its generation.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// Nothing would be lost if it were read from the control plane again.
    pub fn is_idle(&self) -> bool {
        self.state == State::Empty && self.pending.is_empty()
    }

    /// When [`Group::tick`] wants to be called. It may turn out to be too early.
    pub fn wake_at(&self) -> Option<Instant> {
        self.wake_at
    }

    /// How its new members stand when they ask for memory.
    pub(super) fn standing(&self) -> Standing {
        if self.stored { Standing::StoredGroup } else { Standing::NewGroup }
    }

    pub(super) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    pub(super) fn answer(&mut self, ticket: Ticket, answer: Answer) {
        self.effects.push(Effect::Answer(ticket, answer));
    }

    pub(super) fn refuse_join(&mut self, ticket: Ticket, error: GroupError, member_id: Arc<str>) {
        self.answer(ticket, Answer::Join(Err(JoinRefused { error, member_id })));
    }

    /// Makes sure that [`Group::tick`] is called by then.
    pub(super) fn wake_by(&mut self, at: Instant) {
        self.wake_at = Some(self.wake_at.map_or(at, |wake_at| wake_at.min(at)));
    }

    /// Starts a member's session anew.
    pub(super) fn renew(&mut self, now: Instant, member_id: &str) {
        let Some(member) = self.roster.get_mut(member_id) else { return };
        member.renew(now);
        if let Some(at) = member.expires {
            self.wake_by(at);
        }
    }

    pub(super) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    pub(super) fn all_joined(&self) -> bool {
        self.roster.all_joining() && self.pending.is_empty()
    }

    /// Checks that the member exists and that its instance id (if any) still stands for it.
    pub(super) fn check_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), GroupError> {
        super::names::check_member(member_id, instance_id)?;
        if let Some(instance_id) = instance_id {
            match self.roster.static_member(instance_id) {
                None => return Err(GroupError::UnknownMember),
                Some(holder) if **holder != *member_id => {
                    info!(group = %self.id, member_id, instance_id, %holder, "fenced a static member");
                    return Err(GroupError::FencedInstance);
                }
                Some(_) => {}
            }
        }
        if self.roster.get(member_id).is_none() {
            return Err(GroupError::UnknownMember);
        }
        Ok(())
    }

    /// Takes a member out and answers what it waits for. Its place as leader goes to the first of
    /// the others.
    pub(super) fn remove(&mut self, member_id: &str, refused: JoinRefused) {
        if let Some(mut member) = self.roster.remove(member_id) {
            member.refuse_waiting(refused, &mut self.effects);
        }
        if self.is_leader(member_id) {
            self.leader = self.roster.iter().next().map(|member| member.id.clone());
        }
        self.pending.remove(member_id);
        self.pending_sync.remove(member_id);
    }

    /// What a member of the present generation is told about it; everybody's metadata for the
    /// leader.
    pub(super) fn joined(&self, member: &Member) -> Joined {
        let members = if self.is_leader(&member.id) { self.joined_members() } else { Vec::new() };
        Joined {
            member_id: member.id.clone(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            skip_assignment: false,
            members,
        }
    }

    fn joined_members(&self) -> Vec<JoinedMember> {
        let describe = |member: &Member| JoinedMember {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(self.protocol.as_deref()),
        };
        self.roster.iter().map(describe).collect()
    }

    /// Whether one more JoinGroup fits (`group.max.size`). While members join again, those who
    /// come first are in; otherwise members are in whatever the limit says.
    pub(super) fn has_room_for(&self, member_id: &str) -> bool {
        let member = self.roster.get(member_id);
        match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                member.is_some_and(|member| member.join.is_some())
                    || self.roster.joining() < self.options.members_max
            }
            State::CompletingRebalance | State::Stable => {
                member.is_some() || self.roster.len() < self.options.members_max
            }
        }
    }

    /// Whether one more member id may be given out.
    pub(super) fn has_room_for_pending(&self) -> bool {
        self.pending.len() < limits::MEMBERS_PER_GROUP_MAX
    }
}
