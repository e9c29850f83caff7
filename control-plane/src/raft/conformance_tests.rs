//! openraft's own suite, run against our log and state machine.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use ottla_format::raft_entry::AppliedRecord;
use ottla_model::ClusterId;
use ottla_telemetry::Metrics;

use super::{LogStore, Machine, StateMachine, TypeConfig};
use crate::raft_log::memory_files::MemoryDirectory;
use crate::raft_log::{
    AppliedElsewhere, DiskDirectory, LogDirectory, LogIdentity, LogOptions, LogWriter, RaftLog,
};
use crate::snapshot::Snapshots;
use crate::state::State;

const IDENTITY: LogIdentity = LogIdentity { cluster: ClusterId(7), node: 0 };

/// Builds stores whose files are in memory or on disk; tiny segments and caches, so that the suite
/// meets both.
struct Builder {
    on_disk: bool,
}

type Guard = (Option<tempfile::TempDir>, LogWriter);

impl StoreBuilder<TypeConfig, LogStore, StateMachine, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, LogStore, StateMachine), StorageError<TypeConfig>> {
        let folder = self.on_disk.then(|| tempfile::tempdir().unwrap());
        let directory = |name: &str| -> Arc<dyn LogDirectory> {
            match &folder {
                Some(folder) => Arc::new(DiskDirectory::open(&folder.path().join(name)).unwrap()),
                None => Arc::new(MemoryDirectory::default()),
            }
        };
        let metrics = Metrics::new();
        let options = LogOptions { segment_bytes: 300, cache_bytes: 500 };
        let elsewhere = AppliedElsewhere::default();
        let (log, writer) =
            RaftLog::start(directory("raft"), IDENTITY, options, elsewhere, metrics.clone())
                .unwrap();
        let snapshots = Snapshots::new(directory("snapshots"), IDENTITY.cluster);
        let machine = Machine::new(State::new(IDENTITY.cluster), AppliedRecord::default());
        let store = LogStore::new(log.clone(), IDENTITY);
        let machine = StateMachine::new(machine, log, snapshots, None, metrics);
        Ok(((folder, writer), store, machine))
    }
}

#[tokio::test]
async fn the_stores_pass_openrafts_suite_in_memory() {
    Suite::test_all(Builder { on_disk: false }).await.unwrap();
}

#[tokio::test]
async fn the_stores_pass_openrafts_suite_on_disk() {
    Suite::test_all(Builder { on_disk: true }).await.unwrap();
}
