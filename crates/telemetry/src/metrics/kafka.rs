//! Kafka connections and requests.

use super::buckets;
use super::define::group;
use super::handle::{Counter, CounterVec, Gauge, HistogramVec, SecondsCounter};

group! {
    /// Kafka connections and requests.
    pub struct KafkaMetrics {
        /// Requests answered, by API name.
        requests: CounterVec<1> = "ottla_kafka_requests_total", labels ["api"];
        /// Time from the arrival of a request to its answer, by API name.
        request_seconds: HistogramVec<1> = "ottla_kafka_request_seconds", labels ["api"],
            buckets buckets::STORE_SECONDS;
        /// Errors in answers, by API name and Kafka's name of the error; one for each topic,
        /// partition or group that has one.
        errors: CounterVec<2> = "ottla_kafka_errors_total", labels ["api", "error"];
        /// Bytes received from clients.
        received_bytes: Counter = "ottla_kafka_received_bytes_total";
        /// Bytes sent to clients.
        sent_bytes: Counter = "ottla_kafka_sent_bytes_total";
        /// Open client connections.
        connections: Gauge = "ottla_kafka_connections";
        /// Connections accepted.
        connections_accepted: Counter = "ottla_kafka_connections_accepted_total";
        /// Time that requests other than Produce waited for memory before they were read.
        request_wait: SecondsCounter = "ottla_kafka_request_memory_wait_seconds_total";
        /// Time that answers waited for memory before their records were read.
        answer_wait: SecondsCounter = "ottla_kafka_answer_memory_wait_seconds_total";
        /// Connections closed by this side, by reason.
        connections_closed: CounterVec<1> = "ottla_kafka_connections_closed_total",
            labels ["reason"];
    }
}
