//! The control plane: the replicated state machine and what keeps it.
//!
//! | Module, from the inside out | Is |
//! | --- | --- |
//! | [`state`] | the state machine: a pure function of its commands |
//! | [`raft_log`] | the log and vote on disk |
//! | [`snapshot`], [`checkpoint`] | the state on disk: what lets the log go, and what makes a restart fast |
//! | [`raft`] | openraft over the three, confined |
//! | [`service`] | a running controller, and the API for brokers in its process |
//!
//! An acknowledged command rests on the log alone. Snapshots take over from it when they
//! were read back; the checkpoint never does. This crate does not know the object store, and not
//! the Kafka protocol.

pub mod checkpoint;
pub mod limits;
pub mod raft;
pub mod raft_log;
pub mod service;
pub mod snapshot;
pub mod state;
