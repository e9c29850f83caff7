//! Why a request of a group member was refused.

use thiserror::Error;

/// A refusal by the group coordinator. Kafka's codes for them come from the broker's error table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum GroupError {
    /// No member has this id (or this instance id): join anew.
    #[error("unknown member")]
    UnknownMember,
    /// The member speaks of another generation than the group's.
    #[error("illegal generation")]
    IllegalGeneration,
    /// The group rebalances: join again.
    #[error("a rebalance is in progress")]
    RebalanceInProgress,
    /// No protocol that all members support, or another protocol type than the group's.
    #[error("inconsistent group protocol")]
    InconsistentProtocol,
    /// Another member took over the instance id (KIP-345).
    #[error("the instance id was taken over by another member")]
    FencedInstance,
    /// Join again with the id that comes with this refusal (KIP-394).
    #[error("a member id is required")]
    MemberIdRequired,
    /// The group has as many members as are allowed.
    #[error("the group is full")]
    GroupFull,
    /// The session timeout is outside the configured bounds.
    #[error("the session timeout is out of bounds")]
    InvalidSessionTimeout,
    /// The group id is too long, or empty where a real group is needed.
    #[error("the group id is empty or too long")]
    InvalidGroupId,
    /// The request breaks a rule that has no error of its own.
    #[error("invalid request")]
    InvalidRequest,
    /// No such group; only told to clients that know the code.
    #[error("no such group")]
    GroupNotFound,
    /// Another broker coordinates this group, or this one no longer may: find the coordinator.
    #[error("not the coordinator of this group")]
    NotCoordinator,
    /// The group's state could not be stored in time (it may or may not be), or there is no memory
    /// for it.
    #[error("the coordinator is not available")]
    NotAvailable,
    /// The group's state could not be read in time.
    #[error("the group is being loaded")]
    Loading,
    /// The group's metadata is larger than one command may be.
    #[error("the group's metadata is too large")]
    MetadataTooLarge,
    /// The commit is larger than one command may be.
    #[error("the offset commit is too large")]
    CommitTooLarge,
    /// A defect on this side.
    #[error("internal error")]
    Internal,
}
