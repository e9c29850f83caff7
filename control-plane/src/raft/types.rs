//! openraft's type parameters, and the conversions between its types and ours. On disk and on the
//! wire there are only ours.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use openraft::entry::RaftEntry;
use openraft::impls::leader_id_adv::LeaderId;
use openraft::impls::{BasicNode, BoxedErrorSource, InlineBatch, Vote};
use openraft::raft::responder::Responder;
use openraft::type_config::alias::{
    CommittedLeaderIdOf, EntryOf, LeaderIdOf, LogIdOf, StoredMembershipOf, VoteOf,
};
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, OptionalSend, RaftTypeConfig, TokioRuntime};
use ottla_format::command::{Answer, Command};
use ottla_format::raft_entry::{AppliedRecord, Entry, LogId, Membership, Payload};
use ottla_format::vote::VoteRecord;

use crate::raft_log::{LogEntry, LogIdentity};

/// What openraft works with here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeConfig;

impl RaftTypeConfig for TypeConfig {
    type D = Proposal;
    type R = Option<Answer>;
    type NodeId = u64;
    type Node = BasicNode;
    type Term = u64;
    type LeaderId = LeaderId<u64, u64>;
    type Vote = Vote<Self::LeaderId>;
    type Payload = EntryPayload<Proposal, u64, BasicNode>;
    type Entry = openraft::Entry<<Self::LeaderId as RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = TokioRuntime;
    type Responder<T>
        = Reply<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = BoxedErrorSource;
}

/// A command on its way into or out of the log: encoded once by its proposer, decoded at most once
/// where it was read from disk or received.
#[derive(Clone, Debug)]
pub struct Proposal {
    encoded: Bytes,
    command: Option<Arc<Command>>,
}

impl Proposal {
    /// Encodes a command.
    pub fn new(command: Command) -> Self {
        let mut out = Vec::new();
        command.encode(&mut out);
        Self { encoded: Bytes::from(out), command: Some(Arc::new(command)) }
    }

    /// Length of the encoding.
    pub fn encoded_bytes(&self) -> usize {
        self.encoded.len()
    }

    /// The command.
    ///
    /// # Errors
    /// When the bytes are not a command: damage that every checksum missed, or a newer version.
    pub fn command(&self) -> io::Result<Arc<Command>> {
        match &self.command {
            Some(command) => Ok(command.clone()),
            None => Command::decode(&self.encoded)
                .map(Arc::new)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} bytes", self.encoded.len())
    }
}

/// What is done with the outcome of a proposal. Dropped with it, when Raft drops the proposal.
pub struct Reply<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Reply<T> {
    /// Called at most once, from Raft's own task: must not take long.
    pub fn new(on_outcome: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(on_outcome))
    }
}

impl<T: Send + 'static> Responder<TypeConfig, T> for Reply<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}

/// openraft's log id as ours.
pub fn log_id(id: &LogIdOf<TypeConfig>) -> LogId {
    LogId { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
}

/// Our log id as openraft's.
pub fn raft_log_id(id: LogId) -> LogIdOf<TypeConfig> {
    LogIdOf::<TypeConfig>::new(leader(id.term, id.node), id.index)
}

fn leader(term: u64, node_id: u64) -> CommittedLeaderIdOf<TypeConfig> {
    LeaderId { term, node_id }.to_committed()
}

/// openraft's membership as ours.
pub fn membership(raft: &openraft::Membership<u64, BasicNode>) -> Membership {
    Membership {
        voters: raft.get_joint_config().clone(),
        members: raft.nodes().map(|(id, node)| (*id, node.addr.clone())).collect(),
    }
}

/// Our membership as openraft's.
///
/// # Errors
/// When a voter is not among the members.
pub fn raft_membership(
    membership: &Membership,
) -> io::Result<openraft::Membership<u64, BasicNode>> {
    let nodes: BTreeMap<u64, BasicNode> = membership
        .members
        .iter()
        .map(|(id, address)| (*id, BasicNode { addr: address.clone() }))
        .collect();
    if membership.voters.is_empty() && nodes.is_empty() {
        return Ok(openraft::Membership::default());
    }
    openraft::Membership::new(membership.voters.clone(), nodes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}

/// An entry for the log.
pub fn log_entry(raft: EntryOf<TypeConfig>) -> LogEntry {
    let id = log_id(&raft.log_id());
    let (payload, command) = match raft.payload {
        EntryPayload::Blank => (Payload::Blank, None),
        EntryPayload::Normal(Proposal { encoded, command }) => (Payload::Command(encoded), command),
        EntryPayload::Membership(raft) => (Payload::Membership(membership(&raft)), None),
    };
    LogEntry { entry: Entry { id, payload }, command }
}

/// An entry from the log.
///
/// # Errors
/// When its membership makes no sense.
pub fn raft_entry(entry: &LogEntry) -> io::Result<EntryOf<TypeConfig>> {
    let payload = match &entry.entry.payload {
        Payload::Blank => EntryPayload::Blank,
        Payload::Command(encoded) => EntryPayload::Normal(Proposal {
            encoded: encoded.clone(),
            command: entry.command.clone(),
        }),
        Payload::Membership(membership) => EntryPayload::Membership(raft_membership(membership)?),
    };
    Ok(EntryOf::<TypeConfig>::new(raft_log_id(entry.entry.id), payload))
}

/// A vote for the vote file.
pub fn vote_record(vote: &VoteOf<TypeConfig>, identity: LogIdentity) -> VoteRecord {
    VoteRecord {
        cluster: identity.cluster,
        node: identity.node,
        term: vote.leader_id.term,
        candidate: vote.leader_id.node_id,
        committed: vote.committed,
    }
}

/// A vote from the vote file.
pub fn raft_vote(record: &VoteRecord) -> VoteOf<TypeConfig> {
    let leader_id = LeaderIdOf::<TypeConfig> { term: record.term, node_id: record.candidate };
    Vote { leader_id, committed: record.committed }
}

/// What a snapshot and the checkpoint carry beside the state.
pub fn applied_record(
    last: Option<LogIdOf<TypeConfig>>,
    stored: &StoredMembershipOf<TypeConfig>,
) -> AppliedRecord {
    AppliedRecord {
        last: last.as_ref().map(log_id),
        membership_id: stored.log_id().as_ref().map(log_id),
        membership: membership(stored.membership()),
        installed: None,
    }
}

/// The reverse of [`applied_record`].
///
/// # Errors
/// When the membership makes no sense.
pub fn raft_applied(
    record: &AppliedRecord,
) -> io::Result<(Option<LogIdOf<TypeConfig>>, StoredMembershipOf<TypeConfig>)> {
    let stored = StoredMembershipOf::<TypeConfig>::new(
        record.membership_id.map(raft_log_id),
        raft_membership(&record.membership)?,
    );
    Ok((record.last.map(raft_log_id), stored))
}
