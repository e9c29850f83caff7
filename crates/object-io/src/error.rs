//! Why a store did not do what it was asked.

use thiserror::Error;

/// What the caller must do about a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoreErrorKind {
    /// The object does not exist (now).
    NotFound,
    /// Nothing happened; the same request may succeed later.
    Retry,
    /// It may or may not have happened, and may still happen. A write goes to a fresh key.
    RetryUnknown,
    /// The store gave or holds other bytes than it should.
    Corrupt,
    /// The store refuses these credentials. A person must act, but credentials can be renewed
    /// while the process runs: go on retrying, slowly.
    Denied,
    /// The request makes no sense to the store and never will.
    Invalid,
    /// A defect.
    Internal,
}

impl StoreErrorKind {
    /// The kind as metrics show it.
    pub fn label(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Retry => "retry",
            Self::RetryUnknown => "unknown",
            Self::Corrupt => "corrupt",
            Self::Denied => "denied",
            Self::Invalid => "invalid",
            Self::Internal => "internal",
        }
    }
}

/// Why a request to an object store failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("object {key} does not exist")]
    NotFound {
        /// The object.
        key: String,
    },
    /// The store did not do it.
    #[error("the object store did not serve {key}: {reason}")]
    Unavailable {
        /// The object or prefix.
        key: String,
        /// What the store, or the connection to it, said.
        reason: String,
    },
    /// The store may have done it.
    #[error("the object store gave no clear answer for {key}: {reason}")]
    OutcomeUnknown {
        /// The object or prefix.
        key: String,
        /// What the store, or the connection to it, said.
        reason: String,
    },
    /// Length or checksum is not what it should be.
    #[error("object {key} is damaged: {reason}")]
    Corrupt {
        /// The object.
        key: String,
        /// What was found.
        reason: String,
    },
    /// Not with these credentials.
    #[error(
        "the object store denies access to {key} (check the credentials and what they may do): \
         {reason}"
    )]
    Denied {
        /// The object or prefix.
        key: String,
        /// What the store said.
        reason: String,
    },
    /// The store will never do it.
    #[error("the object store refuses the request for {key}: {reason}")]
    Invalid {
        /// The object or prefix.
        key: String,
        /// What the store said.
        reason: String,
    },
    /// A defect in this process.
    #[error("reading or writing {key} failed inside the process: {reason}")]
    Internal {
        /// The object or prefix.
        key: String,
        /// What went wrong.
        reason: String,
    },
}

impl StoreError {
    /// What to do about it.
    pub fn kind(&self) -> StoreErrorKind {
        match self {
            Self::NotFound { .. } => StoreErrorKind::NotFound,
            Self::Unavailable { .. } => StoreErrorKind::Retry,
            Self::OutcomeUnknown { .. } => StoreErrorKind::RetryUnknown,
            Self::Corrupt { .. } => StoreErrorKind::Corrupt,
            Self::Denied { .. } => StoreErrorKind::Denied,
            Self::Invalid { .. } => StoreErrorKind::Invalid,
            Self::Internal { .. } => StoreErrorKind::Internal,
        }
    }
}
