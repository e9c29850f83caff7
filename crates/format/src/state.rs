//! The records of the replicated state: what a snapshot and the checkpoint are made of.
//!
//! ```text
//! key                                                     value
//! 01                                                      counters
//! 02 topic u128                                           topic
//! 03 topic u128 · partition u32                           partition
//! 04 topic u128 · partition u32 · chunk u64               list of extent (at most 256)
//! 05 topic u128 · partition u32 · producer u64            producer
//! 06 chunk u64                                            list of (slot u8 · object) (at most 256)
//! 07 broker u32                                           broker
//! 08 broker u32 · sequence u64                            outcome
//! 09 group u64                                            group
//! 0a group u64 · topic u128 · partition u32               committed offset
//! 0b                                                      list of (topic u128): deleted ones
//! ```
//!
//! Before every value stands the version of its encoding: see [`StoredValue`].
//!
//! A group stands under the number that the state gave it. Its id, which a client chose, is in its
//! own record and nowhere else: a long one is paid for once, and not once per offset.
//!
//! Numbers in keys are big-endian, so that a key's kind and owner are a prefix of it and one range
//! holds all of a topic's, a partition's or a group's records. Values use the variable-length
//! primitives of [`crate::codec`]; each entry's module draws its own. The files that hold records
//! carry magic, version and checksums; a record by itself has none. A record of an unknown kind is
//! an error, never skipped: it was written by a newer version, and a state without it would be
//! another state.
//!
//! Extents and objects are stored 256 to a record, the same chunks that the state keeps in memory
//! (see `ottla-control-plane`), so that a checkpoint rewrites one chunk per touched partition and
//! not one record per extent. The state digest is taken over single entries, in the
//! same encoding, each with its own version.

mod broker;
mod broker_profile;
mod counters;
mod extent;
mod group;
mod key;
mod object;
mod partition;
mod producer;
mod record;
mod topic;
mod version;

pub use broker::{BrokerEntry, BrokerStatus, put_outcome};
pub(crate) use broker_profile::{put_profile, read_profile};
pub use counters::Counters;
pub use extent::{EXTENT_INLINE_BYTES_MAX, ExtentEntry, ExtentLocation};
pub(crate) use group::read_group_metadata;
pub use group::{GroupEntry, put_committed_offset, put_group_metadata};
pub(crate) use group::{put_group_kind, read_group_kind};
pub use key::{StateKey, StateKeyKind};
pub use object::{ObjectEntry, ObjectStatus};
pub use partition::PartitionEntry;
pub use producer::{ProducerEntry, RECENT_BATCHES, RecentBatch};
pub use record::{StateRecord, put_deleted_topics, put_extent_chunk, put_object_chunk};
pub use topic::TopicEntry;
pub use version::{StoredValue, check_lowest, chunk_version, put_chunk, put_value};

/// How many extents or object slots one chunk holds, in memory and in a record.
pub const CHUNK_LENGTH: usize = 256;

#[cfg(test)]
mod tests;
