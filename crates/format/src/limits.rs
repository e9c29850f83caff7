//! How long the texts may be that the replicated state keeps.
//!
//! Clients choose most of them, every controller holds them in memory, and each is in every snapshot.
//! Brokers refuse longer ones with Kafka's errors. These limits are the state machine's own: they
//! decide what `apply` does, and follow the rule of `control-plane/src/state/semantics.rs`, which lists
//! them. None changes without a feature level.

/// The longest id of a group: as long as a topic's name.
pub const GROUP_ID_BYTES_MAX: usize = 249;

/// The longest of the other texts of a group and of its members. The longest that is needed is a
/// member id: an instance id, which may be as long as a group id, and a UUID.
pub const GROUP_TEXT_BYTES_MAX: usize = 512;

/// The longest text beside a committed offset: Kafka's default of `offset.metadata.max.bytes`, 4,096
/// UTF-16 units, of which each takes at most three bytes of UTF-8.
pub const OFFSET_METADATA_BYTES_MAX: usize = 3 * 4_096;

/// The longest value of a topic config. Kafka keeps 32,767 bytes; the longest value that means
/// something is a list of some words.
pub const CONFIG_VALUE_BYTES_MAX: usize = 4_096;

/// All configs of one topic, names and values. All that Kafka knows, each set, take a quarter.
pub const CONFIGS_BYTES_MAX: usize = 8_192;

/// The longest host that a broker tells clients or other nodes: the longest domain name has 253 bytes.
pub const HOST_BYTES_MAX: usize = 255;

/// All endpoints of a broker: names of listeners, hosts and ports. More than a dozen of the longest.
pub const ENDPOINTS_BYTES_MAX: usize = 4_096;

/// The longest version of the software of a broker: a release has about ten bytes.
pub const SOFTWARE_BYTES_MAX: usize = 64;

/// The longest availability zone: the longest label of a Kubernetes node has 63 bytes.
pub const AZ_BYTES_MAX: usize = 255;
