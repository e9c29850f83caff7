//! Readers at the end of a topic: raw fetches from the beginning to wherever the log ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{BrokerId, FetchRequest};
use ottla_env::delay;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::codecs;
use crate::history::reads::{Poll, id_of};
use crate::raw::{RawClient, topic_name};
use crate::topic::whole_batches;

/// Fetch by topic name.
const BY_NAME: i16 = 12;
/// Fetch by topic id.
const BY_ID: i16 = 13;
const RETRY_PAUSE: Duration = Duration::from_millis(20);
const WAIT_MS: i32 = 200;
const PARTITION_BYTES: i32 = 256 * 1024;
/// A server that does not answer for so long is not asked again on this connection.
const PATIENCE: Duration = Duration::from_secs(30);
/// After the last write, a reader is at the end within this time.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(60);
/// UNKNOWN_TOPIC_OR_PARTITION and UNKNOWN_TOPIC_ID.
const UNKNOWN_TOPIC: [i16; 2] = [3, 100];
/// OFFSET_OUT_OF_RANGE: never right for a reader that goes on where it was.
const OUT_OF_RANGE: i16 = 1;

/// What a reader reads.
#[derive(Clone, Debug)]
pub struct Tail {
    /// Where.
    pub bootstrap: String,
    /// Its number.
    pub reader: u32,
    /// The topic's name.
    pub topic: String,
    /// The topic's id; set: it is fetched by it.
    pub id: Option<Uuid>,
    /// How many partitions it has.
    pub partitions: i32,
    /// Set when nothing more will be written: the reader goes on to the end.
    pub written: Arc<AtomicBool>,
    /// Set when the topic is deleted: the reader ends when it is told so.
    pub deleted: Arc<AtomicBool>,
}

impl Tail {
    /// Reads to the end; answers what it saw.
    pub async fn read(self) -> Result<Vec<Poll>> {
        let mut polls = Vec::new();
        let mut positions: BTreeMap<i32, i64> = (0..self.partitions).map(|p| (p, 0)).collect();
        let mut client = None;
        let mut written_at = None;
        loop {
            if self.written.load(Ordering::SeqCst) {
                let since = *written_at.get_or_insert_with(Instant::now);
                if since.elapsed() > CATCH_UP_WITHIN {
                    bail!("reader {} of {} is stuck at {positions:?}", self.reader, self.topic);
                }
            }
            match self.fetch(&mut client, &mut positions, &mut polls).await {
                Ok(Told::More) => {}
                Ok(Told::End) if written_at.is_some() => return Ok(polls),
                Ok(Told::End) => {}
                Ok(Told::Gone) if self.deleted.load(Ordering::SeqCst) => return Ok(polls),
                Ok(Told::Gone | Told::Again) => delay(RETRY_PAUSE).await,
                Err(Failed::Connection) => {
                    client = None;
                    delay(RETRY_PAUSE).await;
                }
                Err(Failed::Anomaly(error)) => return Err(error),
            }
        }
    }

    async fn fetch(
        &self,
        client: &mut Option<RawClient>,
        positions: &mut BTreeMap<i32, i64>,
        polls: &mut Vec<Poll>,
    ) -> Result<Told, Failed> {
        let connected = match client {
            Some(client) => client,
            None => {
                let connecting = timeout(PATIENCE, RawClient::connect(&self.bootstrap)).await;
                let connected =
                    connecting.map_err(|_| Failed::Connection)?.map_err(|_| Failed::Connection)?;
                client.insert(connected.with_patience(PATIENCE))
            }
        };
        let version = if self.id.is_some() { BY_ID } else { BY_NAME };
        let answer = connected.call(version, &self.request(positions)).await;
        let answer = answer.map_err(|_| Failed::Connection)?;
        if UNKNOWN_TOPIC.contains(&answer.error_code) {
            return Ok(Told::Gone);
        }
        let mut told = if answer.error_code == 0 { Told::End } else { Told::Again };
        for part in answer.responses.iter().flat_map(|topic| &topic.partitions) {
            match part.error_code {
                0 => {}
                OUT_OF_RANGE => {
                    let at = (part.partition_index, positions.get(&part.partition_index));
                    let what = format!("out-of-range: {} at {at:?}", self.topic);
                    return Err(Failed::Anomaly(anyhow::Error::msg(what)));
                }
                code if UNKNOWN_TOPIC.contains(&code) => return Ok(Told::Gone),
                _ => {
                    told = Told::Again;
                    continue;
                }
            }
            let index = part.partition_index;
            let position = positions.get_mut(&index).ok_or(Failed::Connection)?;
            let poll = self.poll(part, *position).map_err(Failed::Anomaly)?;
            if let Some((last, _)) = poll.records.last() {
                *position = last + 1;
            }
            if *position < part.high_watermark && told == Told::End {
                told = Told::More;
            }
            let before = polls.iter().rev().find(|before| before.partition == index);
            let moved = before.is_none_or(|before| before.high_watermark != poll.high_watermark);
            if moved || !poll.records.is_empty() {
                polls.push(poll);
            }
        }
        Ok(told)
    }

    fn request(&self, positions: &BTreeMap<i32, i64>) -> FetchRequest {
        let partitions = positions.iter().map(|(&partition, &position)| {
            FetchPartition::default()
                .with_partition(partition)
                .with_fetch_offset(position)
                .with_partition_max_bytes(PARTITION_BYTES)
        });
        let topic = FetchTopic::default().with_partitions(partitions.collect());
        let topic = match self.id {
            Some(id) => topic.with_topic_id(id),
            None => topic.with_topic(topic_name(&self.topic)),
        };
        FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(WAIT_MS)
            .with_min_bytes(1)
            .with_max_bytes(PARTITION_BYTES * self.partitions)
            .with_session_epoch(-1)
            .with_topics(vec![topic])
    }

    fn poll(&self, part: &PartitionData, position: i64) -> Result<Poll> {
        let mut bytes = whole_batches(part.records.clone().unwrap_or_default());
        let mut records = Vec::new();
        let sets = codecs::decode_all(&mut bytes)
            .with_context(|| format!("corrupt: {} at {position}", self.topic))?;
        for record in sets.into_iter().flat_map(|set| set.records) {
            // A batch may begin before the offset that was asked for.
            if record.offset < position {
                continue;
            }
            let value = record.value.unwrap_or_default();
            records.push((record.offset, id_of(&String::from_utf8_lossy(&value))));
        }
        Ok(Poll {
            reader: self.reader,
            partition: part.partition_index,
            position,
            records,
            high_watermark: part.high_watermark,
            last_stable: part.last_stable_offset,
            log_start: part.log_start_offset,
        })
    }
}

/// What an answer says about going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// There is more.
    More,
    /// All of it was read.
    End,
    /// The topic is unknown.
    Gone,
    /// An error that passes.
    Again,
}

/// Why there is no answer.
enum Failed {
    /// No connection, or not any more.
    Connection,
    /// There must never be such an answer.
    Anomaly(anyhow::Error),
}
