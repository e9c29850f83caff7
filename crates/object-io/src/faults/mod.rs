//! An object store with faults, for tests and simulation.
//!
//! A [`FaultStore`] stands between the layer that retries and a real store and does what stores
//! have been seen doing: slow answers, refusals, errors after the fact, answers that never come,
//! bodies cut short and accepted, writes that arrive long after their error, reads that are short
//! or changed. Faults are either scripted (the next write does *this*) or drawn by rates from a
//! seed; a scripted fault goes first. A store can also have a capacity: what comes beyond so many
//! writes per second is refused.

mod capacity;
mod plan;
mod store;

pub use plan::{FaultRates, Latency, ReadFault, WriteFault};
pub use store::FaultStore;
