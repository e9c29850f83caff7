//! What a node does when its disk fails: it stops, and says why.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{BasicNode, Config};
use ottla_format::command::{Command, CommandBody};
use ottla_format::raft_entry::AppliedRecord;
use ottla_model::{ClusterId, TimestampMs};
use ottla_telemetry::Metrics;

use super::{LogStore, Machine, NoPeers, Proposal, Raft, StateMachine};
use crate::raft_log::memory_files::{Fault, MemoryDirectory};
use crate::raft_log::{AppliedElsewhere, LogIdentity, LogOptions, RaftLog};
use crate::snapshot::Snapshots;
use crate::state::State;

const IDENTITY: LogIdentity = LogIdentity { cluster: ClusterId(7), node: 1 };

/// A node whose log fails at one operation; returns how it ended.
async fn life(kind: io::ErrorKind, at: u64) -> Option<String> {
    let directory = MemoryDirectory::with_fault(at, Fault::Once(kind));
    let metrics = Metrics::new();
    let (log, _writer) = RaftLog::start(
        Arc::new(directory),
        IDENTITY,
        LogOptions::default(),
        AppliedElsewhere::default(),
        metrics.clone(),
    )
    .ok()?;
    let machine = Machine::new(State::new(IDENTITY.cluster), AppliedRecord::default());
    let snapshots = Snapshots::new(Arc::new(MemoryDirectory::default()), IDENTITY.cluster);
    let store = LogStore::new(log.clone(), IDENTITY);
    let machine = StateMachine::new(machine, log, snapshots, None, metrics);
    let config = Arc::new(Config::default().validate().unwrap());
    let raft = Raft::new(1, config, NoPeers, store, machine).await.unwrap();
    let _ = raft.initialize(BTreeMap::from([(1, BasicNode::default())])).await;
    let wait = raft.wait(Some(Duration::from_secs(5)));
    let _ = wait.state(openraft::ServerState::Leader, "lead").await;
    let mut accepted_after = 0;
    for _ in 0..5 {
        let command = Command { time: TimestampMs(1), body: CommandBody::Tick };
        let failed_before = raft.metrics().borrow_watched().running_state.is_err();
        let answer = raft.client_write(Proposal::new(command)).await;
        accepted_after += usize::from(failed_before && answer.is_ok());
    }
    assert_eq!(accepted_after, 0, "a node that failed takes nothing");
    let running = raft.metrics().borrow_watched().running_state.clone();
    let _ = raft.shutdown().await;
    running.err().map(|fatal| fatal.to_string())
}

#[tokio::test]
async fn a_failing_or_full_disk_stops_the_node_with_the_reason() {
    let mut stopped = 0;
    for at in 0..20 {
        for (kind, word) in
            [(io::ErrorKind::StorageFull, "is full"), (io::ErrorKind::Other, "unknown")]
        {
            if let Some(error) = life(kind, at).await {
                assert!(error.contains(word), "operation {at}: {error}");
                stopped += 1;
            }
        }
    }
    assert!(stopped > 10, "{stopped}");
}
