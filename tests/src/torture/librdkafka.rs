//! Producers as programs have them: librdkafka, which batches, compresses and retries by itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use ottla_env::{Random, delay};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

use crate::history::{Attempt, Kind, Outcome};
use crate::payload;

/// Pause between two bursts.
const PACE: Duration = Duration::from_millis(30);
/// Records of a burst, at most.
const BURST_MAX: u64 = 8;
/// Bytes that one burst may come to: it keeps rounds with large records as cheap as others.
const BURST_BYTES: u64 = 60_000;
/// After the last record, everything is delivered within this time.
const FINISH_WITHIN: Duration = Duration::from_secs(60);

/// What a producer writes.
#[derive(Clone, Debug)]
pub struct Library {
    /// Where.
    pub bootstrap: String,
    /// To which topic.
    pub topic: String,
    /// With how many partitions.
    pub partitions: i32,
    /// Its number.
    pub producer: u32,
    /// [`Kind::Idempotent`] or [`Kind::Resending`].
    pub kind: Kind,
    /// Compressed how.
    pub codec: &'static str,
    /// Bytes that pad a record, at most.
    pub padding_max: u64,
    /// What it draws from.
    pub seed: u64,
    /// Set when it is to end.
    pub stop: Arc<AtomicBool>,
}

/// What a producer did.
#[derive(Debug, Default)]
pub struct Written {
    /// One attempt per record.
    pub history: Vec<Attempt>,
    /// What must not happen to a producer.
    pub complaints: Vec<String>,
}

/// What the library has not told about yet, by partition and number; and what it has.
#[derive(Debug, Default)]
struct Book {
    outstanding: BTreeMap<u64, i32>,
    outcomes: BTreeMap<u64, (i32, Outcome)>,
    complaints: Vec<String>,
}

#[derive(Clone, Default)]
struct Deliveries(Arc<Mutex<Book>>);

impl Deliveries {
    fn with<T>(&self, change: impl FnOnce(&mut Book) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientContext for Deliveries {
    /// It complains of every broken connection, and connections break all the time.
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<u64>) {
        let outcome = match result {
            // A negative offset: stored by an earlier attempt.
            Ok(message) => Outcome::Acknowledged(message.offset().max(-1)),
            // The library may have sent it before it gave up.
            Err(_) => Outcome::Unknown,
        };
        self.with(|book| {
            if let Some(partition) = book.outstanding.remove(&number) {
                book.outcomes.insert(*number, (partition, outcome));
            }
        });
    }
}

impl Library {
    /// Writes until told to stop, and waits until everything is delivered.
    pub async fn write(self) -> Result<Written> {
        let deliveries = Deliveries::default();
        let producer: ThreadedProducer<Deliveries> = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("enable.idempotence", (self.kind == Kind::Idempotent).to_string())
            .set("compression.type", self.codec)
            .set("linger.ms", "5")
            .set("reconnect.backoff.max.ms", "500")
            .create_with_context(deliveries.clone())
            .context("a librdkafka producer")?;
        let random = Random::seeded(self.seed);
        let mut number = 0;
        while !self.stop.load(Ordering::SeqCst) {
            delay(random.jitter(PACE)).await;
            let burst = (1 + random.below(BURST_MAX)).min(1 + BURST_BYTES / self.padding_max);
            for _ in 0..burst {
                self.send(&producer, &deliveries, &random, number);
                number += 1;
            }
        }
        let finished = tokio::task::spawn_blocking(move || {
            let finished = producer.flush(FINISH_WITHIN);
            (finished, producer.client().fatal_error())
        });
        let (finished, fatal) = finished.await?;
        let mut written = Written::default();
        let who =
            format!("librdkafka producer {} ({:?}) of {}", self.producer, self.kind, self.topic);
        if let Some((code, reason)) = fatal {
            written.complaints.push(format!("producer-fatal: {who}: {code:?}: {reason}"));
        }
        let book = deliveries.with(std::mem::take);
        if let Err(error) = finished {
            let left = book.outstanding.len();
            written.complaints.push(format!("stuck: {who}: {left} records left: {error}"));
        }
        written.complaints.extend(book.complaints);
        let unknown = book.outstanding.iter().map(|(n, p)| (*n, (*p, Outcome::Unknown)));
        let outcomes: BTreeMap<u64, (i32, Outcome)> = unknown.chain(book.outcomes).collect();
        written.history = outcomes.into_iter().map(|(n, told)| self.attempt(n, told)).collect();
        Ok(written)
    }

    fn id(&self, number: u64) -> String {
        format!("{}/{}/{number}", self.topic, self.producer)
    }

    fn attempt(&self, number: u64, (partition, outcome): (i32, Outcome)) -> Attempt {
        let values = vec![self.id(number)];
        let (producer, kind) = (self.producer, self.kind);
        Attempt { producer, kind, partition, batch: number, values, outcome }
    }

    fn send(
        &self,
        producer: &ThreadedProducer<Deliveries>,
        deliveries: &Deliveries,
        random: &Random,
        number: u64,
    ) {
        let partition = random.below(self.partitions as u64) as i32;
        let value = payload::value(&self.id(number), random.below(self.padding_max) as usize);
        deliveries.with(|book| book.outstanding.insert(number, partition));
        let record =
            BaseRecord::<str, str, Box<u64>>::with_opaque_to(&self.topic, Box::new(number))
                .partition(partition)
                .payload(&value);
        if let Err((error, _)) = producer.send(record) {
            // Never entered the library, so never sent.
            deliveries.with(|book| {
                book.outstanding.remove(&number);
                book.complaints.push(format!("send-refused: {number}: {error}"));
            });
        }
    }
}
