//! One record at a time, and a slow stream of them.

use anyhow::Result;
use ottla_tests::paced::Latencies;

use crate::Bench;
use crate::targets::{END_TO_END, SYNCHRONOUS};
use ottla_benches::latency::{end_to_end, synchronous};
use ottla_benches::produce::PARTITIONS;

const SYNCHRONOUS_RECORDS: u64 = 1_000;
/// Eleven seconds.
const STREAM_RECORDS: u64 = 5_500;
const STREAM_RATE: f64 = 500.0;

pub async fn run(bench: &mut Bench) -> Result<()> {
    for run in 1..=bench.runs {
        for side in bench.sides.clone() {
            println!("latency, run {run} of {}", bench.runs);
            let mut running = side.start().await?;
            running.create("synchronous", 1).await?;
            running.create("stream", PARTITIONS).await?;
            let mut latencies = Latencies::default();
            running.timed(|bootstrap| {
                latencies = synchronous(bootstrap, "synchronous", SYNCHRONOUS_RECORDS)?;
                Ok(())
            })?;
            bench.report.add(SYNCHRONOUS, side, latencies.quantile_ms(0.5));
            running.timed(|bootstrap| {
                latencies = end_to_end(bootstrap, "stream", STREAM_RECORDS, STREAM_RATE)?;
                Ok(())
            })?;
            let [half, most] = END_TO_END;
            bench.report.add(half, side, latencies.quantile_ms(0.5));
            bench.report.add(most, side, latencies.quantile_ms(0.99));
            running.end();
        }
    }
    Ok(())
}
