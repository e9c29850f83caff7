//! A consumer far behind, and one at the tail: does the first disturb the second?
//!
//! Records of 1 KiB come in at a slow, fixed rate and are timed from the call of produce to the
//! hands of a consumer: alone, then while another consumer reads a backlog of
//! `OTTLA_SCALE_BACKLOG_GIB` (10) from its beginning as fast as it can, then alone again. The backlog
//! is far larger than the server's cache, so its records come from the store.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use ottla_benches::latency::end_to_end;
use ottla_benches::produce::{Load, PARTITIONS, RECORD_BYTES};
use ottla_tests::ottla::Ottla;
use ottla_tests::paced::Latencies;
use ottla_tests::{Scratch, topic};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::setting;
use crate::table::{Table, mib, one_digit};
use crate::watch::Watch;

const BACKLOG: &str = "backlog";
const TAIL_RATE: f64 = 500.0;
/// 20 seconds.
const TAIL_RECORDS: u64 = 10_000;
const STAGES: &str = "ottla_produce_stage_seconds";
/// A consumer that gets nothing for so long has failed.
const IDLE: Duration = Duration::from_secs(20);

/// See the module.
pub async fn run() -> Result<()> {
    let gib = setting("OTTLA_SCALE_BACKLOG_GIB", 10)?;
    let scratch = Scratch::new("scale-backlog")?;
    let mut server = Ottla::start_new(&scratch).await?;
    let bootstrap = server.bootstrap();
    let load = Load::of(BACKLOG, (gib << 30) / RECORD_BYTES as u64);
    topic::create(&bootstrap, BACKLOG, load.partitions).await?;
    let watch = Watch::begin(&mut server).await?;
    tokio::task::block_in_place(|| load.run(&bootstrap))?;
    let written = watch.end(&mut server).await?;
    let per_second = load.bytes() as f64 / 1e6 / written.seconds;
    println!("\n{gib} GiB written at {per_second:.0} MB/s");

    let table = Table::begin(&[
        "the tail",
        "p50 (ms)",
        "p99 (ms)",
        "upload p99 (ms)",
        "log sync p99 (ms)",
        "the other's MB/s",
        "GET/s",
        "CPU (%)",
        "memory (MiB)",
    ]);
    for name in ["before", "during", "after"] {
        topic::create(&bootstrap, name, PARTITIONS).await?;
        let watch = Watch::begin(&mut server).await?;
        let beside = name == "during";
        let (latencies, other_bytes) =
            tokio::task::block_in_place(|| tail(&bootstrap, name, beside))?;
        let seen = watch.end(&mut server).await?;
        table.row(&[
            name.to_owned(),
            one_digit(latencies.quantile_ms(0.5)),
            one_digit(latencies.quantile_ms(0.99)),
            one_digit(seen.quantile_ms(STAGES, &[("stage", "upload")], 0.99)),
            one_digit(seen.quantile_ms("ottla_raft_fsync_seconds", &[], 0.99)),
            format!("{:.0}", other_bytes as f64 / 1e6 / seen.seconds),
            format!("{:.0}", seen.gets_per_second),
            format!("{:.0}", seen.cpu_percent),
            mib(seen.resident_bytes),
        ]);
    }
    server.stop().await?;
    scratch.done();
    Ok(())
}

/// The latencies at the tail, and how many bytes the other consumer got meanwhile.
fn tail(bootstrap: &str, topic: &str, beside: bool) -> Result<(Latencies, u64)> {
    let (stop, bytes) = (AtomicBool::new(!beside), AtomicU64::new(0));
    let latencies = thread::scope(|scope| {
        let other = scope.spawn(|| catch_up(bootstrap, &stop, &bytes));
        let latencies = end_to_end(bootstrap, topic, TAIL_RECORDS, TAIL_RATE);
        stop.store(true, Ordering::Relaxed);
        other.join().map_err(|_| anyhow!("a consumer panicked"))??;
        latencies
    })?;
    let bytes = bytes.into_inner();
    ensure!(bytes > 0 || !beside, "the consumer behind got nothing");
    Ok((latencies, bytes))
}

/// Reads the backlog, again and again, until told to stop.
fn catch_up(bootstrap: &str, stop: &AtomicBool, bytes: &AtomicU64) -> Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", BACKLOG)
        .set("enable.auto.commit", "false")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    let mut all = 0;
    for partition in 0..PARTITIONS {
        all += consumer.fetch_watermarks(BACKLOG, partition, IDLE)?.1;
        assignment.add_partition_offset(BACKLOG, partition, Offset::Beginning)?;
    }
    while !stop.load(Ordering::Relaxed) {
        consumer.assign(&assignment)?;
        for _ in 0..all {
            let message = consumer.poll(IDLE).context("nothing more comes")??;
            bytes.fetch_add(message.payload_len() as u64, Ordering::Relaxed);
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    Ok(())
}
