//! Errors of calls, each with the answer to "what now?".

use thiserror::Error;

/// What the caller must do about a [`CallError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallErrorKind {
    /// Nothing happened; the same call may succeed later.
    Retry,
    /// It may or may not have happened; find out by repeating the (idempotent) call.
    RetryUnknown,
    /// The control plane is going away for good (this process stops).
    ShuttingDown,
    /// The cluster's feature level does not allow it: no use to retry until it is raised.
    Unsupported,
    /// A defect: not the caller's fault and no use to retry.
    Internal,
}

/// Why a call got no answer from the state machine.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CallError {
    /// No leader, or its queue is full. The call had no effect.
    #[error("the control plane is not available: {0}")]
    Unavailable(String),
    /// No answer in time, or it was lost. The call may have taken effect.
    #[error("the control plane gave no answer: {0}")]
    OutcomeUnknown(String),
    /// The control plane stops.
    #[error("the control plane is shutting down")]
    ShuttingDown,
    /// The call needs a higher feature level than the cluster has: some of its nodes may run a version
    /// that does not know it.
    #[error(
        "this needs feature level {needed}, and the cluster has {level}: raise it when all nodes run a \
         version that knows it"
    )]
    FeatureLevel {
        /// The level that the call needs.
        needed: u16,
        /// The level of the cluster.
        level: u16,
    },
    /// An answer that makes no sense.
    #[error("the control plane answered nonsense: {0}")]
    Internal(String),
}

impl CallError {
    /// What to do.
    pub fn kind(&self) -> CallErrorKind {
        match self {
            Self::Unavailable(_) => CallErrorKind::Retry,
            Self::OutcomeUnknown(_) => CallErrorKind::RetryUnknown,
            Self::ShuttingDown => CallErrorKind::ShuttingDown,
            Self::FeatureLevel { .. } => CallErrorKind::Unsupported,
            Self::Internal(_) => CallErrorKind::Internal,
        }
    }
}

/// An operation that the state machine itself may refuse, with the operation's own reasons.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpError<R: std::fmt::Debug> {
    /// The state machine refused; nothing was changed.
    #[error("refused: {0:?}")]
    Refused(R),
    /// No answer from the state machine.
    #[error(transparent)]
    Call(#[from] CallError),
}
