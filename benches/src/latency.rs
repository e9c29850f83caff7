//! Single records, and how long they take.

use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use ottla_tests::paced::Latencies;
use rdkafka::Message;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::time::Instant;

use crate::produce::{PARTITIONS, RECORD_BYTES, pace};

/// A record that takes longer than this is lost.
const WITHIN: Duration = Duration::from_secs(20);
/// Records before those that count: connections, first requests.
const WARM_UP: u64 = 500;

fn settings(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("enable.idempotence", "true");
    config.set("linger.ms", "0");
    config
}

/// Tells of every delivery at once.
struct Told(Sender<KafkaResult<()>>);

impl ClientContext for Told {}

impl ProducerContext for Told {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let outcome = result.as_ref().map(|_| ()).map_err(|(error, _)| error.clone());
        // Nobody listens when the measurement has failed.
        let _ = self.0.send(outcome);
    }
}

/// Sends a record, waits for its acknowledgement, sends the next one.
pub fn synchronous(bootstrap: &str, topic: &str, records: u64) -> Result<Latencies> {
    let (tell, told) = channel();
    // A thread of its own hands deliveries over as they come; `poll` of a producer without one
    // returns when its time is over, whatever came meanwhile.
    let producer: ThreadedProducer<Told> = settings(bootstrap).create_with_context(Told(tell))?;
    let value = vec![7u8; 100];
    let mut latencies = Latencies::default();
    for record in 0..WARM_UP / 10 + records {
        let begin = Instant::now();
        producer
            .send(BaseRecord::<(), [u8]>::to(topic).partition(0).payload(&value))
            .map_err(|(error, _)| error)?;
        told.recv_timeout(WITHIN).context("no acknowledgement")??;
        if record >= WARM_UP / 10 {
            latencies.push(begin.elapsed());
        }
    }
    Ok(latencies)
}

/// Sends records at a rate; the time of each from its send to the consumer's hands.
pub fn end_to_end(bootstrap: &str, topic: &str, records: u64, rate: f64) -> Result<Latencies> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "latency")
        .set("enable.auto.commit", "false")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let begin = Instant::now();
    thread::scope(|scope| {
        let sender = scope.spawn(move || send(bootstrap, topic, records, rate, begin));
        let mut latencies = Latencies::default();
        for _ in 0..records {
            let message = consumer.poll(WITHIN).context("nothing more comes")??;
            let now = begin.elapsed();
            let value = message.payload().and_then(|value| value.split_at_checked(16));
            let (stamp, _) = value.context("a short record")?;
            let (number, sent) = stamp.split_at(8);
            let sent = Duration::from_nanos(u64::from_le_bytes(sent.try_into()?));
            if u64::from_le_bytes(number.try_into()?) >= WARM_UP {
                latencies.push(now.saturating_sub(sent));
            }
        }
        sender.join().map_err(|_| anyhow!("the producer panicked"))??;
        ensure!(latencies.count() as u64 == records - WARM_UP, "{} records", latencies.count());
        Ok(latencies)
    })
}

fn send(bootstrap: &str, topic: &str, records: u64, rate: f64, begin: Instant) -> Result<()> {
    let producer: BaseProducer = settings(bootstrap).create()?;
    let first = begin.elapsed().as_secs_f64();
    let mut value = vec![7u8; RECORD_BYTES];
    for record in 0..records {
        pace(&producer, begin + Duration::from_secs_f64(first + record as f64 / rate));
        value[..8].copy_from_slice(&record.to_le_bytes());
        value[8..16].copy_from_slice(&(begin.elapsed().as_nanos() as u64).to_le_bytes());
        let partition = (record % PARTITIONS as u64) as i32;
        producer
            .send(BaseRecord::<(), [u8]>::to(topic).partition(partition).payload(&value))
            .map_err(|(error, _)| error)?;
    }
    Ok(producer.flush(WITHIN)?)
}
