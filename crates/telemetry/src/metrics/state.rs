//! How large the replicated state is.

use super::define::group;
use super::handle::GaugeVec;

group! {
    /// How large the replicated state is.
    pub struct StateMetrics {
        /// Entries of the replicated state, by kind: topic, partition, extent, object (condemned
        /// ones included), producer (once per partition it wrote to), group, group_offset. About
        /// how much memory they take is `ottla_memory_bytes` of the owner state.
        entries: GaugeVec<1> = "ottla_state_entries", labels ["kind"];
    }
}
