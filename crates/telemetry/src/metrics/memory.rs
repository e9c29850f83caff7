//! Who holds how many bytes.

use super::define::group;
use super::handle::GaugeVec;

group! {
    /// Bytes held, by owner.
    pub struct MemoryMetrics {
        /// Bytes held, by owner. What no owner claims is the rest of the resident memory.
        bytes: GaugeVec<1> = "ottla_memory_bytes", labels ["owner"];
        /// The bound of an owner's bytes.
        bytes_max: GaugeVec<1> = "ottla_memory_max_bytes", labels ["owner"];
    }
}
