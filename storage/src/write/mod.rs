//! The write path: from validated record batches to acknowledgements.
//!
//! ```text
//! append ─► intake (open buffer, full buffers)          one short lock, no waiting
//!             │ seal                                    when: `seal`, the only place
//!             ▼
//!           upload × n in parallel                      one key per attempt, verified
//!             │
//!             ▼
//!           committer: in seal order, pipelined         outcomes kept until known
//!             │
//!             ▼
//!           answers                                     one per batch, exactly one
//! ```
//!
//! # Contract
//!
//! A batch is answered `Stored` only after its object was verified in the store and its commit was
//! applied (I-ACK). It is answered `NotStored` only when it can never be stored: its object was
//! abandoned by a replicated decision, or it was never part of a commit. Everything between is
//! `Undecided`. Batches of one producer on one partition are committed in the order of their
//! [`Writer::append`] calls (I-ORDER).
//!
//! # Order
//!
//! Order is fixed in three places and nowhere else: calls of `append` enter the buffer under a
//! lock; buffers get their sequence when they are sealed, by one task; commits are handed to the
//! control plane in that sequence, by the same task, and the state machine applies them strictly in
//! sequence. Uploads in between run in any order. A commit is never handed over while a lower
//! object may still be abandoned, so what a failed batch takes with it (see `failed`) is known
//! before its successors are committed.
//!
//! # Unknown outcomes
//!
//! An upload without a clear answer is followed by another under a new key. A commit or abandon
//! without a clear answer is sent again, unchanged, until the answer is known. Once a commit of an
//! object was handed over, the object is never abandoned by this broker.
//!
//! # Stop and crash
//!
//! [`Writer::drain`] seals what is there and waits until everything is decided. When the task ends
//! earlier, what is undecided is answered so. A crash leaves uploaded but uncommitted objects:
//! orphans, never acknowledged, deleted by the sweep.

mod answer;
mod budget;
mod buffer;
mod commit;
mod failed;
mod intake;
mod layout;
mod options;
mod pace;
mod seal;
#[cfg(feature = "step-functions")]
pub mod step_writer;
mod steps;
mod task;
mod upload;
mod writer;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::fmt;

use bytes::Bytes;
use ottla_model::ObjectName;

pub use answer::{AppendOutcome, AppendTicket};
pub use budget::{Budget, BudgetError, BudgetMetrics, Reservation, Unfinished};
pub use buffer::ConnectionId;
pub use intake::{AppendBatch, AppendRequest};
pub use options::{WriteOptions, WriteParts};
pub use writer::{Writer, WriterTask};

/// Takes an object that was just written and verified: the read cache. Called before the object is
/// committed, so that a fetch which the commit wakes finds it there.
pub trait WrittenObjects: fmt::Debug + Send + Sync + 'static {
    /// `chunks` are the object's bytes in order, `size` of them in total.
    fn insert_written(&self, name: &ObjectName, size: u64, chunks: Vec<Bytes>);
}
