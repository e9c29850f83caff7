//! What is measured, and what is wanted. The one place where targets are written down.

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// What it is.
    pub name: &'static str,
    /// Of its figures.
    pub unit: &'static str,
    /// What is wanted of Ottla.
    pub target: Target,
}

/// What is wanted of a figure.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// At least this many times Kafka's.
    TimesKafka(f64),
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// Nothing: it is there for orientation.
    None,
}

use Target::{AtLeast, AtMost, TimesKafka};

const fn measure(name: &'static str, unit: &'static str, target: Target) -> Measure {
    Measure { name, unit, target }
}

const WALL: &str = "MB/s";
const CPU: &str = "MB per CPU second";

/// Four idempotent producers, 16 partitions, acks=all.
pub const PRODUCE: [Measure; 2] = [
    measure("Produce: 4 idempotent producers, 16 partitions", WALL, Target::None),
    measure("Produce: 4 idempotent producers, 16 partitions", CPU, TimesKafka(2.0)),
];
/// The same with text and each codec, by the bytes before compression.
pub const CODECS: [(&str, [Measure; 2]); 5] = [
    ("none", codec("Produce text, not compressed")),
    ("gzip", codec("Produce text, gzip")),
    ("snappy", codec("Produce text, snappy")),
    ("lz4", codec("Produce text, lz4")),
    ("zstd", codec("Produce text, zstd")),
];

const fn codec(name: &'static str) -> [Measure; 2] {
    [measure(name, WALL, Target::None), measure(name, CPU, TimesKafka(1.0))]
}

/// Again and again what fits into Ottla's cache.
pub const TAIL: [Measure; 2] = [
    measure("Consume the tail, from the cache", WALL, Target::None),
    measure("Consume the tail, from the cache", CPU, TimesKafka(1.5)),
];
/// After a restart, with the page cache dropped.
pub const CATCH_UP: [Measure; 2] = [
    measure("Catch up from objects, caches cold", WALL, Target::None),
    measure("Catch up from objects, caches cold", CPU, TimesKafka(1.0)),
];
/// The same, the page cache as producing left it.
pub const CATCH_UP_WARM: [Measure; 2] = [
    measure("Catch up, page cache as producing left it", WALL, Target::None),
    measure("Catch up, page cache as producing left it", CPU, Target::None),
];
/// One idempotent producer, one partition.
pub const ONE: [Measure; 2] = [
    measure("Produce: 1 idempotent producer, 1 partition", WALL, TimesKafka(1.0)),
    measure("Produce: 1 idempotent producer, 1 partition", CPU, TimesKafka(1.0)),
];
/// 100 ms added to every PUT, batches of 8 MiB.
pub const DELAYED_LARGE: Measure =
    measure("1 producer, 100 ms added to every PUT, 8 MiB batches", WALL, AtLeast(65.0));
/// 100 ms added to every PUT, the client's defaults. librdkafka's idempotent producer has one request
/// of a partition under way (its `waitresp_cnt` shows it): 1 MB ÷ 100 ms are 10 MB/s.
pub const DELAYED_DEFAULT: Measure = measure(
    "1 producer, 100 ms added to every PUT, client defaults",
    WALL,
    AtLeast(0.8 * 1.0 / 0.1),
);
/// 100 ms added to every PUT, five requests under way, as Java's producer has them: 5 × 1 MB ÷ 100 ms
/// are 50 MB/s. Not idempotent, because that is how librdkafka does it.
pub const DELAYED_FIVE: Measure = measure(
    "1 producer, 100 ms added to every PUT, 5 requests under way",
    WALL,
    AtLeast(0.8 * 5.0 * 1.0 / 0.1),
);
/// What batches waited for, besides flush and upload, where clients take processors from the server.
pub const OVERHEAD: Measure =
    measure("Produce p99 without flush wait and upload, half load", "ms", AtMost(10.0));
/// The same with clients that leave the processors to the server.
pub const OVERHEAD_ALONE: Measure = measure(
    "The same, clients take only what processor time the server leaves (nice 10)",
    "ms",
    AtMost(10.0),
);
/// From the call of produce to the record in a consumer's hands.
pub const END_TO_END: [Measure; 2] = [
    measure("Produce to poll at 500 records/s, p50", "ms", Target::None),
    measure("Produce to poll at 500 records/s, p99", "ms", AtMost(20.0)),
];
/// One record, wait for its acknowledgement, the next one.
pub const SYNCHRONOUS: Measure = measure("1,000 synchronous produces, p50", "ms", AtMost(6.0));
/// 1,600 batches in one command.
pub const APPLY_RATE: Measure = measure("Commit apply, one core", "batches/s", AtLeast(500_000.0));
/// The time of one command.
pub const APPLY: Measure = measure("1,600 batches over 1,600 partitions", "ms", AtMost(5.0));
/// The same while another thread writes snapshots.
pub const APPLY_WRITING: Measure =
    measure("The same while a snapshot is being written", "ms", AtMost(5.0));
/// Ten seconds after the start.
pub const IDLE: Measure = measure("Memory, idle", "MiB", AtMost(60.0));
/// Largest resident memory. Byte budget and cache have 256 MiB each by default.
pub const LOADED: Measure =
    measure("Memory, full load (budgets + 200 MiB)", "MiB", AtMost(256.0 + 256.0 + 200.0));
/// Nothing in it.
pub const START_EMPTY: Measure = measure("Start, empty", "s", AtMost(0.3));
/// After a clean stop.
pub const START_STOPPED: Measure =
    measure("Start, 10,000 partitions, after SIGTERM", "s", AtMost(3.0));
/// After a crash.
pub const START_KILLED: Measure =
    measure("Start, 10,000 partitions, after kill -9", "s", AtMost(3.0));
