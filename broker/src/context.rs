//! What every handler gets: the services of the broker, and who asks.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use ottla_control_api::ControlPlane;
use ottla_env::{Clock, Random};
use ottla_model::ClusterId;
use ottla_storage::read::Reader;
use ottla_storage::view::View;
use ottla_storage::write::{Budget, BudgetMetrics, Writer};
use ottla_telemetry::Metrics;
use tokio::sync::watch;

use crate::group::Groups;
use crate::limits;
use crate::options::BrokerOptions;
use crate::producer_ids::ProducerIds;
use crate::record_check::RecordCheck;
use crate::registration::AuthorSource;

/// The services of one broker, shared by all its connections.
pub struct Context {
    /// The cluster.
    pub cluster: ClusterId,
    /// The settings.
    pub options: BrokerOptions,
    /// Who this broker is to the control plane.
    pub author: AuthorSource,
    /// The control plane.
    pub control: Arc<dyn ControlPlane>,
    /// What this broker sees of the cluster.
    pub view: Arc<View>,
    /// The read path.
    pub reader: Arc<Reader>,
    /// The group coordinator.
    pub groups: Groups,
    /// Wall-clock time.
    pub clock: Clock,
    /// Random numbers.
    pub random: Random,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// True from the moment when the broker stops.
    pub draining: watch::Receiver<bool>,
    /// The write path. Another one after each registration.
    pub(crate) writer: CurrentWriter,
    pub(crate) producer_ids: ProducerIds,
    pub(crate) record_check: RecordCheck,
    /// Bytes of large frames other than Produce that are being received or handled.
    pub(crate) requests: Budget,
    /// Bytes of large answers that clients have not taken yet.
    pub(crate) answers: Budget,
}

impl Context {
    /// The write path of the present registration.
    pub fn writer(&self) -> Writer {
        self.writer.get()
    }

    /// Waits until the broker stops.
    pub async fn until_draining(&self) {
        let mut draining = self.draining.clone();
        // An error means that the broker is gone.
        let _ = draining.wait_for(|draining| *draining).await;
    }
}

/// The budget of requests other than Produce.
pub(crate) fn requests_budget(metrics: &Metrics) -> Budget {
    let (memory, kafka) = (&metrics.memory, &metrics.kafka);
    let metrics = BudgetMetrics {
        held: memory.bytes.with(["requests"]),
        held_max: memory.bytes_max.with(["requests"]),
        waited: kafka.request_wait.clone(),
    };
    Budget::new(limits::OTHER_FRAMES_BYTES_MAX, metrics)
}

/// The budget of answers.
pub(crate) fn answers_budget(bytes: usize, metrics: &Metrics) -> Budget {
    let (memory, kafka) = (&metrics.memory, &metrics.kafka);
    let metrics = BudgetMetrics {
        held: memory.bytes.with(["answers"]),
        held_max: memory.bytes_max.with(["answers"]),
        waited: kafka.answer_wait.clone(),
    };
    Budget::new(bytes, metrics)
}

/// The write path of the present registration; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct CurrentWriter(Arc<RwLock<Writer>>);

impl CurrentWriter {
    pub fn new(writer: Writer) -> Self {
        Self(Arc::new(RwLock::new(writer)))
    }

    pub fn get(&self) -> Writer {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn replace(&self, writer: Writer) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = writer;
    }
}

/// Who sent a request.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// Number of the connection in this process, from 0.
    pub id: u64,
    /// The name the client gave itself in this request, at most [`limits::CLIENT_ID_BYTES_MAX`] of
    /// it; empty when it gave none.
    pub client_id: Arc<str>,
    /// The address it connected from.
    pub address: SocketAddr,
    /// What ApiVersions said about the client's library.
    pub software: Software,
    /// API key and version of the last request, as sent.
    pub last_request: Option<(i16, i16)>,
}

impl ConnectionInfo {
    /// The client's host as Kafka shows it: an address after a slash.
    pub fn client_host(&self) -> String {
        format!("/{}", self.address.ip())
    }
}

/// A client library as it introduced itself (KIP-511); empty when it did not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Software {
    /// For example `apache-kafka-java`.
    pub name: Arc<str>,
    /// For example `4.3.1`.
    pub version: Arc<str>,
}
