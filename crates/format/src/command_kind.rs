//! The kinds of commands, by the number that stands in the log.

use crate::command::CommandBody;

/// The kind of a command. A number is never given to another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum CommandKind {
    /// [`CommandBody::RegisterBroker`].
    RegisterBroker = 1,
    /// [`CommandBody::FenceBroker`].
    FenceBroker = 2,
    /// [`CommandBody::DrainBroker`].
    DrainBroker = 3,
    /// [`CommandBody::CommitObjects`].
    CommitObjects = 4,
    /// [`CommandBody::AbandonObject`].
    AbandonObject = 5,
    /// [`CommandBody::CreateTopic`].
    CreateTopic = 6,
    /// [`CommandBody::DeleteTopic`].
    DeleteTopic = 7,
    /// [`CommandBody::CreatePartitions`].
    CreatePartitions = 8,
    /// [`CommandBody::AllocateProducerIds`].
    AllocateProducerIds = 9,
    /// [`CommandBody::CommitOffsets`].
    CommitOffsets = 10,
    /// [`CommandBody::PutGroup`].
    PutGroup = 11,
    /// [`CommandBody::Tick`].
    Tick = 12,
    /// [`CommandBody::ForgetObjects`].
    ForgetObjects = 13,
    /// [`CommandBody::AcceptLoss`].
    AcceptLoss = 14,
    /// [`CommandBody::ExpireGroups`].
    ExpireGroups = 15,
    /// [`CommandBody::ExpireProducers`].
    ExpireProducers = 16,
    /// [`CommandBody::StepTime`].
    StepTime = 17,
    /// [`CommandBody::RaiseFeatureLevel`].
    RaiseFeatureLevel = 18,
}

impl CommandKind {
    /// All of them, in the order of their numbers, which begin at 1.
    pub const ALL: [Self; 18] = [
        Self::RegisterBroker,
        Self::FenceBroker,
        Self::DrainBroker,
        Self::CommitObjects,
        Self::AbandonObject,
        Self::CreateTopic,
        Self::DeleteTopic,
        Self::CreatePartitions,
        Self::AllocateProducerIds,
        Self::CommitOffsets,
        Self::PutGroup,
        Self::Tick,
        Self::ForgetObjects,
        Self::AcceptLoss,
        Self::ExpireGroups,
        Self::ExpireProducers,
        Self::StepTime,
        Self::RaiseFeatureLevel,
    ];

    /// The kind with this number.
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::RegisterBroker => "register_broker",
            Self::FenceBroker => "fence_broker",
            Self::DrainBroker => "drain_broker",
            Self::CommitObjects => "commit_objects",
            Self::AbandonObject => "abandon_object",
            Self::CreateTopic => "create_topic",
            Self::DeleteTopic => "delete_topic",
            Self::CreatePartitions => "create_partitions",
            Self::AllocateProducerIds => "allocate_producer_ids",
            Self::CommitOffsets => "commit_offsets",
            Self::PutGroup => "put_group",
            Self::Tick => "tick",
            Self::ForgetObjects => "forget_objects",
            Self::AcceptLoss => "accept_loss",
            Self::ExpireGroups => "expire_groups",
            Self::ExpireProducers => "expire_producers",
            Self::StepTime => "step_time",
            Self::RaiseFeatureLevel => "raise_feature_level",
        }
    }
}

impl CommandBody {
    /// What it is about.
    pub fn kind(&self) -> CommandKind {
        match self {
            Self::RegisterBroker(_) => CommandKind::RegisterBroker,
            Self::FenceBroker(_) => CommandKind::FenceBroker,
            Self::DrainBroker(_) => CommandKind::DrainBroker,
            Self::CommitObjects(_) => CommandKind::CommitObjects,
            Self::AbandonObject(_) => CommandKind::AbandonObject,
            Self::CreateTopic(_) => CommandKind::CreateTopic,
            Self::DeleteTopic(_) => CommandKind::DeleteTopic,
            Self::CreatePartitions(_) => CommandKind::CreatePartitions,
            Self::AllocateProducerIds(_) => CommandKind::AllocateProducerIds,
            Self::CommitOffsets(_) => CommandKind::CommitOffsets,
            Self::PutGroup(_) => CommandKind::PutGroup,
            Self::Tick => CommandKind::Tick,
            Self::ForgetObjects(_) => CommandKind::ForgetObjects,
            Self::AcceptLoss => CommandKind::AcceptLoss,
            Self::ExpireGroups { .. } => CommandKind::ExpireGroups,
            Self::ExpireProducers { .. } => CommandKind::ExpireProducers,
            Self::StepTime(_) => CommandKind::StepTime,
            Self::RaiseFeatureLevel { .. } => CommandKind::RaiseFeatureLevel,
        }
    }
}
