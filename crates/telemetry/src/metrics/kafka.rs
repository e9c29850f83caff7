//! Kafka connections and requests.

use super::buckets;
use super::define::group;
use super::handle::{Counter, CounterVec, Gauge, HistogramVec};

group! {
    /// Kafka connections and requests.
    pub struct KafkaMetrics {
        /// Requests answered, by API name.
        requests: CounterVec<1> = "ottla_kafka_requests_total", labels ["api"];
        /// Time from the arrival of a request to its answer, by API name.
        request_seconds: HistogramVec<1> = "ottla_kafka_request_seconds", labels ["api"],
            buckets buckets::STORE_SECONDS;
        /// Bytes received from clients.
        received_bytes: Counter = "ottla_kafka_received_bytes_total";
        /// Bytes sent to clients.
        sent_bytes: Counter = "ottla_kafka_sent_bytes_total";
        /// Open client connections.
        connections: Gauge = "ottla_kafka_connections";
        /// Connections accepted.
        connections_accepted: Counter = "ottla_kafka_connections_accepted_total";
        /// Connections closed by this side, by reason.
        connections_closed: CounterVec<1> = "ottla_kafka_connections_closed_total",
            labels ["reason"];
    }
}
