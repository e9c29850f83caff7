//! A world for tests of a whole broker: a control plane in memory, a store in memory, and a client.

mod client;

pub use client::{Client, batch, batch_with};

use std::net::SocketAddr;
use std::sync::Arc;

use ottla_env::{Clock, Random};
use ottla_model::{ClusterId, TimestampMs};
use ottla_storage::cache::Cache;
use ottla_storage::write::WriteOptions;
use ottla_telemetry::Metrics;
use ottla_test_kit::FakeControl;

use crate::{Broker, BrokerOptions, Parts};

/// The wall clock of tests.
pub const NOW: TimestampMs = TimestampMs(1_000_000_000);

/// A running broker with its control plane.
pub struct World {
    pub broker: Broker,
    pub control: FakeControl,
    pub metrics: Arc<Metrics>,
}

impl World {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut BrokerOptions)) -> Self {
        Self::with_both(|options, _| change(options)).await
    }

    pub async fn with_both(change: impl FnOnce(&mut BrokerOptions, &mut WriteOptions)) -> Self {
        let mut options = BrokerOptions {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            group_initial_rebalance_delay: std::time::Duration::ZERO,
            ..BrokerOptions::default()
        };
        let control = FakeControl::default();
        let metrics = Metrics::new();
        let store = ottla_object_io::memory();
        let mut write = WriteOptions::for_store(&*store);
        change(&mut options, &mut write);
        let parts = Parts {
            control: Arc::new(control.clone()),
            cache: Cache::with_default_size(&metrics),
            cluster: ClusterId(1),
            write,
            store,
            clock: Clock::manual(NOW),
            random: Random::seeded(1),
            metrics: metrics.clone(),
        };
        let broker = Broker::start(options, parts).await.unwrap();
        Self { broker, control, metrics }
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.broker.local_address()).await
    }
}
