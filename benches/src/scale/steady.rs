//! Many small batches for a long time: what grows with the state, and what must not grow.

use std::time::Duration;

use anyhow::Result;
use ottla_tests::ottla::Ottla;
use ottla_tests::paced::{Latencies, Paced};
use ottla_tests::{Scratch, topic};
use tokio::time::Instant;

use crate::partitions::size_of;
use crate::setting;
use crate::table::{Table, mib, ms, one_digit};
use crate::watch::{Seen, Watch};

const TOPIC: &str = "steady";
const PARTITIONS: i32 = 1_000;
/// Batches of a request. With random first partitions nearly every batch is an extent.
const BATCHES: i32 = 20;
/// Each row is the load of so long.
const ROW: Duration = Duration::from_secs(60);

const COLUMNS: [&str; 17] = [
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
];

/// What the state grew to, and what it takes.
#[derive(Clone, Copy)]
struct Grown {
    resident: u64,
    extents: f64,
    objects: f64,
}

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
    let table = Table::begin(&COLUMNS);
    let mut grown = Vec::new();
    for number in 1..=rows {
        let watch = Watch::begin(&mut server).await?;
        let latencies = load.run(ROW).await?;
        let seen = watch.end(&mut server).await?;
        let (cells, now) = row(number, &server, &seen, &latencies)?;
        table.row(&cells);
        grown.push(now);
    }
    if let Some((first, last)) = grown.first().zip(grown.last()) {
        println!(
            "\nfrom the first minute to the last {:.0} bytes more for {:.0} extents and {:.0} objects",
            last.resident as f64 - first.resident as f64,
            last.extents - first.extents,
            last.objects - first.objects
        );
    }
    ends(&mut server).await?;
    server.stop().await?;
    scratch.done();
    Ok(())
}

/// The cells of a minute.
fn row(
    number: u64,
    server: &Ottla,
    seen: &Seen,
    latencies: &Latencies,
) -> Result<(Vec<String>, Grown)> {
    let sum = |name, labels: &[(&str, &str)]| seen.scrape.sum(name, labels);
    let memory = |owner| sum("ottla_memory_bytes", &[("owner", owner)]) as u64;
    let entries = |kind| sum("ottla_state_entries", &[("kind", kind)]);
    let owned = sum("ottla_memory_bytes", &[]) as u64;
    let (extents, objects) = (entries("extent"), entries("object"));
    let controller = server.data().join("controller");
    let cells = vec![
        number.to_string(),
        format!("{extents:.0}"),
        format!("{objects:.0}"),
        mib(seen.resident_bytes),
        mib(memory("state")),
        mib(memory("view")),
        mib(memory("cache")),
        mib(seen.resident_bytes.saturating_sub(owned)),
        format!("{:.0}", sum("process_open_fds", &[])),
        format!("{:.0}", sum("process_threads", &[])),
        mib(size_of(&controller.join("raft"))?),
        mib(size_of(&controller.join("checkpoint"))?),
        mib(size_of(&controller.join("snapshots"))?),
        format!("{:.0}", seen.puts_per_second),
        one_digit(latencies.quantile_ms(0.5)),
        one_digit(latencies.quantile_ms(0.99)),
        format!("{:.0}", seen.cpu_percent),
    ];
    Ok((cells, Grown { resident: seen.resident_bytes, extents, objects }))
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
