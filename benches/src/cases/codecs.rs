//! What it costs to look into compressed batches: the usual producers with each codec.
//!
//! Kafka opens every batch. Ottla does by default; with `OTTLA__PRODUCE__CHECK_LARGE_BATCHES=false` in
//! the environment of the bench, those of more than 64 KiB stay closed.

use anyhow::Result;

use crate::Bench;
use crate::targets::CODECS;
use ottla_benches::produce::{Load, Values};

pub async fn run(bench: &mut Bench) -> Result<()> {
    for run in 1..=bench.runs {
        for side in bench.sides.clone() {
            let mut running = side.start().await?;
            for (codec, measures) in CODECS {
                println!("codecs, {codec}, run {run} of {}", bench.runs);
                let settings = [("linger.ms", "5"), ("compression.type", codec)];
                let load = Load {
                    values: Values::Text,
                    settings: &settings,
                    ..Load::of(codec, bench.records)
                };
                running.create(load.topic, load.partitions).await?;
                let produced = running.timed(|bootstrap| load.run(bootstrap))?;
                bench.add_throughput(measures, side, load.bytes(), &produced);
            }
            running.end();
        }
    }
    Ok(())
}
