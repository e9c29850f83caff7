//! One producer, and a store whose every PUT takes 100 ms longer.
//!
//! The node runs in this process, on a local directory, with a store around it that waits: the delay
//! costs no processor, as a store far away would not.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use bytes::Bytes;
use ottla::{Node, NodeOptions, Seams};
use ottla_config::Sources;
use ottla_env::delay;
use ottla_object_io::{ObjectEntry, Payload, PutDone, ReadCause, Store, StoreError};
use ottla_tests::Scratch;
use tokio::time::Instant;

use crate::Bench;
use crate::side::Side;
use crate::targets::{DELAYED_DEFAULT, DELAYED_FIVE, DELAYED_LARGE, Measure};
use ottla_benches::produce::Load;

const ADDED: Duration = Duration::from_millis(100);
/// Batches of 8 MiB: the client's limits raised, and time to fill them.
const LARGE: [(&str, &str); 3] =
    [("linger.ms", "100"), ("batch.size", "8388608"), ("message.max.bytes", "10485760")];

/// librdkafka's idempotent producer has one request of a partition under way, whatever is set.
const FIVE: [(&str, &str); 3] =
    [("enable.idempotence", "false"), ("max.in.flight", "5"), ("acks", "all")];

pub async fn run(bench: &mut Bench) -> Result<()> {
    for run in 1..=bench.runs {
        println!("delayed, run {run} of {}", bench.runs);
        let scratch = Scratch::new("bench-delayed")?;
        let node = start(&scratch).await?;
        let bootstrap = node.kafka_address().to_string();
        measure(bench, &bootstrap, ("large", &LARGE), DELAYED_LARGE).await?;
        measure(bench, &bootstrap, ("default", &[]), DELAYED_DEFAULT).await?;
        measure(bench, &bootstrap, ("five", &FIVE), DELAYED_FIVE).await?;
        node.stop().await;
        scratch.done();
    }
    Ok(())
}

async fn start(scratch: &Scratch) -> Result<Node> {
    let any_port = format!("{}:0", Ipv4Addr::LOCALHOST);
    let mut flags: BTreeMap<&'static str, String> =
        ["kafka-listen", "rpc-listen", "admin-listen"].map(|flag| (flag, any_port.clone())).into();
    flags.insert("data-dir", scratch.path().join("ottla").display().to_string());
    let config =
        Sources { flags: flags.into_iter().collect(), ..Sources::default() }.load()?.config;
    let around = Box::new(|store| Arc::new(Delayed(store)) as Arc<dyn Store>);
    Node::start(&NodeOptions::new(&config)?, Seams { store: around, ..Seams::default() }).await
}

async fn measure(
    bench: &mut Bench,
    bootstrap: &str,
    (topic, settings): (&str, &[(&str, &str)]),
    measure: Measure,
) -> Result<()> {
    let large = [("max.message.bytes", "10485760")];
    ottla_tests::topic::create_with(bootstrap, topic, 1, &large).await?;
    let records = bench.records / 2;
    let load = Load { partitions: 1, producers: 1, settings, ..Load::of(topic, records) };
    let begin = Instant::now();
    tokio::task::block_in_place(|| load.run(bootstrap))?;
    let per_second = load.bytes() as f64 / 1e6 / begin.elapsed().as_secs_f64();
    bench.report.add(measure, Side::Ottla, per_second);
    Ok(())
}

/// A store whose PUTs wait before they are sent on.
#[derive(Debug)]
struct Delayed(Arc<dyn Store>);

#[async_trait]
impl Store for Delayed {
    async fn put(&self, key: &str, payload: Payload) -> Result<PutDone, StoreError> {
        delay(ADDED).await;
        self.0.put(key, payload).await
    }

    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<bool, StoreError> {
        self.0.put_if_absent(key, body).await
    }

    async fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
        cause: ReadCause,
    ) -> Result<Bytes, StoreError> {
        self.0.get_range(key, range, cause).await
    }

    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        self.0.get(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectEntry>, StoreError> {
        self.0.list(prefix).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.0.delete(key).await
    }

    async fn prepare(&self, folders: &[String]) -> Result<(), StoreError> {
        self.0.prepare(folders).await
    }

    fn charges_for_requests(&self) -> bool {
        self.0.charges_for_requests()
    }
}
