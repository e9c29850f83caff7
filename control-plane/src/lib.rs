//! The control plane: the replicated state machine and what keeps it.

pub mod limits;
pub mod raft_log;
pub mod state;
