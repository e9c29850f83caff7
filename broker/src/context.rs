//! The context of every handler: the services of the broker, and who asks.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use ottla_control_api::ControlPlane;
use ottla_env::{Clock, Random};
use ottla_model::ClusterId;
use ottla_storage::read::Reader;
use ottla_storage::view::View;
use ottla_storage::write::{Budget, BudgetMetrics, Writer};
use ottla_telemetry::Metrics;
use ottla_telemetry::metrics::SecondsCounter;
use tokio::sync::watch;

use crate::client_share::share_key;
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
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// True from the moment when the broker stops.
    pub draining: watch::Receiver<bool>,
    /// The write path. Another one after each registration.
    pub(crate) writer: CurrentWriter,
    pub(crate) producer_ids: ProducerIds,
    pub(crate) record_check: RecordCheck,
    /// Bytes of large Fetch, JoinGroup and SyncGroup requests that are being received or decoded.
    pub(crate) requests: Budget,
    /// Bytes of large requests of all other kinds but Produce, until they are handled.
    pub(crate) calls: Budget,
    /// Memory that calls of very many elements take once they are decoded.
    pub(crate) decoded_calls: Budget,
    /// What fetches keep while they wait for records.
    pub(crate) fetch_plans: Budget,
    /// What fetches of many partitions need while they look for records.
    pub(crate) fetch_passes: Budget,
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

/// The budget of requests that wait for nothing but to be decoded.
pub(crate) fn requests_budget(metrics: &Metrics) -> Budget {
    let waited = &metrics.kafka.request_wait;
    Budget::new(limits::OTHER_FRAMES_BYTES_MAX, shown_as("requests", waited, metrics))
}

/// The budget of requests that wait for the control plane or the store.
pub(crate) fn calls_budget(metrics: &Metrics) -> Budget {
    let waited = &metrics.kafka.request_wait;
    Budget::new(limits::CALLS_BYTES_MAX, shown_as("calls", waited, metrics))
}

/// The budget of those requests once they are decoded. Its holders never wait for `calls`.
pub(crate) fn decoded_calls_budget(metrics: &Metrics) -> Budget {
    let waited = &metrics.kafka.request_wait;
    Budget::new(limits::DECODED_CALLS_BYTES_MAX, shown_as("decoded_calls", waited, metrics))
}

/// The budget of fetches that wait. Nobody waits for it: a fetch for which it has no room does not
/// wait for records.
pub(crate) fn fetch_plans_budget(metrics: &Metrics) -> Budget {
    let metrics = shown_as("fetch_plans", &metrics.kafka.request_wait, metrics);
    let (total, client_max) = (limits::FETCH_PLANS_BYTES_MAX, limits::FETCH_PLANS_CLIENT_BYTES_MAX);
    Budget::with_client_max(total, client_max, metrics)
}

/// The budget of fetches that look for records.
pub(crate) fn fetch_passes_budget(metrics: &Metrics) -> Budget {
    let waited = &metrics.kafka.request_wait;
    Budget::new(limits::FETCH_PASSES_BYTES_MAX, shown_as("fetch_passes", waited, metrics))
}

/// The budget of answers.
pub(crate) fn answers_budget(bytes: usize, metrics: &Metrics) -> Budget {
    Budget::new(bytes, shown_as("answers", &metrics.kafka.answer_wait, metrics))
}

fn shown_as(owner: &'static str, waited: &SecondsCounter, metrics: &Metrics) -> BudgetMetrics {
    BudgetMetrics {
        held: metrics.memory.bytes.with([owner]),
        held_max: metrics.memory.bytes_max.with([owner]),
        waited: waited.clone(),
    }
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
    /// Keeps the beginning of a client id, as Kafka reads it: the bytes need not be UTF-8.
    pub fn note_client_id(&mut self, sent: &[u8]) {
        let client_id = String::from_utf8_lossy(sent);
        let client_id = &client_id[..client_id.floor_char_boundary(limits::CLIENT_ID_BYTES_MAX)];
        if *self.client_id != *client_id {
            self.client_id = client_id.into();
        }
    }

    /// The key of its shares: of budgets, turns and groups' memory.
    pub fn share(&self) -> IpAddr {
        share_key(self.address.ip())
    }

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
