//! The Raft log and vote of one node, on its own disk.
//!
//! # Contract
//!
//! An append that was acknowledged survives the loss of power, and so does a vote. Entries can be
//! read as soon as they were appended, durable or not. Truncations and purges are durable when
//! they return. The noted commit position may be older after a crash.
//!
//! # Order
//!
//! One thread takes requests in the order they were handed over, writes as many as wait with one call, makes them durable with one `fdatasync`, and acknowledges them: the busier the log,
//! the more entries share a sync. A vote is ordered with the entries around it.
//!
//! # Crash
//!
//! Every frame says how far the log was known to be durable before it was written, and when the
//! log falls idle for 100 ms a frame is written for that alone. At start, bytes above the last
//! such position that do not decode are a torn tail and are cut off; bytes below it that do not
//! decode are damage, and the log is refused with the file, the place and what to do
//! ([`recovery`]). A few frames at the very end that were synced and not yet marked can thus be
//! taken for a torn tail if the disk damages exactly those; what the checkpoint or a snapshot had
//! applied is refused even then.
//!
//! # Errors
//!
//! The first failed write or sync is the last: the log accepts nothing more, every waiting request
//! gets the error, and openraft stops the node. A sync is never tried again, because a second one
//! may succeed without having written what the first one lost. A full disk is an error like the
//! others with a message of its own. Only a want of file descriptors is waited out: it comes before
//! anything was written, and loses nothing.
//!
//! # Space
//!
//! Segments are closed at 64 MiB. A purge drops whole segments, and only up to a snapshot that was
//! read back; openraft asks for it after each snapshot.
//!
//! # Decided against
//!
//! A key-value store for the log: sled syncs with `sync_file_range`, which is no barrier against
//! power loss, and needs many times the live space under a log's load. Preallocation: it would save
//! a metadata write per sync, and makes zeros in the tail an ordinary sight.

mod error;
pub mod files;
mod index;
mod journal;
mod log;
#[cfg(test)]
pub(crate) mod memory_files;
mod open;
pub mod recovery;
mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod recovery_tests;

pub use error::OpenLogError;
pub use files::{DirectoryLock, DiskDirectory, LogDirectory, LogFile};
pub use index::LogEntry;
#[cfg(test)]
pub(crate) use journal::Write;
pub use log::{Done, RaftLog};
pub use open::{OpenedLog, open};
pub use recovery::AppliedElsewhere;
pub use writer::LogWriter;

use std::fmt;

use ottla_format::raft_log::LogPosition;
use ottla_model::ClusterId;

use crate::limits::{LOG_CACHE_BYTES, SEGMENT_BYTES};

/// The vote file.
const VOTE_FILE: &str = "vote";
/// The vote file while it is written.
const VOTE_FILE_NEW: &str = "vote.new";
const SEGMENT_SUFFIX: &str = ".log";

/// Whose log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node, by its Raft id.
    pub node: u64,
}

impl fmt::Display for LogIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} of cluster {}", self.node, self.cluster)
    }
}

/// Sizes of a log.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// Length at which a segment is closed.
    pub segment_bytes: u64,
    /// Bytes of entries kept in memory.
    pub cache_bytes: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { segment_bytes: SEGMENT_BYTES, cache_bytes: LOG_CACHE_BYTES }
    }
}

/// A segment's file name: where it begins, so that names sort as positions do.
fn segment_name(start: LogPosition) -> String {
    format!("{start:016x}{SEGMENT_SUFFIX}")
}

/// The reverse of [`segment_name`]; `None` for any other file.
fn segment_start(name: &str) -> Option<LogPosition> {
    let digits = name.strip_suffix(SEGMENT_SUFFIX).filter(|digits| digits.len() == 16)?;
    LogPosition::from_str_radix(digits, 16).ok()
}
