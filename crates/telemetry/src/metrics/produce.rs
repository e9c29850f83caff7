//! The write path.

use super::buckets;
use super::define::group;
use super::handle::{Counter, CounterVec, Gauge, Histogram, HistogramVec, SecondsCounter};

group! {
    /// The write path, from a received batch to its answer.
    pub struct ProduceMetrics {
        /// Time from the arrival of a Produce request to its answer.
        ack_seconds: Histogram = "ottla_produce_ack_seconds", buckets buckets::STORE_SECONDS;
        /// Time of one stage of an object's way: check (of the records of a request with compressed
        /// batches, before the buffer), buffer (first batch to seal), upload (seal to
        /// verified), order (verified to handed over: waiting for uploads of objects sealed before,
        /// or for the control plane after a failed call), commit (handed over to decided), answer (decided to handed to connections).
        stage_seconds: HistogramVec<1> = "ottla_produce_stage_seconds", labels ["stage"],
            buckets buckets::STAGE_SECONDS;
        /// Time of an object from the end of its upload to its answers (the stages order, commit and
        /// answer together): what the broker adds to flush and store.
        overhead_seconds: Histogram = "ottla_produce_overhead_seconds",
            buckets buckets::STAGE_SECONDS;
        /// Record batches by outcome: stored (now or by an earlier send), refused, not_stored,
        /// undecided, fenced.
        batches: CounterVec<1> = "ottla_produce_batches_total", labels ["outcome"];
        /// Bytes of record batches accepted into the buffer.
        bytes: Counter = "ottla_produce_bytes_total";
        /// Records of batches accepted into the buffer.
        records: Counter = "ottla_produce_records_total";
        /// Batches refused before the buffer, by reason.
        rejected: CounterVec<1> = "ottla_produce_rejected_total", labels ["reason"];
        /// Bytes in the open and in sealed buffers that are not uploaded yet.
        buffer_bytes: Gauge = "ottla_buffer_bytes";
        /// Buffers sealed, by reason: linger, size, drain, pipelines (every connection already
        /// waits), pressure (producers wait for the byte budget), budget (the request budget
        /// allowed it early).
        flushes: CounterVec<1> = "ottla_flush_total", labels ["reason"];
        /// Length of written objects.
        object_bytes: Histogram = "ottla_object_bytes", buckets buckets::BYTES;
        /// Record batches per written object.
        object_batches: Histogram = "ottla_object_batches", buckets buckets::COUNT;
        /// Partitions per written object.
        object_partitions: Histogram = "ottla_object_partitions", buckets buckets::COUNT;
        /// Upload attempts after an object's first, by kind: hedge, retry.
        extra_attempts: CounterVec<1> = "ottla_upload_extra_attempts_total", labels ["kind"];
        /// Objects given up: their batches were answered "not stored".
        objects_abandoned: Counter = "ottla_objects_abandoned_total";
        /// Time Produce frames waited for the byte budget before they were read.
        backpressure: SecondsCounter = "ottla_backpressure_seconds_total";
    }
}
