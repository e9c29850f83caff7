//! Torture: a server that is killed, frozen and restarted while its object store fails and clients
//! write, read, commit, create and delete, round after round; after each round everything is
//! accounted for.
//!
//! | Module | Is |
//! | --- | --- |
//! | [`plan`] | what a round will do, drawn from its seed |
//! | [`world`] | the server and its store, and what is done to them |
//! | [`librdkafka`], [`tail`], [`members`], [`reborn`] | clients beside those of [`crate::load`], and what they saw |
//! | [`round`] | one round from its topics to its verdict |
//! | [`verdict`] | the history of a round, written down and judged |
//! | [`report`] | what is printed |
//!
//! A seed gives the same plan again, not the same interleaving: a failed round keeps its history
//! and the world it happened in. A world lives through several rounds, so that logs, snapshots and
//! objects of earlier rounds are there when later ones restart; what a round wrote is read again a
//! round later and then deleted.
//!
//! # What is checked
//!
//! * Histories, by [`crate::history`]: every acknowledged record is there once and unchanged, no
//!   reader ever saw anything else, groups lost no offset and no record.
//! * After quiet: progress within bounds; after a stop or a kill and a start: the same bytes.
//! * `ottla fsck` on the stopped server: state in order, no object missing, no orphan left.
//! * Memory, descriptors, time to be ready, and the log: no panic, no unexpected error.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub mod librdkafka;
pub mod members;
pub mod plan;
pub mod reborn;
pub mod report;
pub mod round;
pub mod tail;
pub mod verdict;
pub mod world;

/// The counter that orders what the clients of a round did.
#[derive(Clone, Debug, Default)]
pub struct Steps(Arc<AtomicU64>);

impl Steps {
    /// The next step.
    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}
