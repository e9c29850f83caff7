//! What a broker may ask the control plane: the trait, its messages, its errors. (And what a
//! compactor may: [`SweepControl`].)
//!
//! # Contract
//!
//! The control plane may be in this process or behind a network. Callers assume the worse: every
//! call can end with [`CallError::OutcomeUnknown`] although it took effect, and a call that is
//! repeated can take effect before or after its first try. That is why every command is idempotent
//! by an identity of its own (broker, broker epoch and sequence for objects; the topic id for
//! topics; the process nonce for registrations; the full new value for groups and offsets).
//!
//! Reads come in two kinds. [`ControlPlane::watch`] feeds a [`view`] that is a moment behind;
//! everything that must be current (`find_extents`, `partition_bounds`, group state) is answered
//! by the leader after it made sure that it still leads.
//!
//! # Order
//!
//! [`ControlPlane::commit_objects`] hands its request over *before it returns*; the future is only
//! the answer. Calls made one after the other by one task are therefore proposed in that order,
//! without waiting for answers, which is how a broker pipelines its commits in seal order.

mod error;
mod messages;
mod sweep;
pub mod view;

pub use error::{CallError, CallErrorKind, OpError};
pub use messages::{
    BrokerInfo, CreateTopicRequest, ExtentPage, FindExtents, GroupState, PartitionBounds,
    Registration, TimestampQuery,
};
pub use sweep::{
    Condemned, CondemnedObject, ObjectStanding, REFERENCE_LIFE_MAX, SweepControl, SweepMark,
};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use ottla_format::command::{
    AbandonObject, AllocateProducerIds, CommitObjects, CommitOffsets, CreatePartitions,
    CreatePartitionsRefusal, CreateTopicRefusal, Fenced, ObjectOutcome, PutGroup, RegisterBroker,
    RegisterRefusal,
};
use ottla_model::{BrokerAuthor, GroupId, PartitionId, ProducerId, TopicId};
use tokio::sync::mpsc;

/// The answer of a call that is on its way; the request was already handed over.
pub type Answering<T> = BoxFuture<'static, Result<T, CallError>>;

/// The control plane as a broker sees it. See the crate's essay for what its errors mean.
#[async_trait]
pub trait ControlPlane: Send + Sync + 'static {
    /// Starts a run of a broker and fences older runs of its id. Answered only when this node's
    /// view can be current: the returned index is one the caller's watch must reach before it
    /// serves clients.
    async fn register_broker(
        &self,
        request: RegisterBroker,
    ) -> Result<Registration, OpError<RegisterRefusal>>;

    /// Says that the broker lives. `Err(Refused(Fenced))`: its epoch is over.
    async fn renew_session(&self, author: BrokerAuthor) -> Result<(), OpError<Fenced>>;

    /// Takes the broker out of the metadata that clients see; it goes on committing.
    async fn drain_broker(&self, author: BrokerAuthor) -> Result<(), CallError>;

    /// Ends the broker's run at once.
    async fn leave(&self, author: BrokerAuthor) -> Result<(), CallError>;

    /// Commits objects; one outcome per object, in order. Handed over before this returns.
    fn commit_objects(&self, request: CommitObjects) -> Answering<Vec<ObjectOutcome>>;

    /// Gives an object up; the outcome says whether that was in time. Handed over before this
    /// returns.
    fn abandon_object(&self, request: AbandonObject) -> Answering<ObjectOutcome>;

    /// Creates a topic. The id makes a repeated call the same call.
    async fn create_topic(
        &self,
        request: CreateTopicRequest,
    ) -> Result<TopicId, OpError<CreateTopicRefusal>>;

    /// Deletes a topic; `false` when it did not exist.
    async fn delete_topic(&self, topic: TopicId) -> Result<bool, CallError>;

    /// Grows a topic.
    async fn create_partitions(
        &self,
        request: CreatePartitions,
    ) -> Result<(), OpError<CreatePartitionsRefusal>>;

    /// Takes a block of `count` producer ids and returns the first.
    async fn allocate_producer_ids(
        &self,
        request: AllocateProducerIds,
    ) -> Result<ProducerId, OpError<Fenced>>;

    /// Moves a group's offsets; returns the partitions that do not exist.
    async fn commit_offsets(
        &self,
        request: CommitOffsets,
    ) -> Result<Vec<PartitionId>, OpError<Fenced>>;

    /// Replaces a group's durable metadata.
    async fn put_group(&self, request: PutGroup) -> Result<(), OpError<Fenced>>;

    /// A group's metadata and all its committed offsets, current; `None` when it has neither.
    async fn group(&self, group: &GroupId) -> Result<Option<GroupState>, CallError>;

    /// The ids of the first `max` groups that have members, in order, behind `after`; current.
    async fn groups_with_members(
        &self,
        after: Option<GroupId>,
        max: usize,
    ) -> Result<Vec<GroupId>, CallError>;

    /// Extents from an offset on, current.
    async fn find_extents(&self, request: FindExtents) -> Result<ExtentPage, CallError>;

    /// The first extent that can hold a record at or after a time (or the one that holds the
    /// largest timestamp), current.
    async fn find_timestamp(
        &self,
        partition: PartitionId,
        query: TimestampQuery,
    ) -> Result<ExtentPage, CallError>;

    /// A partition's offsets, current; `None` when it does not exist.
    async fn partition_bounds(
        &self,
        partition: PartitionId,
    ) -> Result<Option<PartitionBounds>, CallError>;

    /// Follows the state: first one [`view::WatchEvent::Reset`], then every change once and in
    /// order. A reader that falls more than the channel's bound behind gets another `Reset`
    /// instead of what it missed. The channel closes when the control plane stops.
    fn watch(&self) -> mpsc::Receiver<view::WatchEvent>;
}
