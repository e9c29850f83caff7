//! The producers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};
use ottla_env::Random;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use tokio::time::Instant;

/// Bytes of a record's value.
pub const RECORD_BYTES: usize = 1024;
/// Partitions of a topic, unless a case says otherwise.
pub const PARTITIONS: i32 = 16;
/// Producers, unless a case says otherwise.
pub const PRODUCERS: u64 = 4;

/// Bytes that values are cut from: making them costs nothing.
const POOL_BYTES: usize = 1 << 20;
/// Different words of a text.
const WORDS: u64 = 2_000;
/// How long a producer that has no room serves its deliveries before it tries again.
const ROOM: Duration = Duration::from_millis(5);
const FLUSH: Duration = Duration::from_secs(120);
/// A producer that keeps a rate looks at the clock this often, in records.
const PACE_RECORDS: u64 = 16;

/// What values are made of.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// Random bytes: nothing compresses.
    Noise,
    /// Words in random order, which compress to about a third.
    Text,
}

/// What is written.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// The topic.
    pub topic: &'a str,
    /// How many of its partitions; records go to one after the other.
    pub partitions: i32,
    /// Each with a thread and a connection of its own.
    pub producers: u64,
    /// Of all producers together.
    pub records: u64,
    /// Of all producers together; `None`: as fast as they can.
    pub records_per_second: Option<f64>,
    /// What the values are made of.
    pub values: Values,
    /// More settings of the client.
    pub settings: &'a [(&'a str, &'a str)],
}

#[derive(Clone, Default)]
struct Delivered {
    good: Arc<AtomicU64>,
    bad: Arc<AtomicU64>,
}

impl ClientContext for Delivered {}

impl ProducerContext for Delivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = if result.is_ok() { &self.good } else { &self.bad };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Values {
    fn pool(self, random: &Random) -> Vec<u8> {
        let noise = |bytes: usize| -> Vec<u8> {
            (0..bytes.div_ceil(8)).flat_map(|_| random.u64().to_le_bytes()).collect()
        };
        match self {
            Self::Noise => noise(POOL_BYTES),
            Self::Text => {
                let letters: Vec<u8> =
                    noise(WORDS as usize * 8).iter().map(|byte| b'a' + byte % 26).collect();
                let mut pool = Vec::with_capacity(POOL_BYTES + 8);
                while pool.len() < POOL_BYTES {
                    let word = random.below(WORDS) as usize;
                    pool.extend_from_slice(&letters[word * 8..][..3 + word % 6]);
                    pool.push(b' ');
                }
                pool
            }
        }
    }
}

impl<'a> Load<'a> {
    /// The usual one: as fast as [`PRODUCERS`] can, to [`PARTITIONS`].
    pub fn of(topic: &'a str, records: u64) -> Self {
        Self {
            topic,
            partitions: PARTITIONS,
            producers: PRODUCERS,
            records,
            records_per_second: None,
            values: Values::Noise,
            settings: &[("linger.ms", "5")],
        }
    }

    /// Bytes of all values.
    pub fn bytes(&self) -> u64 {
        self.records * RECORD_BYTES as u64
    }

    /// Writes everything; returns when all is acknowledged.
    pub fn run(&self, bootstrap: &str) -> Result<()> {
        thread::scope(|scope| {
            let producers: Vec<_> = (0..self.producers)
                .map(|producer| scope.spawn(move || self.one(bootstrap, producer)))
                .collect();
            for producer in producers {
                producer.join().map_err(|_| anyhow!("a producer panicked"))??;
            }
            Ok(())
        })
    }

    fn one(&self, bootstrap: &str, number: u64) -> Result<()> {
        let records = self.records / self.producers;
        let delivered = Delivered::default();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("enable.idempotence", "true");
        for (name, value) in self.settings {
            config.set(*name, *value);
        }
        let producer: BaseProducer<Delivered> = config.create_with_context(delivered.clone())?;
        let pool = self.values.pool(&Random::seeded(number));
        let begin = Instant::now();
        for record in 0..records {
            if record % PACE_RECORDS == 0
                && let Some(rate) = self.records_per_second
            {
                let due = record as f64 * self.producers as f64 / rate;
                pace(&producer, begin + Duration::from_secs_f64(due));
            }
            let from = (record as usize * 4093) % (POOL_BYTES - RECORD_BYTES);
            let mut message = BaseRecord::<(), [u8]>::to(self.topic)
                .partition((record % self.partitions as u64) as i32)
                .payload(&pool[from..from + RECORD_BYTES]);
            while let Err((error, back)) = producer.send(message) {
                if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                    bail!(error);
                }
                producer.poll(ROOM);
                message = back;
            }
        }
        producer.flush(FLUSH)?;
        let (good, bad) =
            (delivered.good.load(Ordering::Relaxed), delivered.bad.load(Ordering::Relaxed));
        ensure!(good == records, "{good} of {records} records delivered, {bad} failed");
        Ok(())
    }
}

/// Serves deliveries until it is time for the next record.
pub fn pace<C: ProducerContext>(producer: &BaseProducer<C>, due: Instant) {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        producer.poll(left);
        if left.is_zero() {
            return;
        }
    }
}
