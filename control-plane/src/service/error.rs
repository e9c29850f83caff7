//! Why a controller did not start, each in one line for the person who starts it.

use std::io;
use std::path::PathBuf;

use ottla_control_api::CallError;
use ottla_format::codec::DecodeError;
use ottla_format::feature_level::{FeatureLevel, NEWEST};
use ottla_model::{BrokerId, ClusterId, SOFTWARE_VERSION};
use thiserror::Error;

use crate::checkpoint::CheckpointError;
use crate::raft_log::OpenLogError;
use crate::snapshot::SnapshotError;

/// Why a controller did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("cannot {action} {}: {source}", path.display())]
    Directory {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process uses the data directory.
    #[error(
        "the data directory {} is in use by {}; stop it, or choose another with --data-dir",
        path.display(),
        pid.map_or("another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process, when it could be found out.
        pid: Option<u32>,
    },
    /// The feature level was not set.
    #[error("cannot raise the cluster's feature level: {0}")]
    FeatureLevel(CallError),
    /// The feature level that was asked for is none.
    #[error(
        "cannot raise the cluster's feature level to {level}: this is ottla {SOFTWARE_VERSION}, which \
         knows levels up to {NEWEST}"
    )]
    UnknownFeatureLevel {
        /// The level that was asked for.
        level: FeatureLevel,
    },
    /// The accepted step of time was not made.
    #[error("cannot step time to the wall clock: {0}")]
    ClockStep(CallError),
    /// The identity file cannot be read, or is of another version.
    #[error("{}: {source}", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: DecodeError,
    },
    /// The identity file is gone, and data is there.
    #[error(
        "{} is missing although there is data beside it: put it back from a copy of this disk, or \
         choose an empty --data-dir",
        path.display()
    )]
    IdentityMissing {
        /// The file.
        path: PathBuf,
    },
    /// The directory is another node's.
    #[error(
        "the data directory {} belongs to node {found} of cluster {cluster}, and this is node \
         {expected}",
        path.display()
    )]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: BrokerId,
        /// Its cluster.
        cluster: ClusterId,
        /// Who asked.
        expected: BrokerId,
    },
    /// The Raft log cannot be used.
    #[error(transparent)]
    Log(#[from] OpenLogError),
    /// The snapshots cannot be used.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Not even an empty checkpoint can be had.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The log goes back less far than the state that is left.
    #[error(
        "the log begins after entry {purged}, and the newest snapshot that can be read ends at \
         entry {state}{}: put the newest snapshot back from a copy of this disk",
        damaged.as_deref().map(|damaged| format!(" ({damaged})")).unwrap_or_default()
    )]
    StateTooOld {
        /// The last purged entry.
        purged: u64,
        /// The last entry of the state.
        state: u64,
        /// What is wrong with a newer snapshot.
        damaged: Option<String>,
    },
    /// The log ends below the state that is left: what was acknowledged since is gone with it.
    #[error(
        "the log in {} ends at entry {log} and the newest snapshot at entry {state}: the end of \
         the log is missing; put it back from a copy of this disk",
        path.display()
    )]
    LogTooShort {
        /// Where the log is.
        path: PathBuf,
        /// Its last entry.
        log: u64,
        /// The last entry of the state.
        state: u64,
    },
    /// Raft did not start, or did not get ready.
    #[error("the control plane did not start: {0}")]
    Raft(String),
}
