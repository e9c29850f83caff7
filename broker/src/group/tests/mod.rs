//! The state machine by small stories, the service against a control plane that misbehaves.

mod joining;
mod machine;
mod memory;
mod offsets;
mod protocols;
mod random;
mod service;
mod sessions;
mod static_members;
mod syncing;

use std::sync::Arc;

use ottla_env::Random;
use ottla_model::{BrokerAuthor, BrokerEpoch, BrokerId};
use ottla_telemetry::Metrics;
use ottla_test_kit::FakeControl;
use ottla_test_kit::values::broker;

use super::{GroupMemory, GroupOptions, Groups};
use crate::registration::AuthorSource;

/// Broker 1 in one of its runs.
fn author(epoch: u64) -> BrokerAuthor {
    BrokerAuthor { broker: BrokerId(1), epoch: BrokerEpoch(epoch) }
}

/// Groups of broker 1 over this control plane; it is alone.
pub(crate) fn groups_over(control: &FakeControl) -> Groups {
    Groups::new(
        Arc::new(control.clone()),
        AuthorSource::fixed(author(1)),
        Arc::new(|| vec![broker(1, "")]),
        Random::seeded(7),
        GroupOptions::default(),
        GroupMemory::new(&Metrics::new()),
    )
}
