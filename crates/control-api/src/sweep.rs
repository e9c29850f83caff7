//! The questions of the compactor's sweep: which objects of the bucket can go, and that they went.
//!
//! The control plane decides, from replicated state alone; the sweep carries out. Both answers that
//! lead to a deletion are *final*: a condemned object is never referenced again, and an orphan can
//! never be committed. An answer that comes late, or comes from an older state, therefore names
//! too few objects, never too many.

use std::time::Duration;

use async_trait::async_trait;
use ottla_model::{AppliedIndex, ObjectId, ObjectName};

use crate::CallError;

/// How long a broker may go on reading from an object after the control plane dropped the last
/// reference to it: a watch that is behind, a fetch that has located its extents and waits for the
/// store. Brokers hold their bounds against it; a condemned object outlives it at least twice.
pub const REFERENCE_LIFE_MAX: Duration = Duration::from_secs(300);

/// A condemned object that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CondemnedObject {
    /// Its id, to be forgotten when it is deleted.
    pub id: ObjectId,
    /// The name to delete.
    pub name: ObjectName,
    /// Its length in bytes.
    pub size: u64,
}

/// Condemned objects, and what a sweep must know besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condemned {
    /// Objects whose delay is over, oldest first.
    pub due: Vec<CondemnedObject>,
    /// How many are condemned, due or not.
    pub condemned: u64,
    /// How many objects the control plane knows, condemned or not.
    pub objects: u64,
    /// How far the state is that says so, ticks at its end left out: while nothing else is written
    /// it stays, and an idle cluster leaves no heights.
    pub applied: AppliedIndex,
    /// See [`SweepMark`].
    pub mark: SweepMark,
}

/// Changes whenever an object that is in the bucket can have become an orphan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepMark {
    /// The next broker epoch.
    pub epochs: u64,
    /// How many broker runs are over.
    pub fenced: u64,
    /// How many objects of the newest runs are decided.
    pub decided: u64,
}

/// What the control plane says of an object that a listing shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectStanding {
    /// It is committed: live, or condemned and deleted by that way.
    Committed,
    /// Its writer lives and its sequence is not decided.
    Undecided,
    /// It was not committed and never can be: an attempt that was not used, an abandoned object,
    /// one of a run that is over.
    Orphan,
    /// This state does not know its writer: it is of a lost future of a control plane that was
    /// restored, of a run so long ago that it is forgotten, or of a merge job that this state never
    /// gave out. Nobody may delete it on this word.
    Foreign,
}

/// The control plane as the sweep sees it. Errors mean what they mean to brokers.
#[async_trait]
pub trait SweepControl: Send + Sync + 'static {
    /// At most `max` condemned objects that are due, current.
    async fn condemned(&self, max: usize) -> Result<Condemned, CallError>;

    /// How each object stands, in the order of the names, current.
    async fn standings(&self, names: Vec<ObjectName>) -> Result<Vec<ObjectStanding>, CallError>;

    /// Says that condemned objects are deleted from the bucket. Others are left as they are, so
    /// the call may be repeated.
    async fn forget_objects(&self, objects: Vec<ObjectId>) -> Result<(), CallError>;
}
