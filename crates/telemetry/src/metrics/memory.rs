//! Who holds how many bytes.

use super::define::group;
use super::handle::GaugeVec;

group! {
    /// Bytes held, by owner.
    pub struct MemoryMetrics {
        /// Bytes held, by owner: produce (records received and not yet durable), cache (object
        /// data), read (blocks that fetches hold while they work; the cache may hold them too),
        /// look_ups (the same for look-ups by timestamp), state (the controller's), view (the
        /// broker's part of it), requests (large Fetch, JoinGroup and SyncGroup requests until they
        /// are decoded), calls (all other large requests but Produce, until they are handled),
        /// decoded_calls (the same once they are decoded, when they have very many elements),
        /// fetch_plans (what fetches keep while they wait for records), fetch_passes (what fetches of
        /// many partitions need while they look for records), answers (large ones that clients have
        /// not taken yet), groups (members of consumer groups, and the groups themselves),
        /// group_requests (requests that wait for their group, and offset commits until they are
        /// answered), connections (their read-ahead). Of state and view the sizes are computed from
        /// the number of their entries. The resident memory beyond the sum is everything else.
        bytes: GaugeVec<1> = "ottla_memory_bytes", labels ["owner"];
        /// The bound of an owner's bytes.
        bytes_max: GaugeVec<1> = "ottla_memory_max_bytes", labels ["owner"];
    }
}
