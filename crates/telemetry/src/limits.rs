//! Every bound of this crate, with its reason.

use std::time::Duration;

/// Log lines of one place in the code, per [`LINES_PERIOD`]: clients can cause as many as they like.
/// Enough to see who and why; whatever is said more often is said by its number.
pub const LINES_PER_PLACE_MAX: u32 = 10;

/// See [`LINES_PER_PLACE_MAX`].
pub const LINES_PERIOD: Duration = Duration::from_secs(10);

/// Time between two lines about dropped lines: so many are never kept back as lines of one place.
pub const DROPPED_REPORT_INTERVAL: Duration = Duration::from_secs(1);

const _: () = assert!(
    DROPPED_REPORT_INTERVAL.as_millis() * LINES_PER_PLACE_MAX as u128 >= LINES_PERIOD.as_millis()
);

/// Characters of a message, or of a value beside it. Clients choose some of them; paths and what a
/// store says about a refusal are shorter.
pub const VALUE_CHARS_MAX: usize = 600;

/// Lines that wait for whoever reads standard error: minutes of a healthy node's, and what all
/// places together may say at once.
pub const LINES_WAITING_MAX: usize = 4_096;

/// Bytes of the lines that wait.
pub const LINES_WAITING_BYTES_MAX: usize = 4 << 20;

/// How long a process that ends waits for its last lines to be read.
pub const FLUSH_MAX: Duration = Duration::from_secs(1);
