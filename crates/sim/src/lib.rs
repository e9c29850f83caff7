//! The commit protocol in a world of its own: from the producer's send to the sweep's delete, every
//! part a sequence of steps, and a scheduler that draws the next step from a seed.
//!
//! # What is real
//!
//! Intake, buffers, failed producers, layout, committer and answers (through
//! [`StepWriter`](ottla_storage::write::step_writer::StepWriter)), the state machine, the sweep. What
//! is played: clients, the network, the bucket, uploads, time. There is no runtime, no socket, no
//! thread: a schedule of some hundred steps takes a millisecond or two, and a seed gives the same
//! one on every machine.
//!
//! # What happens
//!
//! Producers send up to five batches at a time, time out, change brokers and send again. Brokers
//! crash, are fenced while they write, and register again. Uploads fail, arrive late, are truncated
//! and accepted, or arrive without an answer. Calls are lost, doubled, delayed and reordered, and so
//! are their answers. The topic is deleted and made again. The sweep runs all the while, on listings
//! that are stale and incomplete. Each seed draws how much of this there is, a quarter draw none.
//! Then everything heals, and must come to rest.
//!
//! # What is checked
//!
//! After every step, by a [`checker`] that knows nothing of how it is done: it reads what extents
//! say and what the bucket holds, and compares that with what producers sent and were told. The
//! state machine's own invariants are evaluated after every command besides.
//!
//! A checker that cannot fail shows nothing: [`Defect`] lists ways to break the protocol, and tests
//! see to it that each is found.

mod batch;
mod broken_state;
mod broker;
mod bucket;
pub mod checker;
mod client;
mod defect;
mod faults;
mod network;
mod plane;
mod schedule;
mod sweeping;
mod world;

pub use defect::Defect;
pub use schedule::{Failure, Report, Scenario, run, trace};
