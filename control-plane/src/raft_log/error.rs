//! Why a log could not be opened.

use std::io;

use ottla_format::codec::DecodeError;
use thiserror::Error;

/// Why a log could not be opened. Each is one line for the person who starts the node.
#[derive(Debug, Error)]
pub enum OpenLogError {
    /// The operating system refused.
    #[error("cannot {action} {file}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        file: String,
        /// Why not.
        source: io::Error,
    },
    /// Bytes that were on disk once are not what was written. Nothing was changed.
    #[error(
        "{file} is damaged at byte {offset}: {reason}. These bytes were safely on disk, so entries \
         may be lost; the node does not start. Put the file back from a copy of this disk, or, \
         where other controllers hold the data, remove this node's data directory and add the \
         node under a new id"
    )]
    Damaged {
        /// The file.
        file: String,
        /// The first bad byte in it.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A file of another cluster or node.
    #[error("{file} belongs to {owner}, and this is {expected}")]
    Foreign {
        /// The file.
        file: String,
        /// Whose it is.
        owner: String,
        /// Who reads it.
        expected: String,
    },
    /// Written by another version.
    #[error("{file}: {source}")]
    Newer {
        /// The file.
        file: String,
        /// Which version, and which ones can be read.
        source: DecodeError,
    },
}
