//! Commands of the state machine and what they answer.
//!
//! A command is everything that may change replicated state: its author (with the author's epoch,
//! I-FENCE), its content, and the time the leader stamped on it. The state machine reads no clock
//! and draws no number: whatever is random (topic ids) or measured comes in a command (I-PURE).

use std::collections::BTreeMap;
use std::sync::Arc;

pub use crate::command_texts::TextTooLong;
use crate::feature_level::FeatureLevel;

use bytes::Bytes;
use ottla_model::{
    Attempt, BatchProducer, BrokerAuthor, BrokerEpoch, BrokerId, BrokerProfile, BytePosition,
    GroupId, ObjectSeq, Offset, PartitionId, ProcessNonce, ProducerId, TimestampMs, TopicId,
    TopicName,
};

/// One entry of the replicated log.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The leader's replicated clock when it proposed the entry. The state machine never lets its
    /// own time go backward, whatever stands here.
    pub time: TimestampMs,
    /// What to change.
    pub body: CommandBody,
}

/// What a command changes.
#[derive(Clone, Debug, PartialEq)]
pub enum CommandBody {
    /// A broker starts a run; fences every older run of its id in the same command.
    RegisterBroker(RegisterBroker),
    /// A broker's session ended, or it left: everything of this epoch is refused from now on.
    FenceBroker(BrokerAuthor),
    /// A broker leaves the metadata view but still commits what it holds.
    DrainBroker(BrokerAuthor),
    /// Objects become part of their partitions.
    CommitObjects(CommitObjects),
    /// An object will never be committed.
    AbandonObject(AbandonObject),
    /// A topic comes to be.
    CreateTopic(CreateTopic),
    /// A topic and its data go, at once and for ever.
    DeleteTopic(TopicId),
    /// A topic gets more partitions.
    CreatePartitions(CreatePartitions),
    /// A broker takes a block of producer ids.
    AllocateProducerIds(AllocateProducerIds),
    /// A group's offsets move.
    CommitOffsets(CommitOffsets),
    /// A group's durable metadata is replaced.
    PutGroup(PutGroup),
    /// Time passes: producer states whose last use is older than the expiry go; a bounded number of
    /// them, as with [`CommandBody::ExpireProducers`].
    Tick,
    /// Condemned objects were deleted from the bucket and can be forgotten.
    ForgetObjects(Vec<ottla_model::ObjectId>),
    /// The state is an older copy of what the cluster once was, and whoever runs the cluster gives
    /// up what came after it: runs and producer ids of that time are never confused with new ones.
    AcceptLoss,
    /// Groups that have been without members and without a commit since `until` or longer are
    /// forgotten, with their offsets; a bounded number of them, the longest idle first.
    ExpireGroups {
        /// In replicated time.
        until: TimestampMs,
    },
    /// Producer states whose last use was at `until` or earlier go, before their time when there are
    /// too many; a bounded number of them, first those of the partition with the oldest.
    ExpireProducers {
        /// In replicated time.
        until: TimestampMs,
    },
    /// Records are stamped with another time from now on, which no clock has counted up to.
    StepTime(StepTime),
    /// The log and the state may hold from now on what this level allows; see
    /// [`crate::feature_level`]. Answered with [`Answer::FeatureLevel`].
    RaiseFeatureLevel {
        /// The level; refused when it is lower than the present one.
        to: FeatureLevel,
    },
}

/// See [`CommandBody::RegisterBroker`]. Answered with [`Answer::Registered`].
#[derive(Clone, Debug, PartialEq)]
pub struct RegisterBroker {
    /// The id it wants to be known by.
    pub broker: BrokerId,
    /// The random number of its process start. A repeated registration with the id's newest nonce
    /// is answered with the same epoch: the first answer was lost.
    pub nonce: ProcessNonce,
    /// Where it is and what it runs.
    pub profile: Arc<BrokerProfile>,
}

/// See [`CommandBody::CommitObjects`]. Answered with [`Answer::Commits`], one outcome per object.
#[derive(Clone, Debug, PartialEq)]
pub struct CommitObjects {
    /// The writer.
    pub author: BrokerAuthor,
    /// The writer holds the outcomes of all lower sequences: they can be forgotten.
    pub frontier: ObjectSeq,
    /// In ascending sequence.
    pub objects: Vec<CommitObject>,
}

/// One uploaded and verified object.
#[derive(Clone, Debug, PartialEq)]
pub struct CommitObject {
    /// Its place in the writer's seal order.
    pub seq: ObjectSeq,
    /// The attempt that was verified; it makes the key.
    pub attempt: Attempt,
    /// Its length in bytes, header and footer included.
    pub size: u64,
    /// Its batches in ascending byte position. Batches that were left out of the commit (because a
    /// predecessor failed) are missing here and are dead bytes in the object.
    pub batches: Vec<CommitBatch>,
}

/// One record batch inside an object.
#[derive(Clone, Debug, PartialEq)]
pub struct CommitBatch {
    /// Where it goes. The topic id was bound when the batch entered the buffer.
    pub partition: PartitionId,
    /// Its first byte in the object.
    pub position: BytePosition,
    /// Its length in bytes.
    pub length: u32,
    /// Its number of records less one, as in its header; never negative.
    pub last_offset_delta: i32,
    /// The largest timestamp of its records, whatever its header says.
    pub max_timestamp: TimestampMs,
    /// Its producer, when it is idempotent.
    pub producer: Option<BatchProducer>,
}

/// See [`CommandBody::AbandonObject`]. Answered with [`Answer::Commits`] and one outcome:
/// [`ObjectOutcome::Abandoned`], or the outcome of the commit that came before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AbandonObject {
    /// The writer.
    pub author: BrokerAuthor,
    /// As in [`CommitObjects`].
    pub frontier: ObjectSeq,
    /// The object.
    pub seq: ObjectSeq,
}

/// What became of an object. Kept by the state machine and answered to every later commit or
/// abandon of it, until the writer's frontier passes it.
#[derive(Clone, Debug, PartialEq)]
pub enum ObjectOutcome {
    /// Committed; one outcome per batch of the commit, in its order.
    Committed(Arc<[BatchOutcome]>),
    /// Will never be committed.
    Abandoned,
    /// Nothing was changed: a lower sequence is still undecided. Send it again after that one.
    NotYet {
        /// The lowest undecided sequence.
        next: ObjectSeq,
    },
    /// Nothing was changed: the author's epoch is over, and with it everything undecided of it.
    Fenced,
    /// Nothing was changed: the writer itself said that it knows this outcome.
    BelowFrontier,
}

/// What became of one batch of a committed object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchOutcome {
    /// Stored.
    Appended {
        /// Offset of its first record.
        base_offset: Offset,
        /// The time of all its records, when the topic has log-append time.
        append_time: Option<TimestampMs>,
        /// The partition's log start at the commit.
        log_start: Offset,
    },
    /// Already stored by an earlier send of the same batch; nothing was stored now.
    Duplicate {
        /// Offset of the stored batch's first record.
        base_offset: Offset,
        /// As in `Appended`.
        append_time: Option<TimestampMs>,
        /// As in `Appended`.
        log_start: Offset,
    },
    /// Not stored.
    Refused(BatchRefusal),
}

/// Why a batch was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BatchRefusal {
    /// The topic was deleted, or never had this partition.
    UnknownPartition,
    /// The sequence does not follow the producer's last one.
    OutOfOrderSequence,
    /// The producer's epoch is older than the newest one seen.
    StaleProducerEpoch,
}

/// See [`CommandBody::CreateTopic`]. Answered with [`Answer::TopicCreated`].
#[derive(Clone, Debug, PartialEq)]
pub struct CreateTopic {
    /// Drawn at random by the proposer; a repeated command with the same id is answered as the
    /// first.
    pub id: TopicId,
    /// Its name. Refused when a living topic has it, or one that collides with it.
    pub name: TopicName,
    /// How many partitions, 1 or more.
    pub partitions: i32,
    /// The replication factor to show (virtual: objects are replicated by the store).
    pub replication_factor: i16,
    /// Configs as given, by name. Already validated.
    pub configs: BTreeMap<String, String>,
}

/// See [`CommandBody::CreatePartitions`]. Answered with [`Answer::PartitionsCreated`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CreatePartitions {
    /// The topic.
    pub topic: TopicId,
    /// The new total. Equal to the present one: nothing changes; a lower one is refused.
    pub total: i32,
}

/// See [`CommandBody::AllocateProducerIds`]. Answered with [`Answer::ProducerIds`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AllocateProducerIds {
    /// The broker that takes the block.
    pub author: BrokerAuthor,
    /// How many, 1 or more.
    pub count: u32,
}

/// See [`CommandBody::CommitOffsets`]. Answered with [`Answer::OffsetsCommitted`].
#[derive(Clone, Debug, PartialEq)]
pub struct CommitOffsets {
    /// The coordinator.
    pub author: BrokerAuthor,
    /// The group.
    pub group: GroupId,
    /// The offsets, each for a partition of its own.
    pub offsets: Vec<(PartitionId, CommittedOffset)>,
}

/// A group's place in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next record the group wants.
    pub offset: Offset,
    /// The leader epoch the client gave, −1 for none.
    pub leader_epoch: i32,
    /// Free text of the client.
    pub metadata: Arc<str>,
}

/// See [`CommandBody::PutGroup`]. Answered with [`Answer::GroupStored`].
#[derive(Clone, Debug, PartialEq)]
pub struct PutGroup {
    /// The coordinator.
    pub author: BrokerAuthor,
    /// The group.
    pub group: GroupId,
    /// By which protocol its members agree; it decides what the metadata is.
    pub kind: GroupKind,
    /// Its metadata as of now; no members: an empty group, kept while it has offsets.
    pub metadata: GroupMetadata,
}

/// The protocol of a group. A group that only commits offsets is a classic one, as in Kafka.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupKind {
    /// JoinGroup and SyncGroup: a member of the group computes the assignment.
    #[default]
    Classic,
}

/// What a coordinator must know to go on where another one stopped, without a rebalance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadata {
    /// Counts completed rebalances.
    pub generation: i32,
    /// `consumer`, `connect`, …; opaque.
    pub protocol_type: Arc<str>,
    /// The chosen assignor's name; `None` in an empty group.
    pub protocol: Option<Arc<str>>,
    /// The member id of the leader; `None` in an empty group.
    pub leader: Option<Arc<str>>,
    /// In order of member id.
    pub members: Vec<GroupMember>,
}

/// One member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Given by the coordinator.
    pub member_id: Arc<str>,
    /// Given by the client: static membership (KIP-345).
    pub instance_id: Option<Arc<str>>,
    /// The client's name for itself.
    pub client_id: Arc<str>,
    /// The address it came from.
    pub client_host: Arc<str>,
    /// Silence after which it is taken for dead, in milliseconds.
    pub session_timeout_ms: i32,
    /// How long a rebalance waits for it, in milliseconds.
    pub rebalance_timeout_ms: i32,
    /// Assignors it supports, most wanted first, with the opaque metadata for each.
    pub protocols: Vec<(Arc<str>, Bytes)>,
    /// Its part of the assignment; opaque.
    pub assignment: Bytes,
}

/// See [`CommandBody::StepTime`]. Answered with [`Answer::TimeStepped`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepTime {
    /// What the wall clock shows at the command's time.
    pub wall: TimestampMs,
    /// The operator accepts the step. Otherwise it is refused once there is a topic, an
    /// object or a group.
    pub is_accepted: bool,
}

/// What the state machine answers to a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To [`CommandBody::RegisterBroker`].
    Registered(std::result::Result<BrokerEpoch, RegisterRefusal>),
    /// To [`CommandBody::CommitObjects`] and [`CommandBody::AbandonObject`].
    Commits(Vec<ObjectOutcome>),
    /// To [`CommandBody::CreateTopic`].
    TopicCreated(std::result::Result<(), CreateTopicRefusal>),
    /// To [`CommandBody::DeleteTopic`]: whether it existed.
    TopicDeleted(bool),
    /// To [`CommandBody::CreatePartitions`].
    PartitionsCreated(std::result::Result<(), CreatePartitionsRefusal>),
    /// To [`CommandBody::AllocateProducerIds`]: the first of the block.
    ProducerIds(std::result::Result<ProducerId, Fenced>),
    /// To [`CommandBody::CommitOffsets`]: the partitions that do not exist (any more).
    OffsetsCommitted(std::result::Result<Vec<PartitionId>, Fenced>),
    /// To [`CommandBody::PutGroup`].
    GroupStored(std::result::Result<(), Fenced>),
    /// To [`CommandBody::StepTime`]: whether time was stepped.
    TimeStepped(bool),
    /// To [`CommandBody::RaiseFeatureLevel`].
    FeatureLevel(std::result::Result<(), LevelRefusal>),
    /// To commands that cannot fail.
    Done,
    /// To a command with a text that the state does not keep. Nothing was changed.
    TooLong(TextTooLong),
}

/// The author's epoch is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fenced;

/// Why the feature level was not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LevelRefusal {
    /// It would have been lowered: what the log and the state hold may need the present one.
    Lower {
        /// The present level.
        current: FeatureLevel,
    },
}

/// Why a registration was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterRefusal {
    /// This process start was registered before, and a newer one of the same id has fenced it.
    ReplacedByNewer,
}

/// Why a topic was not created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreateTopicRefusal {
    /// A living topic has the name.
    Exists(TopicId),
    /// A living topic's name differs only by `.` and `_`.
    Collides(TopicName),
    /// The cluster's number of partitions is at its limit.
    TooManyPartitions,
}

/// Why partitions were not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreatePartitionsRefusal {
    /// No such topic.
    UnknownTopic,
    /// It already has more.
    Fewer {
        /// How many it has.
        current: i32,
    },
    /// The cluster's number of partitions is at its limit.
    TooManyPartitions,
}
