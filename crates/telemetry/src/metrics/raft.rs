//! The control plane.

use super::buckets;
use super::define::group;
use super::handle::{Counter, CounterVec, Gauge, Histogram};

group! {
    /// The Raft log, apply, snapshots and the checkpoint.
    pub struct RaftMetrics {
        /// 1 on the leader, else 0.
        is_leader: Gauge = "ottla_raft_is_leader";
        /// The current Raft term.
        term: Gauge = "ottla_raft_term";
        /// Index of the last applied entry.
        applied_index: Gauge = "ottla_raft_applied_index";
        /// Bytes of the log's segments on disk.
        log_bytes: Gauge = "ottla_raft_log_bytes";
        /// Time of one sync of the log to disk.
        fsync_seconds: Histogram = "ottla_raft_fsync_seconds", buckets buckets::LOCAL_SECONDS;
        /// Entries made durable by one sync.
        sync_entries: Histogram = "ottla_raft_sync_entries", buckets buckets::COUNT;
        /// Time from proposing a command to its answer.
        proposal_seconds: Histogram = "ottla_raft_proposal_seconds", buckets buckets::LOCAL_SECONDS;
        /// Time of applying one group of entries to the state.
        apply_seconds: Histogram = "ottla_raft_apply_seconds", buckets buckets::LOCAL_SECONDS;
        /// Commands applied, by type.
        commands: CounterVec<1> = "ottla_raft_commands_total", labels ["type"];
        /// Snapshots written.
        snapshots: Counter = "ottla_raft_snapshots_total";
    }
}
