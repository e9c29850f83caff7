//! All metrics of a process, by group; one file per group.
//!
//! # Conventions
//!
//! Names begin with `ottla_` (`process_` for what the operating system counts), use base units
//! (`_seconds`, `_bytes`, `_ratio`), and counters end in `_total`. Label values come from small
//! fixed sets, never from clients: nobody outside can add series.
//!
//! # Adding a metric
//!
//! Add one entry to the group's file; the doc comment becomes the help text. Then regenerate the
//! reference page with `cargo run -p ottla -- docs --write`.

mod buckets;
mod define;
mod fetch;
mod handle;
mod kafka;
mod memory;
mod object_store;
mod process;
mod produce;
mod raft;
mod state;
mod sweep;

pub use define::MetricInfo;
pub use fetch::FetchMetrics;
pub use handle::{Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramVec, SecondsCounter};
pub use kafka::KafkaMetrics;
pub use memory::MemoryMetrics;
pub use object_store::ObjectStoreMetrics;
pub use produce::ProduceMetrics;
pub use raft::RaftMetrics;
pub use state::StateMetrics;
pub use sweep::SweepMetrics;

use std::sync::Arc;

use prometheus::{Registry, TextEncoder};

use process::ProcessMetrics;

/// The metrics of one process. Made once at its start and handed to every part.
#[derive(Debug)]
pub struct Metrics {
    /// The write path, from a received batch to its answer.
    pub produce: ProduceMetrics,
    /// The read path and its cache.
    pub fetch: FetchMetrics,
    /// Requests to the object store.
    pub object_store: ObjectStoreMetrics,
    /// The Raft log, apply, snapshots and the checkpoint.
    pub raft: RaftMetrics,
    /// The size of the replicated state.
    pub state: StateMetrics,
    /// Kafka connections and requests.
    pub kafka: KafkaMetrics,
    /// Bytes held, by owner.
    pub memory: MemoryMetrics,
    /// Objects deleted from the bucket.
    pub sweep: SweepMetrics,
    process: ProcessMetrics,
    registry: Registry,
}

impl Metrics {
    /// A fresh set, all at zero. Sets are independent of each other: tests make their own.
    pub fn new() -> Arc<Self> {
        let registry = Registry::new();
        Arc::new(Self {
            produce: ProduceMetrics::register(&registry),
            fetch: FetchMetrics::register(&registry),
            object_store: ObjectStoreMetrics::register(&registry),
            raft: RaftMetrics::register(&registry),
            state: StateMetrics::register(&registry),
            kafka: KafkaMetrics::register(&registry),
            memory: MemoryMetrics::register(&registry),
            sweep: SweepMetrics::register(&registry),
            process: ProcessMetrics::register(&registry),
            registry,
        })
    }

    /// The current values in Prometheus' text format (version 0.0.4).
    pub fn render(&self) -> String {
        self.process.refresh();
        let mut text = String::new();
        TextEncoder::new()
            .encode_utf8(&self.registry.gather(), &mut text)
            .expect("writing into a String cannot fail, and gathered families are never empty");
        text
    }

    /// Every metric there is, sorted by name.
    pub fn inventory() -> Vec<MetricInfo> {
        let groups = [
            ProduceMetrics::inventory(),
            FetchMetrics::inventory(),
            ObjectStoreMetrics::inventory(),
            RaftMetrics::inventory(),
            StateMetrics::inventory(),
            KafkaMetrics::inventory(),
            MemoryMetrics::inventory(),
            SweepMetrics::inventory(),
            ProcessMetrics::inventory(),
        ];
        let mut all: Vec<MetricInfo> = groups.into_iter().flatten().collect();
        all.sort_by_key(|metric| metric.name);
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        let mut seen = BTreeSet::new();
        for metric in Metrics::inventory() {
            let MetricInfo { name, kind, ref help, labels, .. } = metric;
            assert!(seen.insert(name), "{name} is defined twice");
            assert!(name.starts_with("ottla_") || name.starts_with("process_"), "{name}: prefix");
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(name.chars().all(legal), "{name}: characters");
            assert_eq!(
                kind == "counter",
                name.ends_with("_total"),
                "{name}: _total is for counters"
            );
            for part in
                ["_ms", "_millis", "_micros", "_minutes", "_kb", "_mb", "_kib", "_mib", "_percent"]
            {
                assert!(
                    !name.contains(&format!("{part}_")) && !name.ends_with(part),
                    "{name}: unit"
                );
            }
            for suffix in ["_count", "_sum", "_bucket"] {
                assert!(!name.ends_with(suffix), "{name}: {suffix} belongs to histograms");
            }
            assert!(help.ends_with('.') && help.len() > 10, "{name}: help is a sentence");
            assert!(!help.contains('\n'), "{name}: help is one line");
            for label in labels {
                assert!(label.chars().all(legal) && *label != "le", "{name}: label {label}");
            }
        }
    }

    #[test]
    fn a_scrape_shows_what_was_counted() {
        let metrics = Metrics::new();
        metrics.object_store.requests.with(["put", "wal", "ok"]).inc();
        metrics.produce.stage_seconds.with(["upload"]).time(Duration::from_millis(30));
        let text = metrics.render();
        assert!(
            text.contains(
                r#"ottla_objectstore_requests_total{cause="wal",op="put",outcome="ok"} 1"#
            ),
            "{text}"
        );
        assert!(text.contains(r#"ottla_produce_stage_seconds_count{stage="upload"} 1"#), "{text}");
        assert!(text.contains("# TYPE process_resident_memory_bytes gauge"), "{text}");
        assert!(text.contains(r#"ottla_allocator_bytes{kind="allocated"}"#), "{text}");
    }

    #[test]
    fn every_plain_metric_is_in_the_first_scrape() {
        let text = Metrics::new().render();
        for metric in Metrics::inventory().iter().filter(|metric| metric.labels.is_empty()) {
            assert!(
                text.contains(&format!("# TYPE {} {}", metric.name, metric.kind)),
                "{}",
                metric.name
            );
        }
    }
}
