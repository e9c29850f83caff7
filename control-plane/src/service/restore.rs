//! What a start finds on disk, put together. Blocks; nothing runs yet except the log's writer.

use std::path::Path;
use std::sync::Arc;

use ottla_env::Random;
use ottla_format::codec::DecodeError;
use ottla_format::raft_entry::AppliedRecord;
use ottla_telemetry::Metrics;

use super::controller::ControllerOptions;
use super::data_dir::DataDirectory;
use super::error::StartError;
use crate::checkpoint::{Checkpoint, Loaded};
use crate::raft_log::{
    AppliedElsewhere, DiskDirectory, LogDirectory, LogIdentity, LogWriter, RaftLog,
};
use crate::snapshot::{SnapshotInfo, Snapshots};
use crate::state::State;

/// Everything a controller starts from.
pub struct Restored {
    pub directory: DataDirectory,
    pub identity: LogIdentity,
    pub state: State,
    pub record: AppliedRecord,
    pub log: RaftLog,
    pub writer: LogWriter,
    pub snapshots: Snapshots,
    pub newest: Option<SnapshotInfo>,
    pub checkpoint: Checkpoint,
}

/// See the module.
pub fn restore(
    options: &ControllerOptions,
    random: &Random,
    metrics: Arc<Metrics>,
) -> Result<Restored, StartError> {
    let directory = DataDirectory::open(&options.data_dir)?;
    let identity = directory.identity(options.node_id, random)?;
    let identity = LogIdentity { cluster: identity.cluster, node: identity.node };

    let snapshots = Snapshots::new(open(&directory.snapshots())?, identity.cluster);
    let found = snapshots.open()?;
    let damaged = found.damaged.first().map(|error| error.to_string());
    let (newest, mut state, mut record) = match found.newest {
        Some((info, state)) => {
            let record = decode(&info.meta, &directory.snapshots().join(&info.name))?;
            (Some(info), state, record)
        }
        None => (None, State::new(identity.cluster), AppliedRecord::default()),
    };
    let mut elsewhere =
        AppliedElsewhere { snapshot: record.last.map(|id| id.index), checkpoint: None };

    let (checkpoint, loaded) = Checkpoint::open(&directory.checkpoint(), identity.cluster)?;
    if let Some(Loaded { state: mut loaded, meta }) = loaded {
        match AppliedRecord::decode(&meta) {
            Ok(later) if later.last > record.last => {
                loaded.loaded_from_checkpoint();
                elsewhere.checkpoint = later.last.map(|id| id.index);
                (state, record) = (loaded, later);
            }
            // Behind, or not to be read: all of it is written again.
            Ok(_) => state.lost_checkpoint(),
            Err(error) => {
                tracing::warn!(%error, "the checkpoint's meta cannot be read; it is rebuilt");
                state.lost_checkpoint();
            }
        }
    }

    let files = open(&directory.raft())?;
    let (log, writer) = RaftLog::start(files, identity, options.log, elsewhere, metrics)?;
    let (purged, last) = log.ends();
    // A snapshot from another node may be ahead of the log. The only voter wrote its own, from
    // entries that its log held.
    let only_voter = matches!(record.membership.voters.as_slice(),
        [voters] if voters.iter().eq([&identity.node]));
    if only_voter && last.map(|id| id.index) < record.last.map(|id| id.index) {
        return Err(StartError::LogTooShort {
            path: directory.raft(),
            log: last.map_or(0, |id| id.index),
            state: record.last.map_or(0, |id| id.index),
        });
    }
    if purged.map(|id| id.index) > record.last.map(|id| id.index) {
        return Err(StartError::StateTooOld {
            purged: purged.map_or(0, |id| id.index),
            state: record.last.map_or(0, |id| id.index),
            damaged,
        });
    }
    Ok(Restored { directory, identity, state, record, log, writer, snapshots, newest, checkpoint })
}

fn open(path: &Path) -> Result<Arc<dyn LogDirectory>, StartError> {
    match DiskDirectory::open(path) {
        Ok(directory) => Ok(Arc::new(directory)),
        Err(source) => Err(StartError::Directory { action: "open", path: path.to_owned(), source }),
    }
}

fn decode(meta: &[u8], path: &Path) -> Result<AppliedRecord, StartError> {
    AppliedRecord::decode(meta)
        .map_err(|source: DecodeError| StartError::Identity { path: path.to_owned(), source })
}
