//! What an operator can choose about a broker.

use std::net::SocketAddr;
use std::time::Duration;

use ottla_model::{Az, BrokerId};

/// A broker's settings.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// Where it listens for Kafka clients; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Host and port that clients are told to connect to. Port 0 stands for the one it listens on.
    pub advertise: (String, u16),
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
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9092)),
            advertise: ("127.0.0.1".to_owned(), 0),
            node_id: BrokerId(1),
            az: Az::default(),
            auto_create_topics: true,
            num_partitions: 1,
            default_replication_factor: 1,
            group_initial_rebalance_delay: Duration::from_secs(3),
        }
    }
}
