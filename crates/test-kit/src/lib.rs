//! What the tests of several crates share. A development dependency only.
//!
//! * [`FakeControl`]: a control plane in memory, for tests of those who ask one. It does what it is
//!   asked, and fails as it is told. It knows no producers, no sequences of objects and no sessions:
//!   whoever depends on those tests with the real state machine (`crates/sim`, `tests/`).
//! * [`batch`]: record batches as producers send them, written without the code under test.
//! * [`values`]: topics, offsets, extents with the fields that tests care about.

pub mod batch;
mod control;
pub mod values;

pub use control::{APPEND_TIME, FakeControl, Fault};
