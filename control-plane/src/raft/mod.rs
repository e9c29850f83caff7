//! openraft, confined: nothing outside this module and the service that starts it names its types,
//! and none of them reaches a disk or a wire.
//!
//! | File | Is |
//! | --- | --- |
//! | [`types`] | the type parameters, and the conversions to our own types |
//! | [`log_store`] | openraft's `RaftLogStorage` over [`crate::raft_log`] |
//! | [`state_machine`] | its `RaftStateMachine` over [`crate::state`] and [`crate::snapshot`] |
//! | `command_counters`, `state_gauges` | metrics |
//! | [`machine`], [`watchers`] | the state as readers and watchers share it |
//! | [`network`] | the way to other controllers |

mod command_counters;
pub mod log_store;
pub mod machine;
pub mod network;
mod state_gauges;
pub mod state_machine;
pub mod types;
pub mod watchers;

#[cfg(test)]
mod conformance_tests;
#[cfg(test)]
mod failure_tests;

pub use log_store::LogStore;
pub use machine::Machine;
pub use network::NoPeers;
pub use state_machine::StateMachine;
pub use types::{Proposal, Reply, TypeConfig};

/// A running Raft node.
pub type Raft = openraft::Raft<TypeConfig, StateMachine>;
