//! What members ask, what they are answered, and what the state machine wants done.
//!
//! All of it is plain values. A request that has to wait is known to the state machine by a
//! [`Ticket`] only; whoever runs the machine keeps the way back to the client.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use ottla_format::command::{CommittedOffset, GroupMetadata};
use ottla_model::PartitionId;

use super::error::GroupError;

/// Names one request until it is answered. Never given twice by one runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A request to a group.
#[derive(Clone, Debug)]
pub enum Request {
    /// JoinGroup.
    Join(Join),
    /// SyncGroup.
    Sync(Sync),
    /// Heartbeat.
    Heartbeat(Heartbeat),
    /// LeaveGroup.
    Leave(Leave),
    /// OffsetCommit.
    Commit(Commit),
}

/// A member wants to be part of the next generation.
#[derive(Clone, Debug)]
pub struct Join {
    /// The id it was given; empty for a member that has none yet.
    pub member_id: Arc<str>,
    /// Its name across restarts, for static membership.
    pub instance_id: Option<Arc<str>>,
    /// The client's name for itself.
    pub client_id: Arc<str>,
    /// The address it comes from, as Kafka shows it.
    pub client_host: Arc<str>,
    /// The address whose memory it uses.
    pub client: IpAddr,
    /// Silence after which it is taken for dead, in milliseconds, as given.
    pub session_timeout_ms: i32,
    /// How long a rebalance waits for it, in milliseconds; negative: as long as its session.
    pub rebalance_timeout_ms: i32,
    /// `consumer`, `connect`, …; opaque.
    pub protocol_type: Arc<str>,
    /// The protocols it supports, most wanted first, each with opaque metadata.
    pub protocols: Vec<(Arc<str>, Bytes)>,
    /// The client can be told its id first and join with it then (KIP-394, version 4).
    pub can_be_told_its_id: bool,
    /// The client understands that a leader need not compute an assignment (KIP-814, version 9).
    pub can_skip_assignment: bool,
    /// Why it joins, in the client's words (KIP-800); for the log.
    pub reason: Option<Arc<str>>,
    /// The id it gets when it has none. Drawn by the runner: the machine draws no numbers.
    pub fresh_id: Arc<str>,
}

/// A member wants its assignment; the leader brings everybody's.
#[derive(Clone, Debug)]
pub struct Sync {
    /// The member.
    pub member_id: Arc<str>,
    /// Its instance id.
    pub instance_id: Option<Arc<str>>,
    /// The generation it joined.
    pub generation: i32,
    /// The protocol type it believes in, from version 5 on.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol it believes in, from version 5 on.
    pub protocol: Option<Arc<str>>,
    /// From the leader: assignment by member id.
    pub assignments: BTreeMap<Arc<str>, Bytes>,
    /// The address whose memory it uses.
    pub client: IpAddr,
}

/// A member lives.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// The member.
    pub member_id: Arc<str>,
    /// Its instance id.
    pub instance_id: Option<Arc<str>>,
    /// The generation it is in.
    pub generation: i32,
}

/// Members leave, or are removed by an operator.
#[derive(Clone, Debug)]
pub struct Leave {
    /// Who leaves; each is answered by itself.
    pub members: Vec<Leaving>,
    /// The address whose memory it uses.
    pub client: IpAddr,
}

/// A member that leaves, or is removed by an operator.
#[derive(Clone, Debug)]
pub struct Leaving {
    /// The member; empty when an operator removes a static member by its instance id.
    pub member_id: Arc<str>,
    /// Its instance id.
    pub instance_id: Option<Arc<str>>,
    /// Why, in the client's words (KIP-800); for the log.
    pub reason: Option<Arc<str>>,
}

/// Offsets to store for a group.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The member; empty for a client that only stores offsets.
    pub member_id: Arc<str>,
    /// Its instance id.
    pub instance_id: Option<Arc<str>>,
    /// The generation it is in; negative for a client that only stores offsets.
    pub generation: i32,
    /// The client knows the answer "no such group" (version 9).
    pub knows_group_not_found: bool,
    /// What to store.
    pub offsets: BTreeMap<PartitionId, CommittedOffset>,
    /// Memory that the sender of this keeps meanwhile, to answer with.
    pub answer_bytes: usize,
    /// The address whose memory it uses.
    pub client: IpAddr,
}

impl Request {
    /// Whether it makes a group that does not exist: the join of a new member, and the commit of a
    /// client without membership. All others speak of something that must be there.
    pub(super) fn makes_group(&self) -> bool {
        match self {
            Self::Join(join) => join.member_id.is_empty(),
            Self::Commit(commit) => commit.generation < 0,
            Self::Sync(_) | Self::Heartbeat(_) | Self::Leave(_) => false,
        }
    }

    /// The address whose memory it uses; a heartbeat uses none.
    pub(super) fn client(&self) -> Option<IpAddr> {
        match self {
            Self::Join(join) => Some(join.client),
            Self::Sync(sync) => Some(sync.client),
            Self::Leave(leave) => Some(leave.client),
            Self::Commit(commit) => Some(commit.client),
            Self::Heartbeat(_) => None,
        }
    }
}

/// The answer to one request, of the kind of its request.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To [`Request::Join`].
    Join(Result<Joined, JoinRefused>),
    /// To [`Request::Sync`].
    Sync(Result<Synced, GroupError>),
    /// To [`Request::Heartbeat`].
    Heartbeat(Result<(), GroupError>),
    /// To [`Request::Leave`]: one result per member, in order.
    Leave(Result<Vec<Result<(), GroupError>>, GroupError>),
    /// To [`Request::Commit`]: the partitions that do not exist.
    Commit(Result<Vec<PartitionId>, GroupError>),
}

/// A member is part of a generation.
#[derive(Clone, Debug, PartialEq)]
pub struct Joined {
    /// The member's id.
    pub member_id: Arc<str>,
    /// The generation.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol that won the vote.
    pub protocol: Option<Arc<str>>,
    /// The member id of the leader.
    pub leader: Option<Arc<str>>,
    /// This is the leader, and the assignment of the generation stands: it must not compute one.
    pub skip_assignment: bool,
    /// For the leader only: everybody, with the metadata for the chosen protocol.
    pub members: Vec<JoinedMember>,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: Arc<str>,
    /// Its instance id.
    pub instance_id: Option<Arc<str>>,
    /// Its metadata for the chosen protocol; opaque.
    pub metadata: Bytes,
}

/// A refused join, with the member id that the answer carries.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinRefused {
    /// Why.
    pub error: GroupError,
    /// The id the client gave, the one it shall use, or empty when it has to forget its id.
    pub member_id: Arc<str>,
}

/// A member's part of the assignment.
#[derive(Clone, Debug, PartialEq)]
pub struct Synced {
    /// The group's protocol type.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol that won the vote.
    pub protocol: Option<Arc<str>>,
    /// Opaque; empty when the leader gave this member nothing.
    pub assignment: Bytes,
}

/// What the state machine wants done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Answer a request.
    Answer(Ticket, Answer),
    /// Store the group's metadata, and then tell the machine with this purpose.
    Store(StorePurpose, GroupMetadata),
    /// Store offsets and answer the request with the result.
    Commit(Ticket, BTreeMap<PartitionId, CommittedOffset>),
}

/// Why metadata is stored: what goes on once it is.
#[derive(Clone, Debug, PartialEq)]
pub enum StorePurpose {
    /// The leader brought the assignment of this generation.
    Assignment {
        /// The generation.
        generation: i32,
    },
    /// The last member is gone. The LeaveGroup that caused it, if one did, is answered after that.
    Empty {
        /// Whom to answer, and what.
        leaving: Option<(Ticket, Vec<Result<(), GroupError>>)>,
    },
    /// A static member came back under a new id, without a rebalance.
    StaticReturn {
        /// Its JoinGroup.
        ticket: Ticket,
        /// Its new id.
        member_id: Arc<str>,
        /// The generation it came back to.
        generation: i32,
        /// See [`Join::can_skip_assignment`].
        can_skip_assignment: bool,
        /// The leader before it came back, whom older clients are told.
        leader_before: Option<Arc<str>>,
    },
}
