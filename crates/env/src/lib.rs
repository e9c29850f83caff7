//! The doors to the world that a simulation replaces: wall clock, randomness, deliberate delays,
//! sockets, and how many of them there may be; and directories that outlast a loss of power.
//!
//! Lints ban the standard ways everywhere else. Tokio's timers and tasks are used directly: a
//! simulated runtime already replaces them; [`VitalTasks`] adds only that a panic is noticed,
//! [`DiskTurns`] says who waits for whom on a disk. Clock
//! and randomness are values that are handed in, so that a test can hold them still.

mod clock;
mod directories;
mod disk_turns;
mod files;
pub mod net;
mod random;
mod vital;

pub use clock::Clock;
pub use directories::{make_durable_below, make_durable_directory, sync_directory};
pub use disk_turns::{DiskTurns, SyncTurn};
pub use files::{is_out_of_files, open_patiently, raise_open_files_limit};
pub use random::Random;
pub use vital::VitalTasks;

use std::time::Duration;

/// Waits for a deliberate pause (back-off, pacing). Never a substitute for waiting on a value.
#[allow(clippy::disallowed_methods, reason = "this is the door")]
pub async fn delay(pause: Duration) {
    tokio::time::sleep(pause).await;
}
