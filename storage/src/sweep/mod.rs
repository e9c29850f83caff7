//! The sweep: deleting objects that nobody needs any more.
//!
//! # What goes
//!
//! | Which | Who decides | When |
//! | --- | --- | --- |
//! | condemned objects: committed, and the last reference is gone | a command, long ago | after a delay longer than any cached reference lives |
//! | orphans: attempts that were not used, objects that were abandoned or whose run is over | replicated state, by the object's name | when the store says that they are old enough |
//!
//! The control plane decides ([`SweepControl`]); what runs here asks, deletes and reports. Nothing
//! is decided on a listing alone (I-LIVE): a listing only brings up names to ask about, and one
//! that is stale or incomplete brings up too few, or some that are gone already.
//!
//! # Order
//!
//! Delete, then forget. A crash between the two leaves an object that is condemned and gone; it is
//! deleted once more, which is a success, and forgotten then. Deletes have a result for each key:
//! what was deleted is forgotten although others failed, and those are tried again by the next
//! pass, behind the rest.
//!
//! # Late attempts
//!
//! An upload that everybody gave up can still arrive, after its sequence was decided and after a
//! listing that did not show it. So a pass that deleted something is followed by another listing,
//! and listings go on until one, begun so long after the last decision that everything late has
//! come and grown old, finds nothing. Then they stop: an idle cluster makes no requests.
//!
//! # Height
//!
//! Each step also leaves the applied index in the bucket when it has moved by more than ticks
//! ([`leave_height`](ottla_object_io::leave_height)): the height protects the bucket from a state
//! that is older than what it holds. A step that cannot leave it deletes no orphans.
//!
//! # Bounds
//!
//! A pass deletes at most a share of the objects there are. For condemned ones that is a pace: the
//! rest follows with the next pass. Orphans are few by nature; more of them than the share mean
//! that bucket and control plane do not belong together, so none of them is deleted, and an error
//! says so until somebody looks.
//!
//! # Stop and crash
//!
//! Every step may be repeated, so a pass may end anywhere. [`Sweep::stop`] ends it where it waits.
//!
//! # Not here
//!
//! Unfinished files of the `file:` store are removed when it is opened: no listing shows them.

mod error;
mod pass;
mod plan;
mod task;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use ottla_control_api::SweepControl;
use ottla_env::Clock;
use ottla_model::ClusterId;
use ottla_object_io::Store;
use ottla_telemetry::Metrics;

use crate::limits::{ORPHAN_AGE_DEFAULT, SWEEP_INTERVAL_DEFAULT, SWEEP_SHARE_PERCENT_DEFAULT};

pub use error::SweepError;
pub use pass::{CondemnedPass, OrphanPass, Sweeper};
pub use task::Sweep;

/// How objects are swept.
#[derive(Clone, Copy, Debug)]
pub struct SweepOptions {
    /// How often condemned objects are asked for.
    pub interval: Duration,
    /// An object that no commit refers to is left alone until the store says that it is this old.
    /// Not needed for correctness: it keeps the sweep away from what is being written.
    pub orphan_age: Duration,
    /// The part of all objects that one pass may delete, in percent.
    pub share_percent: u32,
}

impl Default for SweepOptions {
    fn default() -> Self {
        Self {
            interval: SWEEP_INTERVAL_DEFAULT,
            orphan_age: ORPHAN_AGE_DEFAULT,
            share_percent: SWEEP_SHARE_PERCENT_DEFAULT,
        }
    }
}

/// The parts of a sweep.
#[derive(Clone)]
pub struct SweepParts {
    /// The cluster whose objects they are.
    pub cluster: ClusterId,
    /// Where they are.
    pub store: Arc<dyn Store>,
    /// Who decides.
    pub control: Arc<dyn SweepControl>,
    /// Tells how old an object is.
    pub clock: Clock,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
}

impl std::fmt::Debug for SweepParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the sweep of cluster {} in {:?}", self.cluster, self.store)
    }
}
