//! The numbers and names that decide what `apply` does.
//!
//! # Rule
//!
//! Every node applies the same log and must come to the same state, whichever version of Ottla it
//! runs. So a value in this file never changes for the feature levels that already exist. A new
//! value begins with a new feature level (see `docs/formats/README.md`): the constant becomes a
//! function of the level, and the level is in the state. The same holds for every other rule of
//! `apply`; the golden log fails when one was changed by accident, and the test below when a number
//! was.
//!
//! Bounds that only one node keeps for itself (queues, caches, pages of an answer, when a command
//! is proposed) are in [`crate::limits`] and may change at any time.
//!
//! # Elsewhere
//!
//! Three kinds of numbers are declared in `ottla-format`, because the check or the encoding that needs
//! them is there, and are listed here: the limits of texts, by which a command is refused as a
//! whole, how many batches of a producer are remembered, and how many bytes an extent may hold by
//! value. An extent's length and its span of offsets have 32 bits: a longer run is several extents.

pub use ottla_format::limits::{
    AZ_BYTES_MAX, CONFIG_VALUE_BYTES_MAX, CONFIGS_BYTES_MAX, ENDPOINTS_BYTES_MAX,
    GROUP_ID_BYTES_MAX, GROUP_TEXT_BYTES_MAX, HOST_BYTES_MAX, OFFSET_METADATA_BYTES_MAX,
    SOFTWARE_BYTES_MAX,
};
pub use ottla_format::state::{EXTENT_INLINE_BYTES_MAX, RECENT_BATCHES};

/// The most partitions a cluster may have, over all topics. A partition costs a controller about
/// 1 KiB when idle; the design is measured at 100,000, and twice that still fits its memory.
pub const PARTITIONS_MAX: usize = 200_000;

/// How many deleted topics are remembered, so that a repeated command to create one does not bring
/// it back. The repetition follows within a request's time-out; no cluster deletes so many topics
/// in that time.
pub const DELETED_TOPICS_KEPT_MAX: usize = 1_000;

/// The topic config that says which time records get.
pub const TIMESTAMP_TYPE_CONFIG: &str = "message.timestamp.type";

/// The value of [`TIMESTAMP_TYPE_CONFIG`] with which they get the time of their commit.
pub const LOG_APPEND_TIME: &str = "LogAppendTime";

/// How long a producer's state outlives its last batch, in milliseconds: Kafka's default of
/// `producer.id.expiration.ms`.
pub const PRODUCER_EXPIRY_MS: i64 = 86_400_000;

/// How many producer states one command forgets at most, so that no apply takes long. It looks at all
/// producers of the partitions whose turn it is: a million in one partition make it 12 ms. Two such
/// commands are proposed a second while there are more: a million that grow old at once are gone in
/// a minute.
pub const PRODUCERS_EXPIRED_MAX: usize = 10_000;

/// How many groups one command forgets at most, so that no apply takes long. Two such commands are
/// proposed a second: a million groups that grow old at once are gone in ten minutes.
pub const GROUPS_EXPIRED_MAX: usize = 1_000;

/// A command forgets no further group once so many offsets went with those before: a group may have one
/// in each of [`PARTITIONS_MAX`] partitions.
pub const GROUP_OFFSETS_EXPIRED_MAX: u64 = 10_000;

/// How many producer ids are skipped when the time after an older copy of the state is given up:
/// more than a cluster gives out in years, and so few that the ids last for two billion times.
pub const PRODUCER_IDS_SKIPPED: i64 = 1 << 32;

/// How many outcomes of decided objects are kept per broker run. A broker has a few dozen objects
/// in flight and moves its frontier with every commit; one that is a thousand behind has stopped
/// reading answers, and is told "not yet" until its frontier moves.
pub const OUTCOMES_KEPT_MAX: usize = 1_024;

/// How many replaced process starts are remembered per broker id. A process that was replaced so
/// many registrations ago and still runs would be taken for a new one; each registration takes at
/// least a process start, and a replaced process learns of it within a session.
pub const REPLACED_NONCES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// A failure here means: states of two versions of Ottla would drift apart. Give the new value a
    /// feature level of its own instead.
    #[test]
    fn no_value_changes_without_a_feature_level() {
        assert_eq!(TIMESTAMP_TYPE_CONFIG, "message.timestamp.type");
        assert_eq!(LOG_APPEND_TIME, "LogAppendTime");
        let numbers = [
            (PARTITIONS_MAX as u64, 200_000),
            (DELETED_TOPICS_KEPT_MAX as u64, 1_000),
            (PRODUCER_EXPIRY_MS as u64, 86_400_000),
            (PRODUCERS_EXPIRED_MAX as u64, 10_000),
            (GROUPS_EXPIRED_MAX as u64, 1_000),
            (GROUP_OFFSETS_EXPIRED_MAX, 10_000),
            (PRODUCER_IDS_SKIPPED as u64, 4_294_967_296),
            (OUTCOMES_KEPT_MAX as u64, 1_024),
            (REPLACED_NONCES_MAX as u64, 64),
            (RECENT_BATCHES as u64, 5),
            (EXTENT_INLINE_BYTES_MAX as u64, 16_384),
            (AZ_BYTES_MAX as u64, 255),
            (HOST_BYTES_MAX as u64, 255),
            (CONFIG_VALUE_BYTES_MAX as u64, 4_096),
            (CONFIGS_BYTES_MAX as u64, 8_192),
            (GROUP_ID_BYTES_MAX as u64, 249),
            (GROUP_TEXT_BYTES_MAX as u64, 512),
            (OFFSET_METADATA_BYTES_MAX as u64, 12_288),
            (ENDPOINTS_BYTES_MAX as u64, 4_096),
            (SOFTWARE_BYTES_MAX as u64, 64),
        ];
        for (at, (value, at_level_1)) in numbers.into_iter().enumerate() {
            assert_eq!(value, at_level_1, "number {at} of the list");
        }
    }
}
