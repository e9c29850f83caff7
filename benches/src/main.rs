//! Ottla against Apache Kafka: one after the other on the same machine, with the same client
//! (librdkafka), the same load and default server settings.
//!
//! Two cases: four idempotent producers write 1 KiB records with random content to 16 partitions,
//! acks=all; four consumers read all of them. Each server is warmed up first. Figures are medians of
//! the runs: MB/s as the clients see them, and MB per second of the server's processor time, which is
//! the fairer one where clients and server share the cores. `OTTLA_BENCH_RUNS` and
//! `OTTLA_BENCH_RECORDS` change the size.
//!
//! What the figures hide: Kafka acknowledges from the page cache, Ottla after its objects and its log
//! were synced to the disk.

#![allow(clippy::print_stdout, reason = "a program for people")]

mod consume;
mod produce;
mod report;

use std::env;

use anyhow::{Context, Result};
use ottla_tests::kafka::Kafka;
use ottla_tests::ottla::Ottla;
use ottla_tests::server::Server;
use ottla_tests::{Scratch, topic};
use tokio::time::Instant;

use report::{Figure, Report};

/// Partitions of the topic.
pub const PARTITIONS: i32 = 16;
/// Producers, and consumers, each with a thread of its own.
pub const CLIENTS: u64 = 4;
/// Bytes of a record's value.
pub const RECORD_BYTES: usize = 1024;
const RECORDS: u64 = 800_000;
const WARM_UP_RECORDS: u64 = 100_000;
const RUNS: u64 = 3;

#[tokio::main]
async fn main() -> Result<()> {
    let runs = setting("OTTLA_BENCH_RUNS", RUNS)?;
    let records = setting("OTTLA_BENCH_RECORDS", RECORDS)?;
    let mut report = Report::default();
    for run in 1..=runs {
        for name in ["Kafka", "Ottla"] {
            println!("run {run} of {runs}: {name}");
            measure(name, records, &mut report).await.context(name)?;
        }
    }
    println!("\n{}", report.table(records));
    Ok(())
}

fn setting(name: &str, default: u64) -> Result<u64> {
    env::var(name).map_or(Ok(default), |text| text.parse().with_context(|| name.to_owned()))
}

/// Both cases on a fresh server.
async fn measure(name: &'static str, records: u64, report: &mut Report) -> Result<()> {
    let scratch = Scratch::new(&format!("bench-{name}"))?;
    let mut server = match name {
        "Kafka" => Server::Kafka(Box::new(Kafka::start_new(&scratch).await?)),
        _ => Server::Ottla(Box::new(Ottla::start_new(&scratch).await?)),
    };
    let bootstrap = server.bootstrap();
    for (topic, records) in [("warm-up", WARM_UP_RECORDS), ("measured", records)] {
        topic::create(&bootstrap, topic, PARTITIONS).await?;
        let produced = timed(&mut server, || produce::run(&bootstrap, topic, records))?;
        let consumed = timed(&mut server, || consume::run(&bootstrap, topic, records))?;
        if topic == "measured" {
            let bytes = records * RECORD_BYTES as u64;
            report.add("produce", name, produced.figure(bytes));
            report.add("consume", name, consumed.figure(bytes));
        }
    }
    scratch.done();
    Ok(())
}

/// Seconds on the clock and of the server's processors.
struct Timed {
    seconds: f64,
    cpu_seconds: f64,
}

impl Timed {
    fn figure(&self, bytes: u64) -> Figure {
        let megabytes = bytes as f64 / 1e6;
        Figure {
            per_second: megabytes / self.seconds,
            per_cpu_second: megabytes / self.cpu_seconds.max(0.01),
        }
    }
}

/// Runs a load on threads of its own; the processes of both sides are not of this runtime.
fn timed(server: &mut Server, load: impl FnOnce() -> Result<()> + Send) -> Result<Timed> {
    let cpu = server.process()?.cpu_seconds()?;
    let begin = Instant::now();
    tokio::task::block_in_place(load)?;
    let seconds = begin.elapsed().as_secs_f64();
    Ok(Timed { seconds, cpu_seconds: server.process()?.cpu_seconds()? - cpu })
}
