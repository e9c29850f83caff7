//! Objects in a real S3 server instead of a folder.

use anyhow::{Result, ensure};
use ottla_tests::history::{Kind, anomalies};
use ottla_tests::load::Load;
use ottla_tests::ottla::Ottla;
use ottla_tests::versitygw::{ACCESS_KEY, BUCKET, SECRET_KEY, Versitygw};
use ottla_tests::{Scratch, topic};
use std::collections::BTreeMap;
use std::time::Duration;

use ottla_env::delay;

const TOPIC: &str = "in-a-bucket";
const PRODUCERS: [Kind; 2] = [Kind::Idempotent, Kind::Retrying];

/// A server whose objects are in the S3 server, not started yet.
fn on_s3(scratch: &Scratch, name: &str, s3: &Versitygw) -> Result<Ottla> {
    Ok(Ottla::new(scratch, name)?
        .flag("--object-store", &format!("s3://{BUCKET}/records"))
        .env("OTTLA__OBJECT_STORE__ENDPOINT", &s3.endpoint())
        .env("OTTLA__OBJECT_STORE__ALLOW_HTTP", "true")
        .env("OTTLA__OBJECT_STORE__REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY))
}

#[tokio::test]
async fn records_in_a_bucket_survive_kills_of_broker_and_store() -> Result<()> {
    let scratch = Scratch::new("s3")?;
    let mut s3 = Versitygw::start_new(&scratch).await?;
    let mut server = on_s3(&scratch, "ottla", &s3)?;
    server.start().await?;
    let bootstrap = server.bootstrap();
    topic::create(&bootstrap, TOPIC, PRODUCERS.len() as i32).await?;
    let load = Load::start(&bootstrap, TOPIC, &PRODUCERS, 11);
    for _ in 0..3 {
        delay(Duration::from_secs(1)).await;
        server.kill().await?;
        server.start().await?;
        delay(Duration::from_secs(1)).await;
        s3.restart().await?;
    }
    delay(Duration::from_secs(1)).await;
    let history = load.stop().await?;
    server.kill().await?;
    server.start().await?;
    let mut log = BTreeMap::new();
    for partition in 0..PRODUCERS.len() as i32 {
        log.insert(partition, topic::read(&bootstrap, TOPIC, partition).await?);
    }
    let found = anomalies(&history, &log);
    ensure!(found.is_empty(), "{} anomalies, first: {:?}", found.len(), found.first());
    ensure!(log.values().all(|content| content.end > 10), "too few records to show anything");
    scratch.done();
    Ok(())
}

#[tokio::test]
async fn a_bucket_of_another_cluster_is_refused() -> Result<()> {
    let scratch = Scratch::new("s3-foreign")?;
    let s3 = Versitygw::start_new(&scratch).await?;
    let mut owner = on_s3(&scratch, "owner", &s3)?;
    owner.start().await?;
    owner.stop().await?;
    let output = owner.output();
    let cluster = output
        .split_once("cluster=")
        .and_then(|(_, rest)| rest.split_whitespace().next())
        .unwrap_or_default();
    let mut other = on_s3(&scratch, "other", &s3)?;
    let (status, said) = other.start_refused().await?;
    ensure!(!status.success(), "it started");
    ensure!(!cluster.is_empty() && said.contains(cluster), "{cluster} is not named:\n{said}");
    owner.start().await?;
    scratch.done();
    Ok(())
}
