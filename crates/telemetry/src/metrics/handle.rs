//! The typed handles that other crates hold. All are cheap to clone and count without locks; a
//! labelled handle looks its series up on every `with`, so hot paths keep the result.

use std::time::Duration;

use prometheus::{HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::define::{Definition, Metric};

const REGISTERS: &str = "definitions are constants, and a test registers every one";
const LABELS: &str = "the type fixes the number of label values";

/// A number that only grows.
#[derive(Clone, Debug)]
pub struct Counter(IntCounter);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.0.inc();
    }

    /// `n` more.
    pub fn add(&self, n: u64) {
        self.0.inc_by(n);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// A number that grows and shrinks.
#[derive(Clone, Debug)]
pub struct Gauge(IntGauge);

impl Gauge {
    /// Replaces the value.
    pub fn set(&self, value: i64) {
        self.0.set(value);
    }

    /// Replaces the value by a size; one beyond `i64::MAX` shows as that.
    pub fn set_bytes(&self, bytes: usize) {
        self.0.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// `n` more; less when negative.
    pub fn add(&self, n: i64) {
        self.0.add(n);
    }

    /// `n` less.
    pub fn sub(&self, n: i64) {
        self.0.sub(n);
    }

    /// One more.
    pub fn inc(&self) {
        self.0.inc();
    }

    /// One less.
    pub fn dec(&self) {
        self.0.dec();
    }

    /// The value now.
    pub fn get(&self) -> i64 {
        self.0.get()
    }
}

/// Time spent on something, summed up in seconds.
#[derive(Clone, Debug)]
pub struct SecondsCounter(prometheus::Counter);

impl SecondsCounter {
    /// Adds a time.
    pub fn add(&self, spent: Duration) {
        self.0.inc_by(spent.as_secs_f64());
    }

    /// Moves the sum forward to `total`, where somebody else keeps it. Never moves it back.
    pub fn advance_to(&self, total: Duration) {
        let missing = total.as_secs_f64() - self.0.get();
        if missing > 0.0 {
            self.0.inc_by(missing);
        }
    }

    /// The sum in seconds.
    pub fn get(&self) -> f64 {
        self.0.get()
    }
}

/// How values are spread, in fixed buckets.
#[derive(Clone, Debug)]
pub struct Histogram(prometheus::Histogram);

impl Histogram {
    /// Counts a value in the unit of the metric's name.
    pub fn observe(&self, value: f64) {
        self.0.observe(value);
    }

    /// Counts a time; for metrics in seconds.
    pub fn time(&self, took: Duration) {
        self.0.observe(took.as_secs_f64());
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.0.get_sample_count()
    }

    /// The sum of all values.
    pub fn sum(&self) -> f64 {
        self.0.get_sample_sum()
    }
}

/// Counters that differ in `N` labels.
#[derive(Clone, Debug)]
pub struct CounterVec<const N: usize>(IntCounterVec);

impl<const N: usize> CounterVec<N> {
    /// The counter with these label values, in the order of the definition.
    pub fn with(&self, values: [&str; N]) -> Counter {
        Counter(self.0.get_metric_with_label_values(&values).expect(LABELS))
    }
}

/// Gauges that differ in `N` labels.
#[derive(Clone, Debug)]
pub struct GaugeVec<const N: usize>(IntGaugeVec);

impl<const N: usize> GaugeVec<N> {
    /// The gauge with these label values, in the order of the definition.
    pub fn with(&self, values: [&str; N]) -> Gauge {
        Gauge(self.0.get_metric_with_label_values(&values).expect(LABELS))
    }
}

/// Histograms that differ in `N` labels.
#[derive(Clone, Debug)]
pub struct HistogramVec<const N: usize>(prometheus::HistogramVec);

impl<const N: usize> HistogramVec<N> {
    /// The histogram with these label values, in the order of the definition.
    pub fn with(&self, values: [&str; N]) -> Histogram {
        Histogram(self.0.get_metric_with_label_values(&values).expect(LABELS))
    }
}

impl Definition {
    fn opts(&self) -> Opts {
        Opts::new(self.name, self.help())
    }

    fn histogram_opts(&self) -> HistogramOpts {
        assert!(!self.buckets.is_empty(), "{} names no buckets", self.name);
        HistogramOpts::new(self.name, self.help()).buckets(self.buckets.to_vec())
    }

    fn labels<const N: usize>(&self) -> &'static [&'static str] {
        assert_eq!(self.labels.len(), N, "{}: labels and type disagree", self.name);
        self.labels
    }
}

fn registered<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    metric: C,
) -> C {
    registry.register(Box::new(metric.clone())).expect(REGISTERS);
    metric
}

impl Metric for Counter {
    const KIND: &'static str = "counter";
    fn register(registry: &Registry, definition: &Definition) -> Self {
        Self(registered(registry, IntCounter::with_opts(definition.opts()).expect(REGISTERS)))
    }
}

impl Metric for Gauge {
    const KIND: &'static str = "gauge";
    fn register(registry: &Registry, definition: &Definition) -> Self {
        Self(registered(registry, IntGauge::with_opts(definition.opts()).expect(REGISTERS)))
    }
}

impl Metric for SecondsCounter {
    const KIND: &'static str = "counter";
    fn register(registry: &Registry, definition: &Definition) -> Self {
        let counter = prometheus::Counter::with_opts(definition.opts()).expect(REGISTERS);
        Self(registered(registry, counter))
    }
}

impl Metric for Histogram {
    const KIND: &'static str = "histogram";
    fn register(registry: &Registry, definition: &Definition) -> Self {
        let histogram = prometheus::Histogram::with_opts(definition.histogram_opts());
        Self(registered(registry, histogram.expect(REGISTERS)))
    }
}

impl<const N: usize> Metric for CounterVec<N> {
    const KIND: &'static str = "counter";
    fn register(registry: &Registry, definition: &Definition) -> Self {
        let counters = IntCounterVec::new(definition.opts(), definition.labels::<N>());
        Self(registered(registry, counters.expect(REGISTERS)))
    }
}

impl<const N: usize> Metric for GaugeVec<N> {
    const KIND: &'static str = "gauge";
    fn register(registry: &Registry, definition: &Definition) -> Self {
        let gauges = IntGaugeVec::new(definition.opts(), definition.labels::<N>());
        Self(registered(registry, gauges.expect(REGISTERS)))
    }
}

impl<const N: usize> Metric for HistogramVec<N> {
    const KIND: &'static str = "histogram";
    fn register(registry: &Registry, definition: &Definition) -> Self {
        let histograms =
            prometheus::HistogramVec::new(definition.histogram_opts(), definition.labels::<N>());
        Self(registered(registry, histograms.expect(REGISTERS)))
    }
}
