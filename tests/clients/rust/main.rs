//! Driver for the rdkafka crate. The command line is described in tests/src/records.rs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use ottla_tests::records::{Lines, Report, TestRecord};
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::time::Instant;

const POLL: Duration = Duration::from_millis(500);
const READ_WITHIN: Duration = Duration::from_secs(60);
const FLUSH: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().context("no mode")?;
    let mut options = Options::default();
    while let (Some(name), Some(value)) = (arguments.next(), arguments.next()) {
        options.0.insert(name.trim_start_matches("--").to_owned(), value);
    }
    match mode.as_str() {
        "produce" => produce(&options),
        "consume" => consume(&options),
        "group" => group(&options),
        _ => bail!("unknown mode {mode}"),
    }
}

#[derive(Default)]
struct Options(BTreeMap<String, String>);

impl Options {
    fn text(&self, name: &str) -> Result<&str> {
        self.0.get(name).map(String::as_str).with_context(|| format!("--{name} is missing"))
    }

    fn number(&self, name: &str) -> Result<u64> {
        Ok(self.text(name)?.parse()?)
    }
}

/// Counts deliveries and keeps the first failure.
#[derive(Clone, Default)]
struct Deliveries(Arc<AtomicU64>, Arc<Mutex<Option<String>>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => drop(self.0.fetch_add(1, Ordering::Relaxed)),
            Err((error, _)) => {
                let mut first = self.1.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

#[allow(clippy::print_stdout, reason = "the driver's report")]
fn produce(options: &Options) -> Result<()> {
    let deliveries = Deliveries::default();
    let producer: ThreadedProducer<Deliveries> = ClientConfig::new()
        .set("bootstrap.servers", options.text("bootstrap")?)
        .set("enable.idempotence", options.text("idempotent")?)
        .set("compression.type", options.text("codec")?)
        .set("queue.buffering.max.messages", "1000000")
        .create_with_context(deliveries.clone())?;
    let (count, seed) = (options.number("count")?, options.number("seed")?);
    let (topic, partitions) = (options.text("topic")?, options.number("partitions")?);
    for index in 0..count {
        let made = TestRecord::new(seed, index);
        let mut headers = OwnedHeaders::new();
        for (key, value) in &made.headers {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let mut record = BaseRecord::<str, str>::to(topic)
            .partition((index % partitions) as i32)
            .timestamp(made.timestamp)
            .headers(headers);
        record.key = made.key.as_deref();
        record.payload = made.value.as_deref();
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer.flush(FLUSH)?;
    if let Some(error) = deliveries.1.lock().unwrap_or_else(PoisonError::into_inner).take() {
        bail!("delivery failed: {error}");
    }
    let delivered = deliveries.0.load(Ordering::Relaxed);
    ensure!(delivered == count, "{delivered} of {count} delivered");
    println!("count={count}");
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the driver's report")]
fn consume(options: &Options) -> Result<()> {
    let consumer = consumer(options, "unused")?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..options.number("partitions")? {
        let topic = options.text("topic")?;
        assignment.add_partition_offset(topic, partition as i32, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    println!("{}", Report::of(&read(&consumer, options)?).render());
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the driver's report")]
fn group(options: &Options) -> Result<()> {
    let consumer = consumer(options, options.text("group")?)?;
    let topic = options.text("topic")?;
    consumer.subscribe(&[topic])?;
    let report = Report::of(&read(&consumer, options)?);
    let mut ends = TopicPartitionList::new();
    for (&partition, &(_, end)) in &report.ranges {
        ends.add_partition_offset(topic, partition, Offset::Offset(end))?;
    }
    consumer.commit(&ends, CommitMode::Sync)?;
    println!("{}", report.render());
    Ok(())
}

fn consumer(options: &Options, group: &str) -> Result<BaseConsumer> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", options.text("bootstrap")?)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .create()?)
}

fn read(consumer: &BaseConsumer, options: &Options) -> Result<Lines> {
    let count = options.number("count")?;
    let mut lines = Lines::new();
    let begin = Instant::now();
    while (lines.len() as u64) < count {
        // Also answers nothing after a rebalance, before its time is over.
        match consumer.poll(POLL) {
            None if begin.elapsed() < READ_WITHIN => {}
            None => bail!("read {} of {count} records in {READ_WITHIN:?}", lines.len()),
            Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::UnknownTopicOrPartition,
            ))) => {}
            Some(message) => {
                let message = message?;
                lines.insert((message.partition(), message.offset()), line(&message)?);
            }
        }
    }
    Ok(lines)
}

fn line(message: &BorrowedMessage<'_>) -> Result<String> {
    let text = |bytes: &[u8]| Ok::<_, anyhow::Error>(std::str::from_utf8(bytes)?.to_owned());
    let mut headers = Vec::new();
    for header in message.headers().into_iter().flat_map(|headers| headers.iter()) {
        headers.push((header.key.to_owned(), text(header.value.unwrap_or_default())?));
    }
    let record = TestRecord {
        key: message.key().map(text).transpose()?,
        value: message.payload().map(text).transpose()?,
        headers,
        timestamp: message.timestamp().to_millis().ok_or_else(|| anyhow!("no timestamp"))?,
    };
    Ok(record.line(message.partition(), message.offset()))
}
