//! Time as records and commands carry it.

use std::fmt;

/// Milliseconds since the Unix epoch. Record timestamps may be negative (−1: none).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimestampMs(pub i64);

impl TimestampMs {
    /// Kafka's "no timestamp".
    pub const NONE: Self = Self(-1);
}

impl fmt::Display for TimestampMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whose clock gave a batch its timestamps (topic config `message.timestamp.type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimestampType {
    /// The producer's: bytes stay as received.
    #[default]
    CreateTime,
    /// The control plane's, at commit: every record of the batch reads that time.
    LogAppendTime,
}
