//! The one table from our own error kinds to Kafka's error codes. Handlers take codes from here
//! and from nowhere else.
//!
//! The client's reaction decides between neighbouring codes: a retriable code is
//! only given where repeating the request can help and cannot do harm; a code that says "may or may
//! not have happened" only where it is so.

use kafka_protocol::ResponseError as Kafka;
use ottla_control_api::{CallError, CallErrorKind};
use ottla_format::command::{BatchRefusal, CreatePartitionsRefusal, CreateTopicRefusal};
use ottla_model::{LEADER_EPOCH, NameError};
use ottla_wire::batch_error::{BatchError, BatchErrorKind};

use ottla_storage::read::ReadError;
use ottla_storage::write::AppendOutcome;

use crate::group::GroupError;
use crate::producer_ids::ProducerIdError;

/// A Kafka error as handlers pass it around: the code, and text where the answer has room for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// Kafka's error.
    pub kafka: Kafka,
    /// What to tell a person; empty when the code says it all.
    pub message: String,
}

impl ApiError {
    /// An error with a text.
    pub fn new(kafka: Kafka, message: impl Into<String>) -> Self {
        Self { kafka, message: message.into() }
    }

    /// The number on the wire.
    pub fn code(&self) -> i16 {
        self.kafka.code()
    }
}

impl From<Kafka> for ApiError {
    fn from(kafka: Kafka) -> Self {
        Self { kafka, message: String::new() }
    }
}

/// A code as metrics show it: Kafka's name for it, of which there are a hundred.
pub fn label(code: i16) -> String {
    match Kafka::try_from_code(code) {
        Some(Kafka::Unknown(_)) => "Unknown".to_owned(),
        Some(error) => format!("{error:?}"),
        None => "None".to_owned(),
    }
}

/// How a request named a topic: answers about a topic that does not exist depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// Its name.
    Name,
    /// Its id.
    Id,
}

/// A topic, or a partition of it, that does not exist (any more).
pub fn unknown_topic(named_by: NamedBy) -> Kafka {
    match named_by {
        NamedBy::Name => Kafka::UnknownTopicOrPartition,
        NamedBy::Id => Kafka::UnknownTopicId,
    }
}

/// A call to the control plane without an answer. Both retriable kinds are the same to a client:
/// its request is idempotent by name or content, and the control plane repeats nothing by itself.
pub fn call(error: &CallError) -> Kafka {
    match error.kind() {
        CallErrorKind::Retry | CallErrorKind::RetryUnknown => Kafka::RequestTimedOut,
        CallErrorKind::ShuttingDown => Kafka::NotController,
        CallErrorKind::Unsupported => Kafka::UnsupportedVersion,
        CallErrorKind::Internal => Kafka::UnknownServerError,
    }
}

/// A read from the control plane without an answer, in APIs whose clients refresh their metadata
/// and try again.
pub fn read_call(error: &CallError) -> Kafka {
    match error.kind() {
        CallErrorKind::Retry | CallErrorKind::RetryUnknown | CallErrorKind::ShuttingDown => {
            Kafka::NotLeaderOrFollower
        }
        CallErrorKind::Unsupported => Kafka::UnsupportedVersion,
        CallErrorKind::Internal => Kafka::UnknownServerError,
    }
}

/// A batch that was not taken.
pub fn batch(error: &BatchError) -> Kafka {
    match error.kind() {
        BatchErrorKind::Corrupt => Kafka::CorruptMessage,
        BatchErrorKind::Invalid => Kafka::InvalidRecord,
        BatchErrorKind::InvalidTimestamp => Kafka::InvalidTimestamp,
        BatchErrorKind::UnsupportedCompression => Kafka::UnsupportedCompressionType,
    }
}

/// A batch that the state machine refused.
pub fn batch_refusal(refusal: BatchRefusal, named_by: NamedBy) -> Kafka {
    match refusal {
        BatchRefusal::UnknownPartition => unknown_topic(named_by),
        BatchRefusal::OutOfOrderSequence => Kafka::OutOfOrderSequenceNumber,
        BatchRefusal::StaleProducerEpoch => Kafka::InvalidProducerEpoch,
    }
}

/// A topic name that is none.
pub fn name(error: &NameError) -> ApiError {
    ApiError::new(Kafka::InvalidTopicException, error.to_string())
}

/// A topic that was not created.
pub fn create_topic(refusal: &CreateTopicRefusal) -> ApiError {
    match refusal {
        CreateTopicRefusal::Exists(_) => {
            ApiError::new(Kafka::TopicAlreadyExists, "a topic with this name already exists")
        }
        CreateTopicRefusal::Collides(other) => ApiError::new(
            Kafka::InvalidTopicException,
            format!("the name collides with {other}: they differ only by '.' and '_'"),
        ),
        CreateTopicRefusal::TooManyPartitions => ApiError::new(
            Kafka::PolicyViolation,
            "the cluster has as many partitions as it may have",
        ),
    }
}

/// A topic that was not grown.
pub fn create_partitions(refusal: CreatePartitionsRefusal) -> ApiError {
    match refusal {
        CreatePartitionsRefusal::UnknownTopic => Kafka::UnknownTopicOrPartition.into(),
        CreatePartitionsRefusal::Fewer { current } => ApiError::new(
            Kafka::InvalidPartitions,
            format!("the topic has {current} partitions already; they cannot become fewer"),
        ),
        CreatePartitionsRefusal::TooManyPartitions => ApiError::new(
            Kafka::InvalidPartitions,
            "the cluster has as many partitions as it may have",
        ),
    }
}

/// A refusal by the group coordinator.
pub fn group(error: GroupError) -> Kafka {
    match error {
        GroupError::UnknownMember => Kafka::UnknownMemberId,
        GroupError::IllegalGeneration => Kafka::IllegalGeneration,
        GroupError::RebalanceInProgress => Kafka::RebalanceInProgress,
        GroupError::InconsistentProtocol => Kafka::InconsistentGroupProtocol,
        GroupError::FencedInstance => Kafka::FencedInstanceId,
        GroupError::MemberIdRequired => Kafka::MemberIdRequired,
        GroupError::GroupFull => Kafka::GroupMaxSizeReached,
        GroupError::InvalidSessionTimeout => Kafka::InvalidSessionTimeout,
        GroupError::InvalidGroupId => Kafka::InvalidGroupId,
        GroupError::InvalidRequest => Kafka::InvalidRequest,
        GroupError::GroupNotFound => Kafka::GroupIdNotFound,
        GroupError::NotCoordinator => Kafka::NotCoordinator,
        GroupError::NotAvailable => Kafka::CoordinatorNotAvailable,
        GroupError::Loading => Kafka::CoordinatorLoadInProgress,
        // Kafka's answer when a group does not fit one record.
        GroupError::MetadataTooLarge => Kafka::UnknownServerError,
        GroupError::CommitTooLarge => Kafka::InvalidCommitOffsetSize,
        GroupError::Internal => Kafka::UnknownServerError,
    }
}

/// What became of a batch that is not stored, or not known to be.
pub fn append(outcome: AppendOutcome, named_by: NamedBy) -> ApiError {
    match outcome {
        AppendOutcome::Refused(refusal) => batch_refusal(refusal, named_by).into(),
        // Certainly not stored, and worth another try.
        AppendOutcome::NotStored => {
            ApiError::new(Kafka::NotEnoughReplicas, "the object store did not take the batch")
        }
        // Kafka's code for "may or may not be stored".
        AppendOutcome::Undecided => Kafka::RequestTimedOut.into(),
        // Certainly not stored; another broker takes it.
        AppendOutcome::Fenced => Kafka::NotLeaderOrFollower.into(),
        // Not an error; whoever asks about it here has lost its offset.
        AppendOutcome::Stored { .. } => Kafka::UnknownServerError.into(),
    }
}

/// No producer id could be had. Clients look for the coordinator again and repeat the request.
pub fn producer_id(error: &ProducerIdError) -> Kafka {
    match error {
        ProducerIdError::Fenced => Kafka::CoordinatorNotAvailable,
        ProducerIdError::Call(error) => match error.kind() {
            CallErrorKind::Unsupported => Kafka::UnsupportedVersion,
            CallErrorKind::Internal => Kafka::UnknownServerError,
            _ => Kafka::CoordinatorNotAvailable,
        },
    }
}

/// Checks the leader epoch that a client believes in (KIP-320); −1 is none.
pub fn leader_epoch(claimed: i32) -> Result<(), Kafka> {
    match claimed {
        -1 => Ok(()),
        older if older < LEADER_EPOCH.0 => Err(Kafka::FencedLeaderEpoch),
        newer if newer > LEADER_EPOCH.0 => Err(Kafka::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

/// Records that could not be read.
pub fn read(error: &ReadError, named_by: NamedBy) -> Kafka {
    match error {
        ReadError::OffsetOutOfRange => Kafka::OffsetOutOfRange,
        ReadError::UnknownPartition => unknown_topic(named_by),
        // Clients refresh their metadata and try again, as with a broken disk of a Kafka broker.
        ReadError::Storage(_) => Kafka::KafkaStorageError,
        ReadError::Corrupt(_) => Kafka::CorruptMessage,
        ReadError::Unavailable(error) => read_call(error),
    }
}
