//! librdkafka as applications use it, for as long as a test likes: an idempotent producer, a plain
//! one, and a consumer group of two that reads what both write.
//!
//! What is checked after it has stopped: records that an idempotent producer was told are stored
//! are there once, at the offset it was told; a plain producer's at least once; the group saw every
//! record of the log, each as it is in the log.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use ottla_env::delay;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;

use crate::topic::{self, Content};

/// What the idempotent producer writes to; one partition.
pub const IDEMPOTENT: &str = "written-once";
/// What the plain producer writes to; one partition.
pub const PLAIN: &str = "written-plainly";
/// The consumer group.
pub const GROUP: &str = "readers";
/// Its members.
pub const MEMBERS: usize = 2;
/// A producer makes a record this often, however long its delivery takes: what is stored per second
/// is the same whenever all is well.
const PACE: Duration = Duration::from_millis(10);
/// Bytes of a value, about and at most.
const VALUE_MAX: usize = 500;
/// What librdkafka says of an idempotent record that it was not answered about: that of a later one
/// was answered, so it is stored.
const OFFSET_UNKNOWN: i64 = -1001;
/// One wait of a consumer for a record.
const POLL: Duration = Duration::from_millis(200);
/// After the last fault everything is delivered within this time.
const FLUSH: Duration = Duration::from_secs(60);
/// The group has seen everything within this time after the producers have stopped.
const SEEN_WITHIN: Duration = Duration::from_secs(90);

/// What became of each record of a producer.
#[derive(Clone, Default)]
struct Deliveries(Arc<Mutex<Delivered>>);

#[derive(Debug, Default)]
struct Delivered {
    /// Value and offset, in the order of the answers.
    stored: Vec<(String, i64)>,
    /// Why records were not stored.
    failed: Vec<String>,
    /// When the last record was stored.
    last: Option<Instant>,
    /// The longest time between two answers.
    longest_silence: Duration,
}

impl Deliveries {
    fn lock(&self) -> MutexGuard<'_, Delivered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut delivered = self.lock();
        match result {
            Ok(message) => {
                delivered.stored.push((value_of(message), message.offset()));
                let now = Instant::now();
                if let Some(last) = delivered.last.replace(now) {
                    let silence = now.saturating_duration_since(last);
                    delivered.longest_silence = delivered.longest_silence.max(silence);
                }
            }
            Err((error, _)) => delivered.failed.push(error.to_string()),
        }
    }
}

/// Records as a member saw them: topic, offset, value.
type Seen = Arc<Mutex<BTreeMap<(String, i64), String>>>;

/// Something goes on until this is dropped.
#[derive(Default)]
struct GoesOn(Arc<AtomicBool>);

impl Drop for GoesOn {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Running clients. They end when they are dropped.
pub struct RealClients {
    bootstrap: String,
    producing: GoesOn,
    producers: Vec<(&'static str, Deliveries, JoinHandle<Result<()>>)>,
    consuming: GoesOn,
    seen: Seen,
    /// Not tasks: closing a consumer waits for its server, which a test that fails takes with it.
    consumers: Vec<thread::JoinHandle<Result<()>>>,
}

/// What they saw.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Records that the producers were told are stored.
    pub stored: usize,
    /// The longest time in which the idempotent producer heard of no stored record.
    pub longest_silence: Duration,
}

impl RealClients {
    /// Creates the topics and starts the clients, with librdkafka's defaults.
    pub async fn start(bootstrap: &str) -> Result<Self> {
        let producing = GoesOn::default();
        let mut producers = Vec::new();
        for (topic, idempotent) in [(IDEMPOTENT, true), (PLAIN, false)] {
            topic::create(bootstrap, topic, 1).await?;
            let deliveries = Deliveries::default();
            let producer: ThreadedProducer<Deliveries> = client(bootstrap)
                .set("enable.idempotence", idempotent.to_string())
                .create_with_context(deliveries.clone())?;
            let task = tokio::spawn(produce(producer, topic, Arc::clone(&producing.0)));
            producers.push((topic, deliveries, task));
        }
        let consuming = GoesOn::default();
        let seen = Seen::default();
        let mut consumers = Vec::new();
        for _ in 0..MEMBERS {
            let consumer: BaseConsumer = client(bootstrap)
                .set("group.id", GROUP)
                .set("auto.offset.reset", "earliest")
                .create()?;
            consumer.subscribe(&[IDEMPOTENT, PLAIN])?;
            let (stop, seen) = (Arc::clone(&consuming.0), Arc::clone(&seen));
            consumers.push(thread::spawn(move || consume(&consumer, &stop, &seen)));
        }
        let bootstrap = bootstrap.to_owned();
        Ok(Self { bootstrap, producing, producers, consuming, seen, consumers })
    }

    /// Records stored so far.
    pub fn stored(&self) -> usize {
        self.producers.iter().map(|(_, deliveries, _)| deliveries.lock().stored.len()).sum()
    }

    /// Reads from the beginning what is stored by now, and compares it with what the group saw.
    pub async fn read_again(&self) -> Result<()> {
        let consumer: BaseConsumer = client(&self.bootstrap)
            .set("group.id", "reads-again")
            .set("enable.auto.commit", "false")
            .create()?;
        let mut from_the_beginning = TopicPartitionList::new();
        for topic in [IDEMPOTENT, PLAIN] {
            from_the_beginning.add_partition_offset(topic, 0, Offset::Beginning)?;
        }
        consumer.assign(&from_the_beginning)?;
        let (mut wanted, seen) = (self.stored(), Arc::clone(&self.seen));
        spawn_blocking(move || {
            let begin = Instant::now();
            while wanted > 0 {
                ensure!(begin.elapsed() < SEEN_WITHIN, "{wanted} records were not read again");
                wanted = wanted.saturating_sub(poll(&consumer, &seen)?);
            }
            Ok(())
        })
        .await?
    }

    /// Lets everything be delivered and read, and checks it. No delivery may have failed.
    pub async fn stop(self) -> Result<Report> {
        drop(self.producing);
        let mut report = Report { stored: 0, longest_silence: Duration::ZERO };
        let mut logs = BTreeMap::new();
        for (topic, deliveries, task) in self.producers {
            task.await?.with_context(|| format!("the producer of {topic}"))?;
            let Delivered { stored, failed, longest_silence, .. } =
                std::mem::take(&mut *deliveries.lock());
            if let Some(error) = failed.first() {
                bail!("{} records of {topic} failed: {error}", failed.len());
            }
            report.stored += stored.len();
            if topic == IDEMPOTENT {
                report.longest_silence = longest_silence;
            }
            let log = topic::read(&self.bootstrap, topic, 0).await?;
            check(topic, &stored, &log)?;
            logs.insert(topic, log);
        }
        let seen = wait_until_seen(&self.seen, &logs).await;
        drop(self.consuming);
        for consumer in self.consumers {
            let ended = spawn_blocking(move || consumer.join()).await?;
            ended.map_err(|_| anyhow!("a consumer panicked"))??;
        }
        seen?;
        Ok(report)
    }
}

fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}

async fn produce(
    producer: ThreadedProducer<Deliveries>,
    topic: &'static str,
    stop: Arc<AtomicBool>,
) -> Result<()> {
    let begin = Instant::now();
    let mut next = 0_usize;
    while !stop.load(Ordering::SeqCst) {
        let due = begin + PACE * next as u32;
        delay(due.saturating_duration_since(Instant::now())).await;
        let value = format!("{topic}/{next} {}", "x".repeat(next * 37 % VALUE_MAX));
        match producer.send(BaseRecord::<str, str>::to(topic).payload(&value)) {
            Ok(()) => next += 1,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                delay(PACE).await;
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
    spawn_blocking(move || producer.flush(FLUSH)).await??;
    Ok(())
}

fn value_of(message: &impl Message) -> String {
    message.payload().map(String::from_utf8_lossy).unwrap_or_default().into_owned()
}

fn consume(consumer: &BaseConsumer, stop: &AtomicBool, seen: &Seen) -> Result<()> {
    while !stop.load(Ordering::SeqCst) {
        poll(consumer, seen)?;
    }
    Ok(())
}

/// Waits for a record; how many came.
fn poll(consumer: &BaseConsumer, seen: &Seen) -> Result<usize> {
    let message = match consumer.poll(POLL) {
        None => return Ok(0),
        Some(Ok(message)) => message,
        // librdkafka reports what it gets over by itself, and goes on.
        Some(Err(error)) => {
            let fatal = matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::Fatal));
            ensure!(!fatal, "a consumer failed: {error}");
            return Ok(0);
        }
    };
    let (at, value) = ((message.topic().to_owned(), message.offset()), value_of(&message));
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(before) = seen.insert(at.clone(), value.clone()) {
        ensure!(before == value, "I-ONE: two values at {at:?}: {before:?}, {value:?}");
    }
    Ok(1)
}

/// Compares what a producer was told with what is there.
fn check(topic: &str, stored: &[(String, i64)], log: &Content) -> Result<()> {
    let mut at: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for (expected, (offset, _, value)) in (0..).zip(&log.records) {
        ensure!(*offset == expected, "I-DENSE: {topic} has {offset} where {expected} is due");
        at.entry(value).or_default().push(*offset);
    }
    for (value, offset) in stored {
        let found = at.get(value.as_str()).map(Vec::as_slice).unwrap_or_default();
        let unknown = topic == IDEMPOTENT && *offset == OFFSET_UNKNOWN && !found.is_empty();
        ensure!(
            unknown || found.contains(offset),
            "I-ACK: {} was acknowledged at {offset}, is at {found:?}",
            &value[..value.len().min(40)]
        );
    }
    if topic == IDEMPOTENT {
        let twice = at.iter().find(|(_, offsets)| offsets.len() > 1);
        ensure!(twice.is_none(), "I-IDEM: {twice:?}");
        ensure!(at.len() == stored.len(), "{} stored, {} told", at.len(), stored.len());
        let mut order: Vec<(i64, u64)> = Vec::new();
        for (value, _) in stored {
            let number = value.split(['/', ' ']).nth(1).context("a strange value")?.parse()?;
            let stored_at = at.get(value.as_str()).and_then(|found| found.first());
            order.push((*stored_at.context("not in the log")?, number));
        }
        order.sort_unstable();
        ensure!(order.is_sorted_by_key(|(_, number)| *number), "I-ORDER: {topic} is out of order");
    }
    Ok(())
}

/// Waits until the group has seen all of the logs.
async fn wait_until_seen(seen: &Seen, logs: &BTreeMap<&'static str, Content>) -> Result<()> {
    let begin = Instant::now();
    for (topic, log) in logs {
        for (offset, _, value) in &log.records {
            loop {
                let at = (String::from(*topic), *offset);
                let found = seen.lock().unwrap_or_else(PoisonError::into_inner).get(&at).cloned();
                if let Some(found) = found {
                    ensure!(found == *value, "I-ONE: the group saw {found:?} at {at:?}");
                    break;
                }
                ensure!(begin.elapsed() < SEEN_WITHIN, "the group has not seen {at:?}");
                delay(POLL).await;
            }
        }
    }
    Ok(())
}
