//! Ways to break the protocol. Each is a mistake that somebody could make, or has made.

/// A defect, put in for a test. None of this is in the product: a defect lives in the parts that
/// this crate plays, or changes what goes into and comes out of the real ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Defect {
    /// Producers are told "stored" when the upload is verified.
    AckBeforeCommit,
    /// The commit is handed over when the upload begins.
    CommitBeforeUpload,
    /// An upload that stored half of the object counts as verified.
    TruncatedUploadAccepted,
    /// An upload that was given up is forgotten here, without a word to the control plane.
    AbandonNotReplicated,
    /// A commit without an answer counts as abandoned.
    UnknownCommitAbandoned,
    /// The broker takes note of a producer's sequence before the batch is stored, and takes the
    /// retry for a duplicate.
    SequenceBeforeWrite,
    /// An object is deleted when the commit of it has no answer.
    DeletedOnUnknown,
    /// All attempts of an object write the same key.
    SharedKey,
    /// An abandoned object leaves the batches that follow in later objects where they are.
    SuccessorsStay,
    /// What failed in one broker epoch is forgotten in the next one of the same process.
    FailuresForgotten,
    /// The state machine decides objects in the order in which they come.
    CommitsOutOfOrder,
    /// The state machine forgets outcomes before the writer's frontier passes them.
    OutcomesForgotten,
    /// The state machine decides a repeated commit once more.
    CommitAppliedTwice,
    /// Batches go to the topic that has the name now, not to the one they were sent to.
    TopicByName,
    /// The state machine does not ask whether the author's run is over.
    FenceUnchecked,
    /// A duplicate is answered with the default offset.
    DuplicateWithoutOffset,
    /// The sweep deletes whatever a listing shows that is not committed.
    SweepOnListingAlone,
    /// The sweep judges attempts by their object's sequence.
    SweepBySequence,
    /// The sweep does not wait until cached references have died.
    SweepWithoutDelay,
}

impl Defect {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::AckBeforeCommit,
        Self::CommitBeforeUpload,
        Self::TruncatedUploadAccepted,
        Self::AbandonNotReplicated,
        Self::UnknownCommitAbandoned,
        Self::SequenceBeforeWrite,
        Self::DeletedOnUnknown,
        Self::SharedKey,
        Self::SuccessorsStay,
        Self::FailuresForgotten,
        Self::CommitsOutOfOrder,
        Self::OutcomesForgotten,
        Self::CommitAppliedTwice,
        Self::TopicByName,
        Self::FenceUnchecked,
        Self::DuplicateWithoutOffset,
        Self::SweepOnListingAlone,
        Self::SweepBySequence,
        Self::SweepWithoutDelay,
    ];

    /// Whether it changes the state machine, whose own invariants then say nothing.
    pub(crate) fn is_in_the_state_machine(self) -> bool {
        matches!(
            self,
            Self::CommitsOutOfOrder
                | Self::OutcomesForgotten
                | Self::CommitAppliedTwice
                | Self::FenceUnchecked
        )
    }
}
