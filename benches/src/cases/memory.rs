//! Resident memory: idle, and with everything at once.

use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use ottla_env::delay;
use ottla_tests::Scratch;
use ottla_tests::ottla::Ottla;

use crate::Bench;
use crate::side::Side;
use crate::targets::{IDLE, LOADED};
use ottla_benches::consume::Reading;
use ottla_benches::produce::Load;

const IDLE_FOR: Duration = Duration::from_secs(10);
const MIB: f64 = (1 << 20) as f64;

pub async fn run(bench: &mut Bench) -> Result<()> {
    for run in 1..=bench.runs {
        println!("memory, run {run} of {}", bench.runs);
        let scratch = Scratch::new("bench-memory")?;
        let mut server = Ottla::start_new(&scratch).await?;
        delay(IDLE_FOR).await;
        let idle = server.process()?.resident_bytes()?;
        bench.report.add(IDLE, Side::Ottla, idle as f64 / MIB);

        let load = Load::of("all", bench.records);
        ottla_tests::topic::create(&server.bootstrap(), load.topic, load.partitions).await?;
        let bootstrap = server.bootstrap();
        tokio::task::block_in_place(|| at_once(&bootstrap, &load))?;
        let peak = server.process()?.peak_resident_bytes()?;
        bench.report.add(LOADED, Side::Ottla, peak as f64 / MIB);
        server.stop().await?;
        scratch.done();
    }
    Ok(())
}

/// Producers, consumers that follow them, and, when those are done, consumers of everything.
fn at_once(bootstrap: &str, load: &Load<'_>) -> Result<()> {
    let following = Reading { records: Some(load.records), ..Reading::of(load.topic) };
    thread::scope(|scope| {
        let reader = scope.spawn(|| following.run(bootstrap));
        load.run(bootstrap)?;
        reader.join().map_err(|_| anyhow!("a consumer panicked"))?
    })?;
    Reading::of(load.topic).run(bootstrap)
}
