//! The consumers.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::{CLIENTS, PARTITIONS, RECORD_BYTES};

/// A consumer that gets nothing for so long has failed.
const IDLE: Duration = Duration::from_secs(20);

/// Reads everything, the partitions shared out among all consumers.
pub fn run(bootstrap: &str, topic: &str, records: u64) -> Result<()> {
    thread::scope(|scope| {
        let consumers: Vec<_> =
            (0..CLIENTS).map(|client| scope.spawn(move || one(bootstrap, topic, client))).collect();
        let mut read = 0;
        for consumer in consumers {
            read += consumer.join().map_err(|_| anyhow!("a consumer panicked"))??;
        }
        ensure!(read == records, "{read} of {records} records read");
        Ok(())
    })
}

fn one(bootstrap: &str, topic: &str, client: u64) -> Result<u64> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    let mut wanted = 0;
    for partition in (0..PARTITIONS).filter(|p| *p as u64 % CLIENTS == client) {
        let (_, end) = consumer.fetch_watermarks(topic, partition, IDLE)?;
        wanted += end as u64;
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    for _ in 0..wanted {
        let message = consumer.poll(IDLE).context("nothing more comes")??;
        ensure!(message.payload_len() == RECORD_BYTES, "{} bytes", message.payload_len());
    }
    Ok(wanted)
}
