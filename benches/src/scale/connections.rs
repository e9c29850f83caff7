//! Ten busy connections, alone and beside 990 that are open and idle.

use std::time::Duration;

use anyhow::Result;
use ottla_tests::ottla::Ottla;
use ottla_tests::paced::Paced;
use ottla_tests::raw::RawClient;
use ottla_tests::{Scratch, topic};

use crate::table::{Table, mib, one_digit};
use crate::watch::Watch;

const TOPIC: &str = "busy";
const PARTITIONS: i32 = 16;
const BUSY: u32 = 10;
/// Opened step by step.
const IDLE: [usize; 3] = [0, 90, 990];
const WARM_UP: Duration = Duration::from_secs(3);
const LOAD: Duration = Duration::from_secs(15);

/// See the module.
pub async fn run() -> Result<()> {
    let table = Table::begin(&[
        "connections",
        "of them idle",
        "memory (MiB)",
        "KiB per idle connection",
        "p50 of the busy (ms)",
        "p99 of the busy (ms)",
        "PUT/s",
        "CPU (%)",
    ]);
    let scratch = Scratch::new("scale-connections")?;
    let mut server = Ottla::new(&scratch, "ottla")?.env("OTTLA__KAFKA__CONNECTIONS_RATE", "0");
    server.start().await?;
    topic::create(&server.bootstrap(), TOPIC, PARTITIONS).await?;
    let load = Paced {
        bootstrap: server.bootstrap(),
        topics: vec![TOPIC.to_owned()],
        partitions: PARTITIONS,
        connections: BUSY,
        requests_per_second: 1_000.0,
        batches: 1,
        record_bytes: 1_024,
    };
    load.run(WARM_UP).await?;
    let mut idle = Vec::new();
    for wanted in IDLE {
        let before = server.process()?.resident_bytes()?;
        let new = wanted - idle.len();
        for _ in 0..new {
            idle.push(opened(&load.bootstrap).await?);
        }
        let grown = server.process()?.resident_bytes()?.saturating_sub(before);
        let watch = Watch::begin(&mut server).await?;
        let latencies = load.run(LOAD).await?;
        let seen = watch.end(&mut server).await?;
        table.row(&[
            (wanted + BUSY as usize).to_string(),
            wanted.to_string(),
            mib(seen.resident_bytes),
            if new == 0 { String::new() } else { one_digit(grown as f64 / 1024.0 / new as f64) },
            one_digit(latencies.quantile_ms(0.5)),
            one_digit(latencies.quantile_ms(0.99)),
            format!("{:.0}", seen.puts_per_second),
            format!("{:.0}", seen.cpu_percent),
        ]);
    }
    server.stop().await?;
    scratch.done();
    Ok(())
}

/// A connection that asked for metadata, as every client does, and then falls silent.
async fn opened(bootstrap: &str) -> Result<RawClient> {
    let mut client = RawClient::connect(bootstrap).await?;
    client.brokers().await?;
    Ok(client)
}
