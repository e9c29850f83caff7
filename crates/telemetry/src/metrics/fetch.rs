//! The read path.

use super::buckets;
use super::define::group;
use super::handle::{Counter, CounterVec, Histogram, HistogramVec};

group! {
    /// The read path and its cache.
    pub struct FetchMetrics {
        /// Time of one stage of a fetch: wait (for records to exist), plan, read (cache and store).
        stage_seconds: HistogramVec<1> = "ottla_fetch_stage_seconds", labels ["stage"],
            buckets buckets::STORE_SECONDS;
        /// Record bytes per fetch answer.
        response_bytes: Histogram = "ottla_fetch_response_bytes", buckets buckets::BYTES;
        /// Partitions of fetches that ended in an error, by reason.
        partition_errors: CounterVec<1> = "ottla_fetch_partition_errors_total", labels ["reason"];
        /// Reads whose bytes were found changed, by their checksums. They are read again; what is
        /// found changed twice is an error of its partition (`corrupt`).
        damaged_reads: Counter = "ottla_fetch_damaged_reads_total";
        /// Reads of a block that the cache held.
        cache_hits: Counter = "ottla_cache_hits_total";
        /// Reads of a block that the cache did not hold.
        cache_misses: Counter = "ottla_cache_misses_total";
    }
}
