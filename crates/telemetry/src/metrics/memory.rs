//! Who holds how many bytes.

use super::define::group;
use super::handle::GaugeVec;

group! {
    /// Bytes held, by owner.
    pub struct MemoryMetrics {
        /// Bytes held, by owner: produce (records received and not yet durable), cache (object
        /// data). The resident memory beyond their sum is everything else.
        bytes: GaugeVec<1> = "ottla_memory_bytes", labels ["owner"];
        /// The bound of an owner's bytes.
        bytes_max: GaugeVec<1> = "ottla_memory_max_bytes", labels ["owner"];
    }
}
