//! The control plane: the replicated state machine and what keeps it.

pub mod checkpoint;
pub mod limits;
pub mod raft;
pub mod raft_log;
pub mod service;
pub mod snapshot;
pub mod state;
