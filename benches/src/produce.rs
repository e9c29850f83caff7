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

use crate::{CLIENTS, PARTITIONS, RECORD_BYTES};

/// Random bytes that values are cut from: nothing compresses, and making them costs nothing.
const POOL_BYTES: usize = 1 << 20;
/// How long a producer that has no room serves its deliveries before it tries again.
const ROOM: Duration = Duration::from_millis(5);
const FLUSH: Duration = Duration::from_secs(120);

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

/// Writes `records` records with all producers; returns when all are acknowledged.
pub fn run(bootstrap: &str, topic: &str, records: u64) -> Result<()> {
    thread::scope(|scope| {
        let producers: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || one(bootstrap, topic, client, records / CLIENTS)))
            .collect();
        for producer in producers {
            producer.join().map_err(|_| anyhow!("a producer panicked"))??;
        }
        Ok(())
    })
}

fn one(bootstrap: &str, topic: &str, client: u64, records: u64) -> Result<()> {
    let delivered = Delivered::default();
    let producer: BaseProducer<Delivered> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .create_with_context(delivered.clone())?;
    let random = Random::seeded(client);
    let pool: Vec<u8> = (0..POOL_BYTES / 8).flat_map(|_| random.u64().to_le_bytes()).collect();
    for record in 0..records {
        let from = (record as usize * 4093) % (POOL_BYTES - RECORD_BYTES);
        let mut message = BaseRecord::<(), [u8]>::to(topic)
            .partition((record % PARTITIONS as u64) as i32)
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
