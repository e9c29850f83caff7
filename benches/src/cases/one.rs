//! One producer that keeps its order: five requests in flight are all it may have.

use anyhow::Result;

use crate::Bench;
use crate::targets::ONE;
use ottla_benches::produce::Load;

/// What one client's threads get of the two processors differs by a third from run to run, of both
/// servers: three runs say too little.
const TIMES: u64 = 3;

pub async fn run(bench: &mut Bench) -> Result<()> {
    let runs = TIMES * bench.runs;
    for run in 1..=runs {
        for side in bench.sides.clone() {
            println!("one, run {run} of {runs}");
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
