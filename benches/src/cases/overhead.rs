//! What a produced batch waits for besides the flush and the upload.
//!
//! The server times the stages of every object's way: buffer (first batch to seal: the flush wait),
//! upload (seal to verified), commit (verified to decided), answer (decided to handed to the
//! connections). The figure is the 99th percentile of commit plus that of answer, from the
//! histograms' growth during the load, values within a bucket taken as spread evenly: a little above
//! the 99th percentile of their sum. Receiving and checking a request before it enters the buffer
//! is not in it; the processor time of that is what `throughput` measures.
//!
//! Half load is half of what the same producers reach on the same server just before.

use std::time::Duration;

use anyhow::Result;
use ottla_tests::scrape::Scrape;
use ottla_tests::server::Server;

use crate::Bench;
use crate::side::{Running, Side};
use crate::targets::OVERHEAD;
use ottla_benches::produce::Load;

const LOADED_FOR: Duration = Duration::from_secs(8);
const STAGES: &str = "ottla_produce_stage_seconds";
/// Where the time of a commit goes; printed, not judged.
const COMMIT_PARTS: [(&str, &str); 2] =
    [("the log's sync", "ottla_raft_fsync_seconds"), ("apply", "ottla_raft_apply_seconds")];

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
        let before = scrape(&running).await?;
        running.timed(|bootstrap| half.run(bootstrap))?;
        let after = scrape(&running).await?;

        let quantile =
            |stage| 1e3 * after.quantile_since(&before, STAGES, &[("stage", stage)], 0.99);
        for (part, name) in COMMIT_PARTS {
            let p99 = 1e3 * after.quantile_since(&before, name, &[], 0.99);
            println!("  of a commit, p99 of {part}: {p99:.2} ms");
        }
        for stage in ["buffer", "upload", "commit", "answer"] {
            println!("  p99 of {stage}: {:.2} ms", quantile(stage));
        }
        bench.report.add(OVERHEAD, Side::Ottla, quantile("commit") + quantile("answer"));
        running.end();
    }
    Ok(())
}

async fn scrape(running: &Running) -> Result<Scrape> {
    match &running.server {
        Server::Ottla(server) => Scrape::take(server.admin_port()).await,
        Server::Kafka(_) => Ok(Scrape::default()),
    }
}
