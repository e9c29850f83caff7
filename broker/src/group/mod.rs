//! Consumer groups: who is a member, who leads, what everybody was assigned, and committed offsets.
//!
//! # Contract
//!
//! The classic group protocol as Kafka's coordinator speaks it, for any protocol type (`consumer`,
//! `connect`, `sr`, …): what members say to each other is opaque here. Dynamic members (KIP-394),
//! static ones (KIP-345, KIP-814), reasons (KIP-800).
//!
//! - *Stored before told.* A generation's assignment is in the control plane before the first
//!   member gets its part, and an offset before its commit is answered. Nothing is answered from
//!   memory that a restart would forget.
//! - *A move is no rebalance.* Generation, members and assignment are read back by the next
//!   coordinator (or the next run of this broker); heartbeats, commits and fetches of a stable group
//!   go on with the same ids. Every member gets a fresh session.
//! - *One owner per partition and generation* (G2): a generation gets one assignment, and one whose
//!   write failed or is in doubt is never handed out.
//! - *A committed offset is always found* (G1): fetches read the control plane, whatever is in
//!   memory here.
//!
//! # Order
//!
//! A group is one task (`task`) that takes its requests one by one; its writes leave one by one in
//! the order they were decided on (`writes`). A connection hands in its next request only when
//! the former was answered, so pipelined commits stay in order and a LeaveGroup follows its commits.
//!
//! # Retry, crash, fencing
//!
//! Writes of unknown outcome are repeated until known, for at most five seconds; then the client is
//! told "coordinator not available" and repeats it, which is harmless: values are whole. A crash
//! in the middle of a rebalance leaves the former generation; its members are told so and join again.
//! A group is only written under the registration it was loaded under; when that was fenced the
//! group is released, and loaded anew if this broker is still (or again) its coordinator. Groups are
//! loaded when they are asked for, and those with members in any case (`takeover`): members that
//! died with their coordinator must time out.
//!
//! # Memory
//!
//! Everything that a group keeps is charged to one budget of the broker and to the client that
//! brought it, and refused when there is none (`budget`, `sizes`). Nothing is kept of requests
//! about groups that do not exist (`asking`). Names have a length (`names`).
//!
//! # Structure
//!
//! [`Group`] is the state machine: plain values in, effects out, no I/O. (What it charges is counted,
//! which is no I/O either.) Around it are the task that performs effects, the registry of tasks, and
//! [`Groups`], what request handlers see.
//!
//! # Decided against
//!
//! A mutex per group across its writes: a slow write would hold back heartbeats, and members would
//! be taken for dead. Offsets in memory: they save a local read and cost the proof of G1. The
//! coordinator is chosen by what each broker sees; two brokers may disagree for a moment after one
//! joins or leaves, and then the later write stands. Shards with epochs in the control plane will
//! close that gap before a cluster has two brokers.

mod asking;
mod budget;
mod durable;
mod error;
mod idle;
mod join;
mod leave;
pub mod limits;
mod message;
mod names;
mod offsets;
mod options;
mod placement;
mod rebalance;
mod registry;
mod returning;
mod roster;
mod service;
mod session;
mod sizes;
mod state;
mod sync;
mod takeover;
mod task;
mod writes;

#[cfg(test)]
pub(crate) mod tests;

pub use budget::{Charge, GroupBudget, GroupMemory, Refusal, Standing};
pub use error::GroupError;
pub use message::{
    Answer, Commit, Effect, Heartbeat, Join, JoinRefused, Joined, JoinedMember, Leave, Leaving,
    Request, StorePurpose, Sync, Synced, Ticket,
};
pub use options::GroupOptions;
pub use placement::coordinator_of;
pub use service::{Coordinators, Groups, ServingBrokers};
pub use state::{Group, State};
