//! One producer that keeps its order: five requests in flight are all it may have.

use anyhow::Result;

use crate::Bench;
use crate::targets::ONE;
use ottla_benches::produce::Load;

pub async fn run(bench: &mut Bench) -> Result<()> {
    for run in 1..=bench.runs {
        for side in bench.sides.clone() {
            println!("one, run {run} of {}", bench.runs);
            let mut running = side.start().await?;
            let load = Load { partitions: 1, producers: 1, ..Load::of("one", bench.records / 2) };
            running.create(load.topic, load.partitions).await?;
            let produced = running.timed(|bootstrap| load.run(bootstrap))?;
            bench.add_throughput(ONE, side, load.bytes(), &produced);
            running.end();
        }
    }
    Ok(())
}
