//! The checkpoint: a sled tree that saves most of the replay at a restart.
//!
//! # Contract
//!
//! Nothing is ever lost with the checkpoint: all of it can be rebuilt from a snapshot and the log.
//! It is never a reason to purge the log, and never a reason to start differently, only faster.
//! sled's `flush` is no barrier against power loss, and writes can reach the disk in any order; so
//! what is loaded is believed only when head, cluster, every record and the full digest agree. The
//! caller compares [`Loaded::state`]'s applied index with the log: behind is normal (the rest is
//! replayed), and ahead of it means that the log lost what it had promised, or that the data
//! directory was put together from parts.
//!
//! # Order
//!
//! [`State::cut_checkpoint`] gives a cheap copy and the set of keys that changed since the last
//! cut; apply goes on. The keys' present records and the new head go to sled as one batch of one
//! tree, so that the tree always holds one whole state. A write that fails leaves doubt, and on any
//! doubt the tree is deleted and written anew.
//!
//! # Crash
//!
//! sled can panic on files it does not expect, and so all calls into it run under `catch_unwind`.
//! An unopenable, damaged or foreign checkpoint is deleted at start with one line in the log. One of a
//! feature level that this version does not know is not: the node must not start. A
//! tree that was closed is let go by sled's own threads a moment later: opening waits for that.
//!
//! # Space
//!
//! sled frees the space of replaced records late: under an hour of small batches its file grows to
//! six times what it holds. A tree that takes far more than its state is deleted and written anew
//! as well; a crash before the next write, seconds later, costs a longer replay.
//!
//! # Decided against
//!
//! A queue of changes towards sled: it grows when sled is slow. The set holds each key once and is
//! bounded; beyond the bound everything counts as changed.

mod tree;
mod write_behind;

#[cfg(test)]
mod tests;

pub use write_behind::{CheckpointSource, Cut, WriteBehind};

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ottla_format::codec::DecodeError;
use ottla_model::{AppliedIndex, ClusterId};
use thiserror::Error;

use crate::state::dirty::DirtyKeys;
use crate::state::{LoadError, State};
use tree::Tree;

/// Why a checkpoint cannot be used.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// sled refused.
    #[error("the checkpoint's store failed: {0}")]
    Store(#[from] sled::Error),
    /// sled panicked: its files are not as it left them.
    #[error("the checkpoint's store gave up: {0}")]
    Panicked(String),
    /// The head cannot be read.
    #[error("the checkpoint's head is damaged: {0}")]
    Head(#[from] DecodeError),
    /// The cluster's feature level is above what this version knows.
    #[error("the checkpoint cannot be used: {0}")]
    NewerLevel(DecodeError),
    /// The records make no state.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Records without a head.
    #[error("the checkpoint has no head")]
    NoHead,
    /// The checkpoint of another cluster.
    #[error("the checkpoint belongs to cluster {0}")]
    ForeignCluster(ClusterId),
    /// The directory cannot be deleted or made.
    #[error("{path}: {source}")]
    Io {
        /// Which directory.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
}

/// What a checkpoint held.
#[derive(Debug)]
pub struct Loaded {
    /// The state, verified. Its applied index says how far the log was when it was cut.
    pub state: State,
    /// What was given along at the cut.
    pub meta: Vec<u8>,
}

/// A checkpoint on disk. All calls block: make them from a blocking task.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    cluster: ClusterId,
    /// Closed while it is being deleted.
    tree: Option<Tree>,
    /// What the tree holds.
    written: Option<AppliedIndex>,
    /// What its files took when it held one state, written at once.
    fresh_bytes: u64,
}

impl Checkpoint {
    /// Opens the checkpoint in `path` (a directory of its own) and loads what it holds for
    /// `cluster`. `None`: it was missing, empty, or not to be believed; it is empty now. An error
    /// means that not even an empty one can be had.
    pub fn open(
        path: &Path,
        cluster: ClusterId,
    ) -> Result<(Self, Option<Loaded>), CheckpointError> {
        let path = path.to_owned();
        let mut checkpoint = Self { path, cluster, tree: None, written: None, fresh_bytes: 0 };
        match checkpoint.try_open() {
            Ok(loaded) => Ok((checkpoint, loaded)),
            // It is well, and another version's: whoever comes back to that one finds it as it was.
            Err(CheckpointError::Head(error)) if error.is_of_newer_level() => {
                Err(CheckpointError::NewerLevel(error))
            }
            Err(error) => {
                tracing::warn!(
                    %error, path = %checkpoint.path.display(),
                    "deleting the checkpoint; it is rebuilt from snapshot and log"
                );
                checkpoint.reset()?;
                Ok((checkpoint, None))
            }
        }
    }

    fn try_open(&mut self) -> Result<Option<Loaded>, CheckpointError> {
        let tree = self.tree.insert(Tree::open(&self.path)?);
        let loaded = tree.load(self.cluster)?;
        self.written = loaded.as_ref().map(|loaded| loaded.state.applied());
        Ok(loaded)
    }

    /// Writes what changed: `copy` and `dirty` come from one [`State::cut_checkpoint`], `meta`
    /// belongs to the copy's applied index. After an error the tree must be [reset](Self::reset)
    /// and the state told ([`State::lost_checkpoint`]).
    /// Writes nothing when nothing was applied since the last write.
    pub fn write(
        &mut self,
        copy: &State,
        dirty: &DirtyKeys,
        meta: &[u8],
    ) -> Result<(), CheckpointError> {
        let Some(tree) = &self.tree else {
            return Err(CheckpointError::NoHead);
        };
        if dirty.is_empty() && self.written == Some(copy.applied()) {
            return Ok(());
        }
        tree.write(copy, dirty, meta)?;
        if self.written.is_none() {
            self.fresh_bytes = tree.bytes_on_disk()?;
        }
        self.written = Some(copy.applied());
        Ok(())
    }

    /// Whether its files are larger than `spare` bytes more than they need to be: than the state's
    /// entries in memory with the texts of clients, which take about three times what their records
    /// do, and than they were after the first write into an empty tree.
    fn is_bloated(&self, copy: &State, spare: u64) -> Result<bool, CheckpointError> {
        let needed = copy.size().bytes().max(self.fresh_bytes);
        Ok(self.bytes_on_disk()? > needed.saturating_add(spare))
    }

    /// What its files take.
    ///
    /// # Errors
    /// When the store cannot say.
    pub fn bytes_on_disk(&self) -> Result<u64, CheckpointError> {
        self.tree.as_ref().map_or(Ok(0), Tree::bytes_on_disk)
    }

    /// Deletes whatever is there and begins with an empty tree.
    pub fn reset(&mut self) -> Result<(), CheckpointError> {
        self.tree = None;
        self.written = None;
        self.fresh_bytes = 0;
        match fs::remove_dir_all(&self.path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(CheckpointError::Io { path: self.path.clone(), source });
            }
            _ => {}
        }
        self.tree = Some(Tree::open(&self.path)?);
        Ok(())
    }
}
