//! The options of a broker.

use std::net::SocketAddr;
use std::time::Duration;

use ottla_model::{Az, BrokerId, HostPort};

use crate::limits;

/// The name of the only listener: Kafka's for one without TLS and authentication.
pub const LISTENER_DEFAULT: &str = "PLAINTEXT";

/// A broker's settings.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// Where it listens for Kafka clients; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The listener's name: a client is told the endpoints of the listener it came by.
    pub listener: String,
    /// What clients are told to connect to. Port 0 stands for the one it listens on.
    pub advertise: HostPort,
    /// What the other nodes of the cluster are told to connect to.
    pub internal: HostPort,
    /// Its id as clients see it.
    pub node_id: BrokerId,
    /// The zone it runs in.
    pub az: Az,
    /// Whether asking for a topic's metadata may create it (`auto.create.topics.enable`).
    pub auto_create_topics: bool,
    /// Partitions of a topic whose creator did not say (`num.partitions`).
    pub num_partitions: i32,
    /// The replication factor shown for a topic whose creator did not say.
    pub default_replication_factor: i16,
    /// How long the first rebalance of an empty group waits for more members
    /// (`group.initial.rebalance.delay.ms`).
    pub group_initial_rebalance_delay: Duration,
    /// Whether compressed batches of more than [`limits::SMALL_BATCH_BYTES`] are decompressed and
    /// checked like smaller ones.
    pub check_large_batches: bool,
    /// What clients may take of it.
    pub edge: EdgeOptions,
}

/// How much clients may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeOptions {
    /// Open connections.
    pub connections_max: u32,
    /// Open connections from one address. Loopback addresses are not held to it: whoever connects
    /// from them runs on this machine, or is a proxy that speaks for many.
    pub connections_per_address_max: u32,
    /// Connections accepted per second; 0: as they come.
    pub connections_rate: u32,
    /// How long a connection may be without a request (`connections.max.idle.ms`).
    pub idle_max: Duration,
    /// Bytes of answers that clients have not taken yet.
    pub answers_bytes: usize,
}

impl Default for EdgeOptions {
    fn default() -> Self {
        Self {
            connections_max: limits::CONNECTIONS_MAX_DEFAULT,
            connections_per_address_max: limits::CONNECTIONS_PER_ADDRESS_MAX_DEFAULT,
            connections_rate: limits::CONNECTIONS_RATE_DEFAULT,
            idle_max: limits::IDLE_MAX_DEFAULT,
            answers_bytes: limits::ANSWERS_BYTES_DEFAULT,
        }
    }
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9092)),
            listener: LISTENER_DEFAULT.to_owned(),
            advertise: HostPort::new("127.0.0.1", 0),
            internal: HostPort::default(),
            node_id: BrokerId(1),
            az: Az::default(),
            auto_create_topics: true,
            num_partitions: 1,
            default_replication_factor: 1,
            group_initial_rebalance_delay: Duration::from_secs(3),
            check_large_batches: true,
            edge: EdgeOptions::default(),
        }
    }
}
