//! Where a node is reached, and what a broker says of itself when it registers.

use std::fmt;
use std::sync::Arc;

use crate::broker::Az;

/// The version of Ottla that this build is: what it writes into files and tells other nodes.
pub const SOFTWARE_VERSION: &str = env!("CARGO_PKG_VERSION");

/// A host, by name or address, and a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPort {
    /// Name or address; an IPv6 address without its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl HostPort {
    /// The pair.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Where clients reach a broker by one of its listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name, as in Kafka's `listeners`. A client that came by a listener is told the
    /// endpoints of that listener only.
    pub listener: String,
    /// The address that clients connect to.
    pub address: HostPort,
}

/// Where a run of a broker is and which software it runs: told once, at its registration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerProfile {
    /// The zone it runs in.
    pub az: Az,
    /// Where clients reach it: one per listener.
    pub endpoints: Arc<[Endpoint]>,
    /// Where the other nodes of the cluster reach it.
    pub internal: HostPort,
    /// The version of Ottla.
    pub software: String,
}

impl BrokerProfile {
    /// Where clients of a listener reach it; `None` when it has no such listener.
    pub fn endpoint(&self, listener: &str) -> Option<&HostPort> {
        let found = self.endpoints.iter().find(|endpoint| endpoint.listener == listener);
        found.map(|endpoint| &endpoint.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_is_shown_in_brackets() {
        assert_eq!(HostPort::new("::1", 9092).to_string(), "[::1]:9092");
        assert_eq!(HostPort::new("a.example", 1).to_string(), "a.example:1");
    }

    #[test]
    fn an_endpoint_is_found_by_its_listener() {
        let endpoint = |listener: &str, port| {
            let address = HostPort::new("b", port);
            Endpoint { listener: listener.to_owned(), address }
        };
        let endpoints = [endpoint("INSIDE", 1), endpoint("OUTSIDE", 2)].into();
        let profile = BrokerProfile { endpoints, ..BrokerProfile::default() };
        assert_eq!(profile.endpoint("OUTSIDE"), Some(&HostPort::new("b", 2)));
        assert_eq!(profile.endpoint("outside"), None);
    }
}
