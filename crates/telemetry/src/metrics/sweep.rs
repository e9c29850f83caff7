//! Objects that are deleted from the bucket.

use super::define::group;
use super::handle::{Counter, CounterVec, Gauge};

group! {
    /// The sweep: objects that nobody needs any more.
    pub struct SweepMetrics {
        /// Objects deleted, by reason: condemned (their last reference is gone), orphan (never
        /// committed).
        objects: CounterVec<1> = "ottla_sweep_objects_total", labels ["reason"];
        /// Deletes that the store did not carry out; each is tried again by a later pass.
        failures: Counter = "ottla_sweep_failures_total";
        /// Objects whose last reference is gone and that are still there.
        condemned: Gauge = "ottla_sweep_condemned_objects";
        /// Orphans that the last listing found and that are still there.
        orphans: Gauge = "ottla_sweep_orphan_objects";
        /// Objects that the last listing found and that this control plane knows nothing of. They
        /// are left alone.
        foreign: Gauge = "ottla_sweep_foreign_objects";
        /// Passes that deleted nothing because orphans are too large a part of the bucket.
        refused: Counter = "ottla_sweep_refused_total";
    }
}
