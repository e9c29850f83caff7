//! Many producers, then consumers.
//!
//! The tail is a topic that fits into Ottla's read cache and is read again and again: Kafka serves it
//! from the page cache. Catching up reads the large topic twice after a restart of Ottla (its cache
//! is empty then): once as producing left the page cache, in which Kafka's segments are and Ottla's
//! objects, written past it, are not; and once with both servers' files dropped from it. The second
//! is the one with a target: a consumer hours behind finds nothing in any cache.

use anyhow::Result;

use crate::Bench;
use crate::targets::{CATCH_UP, CATCH_UP_WARM, PRODUCE, TAIL};
use ottla_benches::consume::Reading;
use ottla_benches::produce::Load;

/// 61 MB: a third of what Ottla's cache has for the tail by default.
const TAIL_RECORDS: u64 = 60_000;
/// How often they are read.
const TAIL_ROUNDS: u64 = 20;

pub async fn run(bench: &mut Bench) -> Result<()> {
    for run in 1..=bench.runs {
        for side in bench.sides.clone() {
            println!("throughput, run {run} of {}", bench.runs);
            let mut running = side.start().await?;

            let all = Load::of("all", bench.records);
            running.create(all.topic, all.partitions).await?;
            let produced = running.timed(|bootstrap| all.run(bootstrap))?;
            bench.add_throughput(PRODUCE, side, all.bytes(), &produced);

            let tail = Load::of("tail", TAIL_RECORDS);
            running.create(tail.topic, tail.partitions).await?;
            running.timed(|bootstrap| tail.run(bootstrap))?;
            let reading = Reading { rounds: TAIL_ROUNDS, ..Reading::of(tail.topic) };
            let read = running.timed(|bootstrap| reading.run(bootstrap))?;
            bench.add_throughput(TAIL, side, tail.bytes() * TAIL_ROUNDS, &read);

            let reading = Reading::of(all.topic);
            running.forget().await?;
            let read = running.timed(|bootstrap| reading.run(bootstrap))?;
            bench.add_throughput(CATCH_UP_WARM, side, all.bytes(), &read);
            running.forget().await?;
            running.drop_page_cache()?;
            let read = running.timed(|bootstrap| reading.run(bootstrap))?;
            bench.add_throughput(CATCH_UP, side, all.bytes(), &read);
            running.end();
        }
    }
    Ok(())
}
