//! Metrics say what happened: they add up among themselves, and agree with what clients sent and
//! what lies in the store.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kafka_protocol::messages::{FetchRequest, ProduceRequest};
use ottla_tests::ottla::Ottla;
use ottla_tests::paced::Paced;
use ottla_tests::raw::{RawClient, version};
use ottla_tests::scrape::Scrape;
use ottla_tests::{Scratch, tool, topic};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::Instant;

const TOPIC: &str = "measured";
const PARTITIONS: i32 = 4;
const TIMESTAMP: i64 = 1_700_000_000_000;

/// Number and bytes of the record objects below a folder.
fn objects(folder: &Path) -> Result<(u64, u64)> {
    let (mut number, mut bytes) = (0, 0);
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            let (more, more_bytes) = objects(&entry.path())?;
            (number, bytes) = (number + more, bytes + more_bytes);
        } else if entry.path().components().any(|part| part.as_os_str() == "wal") {
            (number, bytes) = (number + 1, bytes + metadata.len());
        }
    }
    Ok((number, bytes))
}

fn same(what: &str, metric: f64, counted: u64) -> Result<()> {
    ensure!(metric == counted as f64, "{what}: the metric says {metric}, it was {counted}");
    Ok(())
}

#[tokio::test]
async fn requests_batches_and_bytes_are_those_that_were_sent_and_stored() -> Result<()> {
    let scratch = Scratch::new("metrics-counts")?;
    let server = Ottla::start_new(&scratch).await?;
    let bootstrap = server.bootstrap();
    topic::create(&bootstrap, TOPIC, PARTITIONS).await?;
    let load = Paced {
        bootstrap: bootstrap.clone(),
        topics: vec![TOPIC.to_owned()],
        partitions: PARTITIONS,
        connections: 4,
        requests_per_second: 100.0,
        batches: 3,
        record_bytes: 5_000,
    };
    let requests = load.run(Duration::from_secs(3)).await?.count() as u64;
    let batches = requests * 3;
    let batch = topic::batch(&["x".repeat(5_000)], TIMESTAMP, None)?.len() as u64;

    let now = server.scrape().await?;
    let sum = |name: &str| now.sum(name, &[]);
    same(
        "Produce requests",
        now.sum("ottla_kafka_requests_total", &[("api", "Produce")]),
        requests,
    )?;
    same("answers", sum("ottla_produce_ack_seconds_count"), requests)?;
    same("batches", now.sum("ottla_produce_batches_total", &[("outcome", "stored")]), batches)?;
    same("batches of any outcome", sum("ottla_produce_batches_total"), batches)?;
    same("records", sum("ottla_produce_records_total"), batches)?;
    same("record bytes", sum("ottla_produce_bytes_total"), batches * batch)?;
    ensure!(sum("ottla_kafka_received_bytes_total") > (batches * batch) as f64);

    let (number, bytes) = objects(&server.data().join("objects"))?;
    let puts = [("op", "put"), ("cause", "wal")];
    same("PUTs", now.sum("ottla_objectstore_requests_total", &puts), number)?;
    let out = [("dir", "out"), ("cause", "wal")];
    same("bytes written", now.sum("ottla_objectstore_bytes_total", &out), bytes)?;
    same("objects", sum("ottla_object_bytes_count"), number)?;
    same("bytes of objects", sum("ottla_object_bytes_sum"), bytes)?;
    same("batches in objects", sum("ottla_object_batches_sum"), batches)?;
    same("seals", sum("ottla_flush_total"), number)?;
    same("objects of the state", now.sum("ottla_state_entries", &[("kind", "object")]), number)?;
    same(
        "partitions",
        now.sum("ottla_state_entries", &[("kind", "partition")]),
        PARTITIONS as u64,
    )?;

    let produce = [("owner", "produce")];
    same("memory of answered requests", now.sum("ottla_memory_bytes", &produce), 0)?;
    let owned = sum("ottla_memory_bytes");
    ensure!(owned < sum("process_resident_memory_bytes"), "{owned} bytes are more than all");

    let read = read_all(&bootstrap).await?;
    let after = server.scrape().await?;
    let sent = after.since(&now, "ottla_fetch_response_bytes_sum", &[]);
    same("bytes of fetch answers", sent, read)?;
    ensure!(after.since(&now, "ottla_kafka_sent_bytes_total", &[]) > read as f64);
    scratch.done();
    Ok(())
}

/// Reads all partitions; answers the record bytes that came.
async fn read_all(bootstrap: &str) -> Result<u64> {
    let mut client = RawClient::connect(bootstrap).await?;
    let mut bytes = 0;
    for partition in 0..PARTITIONS {
        let end = topic::end(&mut client, TOPIC, partition).await?;
        let mut offset = 0;
        while offset < end {
            let request = topic::fetch_request(TOPIC, partition, offset);
            let answer = client.call::<FetchRequest>(version::FETCH, &request).await?;
            let part = answer.responses.first().and_then(|topic| topic.partitions.first());
            let records = part.and_then(|part| part.records.clone()).context("no records")?;
            bytes += records.len() as u64;
            // All batches have one record and one length.
            let batch = topic::batch(&["x".repeat(5_000)], TIMESTAMP, None)?.len();
            ensure!(records.len().is_multiple_of(batch) && !records.is_empty(), "a batch was cut");
            offset += (records.len() / batch) as i64;
        }
    }
    Ok(bytes)
}

/// One request at a time, so that each has an object of its own and every stage of the object is a
/// stage of the request.
#[tokio::test]
async fn the_stages_of_a_request_add_up_to_its_latency() -> Result<()> {
    const REQUESTS: u32 = 200;
    /// What a request spends outside of the stages: being read, checked, and answered.
    const REST: Duration = Duration::from_millis(2);
    let scratch = Scratch::new("metrics-stages")?;
    let server = Ottla::start_new(&scratch).await?;
    let bootstrap = server.bootstrap();
    topic::create(&bootstrap, TOPIC, PARTITIONS).await?;
    let mut client = RawClient::connect(&bootstrap).await?;
    let batch = topic::batch(&["x".repeat(20_000)], TIMESTAMP, None)?;
    let begin = Instant::now();
    for _ in 0..REQUESTS {
        let request = topic::produce_request(TOPIC, 0, batch.clone());
        client.call::<ProduceRequest>(version::PRODUCE, &request).await?;
    }
    let seen = begin.elapsed().as_secs_f64();

    let now: Scrape = server.scrape().await?;
    let sum = |name: &str| now.sum(name, &[]);
    same("objects", sum("ottla_object_bytes_count"), u64::from(REQUESTS))?;
    let stages = sum("ottla_produce_stage_seconds_sum");
    let answered = sum("ottla_produce_ack_seconds_sum");
    let requests = now.sum("ottla_kafka_request_seconds_sum", &[("api", "Produce")]);
    for stage in ["buffer", "upload", "order", "commit", "answer"] {
        let counted = now.sum("ottla_produce_stage_seconds_count", &[("stage", stage)]);
        same(stage, counted, u64::from(REQUESTS))?;
    }
    let rest = f64::from(REQUESTS) * REST.as_secs_f64();
    let all = format!(
        "stages {stages:.3} s, until the answer {answered:.3} s, requests {requests:.3} s, as the \
         client saw it {seen:.3} s"
    );
    // The last stage ends when answers are handed to connections, a moment after they are known.
    ensure!((stages - answered).abs() <= rest, "{all}");
    ensure!(answered <= requests && requests <= seen, "{all}");
    ensure!(seen - stages <= rest + 0.25 * seen, "{all}");
    let stage = |name: &str| now.sum("ottla_produce_stage_seconds_sum", &[("stage", name)]);
    let behind_upload = stage("order") + stage("commit") + stage("answer");
    let overhead = sum("ottla_produce_overhead_seconds_sum");
    ensure!(
        (overhead - behind_upload).abs() <= rest,
        "behind the upload {overhead:.3} s, its stages {behind_upload:.3} s"
    );
    // The store and the log are the larger part of their stages.
    let put = now.sum("ottla_objectstore_request_seconds_sum", &[("op", "put")]);
    let upload = stage("upload");
    ensure!(put <= upload + 0.1 && put >= upload / 2.0, "PUTs {put:.3} s of uploads {upload:.3} s");
    scratch.done();
    Ok(())
}

#[tokio::test]
async fn promtool_finds_nothing_to_say() -> Result<()> {
    let scratch = Scratch::new("metrics-promtool")?;
    let server = Ottla::start_new(&scratch).await?;
    topic::create(&server.bootstrap(), TOPIC, PARTITIONS).await?;
    let mut client = RawClient::connect(&server.bootstrap()).await?;
    let batch = topic::batch(&["a record".to_owned()], TIMESTAMP, None)?;
    let request = topic::produce_request(TOPIC, 0, batch);
    client.call::<ProduceRequest>(version::PRODUCE, &request).await?;
    let scrape = server.scrape().await?;
    let mut promtool = Command::new(tool("bin/promtool")?)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = promtool.stdin.take().context("promtool has no input")?;
    stdin.write_all(scrape.text().as_bytes()).await?;
    drop(stdin);
    let output = promtool.wait_with_output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
    scratch.done();
    Ok(())
}
