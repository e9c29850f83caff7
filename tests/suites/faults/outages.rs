//! F09: a store that is away, or says nothing, for seconds or for minutes.
//!
//! Clients keep their defaults: librdkafka gives a record up after 300 s, Java after 120 s. None of
//! them may see an error, the node's memory for records stays in its budget, and the throughput
//! comes back with the store.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ottla_env::delay;
use ottla_object_io::faults::FaultRates;
use ottla_tests::driver::{Client, Write};
use ottla_tests::fault_proxy::{FaultProxy, Weather};
use ottla_tests::ottla::Ottla;
use ottla_tests::raw::{RawClient, version};
use ottla_tests::versitygw::{ACCESS_KEY, BUCKET, SECRET_KEY, Versitygw};
use ottla_tests::{Scratch, topic};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::round::{CALM, Clients, Round};
use crate::{seconds, short_or};

/// The smallest budget for records that are not durable.
const BUDGET: (&str, &str) = ("OTTLA__PRODUCE__BUDGET_BYTES", "8MiB");
/// What Java writes to.
const JAVA: &str = "java";
/// What is read while the store is away.
const CACHED: &str = "cached";
/// Far below what a read of the store waits for.
const CACHED_WITHIN: Duration = Duration::from_secs(5);
/// The binary needs this much beside what it is given for records and its cache.
const OTHER_BYTES: u64 = 200 << 20;

/// Long enough for uploads to be given up, or the thirty seconds of the catalogue.
fn thirty() -> Duration {
    short_or(seconds(12), seconds(30))
}

/// Writes a record to a topic of its own.
async fn write_one(bootstrap: &str) -> Result<()> {
    topic::create(bootstrap, CACHED, 1).await?;
    let batch = topic::batch(&[CACHED.to_owned()], 1, None)?;
    let mut client = RawClient::connect(bootstrap).await?;
    let request = topic::produce_request(CACHED, 0, batch);
    let answer = client.call(version::PRODUCE, &request).await?;
    ensure!(answer.responses[0].partition_responses[0].error_code == 0, "{answer:?}");
    Ok(())
}

/// Reads that record again and again for so long. The store is away: it is read from the cache.
async fn read_cached(bootstrap: &str, for_long: Duration) -> Result<()> {
    let begin = Instant::now();
    while begin.elapsed() < for_long {
        let read = timeout(CACHED_WITHIN, topic::read(bootstrap, CACHED, 0)).await;
        let read = read.context("what is cached is not served while the store is away")??;
        ensure!(read.records == [(0, 1, CACHED.to_owned())], "{read:?}");
        delay(CALM).await;
    }
    Ok(())
}

/// Java with its defaults has all its records on their way before long.
async fn start_java(bootstrap: &str) -> Result<JoinHandle<Result<()>>> {
    topic::create(bootstrap, JAVA, 1).await?;
    let bootstrap = bootstrap.to_owned();
    Ok(tokio::spawn(async move {
        let (bootstrap, topic, codec) = (bootstrap.as_str(), JAVA, "none");
        let (partitions, count, seed, idempotent) = (1, 500, 1, true);
        let write = Write { bootstrap, topic, partitions, count, seed, codec, idempotent };
        Client::Java.produce(&write).await
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f09_clients_ride_out_a_store_that_is_away() -> Result<()> {
    let mut round = Round::start_with("f09", false, &[BUDGET]).await?;
    round.clients.start_bulk().await?;
    let before = round.clients.stored_per_second().await;
    round.node.store().set_outage(true);
    let (begin, mut held_max) = (Instant::now(), 0.0_f64);
    while begin.elapsed() < thirty() {
        let held = round.node.metric("ottla_memory_bytes", "produce")?;
        let budget = round.node.metric("ottla_memory_max_bytes", "produce")?;
        // Overheads of batches may exceed it for a moment.
        ensure!(held <= 1.25 * budget, "{held} bytes are held, the budget is {budget}");
        held_max = held_max.max(held);
        delay(CALM / 10).await;
    }
    round.node.store().set_outage(false);
    let back = round.clients.come_back(before).await?;
    let (away, held_mib) = (thirty(), held_max / f64::from(1 << 20));
    println!("f09: {away:?} away, {before:.0} records/s before and after {back:.1?}");
    println!("f09: at most {held_mib:.1} MiB were held");
    round.finish().await?.close().await
}

/// Requests get no answer at all. What was just written is read all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f09_clients_ride_out_a_store_that_is_silent() -> Result<()> {
    let round = Round::start_with("f09-silent", false, &[BUDGET]).await?;
    let before = round.clients.stored_per_second().await;
    write_one(round.node.bootstrap()).await?;
    round.node.store().set_rates(FaultRates { silent: 1.0, ..FaultRates::default() });
    read_cached(round.node.bootstrap(), thirty()).await?;
    round.node.store().set_rates(FaultRates::default());
    let (silent, back) = (thirty(), round.clients.come_back(before).await?);
    println!("f09: {silent:?} silent, {before:.0} records/s before and after {back:.1?}");
    round.finish().await?.close().await
}

/// The binary with the S3 server behind a proxy, not started yet.
pub fn on_s3(scratch: &Scratch, proxy: &FaultProxy) -> Result<Ottla> {
    Ok(Ottla::new(scratch, "ottla")?
        .flag("--object-store", &format!("s3://{BUCKET}/records"))
        .env("OTTLA__OBJECT_STORE__ENDPOINT", &proxy.endpoint())
        .env("OTTLA__OBJECT_STORE__ALLOW_HTTP", "true")
        .env("OTTLA__OBJECT_STORE__REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY))
}

/// The binary on an S3 server whose connections break, almost as long as Java keeps a record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f09_java_with_its_defaults_rides_out_an_s3_server_that_is_away() -> Result<()> {
    let away = short_or(seconds(12), seconds(110));
    let scratch = Scratch::new("f09-s3")?;
    let gateway = Versitygw::start_new(&scratch).await?;
    let proxy = FaultProxy::start(gateway.address(), 9).await?;
    let mut server =
        on_s3(&scratch, &proxy)?.env(BUDGET.0, BUDGET.1).env("OTTLA__CACHE__BYTES", "32MiB");
    server.start().await?;
    let mut clients = Clients::start(&server.bootstrap()).await?;
    clients.start_bulk().await?;
    let before = clients.stored_per_second().await;
    proxy.set(Weather { away: true, ..Weather::default() });
    let java = start_java(&server.bootstrap()).await?;
    delay(away).await;
    proxy.set(Weather::default());
    let back = clients.come_back(before).await?;
    println!("f09: S3 {away:?} away, {before:.0} records/s before and after {back:.1?}");
    java.await?.context("Java")?;
    clients.finish(&scratch).await?;
    let (peak, allowed) = (server.process()?.peak_resident_bytes()?, (40 << 20) + OTHER_BYTES);
    println!("f09: at most {} MiB were resident", peak >> 20);
    ensure!(peak <= allowed, "{} MiB resident, allowed {}", peak >> 20, allowed >> 20);
    server.stop().await?;
    scratch.done();
    Ok(())
}
