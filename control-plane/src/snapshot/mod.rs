//! Snapshots: the whole state in a file, so that the log before it can be purged.
//!
//! # Contract
//!
//! [`Snapshots::write`] returns only when the file is on disk under its final name and was read
//! back with the right digest: the log may then be purged up to its applied index. It is written
//! from a copy of the state, which shares all but what changes meanwhile; apply goes on.
//!
//! # Order
//!
//! write `snapshot-<index>.tmp` · sync the file · read it back and compare the digest · rename to
//! `snapshot-<index>.snap` · sync the directory. Older snapshots are removed only after that, and
//! the one before the newest is kept.
//!
//! # Crash
//!
//! A file with the ending `.tmp` is unfinished and removed by [`Snapshots::open`]. A file with its
//! final name was complete and synced; when it cannot be read it was damaged since. Opening then
//! falls back to an older one and says so: it is the caller who knows whether its log still reaches
//! back that far, and must refuse to start if not. When it does, the damaged one is set aside as
//! `.damaged`, so that it does not count as one of those that are kept, and goes with the next.
//!
//! # Cost
//!
//! A snapshot is read and written a block at a time. All calls block: make them from a blocking
//! task.

mod file;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use ottla_format::codec::DecodeError;
use ottla_model::{AppliedIndex, ClusterId};
use thiserror::Error;

use crate::limits::SNAPSHOTS_KEPT;
use crate::raft_log::LogDirectory;
use crate::state::{LoadError, State, StateIdentity};

/// Why a snapshot could not be written or read.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The file system refused.
    #[error("{file}: {source}")]
    Io {
        /// Which file.
        file: String,
        /// What it said.
        source: io::Error,
    },
    /// The file is not, or not any more, what was written.
    #[error("{file} is damaged: {source}")]
    Damaged {
        /// Which file.
        file: String,
        /// What is wrong.
        source: DecodeError,
    },
    /// Written by a newer version, or by one before the first release, or of a feature level that this
    /// version does not know.
    #[error("{file}: {source}")]
    OtherVersion {
        /// Which file.
        file: String,
        /// Which version, and which ones can be read.
        source: DecodeError,
    },
    /// The file is whole, but its records make no state.
    #[error("{file}: {source}")]
    Load {
        /// Which file.
        file: String,
        /// What is wrong.
        source: LoadError,
    },
    /// The snapshot of another cluster.
    #[error("{file} belongs to cluster {found}, this is cluster {expected}")]
    ForeignCluster {
        /// Which file.
        file: String,
        /// Whose it is.
        found: ClusterId,
        /// Whose it should be.
        expected: ClusterId,
    },
    /// A record or the meta is larger than the format allows.
    #[error("{file}: {what} of {length} bytes is larger than a snapshot can hold")]
    TooLarge {
        /// Which file.
        file: String,
        /// What is too large.
        what: &'static str,
        /// How large.
        length: usize,
    },
}

/// A snapshot that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its file's name.
    pub name: String,
    /// Which state it holds.
    pub identity: StateIdentity,
    /// What the log gave along; opaque here.
    pub meta: Vec<u8>,
    /// The file's length in bytes.
    pub length: u64,
}

/// What was found at start.
#[derive(Debug, Default)]
pub struct Opened {
    /// The newest snapshot that can be read, with its state.
    pub newest: Option<(SnapshotInfo, State)>,
    /// Snapshots newer than that one which cannot be read: their names and why.
    pub damaged: Vec<(String, SnapshotError)>,
}

/// The directory that holds a controller's snapshots.
#[derive(Clone, Debug)]
pub struct Snapshots {
    directory: Arc<dyn LogDirectory>,
    cluster: ClusterId,
}

impl Snapshots {
    /// The snapshots of `cluster` in `directory`. Nothing is read or changed yet.
    pub fn new(directory: Arc<dyn LogDirectory>, cluster: ClusterId) -> Self {
        Self { directory, cluster }
    }

    /// Removes leftovers and reads the newest readable snapshot.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Io`] when the directory cannot be used, [`SnapshotError::ForeignCluster`]
    /// and [`SnapshotError::OtherVersion`]; damaged files are reported in [`Opened`].
    pub fn open(&self) -> Result<Opened, SnapshotError> {
        self.remove_leftovers()?;
        let mut opened = Opened::default();
        for name in self.names_newest_first()? {
            match file::load(&*self.directory, &name, self.cluster) {
                Ok(found) => {
                    opened.newest = Some(found);
                    break;
                }
                Err(
                    error @ (SnapshotError::ForeignCluster { .. }
                    | SnapshotError::OtherVersion { .. }),
                ) => return Err(error),
                Err(error) => {
                    tracing::error!(%error, "a snapshot cannot be read; trying an older one");
                    opened.damaged.push((name, error));
                }
            }
        }
        Ok(opened)
    }

    /// Writes a snapshot of `state` with `meta`, verifies it, and removes old ones. When this
    /// returns the log may be purged up to the state's applied index.
    pub fn write(&self, state: &State, meta: &[u8]) -> Result<SnapshotInfo, SnapshotError> {
        let name = snapshot_name(state.applied());
        let unfinished = name.replace(FINISHED, UNFINISHED);
        self.remove_leftovers()?;
        file::write(&*self.directory, &unfinished, state, meta)?;
        let info = file::verify(&*self.directory, &unfinished, self.cluster)?;
        self.directory.rename(&unfinished, &name).map_err(|source| self.io(&name, source))?;
        self.directory.sync().map_err(|source| self.io(&name, source))?;
        if let Err(error) = self.remove_old() {
            // The new one is safe; what is too much is tried again with the next.
            tracing::warn!(%error, "old snapshots cannot be removed");
        }
        Ok(SnapshotInfo { name, ..info })
    }

    /// Takes damaged snapshots, which the state was made without, out of those that are kept.
    pub fn set_aside(&self, damaged: &[(String, SnapshotError)]) -> Result<(), SnapshotError> {
        for (name, _) in damaged {
            let aside = name.replace(FINISHED, DAMAGED);
            self.directory.rename(name, &aside).map_err(|source| self.io(name, source))?;
        }
        Ok(())
    }

    /// How a person finds a snapshot.
    pub fn describe(&self, name: &str) -> String {
        self.directory.describe(name)
    }

    /// Reads a snapshot whole.
    pub fn load(&self, name: &str) -> Result<(SnapshotInfo, State), SnapshotError> {
        file::load(&*self.directory, name, self.cluster)
    }

    fn remove_old(&self) -> Result<(), SnapshotError> {
        for name in self.names_newest_first()?.into_iter().skip(SNAPSHOTS_KEPT) {
            self.directory.remove(&name).map_err(|source| self.io(&name, source))?;
        }
        self.remove_all(DAMAGED)
    }

    fn remove_leftovers(&self) -> Result<(), SnapshotError> {
        self.remove_all(UNFINISHED)
    }

    fn remove_all(&self, ending: &str) -> Result<(), SnapshotError> {
        for name in self.list()?.iter().filter(|name| applied_of(name, ending).is_some()) {
            self.directory.remove(name).map_err(|source| self.io(name, source))?;
        }
        Ok(())
    }

    fn names_newest_first(&self) -> Result<Vec<String>, SnapshotError> {
        let mut names = self.list()?;
        names.retain(|name| applied_of(name, FINISHED).is_some());
        // Indexes have leading zeros: the order of names is that of indexes.
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(names)
    }

    fn list(&self) -> Result<Vec<String>, SnapshotError> {
        self.directory.list().map_err(|source| self.io("", source))
    }

    fn io(&self, name: &str, source: io::Error) -> SnapshotError {
        SnapshotError::Io { file: self.directory.describe(name), source }
    }
}

const PREFIX: &str = "snapshot-";
const FINISHED: &str = ".snap";
const UNFINISHED: &str = ".tmp";
const DAMAGED: &str = ".damaged";

fn snapshot_name(applied: AppliedIndex) -> String {
    format!("{PREFIX}{:020}{FINISHED}", applied.0)
}

fn applied_of(name: &str, ending: &str) -> Option<AppliedIndex> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(ending)?;
    let ours = digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse().ok().filter(|_| ours).map(AppliedIndex)
}
