//! The members of a group, with the sums that questions about all of them need.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::budget::Charge;
use super::error::GroupError;
use super::message::{Answer, Effect, JoinRefused, Ticket};

/// One member.
#[derive(Debug)]
pub(super) struct Member {
    pub id: Arc<str>,
    pub instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    /// Never changed but through [`Roster::update_protocols`]: the roster counts them.
    pub protocols: Vec<(Arc<str>, Bytes)>,
    pub assignment: Bytes,
    /// What it costs, without its assignment.
    pub charge: Charge,
    /// Its JoinGroup that waits. Never changed but through the roster, which counts them.
    pub join: Option<Ticket>,
    /// Its SyncGroup that waits.
    pub sync: Option<Ticket>,
    /// It joined and was not told its generation yet: it cannot send heartbeats.
    pub is_new: bool,
    /// When its session ends. `None`: the session ended while the member waited for an answer of
    /// ours, which counts as a sign of life; it starts again with that answer.
    pub expires: Option<Instant>,
}

impl Member {
    /// Its metadata for a protocol; empty when it does not support it.
    pub fn metadata(&self, protocol: Option<&str>) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| Some(&**name) == protocol);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    /// A member that waits for us is alive, unless it is new: then its client may be long gone.
    pub fn waits_for_us(&self) -> bool {
        !self.is_new && (self.join.is_some() || self.sync.is_some())
    }

    /// Starts its session anew.
    pub fn renew(&mut self, now: Instant) {
        self.expires = Some(now + self.session_timeout);
    }

    /// Answers whatever it waits for with an error.
    pub fn refuse_waiting(&mut self, join_refused: JoinRefused, effects: &mut Vec<Effect>) {
        let error = join_refused.error;
        if let Some(ticket) = self.join.take() {
            effects.push(Effect::Answer(ticket, Answer::Join(Err(join_refused))));
        }
        if let Some(ticket) = self.sync.take() {
            effects.push(Effect::Answer(ticket, Answer::Sync(Err(error))));
        }
    }
}

/// All members, by id. Iteration order is that of the ids, so that everything chosen among members
/// is chosen alike everywhere.
#[derive(Debug, Default)]
pub(super) struct Roster {
    members: BTreeMap<Arc<str>, Member>,
    /// Member id by instance id.
    statics: BTreeMap<Arc<str>, Arc<str>>,
    /// How many members support a protocol.
    support: BTreeMap<Arc<str>, usize>,
    /// How many members have a JoinGroup waiting.
    joining: usize,
    /// What all members say about themselves, as it is stored.
    bytes: usize,
}

impl Roster {
    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub fn get(&self, id: &str) -> Option<&Member> {
        self.members.get(id)
    }

    /// To change a member's session, sync or assignment; the counted fields have functions.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.members.get_mut(id)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.members.values_mut()
    }

    /// The member id that an instance id stands for.
    pub fn static_member(&self, instance_id: &str) -> Option<&Arc<str>> {
        self.statics.get(instance_id)
    }

    pub fn joining(&self) -> usize {
        self.joining
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn all_joining(&self) -> bool {
        self.joining == self.members.len()
    }

    /// The longest time any member asks a rebalance to wait.
    pub fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|m| m.rebalance_timeout).max().unwrap_or_default()
    }

    /// Whether one of the protocols is supported by every member. Of no members each is (Kafka's
    /// `ClassicGroup.supportsProtocols`).
    pub fn supports_any(&self, protocols: &[(Arc<str>, Bytes)]) -> bool {
        protocols.iter().any(|(name, _)| self.supporters(name) == self.members.len())
    }

    /// How many members support a protocol.
    fn supporters(&self, protocol: &Arc<str>) -> usize {
        self.support.get(protocol).copied().unwrap_or(0)
    }

    pub fn add(&mut self, member: Member) {
        if let Some(instance_id) = &member.instance_id {
            self.statics.insert(instance_id.clone(), member.id.clone());
        }
        self.count(&member.protocols, true);
        self.bytes += member.said().stored();
        self.joining += usize::from(member.join.is_some());
        self.members.insert(member.id.clone(), member);
    }

    pub fn remove(&mut self, id: &str) -> Option<Member> {
        let member = self.members.remove(id)?;
        self.count(&member.protocols, false);
        self.bytes -= member.said().stored();
        self.joining -= usize::from(member.join.is_some());
        if let Some(instance_id) = &member.instance_id {
            self.statics.remove(instance_id);
        }
        Some(member)
    }

    /// Sets a member's waiting JoinGroup and returns the one that waited before.
    pub fn set_join(&mut self, id: &str, ticket: Option<Ticket>) -> Option<Ticket> {
        let member = self.members.get_mut(id)?;
        let before = std::mem::replace(&mut member.join, ticket);
        self.joining -= usize::from(before.is_some());
        self.joining += usize::from(ticket.is_some());
        before
    }

    pub fn update_protocols(&mut self, id: &str, protocols: Vec<(Arc<str>, Bytes)>) {
        let Some(member) = self.members.get_mut(id) else { return };
        self.bytes -= member.said().stored();
        let before = std::mem::replace(&mut member.protocols, protocols.clone());
        self.bytes += member.said().stored();
        self.count(&before, false);
        self.count(&protocols, true);
    }

    /// Every member votes for the protocol it wants most among those that all support; the one
    /// with most votes wins, the first by name among equals. `None` without members.
    pub fn vote(&self) -> Option<Arc<str>> {
        let everybody = self.members.len();
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            let supported = |name: &Arc<str>| self.supporters(name) == everybody;
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| supported(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.clone())
    }

    /// A protocol that a client names twice counts once.
    fn count(&mut self, protocols: &[(Arc<str>, Bytes)], added: bool) {
        let names: BTreeSet<_> = protocols.iter().map(|(name, _)| name).collect();
        for name in names {
            if added {
                *self.support.entry(name.clone()).or_default() += 1;
            } else if let Some(count) = self.support.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.support.remove(name);
                }
            }
        }
    }
}

/// A refused join with no id to go on with.
pub(super) fn forget_id(error: GroupError) -> JoinRefused {
    JoinRefused { error, member_id: "".into() }
}
