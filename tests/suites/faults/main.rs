//! Whole workloads while the store, the control plane and the clock misbehave: a test per failure of
//! docs/failures.md, named by its id.
//!
//! Each test runs librdkafka's producers and a consumer group, and raw producers whose every attempt
//! is kept, on a node in this process ([`node`]) or on the binary. Every promise is checked in
//! the end, after any failure ([`round`]): acknowledged records are there, once, in order, at dense
//! offsets; the group saw all of them; the state is sound; the bucket holds what records are in, and
//! nothing else.
//!
//! `make faults` sets `OTTLA_LONG=1`: outages and freezes are then as long as the catalogue says.

mod log;
mod node;
mod round;

mod clock;
mod commits;
mod mount;
mod outages;
mod rewritten;
mod store;

use std::time::Duration;

/// How long most faults last.
const FAULTY: Duration = Duration::from_secs(4);

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// `long` when the catalogue's own durations were asked for.
fn short_or(short: Duration, long: Duration) -> Duration {
    if std::env::var_os("OTTLA_LONG").is_some_and(|set| set == "1") { long } else { short }
}
