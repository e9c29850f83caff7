//! Bounds of the server's own doings.

use std::time::Duration;

/// How often a start tries to note in the store how far the cluster is. The store was just read
/// from; one that takes no write would not serve either.
pub const HEIGHT_ATTEMPTS_MAX: u32 = 3;

/// A drain that takes longer has failed: what is undecided then is told to clients by the closed
/// connection, and settled by the next start. Well below the 30 s that container platforms wait
/// before they kill.
pub const DRAIN_MAX: Duration = Duration::from_secs(20);
