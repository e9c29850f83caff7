//! The same load on ever more partitions.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use ottla_tests::ottla::Ottla;
use ottla_tests::paced::Paced;
use ottla_tests::raw::RawClient;
use ottla_tests::{Scratch, topic};
use tokio::time::Instant;

use crate::setting;
use crate::table::{Table, mib, ms, one_digit};
use crate::watch::Watch;

const COUNTS: [i32; 5] = [1, 100, 1_000, 10_000, 50_000];
/// Partitions of one topic at most.
const PER_TOPIC: i32 = 1_000;
const LOAD: Duration = Duration::from_secs(10);
const WARM_UP: Duration = Duration::from_secs(2);
/// Metadata requests of which the median counts.
const METADATA_REQUESTS: usize = 9;

const COLUMNS: [&str; 17] = [
    "partitions",
    "create 1,000 (ms)",
    "memory (MiB)",
    "bytes per partition",
    "Metadata (KiB)",
    "Metadata (ms)",
    "PUT/s",
    "p50 (ms)",
    "p99 (ms)",
    "CPU (%)",
    "memory after load (MiB)",
    "start (ms)",
    "start after kill (ms)",
    "start, log only (ms)",
    "delete a topic (ms)",
    "log (MiB)",
    "sled (MiB)",
];

/// See the module.
pub async fn run() -> Result<()> {
    let most = setting("OTTLA_SCALE_PARTITIONS", 50_000)? as i32;
    let table = Table::begin(&COLUMNS);
    let mut empty = None;
    for partitions in COUNTS.into_iter().filter(|count| *count <= most) {
        let row = one(partitions, &mut empty).await.with_context(|| format!("{partitions}"))?;
        table.row(&row);
    }
    Ok(())
}

async fn one(partitions: i32, empty: &mut Option<u64>) -> Result<Vec<String>> {
    let scratch = Scratch::new("scale-partitions")?;
    let mut server = Ottla::start_new(&scratch).await?;
    let before = server.process()?.resident_bytes()?;
    let base = *empty.get_or_insert(before);
    let per_topic = partitions.min(PER_TOPIC);
    let topics: Vec<String> = (0..partitions / per_topic).map(|n| format!("topic-{n}")).collect();
    let slowest_create = create(&server.bootstrap(), &topics, per_topic).await?;
    let created = server.process()?.resident_bytes()?;

    let (metadata_bytes, metadata_seconds) = metadata(&server.bootstrap()).await?;
    let load = Paced {
        bootstrap: server.bootstrap(),
        topics,
        partitions: per_topic,
        connections: 8,
        requests_per_second: 1_000.0,
        batches: 1,
        record_bytes: 2_048,
    };
    load.run(WARM_UP).await?;
    let watch = Watch::begin(&mut server).await?;
    let latencies = load.run(LOAD).await?;
    let seen = watch.end(&mut server).await?;
    let mut row = vec![
        partitions.to_string(),
        ms(slowest_create),
        mib(created),
        (created.saturating_sub(base) / partitions as u64).to_string(),
        one_digit(metadata_bytes as f64 / 1024.0),
        ms(metadata_seconds),
        format!("{:.0}", seen.puts_per_second),
        one_digit(latencies.quantile_ms(0.5)),
        one_digit(latencies.quantile_ms(0.99)),
        format!("{:.0}", seen.cpu_percent),
        mib(seen.resident_bytes),
    ];
    row.extend(starts(&mut server, &load).await?);
    server.stop().await?;
    scratch.done();
    Ok(row)
}

/// Creates topics; answers the seconds of the slowest.
async fn create(bootstrap: &str, topics: &[String], partitions: i32) -> Result<f64> {
    let mut slowest = 0f64;
    for name in topics {
        let begin = Instant::now();
        topic::create(bootstrap, name, partitions).await?;
        slowest = slowest.max(begin.elapsed().as_secs_f64());
    }
    Ok(slowest)
}

/// Starts over in every way, then deletes a topic: the cells from "start" on.
async fn starts(server: &mut Ottla, load: &Paced) -> Result<[String; 6]> {
    server.stop().await?;
    let clean = server.start().await?;
    // Long enough for the checkpoint to be well behind.
    load.run(WARM_UP).await?;
    server.kill().await?;
    let killed = server.start().await?;
    server.kill().await?;
    let controller = server.data().join("controller");
    let (log, sled) =
        (size_of(&controller.join("raft"))?, size_of(&controller.join("checkpoint"))?);
    std::fs::remove_dir_all(controller.join("checkpoint"))?;
    let replayed = server.start().await?;
    let begin = Instant::now();
    topic::delete(&load.bootstrap, &load.topics[0]).await?;
    let deleted = begin.elapsed();
    let times = [clean, killed, replayed, deleted].map(|time| ms(time.as_secs_f64()));
    let [clean, killed, replayed, deleted] = times;
    Ok([clean, killed, replayed, deleted, mib(log), mib(sled)])
}

/// Length and median time of the answer that names every partition.
async fn metadata(bootstrap: &str) -> Result<(usize, f64)> {
    let mut client = RawClient::connect(bootstrap).await?;
    let mut times = Vec::new();
    let mut bytes = 0;
    for _ in 0..METADATA_REQUESTS {
        let begin = Instant::now();
        bytes = topic::all_metadata_bytes(&mut client).await?;
        times.push(begin.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok((bytes, times[METADATA_REQUESTS / 2]))
}

/// Bytes that a folder takes on the disk.
pub fn size_of(folder: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    /// The unit of `st_blocks`.
    const BLOCK: u64 = 512;
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes +=
            if metadata.is_dir() { size_of(&entry.path())? } else { metadata.blocks() * BLOCK };
    }
    Ok(bytes)
}
