//! What a start finds on disk, put together. Blocks; nothing runs yet except the log's writer.

use std::path::Path;
use std::sync::Arc;

use ottla_env::{DiskTurns, Random, VitalTasks};
use ottla_format::codec::DecodeError;
use ottla_format::raft_entry::{AppliedRecord, LogId};
use ottla_telemetry::Metrics;

use super::controller::ControllerOptions;
use super::data_dir::DataDirectory;
use super::error::StartError;
use crate::checkpoint::{Checkpoint, Loaded};
use crate::raft_log::{
    AppliedElsewhere, DiskDirectory, LogDirectory, LogIdentity, LogOptions, LogWriter, OpenedLog,
    RaftLog, open,
};
use crate::snapshot::{SnapshotInfo, Snapshots};
use crate::state::State;

/// Everything a controller starts from.
#[derive(Debug)]
pub struct Restored {
    pub directory: DataDirectory,
    pub identity: LogIdentity,
    pub state: State,
    pub record: AppliedRecord,
    /// The last entry of log and state.
    pub last_entry: u64,
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
    vital: &VitalTasks,
) -> Result<Restored, StartError> {
    let directory = DataDirectory::open(&options.data_dir)?;
    let identity = directory.identity(options.node_id, random)?;
    let identity = LogIdentity { cluster: identity.cluster, node: identity.raft_id };
    let open = |path: &Path| open_directory(path, &directory, &options.disk);
    let snapshots = Snapshots::new(open(&directory.snapshots())?, identity.cluster);
    let files = open(&directory.raft())?;
    let (checkpoint, loaded) = Checkpoint::open(&directory.checkpoint(), identity.cluster)?;
    let recovered = recover(files.clone(), &snapshots, identity, options.log, loaded)?;
    let Recovered { state, record, log, newest } = recovered;
    let last_entry = log.ends().1.max(record.last).map_or(0, |id| id.index);
    let (log, writer) = RaftLog::resume(files, log, metrics, vital)?;
    Ok(Restored {
        directory,
        identity,
        state,
        record,
        last_entry,
        log,
        writer,
        snapshots,
        newest,
        checkpoint,
    })
}

/// What snapshots, checkpoint and log make together.
#[derive(Debug)]
pub struct Recovered {
    pub state: State,
    pub record: AppliedRecord,
    pub log: OpenedLog,
    pub newest: Option<SnapshotInfo>,
}

/// The newest state that is whole, and a log that goes on from it: the checkpoint's when it is
/// ahead of the snapshot's. Refuses a log that does not reach back to the state, or ends below it.
pub fn recover(
    files: Arc<dyn LogDirectory>,
    snapshots: &Snapshots,
    identity: LogIdentity,
    options: LogOptions,
    checkpoint: Option<Loaded>,
) -> Result<Recovered, StartError> {
    let found = snapshots.open()?;
    let (newest, mut state, mut record) = match found.newest {
        Some((info, state)) => {
            let record = decode(&info.meta, snapshots.describe(&info.name))?;
            (Some(info), state, record)
        }
        None => (None, State::new(identity.cluster), AppliedRecord::default()),
    };
    let snapshot = record.last.map(|id| id.index);
    let mut elsewhere = AppliedElsewhere { snapshot, ..AppliedElsewhere::default() };
    if let Some(Loaded { state: mut loaded, meta }) = checkpoint {
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

    elsewhere.installed = record.installed.map(|id| id.index);
    let log = open(files.clone(), identity, options, elsewhere)?;
    let index = |id: Option<LogId>| id.map(|id| id.index);
    let (purged, last) = log.ends();
    let (purged, last, applied) = (index(purged), index(last), index(record.last));
    // A snapshot from another node may be ahead of the log. The only voter wrote its own, from
    // entries that its log held.
    let only_voter = matches!(record.membership.voters.as_slice(),
        [voters] if voters.iter().eq([&identity.node]));
    if only_voter && last < applied {
        return Err(StartError::LogTooShort {
            path: files.describe("").into(),
            log: last.unwrap_or_default(),
            state: applied.unwrap_or_default(),
        });
    }
    if purged > applied {
        return Err(StartError::StateTooOld {
            purged: purged.unwrap_or_default(),
            state: applied.unwrap_or_default(),
            damaged: found.damaged.first().map(|(_, error)| error.to_string()),
        });
    }
    snapshots.set_aside(&found.damaged)?;
    tracing::info!(
        snapshot = snapshot.unwrap_or_default(),
        checkpoint = elsewhere.checkpoint.unwrap_or_default(),
        log_begins_after = purged.unwrap_or_default(),
        log_ends = last.unwrap_or_default(),
        "read the control plane's files"
    );
    Ok(Recovered { state, record, log, newest })
}

fn open_directory(
    path: &Path,
    within: &DataDirectory,
    disk: &DiskTurns,
) -> Result<Arc<dyn LogDirectory>, StartError> {
    match DiskDirectory::open(path) {
        Ok(directory) => {
            Ok(Arc::new(directory.sharing(disk.clone()).locked_by(Some(within.lock()))))
        }
        Err(source) => Err(StartError::Directory { action: "open", path: path.to_owned(), source }),
    }
}

fn decode(meta: &[u8], file: String) -> Result<AppliedRecord, StartError> {
    AppliedRecord::decode(meta)
        .map_err(|source: DecodeError| StartError::Identity { path: file.into(), source })
}
