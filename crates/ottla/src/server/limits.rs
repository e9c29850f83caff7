//! Bounds of the server's own doings.

use std::time::Duration;

/// A drain that takes longer has failed: what is undecided then is told to clients by the closed
/// connection, and settled by the next start. Well below the 30 s that container platforms wait
/// before they kill.
pub const DRAIN_MAX: Duration = Duration::from_secs(20);
