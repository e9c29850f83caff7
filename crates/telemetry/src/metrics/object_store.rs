//! The object store.

use super::buckets;
use super::define::group;
use super::handle::{Counter, CounterVec, Gauge, HistogramVec};

group! {
    /// Requests to the object store: what the bill is made of.
    pub struct ObjectStoreMetrics {
        /// Requests by operation (put, get, list, delete), cause (wal, merged, tail, catch_up, timestamp,
        /// inspect, marker, other) and outcome (ok, the error's kind, or cancelled: a rival was faster).
        requests: CounterVec<3> = "ottla_objectstore_requests_total",
            labels ["op", "cause", "outcome"];
        /// Time of one request, retries counted apart.
        request_seconds: HistogramVec<1> = "ottla_objectstore_request_seconds", labels ["op"],
            buckets buckets::STORE_SECONDS;
        /// Payload bytes by direction (in: read from the store, out: written to it) and cause.
        bytes: CounterVec<2> = "ottla_objectstore_bytes_total", labels ["dir", "cause"];
        /// Requests that are under way.
        inflight: Gauge = "ottla_objectstore_inflight";
        /// Requests repeated, by the reason of the failure before.
        retries: CounterVec<1> = "ottla_objectstore_retries_total", labels ["reason"];
        /// Second requests sent because the first was slow.
        hedges: Counter = "ottla_objectstore_hedges_total";
    }
}
