//! Clients that nobody invited: what they send, claim and hold back, and what is served meanwhile.
//!
//! Names begin with the id of the failure in `docs/failures.md`. Every test ends with
//! [`ottla_tests::edge::Edge::survived`]: no panic in the log, memory within a stated bound, others
//! served, all descriptors given back.

mod answers;
mod batches;
mod claims;
mod connections;
mod groups;
mod half_closed;
mod look_ups;
mod noise;
mod operators;
mod patience;
mod produce_timeouts;
mod sharing;
mod timestamps;
