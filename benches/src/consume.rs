//! The consumers.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::produce::{PARTITIONS, RECORD_BYTES};

/// Consumers that share the partitions out.
const CONSUMERS: i32 = 4;
/// A consumer that gets nothing for so long has failed.
const IDLE: Duration = Duration::from_secs(20);

/// What is read.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// The topic.
    pub topic: &'a str,
    /// How many it has.
    pub partitions: i32,
    /// From the beginning to the end, again and again.
    pub rounds: u64,
    /// `None`: as many as were there at the beginning of a round.
    pub records: Option<u64>,
}

impl<'a> Reading<'a> {
    /// Everything in a topic with [`PARTITIONS`], once.
    pub fn of(topic: &'a str) -> Self {
        Self { topic, partitions: PARTITIONS, rounds: 1, records: None }
    }

    /// Reads; returns when everything has come.
    pub fn run(&self, bootstrap: &str) -> Result<()> {
        thread::scope(|scope| {
            let consumers: Vec<_> = (0..CONSUMERS)
                .map(|number| scope.spawn(move || self.one(bootstrap, number)))
                .collect();
            for consumer in consumers {
                consumer.join().map_err(|_| anyhow!("a consumer panicked"))??;
            }
            Ok(())
        })
    }

    fn one(&self, bootstrap: &str, number: i32) -> Result<()> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "bench")
            .set("enable.auto.commit", "false")
            // A fetch that waits at the end holds up the next round.
            .set("fetch.wait.max.ms", "10")
            .create()?;
        let mut assignment = TopicPartitionList::new();
        let mut wanted = 0;
        for partition in (0..self.partitions).filter(|p| p % CONSUMERS == number) {
            wanted += match self.records {
                Some(records) => records / self.partitions as u64,
                None => consumer.fetch_watermarks(self.topic, partition, IDLE)?.1 as u64,
            };
            assignment.add_partition_offset(self.topic, partition, Offset::Beginning)?;
        }
        for _ in 0..self.rounds {
            consumer.assign(&assignment)?;
            for _ in 0..wanted {
                let message = consumer.poll(IDLE).context("nothing more comes")??;
                ensure!(message.payload_len() == RECORD_BYTES, "{} bytes", message.payload_len());
            }
        }
        Ok(())
    }
}
