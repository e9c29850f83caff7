//! What every handler gets: the services of the broker, and who asks.

use std::net::SocketAddr;
use std::sync::Arc;

use ottla_control_api::ControlPlane;
use ottla_env::{Clock, Random};
use ottla_model::ClusterId;

use crate::options::BrokerOptions;
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
    /// Wall-clock time.
    pub clock: Clock,
    /// Random numbers.
    pub random: Random,
}

/// Who sent a request.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// Number of the connection in this process, from 0.
    pub id: u64,
    /// The name the client gave itself in this request; empty when it gave none.
    pub client_id: Arc<str>,
    /// The address it connected from.
    pub address: SocketAddr,
    /// What ApiVersions said about the client's library.
    pub software: Software,
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
