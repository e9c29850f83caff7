//! A load of a fixed rate: raw producers that send at fixed times, however long the answers take.
//!
//! A request's latency counts from the moment it was due, so that a server that falls behind cannot
//! hide it by slowing the producer down.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, Bytes};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, ResponseHeader};
use kafka_protocol::protocol::Decodable;
use ottla_env::{Random, delay};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::raw::{ANSWER_WITHIN, Frames, topic_name, version};
use crate::topic;

/// Requests of a connection that may wait for their answers; a server that is so far behind has
/// lost the race.
const UNANSWERED_MAX: usize = 10_000;
/// The timestamp of every record.
const TIMESTAMP: i64 = 1_700_000_000_000;

/// What is sent.
#[derive(Clone, Debug)]
pub struct Paced {
    /// Where to.
    pub bootstrap: String,
    /// The topics, with the same number of partitions each.
    pub topics: Vec<String>,
    /// Partitions of each topic.
    pub partitions: i32,
    /// Connections that share the load.
    pub connections: u32,
    /// Requests per second, of all connections together.
    pub requests_per_second: f64,
    /// Record batches of a request, each for another partition of one topic.
    pub batches: i32,
    /// Bytes of a batch's one record.
    pub record_bytes: usize,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// How many requests were answered.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Adds a time.
    pub fn push(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// The time that this share of all requests stayed below, in milliseconds.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = (sorted.len() as f64 * share) as usize;
        let found = sorted.get(at.min(sorted.len().saturating_sub(1)));
        found.map_or(f64::NAN, |took| took.as_secs_f64() * 1e3)
    }

    /// The mean, in milliseconds.
    pub fn mean_ms(&self) -> f64 {
        self.0.iter().sum::<Duration>().as_secs_f64() * 1e3 / self.0.len() as f64
    }

    /// Takes over what another one has.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

impl Paced {
    /// Sends for so long; returns when all is answered. Fails at the first batch that is refused.
    pub async fn run(&self, during: Duration) -> Result<Latencies> {
        let mut tasks = JoinSet::new();
        let period =
            Duration::from_secs_f64(f64::from(self.connections) / self.requests_per_second);
        let begin = Instant::now();
        for number in 0..self.connections {
            let first = begin + period.mul_f64(f64::from(number) / f64::from(self.connections));
            tasks.spawn(self.clone().connection(number, first, period, begin + during));
        }
        let mut all = Latencies::default();
        while let Some(done) = tasks.join_next().await {
            all.extend(done??);
        }
        Ok(all)
    }

    async fn connection(
        self,
        number: u32,
        first: Instant,
        period: Duration,
        end: Instant,
    ) -> Result<Latencies> {
        let stream = TcpStream::connect(&self.bootstrap).await?;
        stream.set_nodelay(true)?;
        let (read, mut write) = stream.into_split();
        let (due, awaited) = mpsc::channel(UNANSWERED_MAX);
        // Its half stays open until all is answered: a server may take the end of a stream for that of
        // the client.
        let send = self.send(&mut write, due, u64::from(number), (first, period, end));
        let (sent, latencies) = tokio::join!(send, receive(read, awaited));
        sent?;
        latencies
    }

    async fn send(
        &self,
        write: &mut OwnedWriteHalf,
        due: mpsc::Sender<Instant>,
        seed: u64,
        (first, period, end): (Instant, Duration, Instant),
    ) -> Result<()> {
        let random = Random::seeded(seed);
        let batch = topic::batch(&["x".repeat(self.record_bytes)], TIMESTAMP, None)?;
        let mut frames = Frames::default();
        let mut at = first;
        while at < end {
            delay(at.saturating_duration_since(Instant::now())).await;
            let frame = frames.frame(version::PRODUCE, &self.request(&random, &batch))?;
            if due.try_send(at).is_err() {
                bail!("{UNANSWERED_MAX} requests without an answer, or the connection is gone");
            }
            write.write_all(&frame).await.context("write a request")?;
            at += period;
        }
        Ok(())
    }

    fn request(&self, random: &Random, batch: &Bytes) -> ProduceRequest {
        let topic = &self.topics[random.below(self.topics.len() as u64) as usize];
        let first = random.below(self.partitions as u64) as i32;
        let data = (0..self.batches.min(self.partitions)).map(|number| {
            PartitionProduceData::default()
                .with_index((first + number) % self.partitions)
                .with_records(Some(batch.clone()))
        });
        let data = TopicProduceData::default()
            .with_name(topic_name(topic))
            .with_partition_data(data.collect());
        ProduceRequest::default()
            .with_transactional_id(None)
            .with_acks(-1)
            .with_timeout_ms(topic::PRODUCE_TIMEOUT_MS)
            .with_topic_data(vec![data])
    }
}

async fn receive(
    mut read: OwnedReadHalf,
    mut awaited: mpsc::Receiver<Instant>,
) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    while let Some(due) = awaited.recv().await {
        let mut frame = timeout(ANSWER_WITHIN, async {
            let length = read.read_u32().await?;
            let mut frame = vec![0; length as usize];
            read.read_exact(&mut frame).await?;
            anyhow::Ok(Bytes::from(frame))
        })
        .await
        .context("no answer")??;
        latencies.push(due.elapsed());
        // Produce 9 has a flexible header.
        ResponseHeader::decode(&mut frame, 1)?;
        let answer = ProduceResponse::decode(&mut frame, version::PRODUCE)?;
        ensure!(!frame.has_remaining(), "{} bytes after the answer", frame.remaining());
        for partition in answer.responses.iter().flat_map(|topic| &topic.partition_responses) {
            let code = partition.error_code;
            ensure!(code == 0, "partition {}: error {code}", partition.index);
        }
    }
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_times() {
        let latencies = Latencies((1..=100).rev().map(Duration::from_millis).collect());
        assert_eq!(latencies.quantile_ms(0.5), 51.0);
        assert_eq!(latencies.quantile_ms(0.99), 100.0);
        assert_eq!(latencies.mean_ms(), 50.5);
    }
}
