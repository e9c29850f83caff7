//! What a produced batch waits for besides the flush and the upload.
//!
//! The server times the stages of every object's way: buffer (first batch to seal: the flush wait),
//! upload (seal to verified), order (verified to handed over), commit (handed over to decided),
//! answer (decided to handed to the connections). The figure is the 99th percentile of the last three
//! together (`ottla_produce_overhead_seconds`), from the histogram's growth during the load, values
//! within a bucket taken as spread evenly. Receiving and checking a request before it enters the
//! buffer is not in it; the processor time of that is what `throughput` measures.
//!
//! Half load is half of what the same producers reach on the same server just before. It is
//! measured twice: with clients that claim the processors like the server does, and with clients
//! that take what the server leaves. A commit wakes three threads, each of which waits for a
//! processor when both are busy with clients; brokers have no producers on their machines.

use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use ottla_tests::scrape::Scrape;
use ottla_tests::server::Server;

use crate::Bench;
use crate::side::{Running, Side};
use crate::targets::{Measure, OVERHEAD, OVERHEAD_ALONE};
use ottla_benches::produce::Load;

const LOADED_FOR: Duration = Duration::from_secs(8);
const STAGES: &str = "ottla_produce_stage_seconds";
const OVERHEAD_SECONDS: &str = "ottla_produce_overhead_seconds";
/// Where the time of a commit goes; printed, not judged, as the stages are.
const COMMIT_PARTS: [(&str, &str); 2] =
    [("the log's sync", "ottla_raft_fsync_seconds"), ("apply", "ottla_raft_apply_seconds")];
/// How far clients stand back behind the server: a tenth of its claim.
const STAND_BACK: i32 = 10;

pub async fn run(bench: &mut Bench) -> Result<()> {
    for run in 1..=bench.runs {
        println!("overhead, run {run} of {}", bench.runs);
        let mut running = Side::Ottla.start().await?;
        let full = Load::of("full", bench.records / 2);
        running.create(full.topic, full.partitions).await?;
        let most = full.records as f64 / running.timed(|bootstrap| full.run(bootstrap))?.seconds;

        let rate = most / 2.0;
        let records = (rate * LOADED_FOR.as_secs_f64()) as u64 / full.producers * full.producers;
        let half = Load { records_per_second: Some(rate), ..Load::of("half", records) };
        running.create(half.topic, half.partitions).await?;
        measured(bench, &mut running, &OVERHEAD, |bootstrap| half.run(bootstrap)).await?;
        measured(bench, &mut running, &OVERHEAD_ALONE, |bootstrap| {
            standing_back(|| half.run(bootstrap))
        })
        .await?;
        running.end();
    }
    Ok(())
}

async fn measured(
    bench: &mut Bench,
    running: &mut Running,
    measure: &Measure,
    load: impl FnOnce(&str) -> Result<()> + Send,
) -> Result<()> {
    let before = scrape(running).await?;
    running.timed(load)?;
    let after = scrape(running).await?;

    let p99 = |name, labels: &[_]| 1e3 * after.quantile_since(&before, name, labels, 0.99);
    for stage in ["buffer", "upload", "order", "commit", "answer"] {
        println!("  p99 of {stage}: {:.2} ms", p99(STAGES, &[("stage", stage)]));
    }
    for (part, name) in COMMIT_PARTS {
        println!("  of a commit, p99 of {part}: {:.2} ms", p99(name, &[]));
    }
    bench.report.add(*measure, Side::Ottla, p99(OVERHEAD_SECONDS, &[]));
    Ok(())
}

/// Runs a load on threads that leave the processors to others.
fn standing_back(load: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    thread::scope(|scope| {
        let low = scope.spawn(|| {
            // Of this thread alone, and inherited by those that it starts.
            rustix::process::nice(STAND_BACK)?;
            load()
        });
        low.join().map_err(|_| anyhow!("the load panicked"))?
    })
}

async fn scrape(running: &Running) -> Result<Scrape> {
    match &running.server {
        Server::Ottla(server) => Scrape::take(server.admin_port()).await,
        Server::Kafka(_) => Ok(Scrape::default()),
    }
}
