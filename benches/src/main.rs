//! Ottla against Apache Kafka: one after the other on the same machine, with the same client
//! (librdkafka), the same load and default server settings; and beside them the measures that have
//! no counterpart in Kafka.
//!
//! `make bench` runs all cases, `make bench CASES="throughput apply"` some; every case starts the
//! servers that it needs. [`targets`] lists what is measured and what is wanted. Figures are medians
//! of the runs, in the unit that the table names: MB are millions of bytes; "per CPU second" counts
//! the processor time of the server, user and system, which is the fairer figure where clients and
//! server share the cores.
//!
//! | Case | Measures |
//! | --- | --- |
//! | `throughput` | four idempotent producers, 16 partitions, then consumers: from the cache, and from cold objects |
//! | `codecs` | the same producers with text and each codec |
//! | `one` | one idempotent producer, one partition |
//! | `delayed` | the same with 100 ms added to every PUT (a node in this process, a store that waits) |
//! | `overhead` | what a produced batch waits for besides flush and upload, at half load |
//! | `latency` | produce to poll at 500 records a second; synchronous produces |
//! | `apply` | commits through the state machine |
//! | `memory` | idle, and while all producers and consumers run at once |
//! | `start` | until ready: empty, and with 10,000 partitions |
//!
//! `OTTLA_BENCH_RUNS` and `OTTLA_BENCH_RECORDS` change the size, `OTTLA_BENCH_SIDES=Ottla` leaves
//! Kafka out.
//!
//! What the figures hide: Kafka acknowledges from the page cache, Ottla after its objects and its log
//! were synced to the disk.

#![allow(clippy::print_stdout, reason = "a program for people")]

mod cases;
mod machine;
mod report;
mod side;
mod targets;

use std::env;

use anyhow::{Context, Result, bail};
use tokio::time::Instant;

use report::Report;
use side::Side;

/// Records of a large load.
const RECORDS: u64 = 800_000;
/// Runs of each case.
const RUNS: u64 = 3;

/// What the cases are told, and where they report to.
struct Bench {
    runs: u64,
    records: u64,
    sides: Vec<Side>,
    report: Report,
}

#[tokio::main]
async fn main() -> Result<()> {
    let named: Vec<String> = env::args().skip(1).collect();
    let only = env::var("OTTLA_BENCH_SIDES").unwrap_or_default();
    let mut bench = Bench {
        runs: setting("OTTLA_BENCH_RUNS", RUNS)?,
        records: setting("OTTLA_BENCH_RECORDS", RECORDS)?,
        sides: Side::BOTH.into_iter().filter(|s| only.is_empty() || only == s.name()).collect(),
        report: Report::default(),
    };
    let begin = Instant::now();
    let all = [
        "throughput",
        "codecs",
        "one",
        "delayed",
        "overhead",
        "latency",
        "apply",
        "memory",
        "start",
    ];
    let chosen = if named.is_empty() { all.map(str::to_owned).to_vec() } else { named };
    for case in &chosen {
        let bench = &mut bench;
        match case.as_str() {
            "throughput" => cases::throughput::run(bench).await,
            "codecs" => cases::codecs::run(bench).await,
            "one" => cases::one::run(bench).await,
            "delayed" => cases::delayed::run(bench).await,
            "overhead" => cases::overhead::run(bench).await,
            "latency" => cases::latency::run(bench).await,
            "apply" => cases::apply::run(bench).await,
            "memory" => cases::memory::run(bench).await,
            "start" => cases::start::run(bench).await,
            _ => bail!("there is no case {case}; there are {}", all.join(", ")),
        }
        .with_context(|| format!("case {case}"))?;
    }
    println!("\n{}\n\n{}", machine::description(), bench.report.table(bench.runs));
    println!("Measured in {:.0} s.", begin.elapsed().as_secs_f64());
    Ok(())
}

fn setting(name: &str, default: u64) -> Result<u64> {
    env::var(name).map_or(Ok(default), |text| text.parse().with_context(|| name.to_owned()))
}
