//! One partition, one producer or many: what they reach when each sends as fast as it can, and what
//! a request waits when all of them together send at a fixed rate.

use std::time::Duration;

use anyhow::Result;
use ottla_benches::produce::Load;
use ottla_tests::ottla::Ottla;
use ottla_tests::paced::Paced;
use ottla_tests::{Scratch, topic};

use crate::table::{Table, mib, one_digit};
use crate::watch::Watch;

const PRODUCERS: [u32; 3] = [1, 10, 100];
/// Of all producers together, as fast as they can: 1.6 GB.
const RECORDS: u64 = 1_600_000;
const LOAD: Duration = Duration::from_secs(15);
const WARM_UP: Duration = Duration::from_secs(2);

/// See the module.
pub async fn run() -> Result<()> {
    let table = Table::begin(&[
        "producers",
        "full: MB/s",
        "full: MB per CPU second",
        "full: PUT/s",
        "full: MiB per object",
        "full: memory (MiB)",
        "paced: p50 (ms)",
        "paced: p99 (ms)",
        "paced: PUT/s",
        "paced: CPU (%)",
    ]);
    for producers in PRODUCERS {
        let scratch = Scratch::new("scale-producers")?;
        let mut server = Ottla::start_new(&scratch).await?;
        let bootstrap = server.bootstrap();
        topic::create(&bootstrap, "paced", 1).await?;
        topic::create(&bootstrap, "full", 1).await?;

        let paced = Paced {
            bootstrap: bootstrap.clone(),
            topics: vec!["paced".to_owned()],
            partitions: 1,
            connections: producers,
            requests_per_second: 500.0,
            batches: 1,
            record_bytes: 16 << 10,
        };
        paced.run(WARM_UP).await?;
        let watch = Watch::begin(&mut server).await?;
        let latencies = paced.run(LOAD).await?;
        let at_rate = watch.end(&mut server).await?;

        let producers = u64::from(producers);
        let load = Load { partitions: 1, producers, ..Load::of("full", RECORDS) };
        let watch = Watch::begin(&mut server).await?;
        tokio::task::block_in_place(|| load.run(&bootstrap))?;
        let full = watch.end(&mut server).await?;
        let megabytes = load.bytes() as f64 / 1e6;
        table.row(&[
            producers.to_string(),
            format!("{:.0}", megabytes / full.seconds),
            format!("{:.0}", megabytes / (full.cpu_percent / 100.0 * full.seconds)),
            format!("{:.0}", full.puts_per_second),
            mib(full.bytes_per_put as u64),
            mib(full.resident_bytes),
            one_digit(latencies.quantile_ms(0.5)),
            one_digit(latencies.quantile_ms(0.99)),
            format!("{:.0}", at_rate.puts_per_second),
            format!("{:.0}", at_rate.cpu_percent),
        ]);
        server.stop().await?;
        scratch.done();
    }
    Ok(())
}
