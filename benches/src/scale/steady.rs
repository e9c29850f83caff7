//! Many small batches for a long time: what grows with the state, and what must not grow.

use std::time::Duration;

use anyhow::Result;
use ottla_tests::ottla::Ottla;
use ottla_tests::paced::Paced;
use ottla_tests::{Scratch, topic};
use tokio::time::Instant;

use crate::partitions::size_of;
use crate::setting;
use crate::table::{Table, mib, ms};

const TOPIC: &str = "steady";
const PARTITIONS: i32 = 1_000;
/// Batches of a request. With random first partitions nearly every batch is an extent.
const BATCHES: i32 = 20;
/// Each row is the load of so long.
const ROW: Duration = Duration::from_secs(60);

/// See the module.
pub async fn run() -> Result<()> {
    let rows = setting("OTTLA_SCALE_SECONDS", 3_600)? / ROW.as_secs();
    let batches_per_second = setting("OTTLA_SCALE_BATCHES", 2_000)? as f64;
    let scratch = Scratch::new("scale-steady")?;
    let mut server = Ottla::start_new(&scratch).await?;
    topic::create(&server.bootstrap(), TOPIC, PARTITIONS).await?;
    let load = Paced {
        bootstrap: server.bootstrap(),
        topics: vec![TOPIC.to_owned()],
        partitions: PARTITIONS,
        connections: 8,
        requests_per_second: batches_per_second / f64::from(BATCHES),
        batches: BATCHES,
        record_bytes: 1_024,
    };
    let table = Table::begin(&[
        "minute",
        "extents",
        "objects",
        "resident (MiB)",
        "state (MiB)",
        "view (MiB)",
        "cache (MiB)",
        "the rest (MiB)",
        "descriptors",
        "threads",
        "log (MiB)",
        "sled (MiB)",
        "snapshots (MiB)",
        "PUT/s",
        "p50 (ms)",
        "p99 (ms)",
        "CPU (%)",
    ]);
    let (mut scrape, mut cpu) = (server.scrape().await?, server.process()?.cpu_seconds()?);
    let mut first = None;
    let mut last = (0, 0.0, 0.0);
    for row in 1..=rows {
        let latencies = load.run(ROW).await?;
        let (now, cpu_now) = (server.scrape().await?, server.process()?.cpu_seconds()?);
        let memory = |owner| now.sum("ottla_memory_bytes", &[("owner", owner)]);
        let entries = |kind| now.sum("ottla_state_entries", &[("kind", kind)]);
        let process = |name| now.sum(name, &[]);
        let owned = now.sum("ottla_memory_bytes", &[]);
        let resident = server.process()?.resident_bytes()?;
        let puts = [("op", "put"), ("cause", "wal")];
        let puts = now.since(&scrape, "ottla_objectstore_requests_total", &puts);
        let controller = server.data().join("controller");
        last = (resident, entries("extent"), entries("object"));
        first.get_or_insert(last);
        table.row(&[
            row.to_string(),
            format!("{:.0}", entries("extent")),
            format!("{:.0}", entries("object")),
            mib(resident),
            mib(memory("state") as u64),
            mib(memory("view") as u64),
            mib(memory("cache") as u64),
            mib(resident.saturating_sub(owned as u64)),
            format!("{:.0}", process("process_open_fds")),
            format!("{:.0}", process("process_threads")),
            mib(size_of(&controller.join("raft"))?),
            mib(size_of(&controller.join("checkpoint"))?),
            mib(size_of(&controller.join("snapshots"))?),
            format!("{:.0}", puts / ROW.as_secs_f64()),
            format!("{:.1}", latencies.quantile_ms(0.5)),
            format!("{:.1}", latencies.quantile_ms(0.99)),
            format!("{:.0}", (cpu_now - cpu) / ROW.as_secs_f64() * 100.0),
        ]);
        (scrape, cpu) = (now, cpu_now);
    }
    if let Some((resident, extents, objects)) = first {
        println!(
            "\nfrom the first minute to the last {:.0} bytes more for {:.0} extents and {:.0} objects",
            last.0 as f64 - resident as f64,
            last.1 - extents,
            last.2 - objects
        );
    }
    ends(&mut server).await?;
    server.stop().await?;
    scratch.done();
    Ok(())
}

/// What starting over and deleting the topic cost with so many extents.
async fn ends(server: &mut Ottla) -> Result<()> {
    server.stop().await?;
    let clean = server.start().await?;
    server.kill().await?;
    let killed = server.start().await?;
    let begin = Instant::now();
    topic::delete(&server.bootstrap(), TOPIC).await?;
    println!(
        "start {} ms, after kill -9 {} ms; the topic deleted in {} ms",
        ms(clean.as_secs_f64()),
        ms(killed.as_secs_f64()),
        ms(begin.elapsed().as_secs_f64())
    );
    Ok(())
}
