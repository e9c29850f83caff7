//! The doors to the world that a simulation replaces: wall clock, randomness, deliberate delays,
//! sockets.
//!
//! Lints ban the standard ways everywhere else. Tokio's timers and tasks are used directly: a
//! simulated runtime already replaces them. Clock and randomness are values that are handed in, so
//! that a test can hold them still.

mod clock;
pub mod net;
mod random;

pub use clock::Clock;
pub use random::Random;

use std::time::Duration;

/// Waits for a deliberate pause (back-off, pacing). Never a substitute for waiting on a value.
#[allow(clippy::disallowed_methods, reason = "this is the door")]
pub async fn delay(pause: Duration) {
    tokio::time::sleep(pause).await;
}
