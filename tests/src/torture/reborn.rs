//! A topic that is deleted and created again under its name, while it is written and read by id.
//!
//! Values carry the id of the topic they were sent to, so that a record of one life that shows up
//! in another is a phantom there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, MetadataRequest, ProduceRequest,
};
use kafka_protocol::protocol::StrBytes;
use ottla_env::{Random, delay};
use tokio::time::Instant;
use uuid::Uuid;

use super::tail::Tail;
use crate::history::reads::{self, Poll};
use crate::history::{self, Attempt, Kind, Outcome};
use crate::payload;
use crate::raw::{RawClient, topic_name, version};
use crate::topic::{self, Content};

const PARTITIONS: i32 = 2;
/// The first version of Produce that names topics by id.
const PRODUCE_BY_ID: i16 = 13;
/// By name; the last version without ids.
const DELETE_TOPICS: i16 = 4;
const PACE: Duration = Duration::from_millis(20);
const RETRY_PAUSE: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(30);
/// Creating or deleting a topic succeeds within this time, whatever happens to the server.
const CHANGE_WITHIN: Duration = Duration::from_secs(120);
/// How long one life lasts, at least and at most.
const LIFE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));
const TIMESTAMP: i64 = 1_700_000_000_000;
/// TOPIC_ALREADY_EXISTS.
const EXISTS: i16 = 36;
/// UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID.
const UNKNOWN_TOPIC: [i16; 2] = [3, 100];

/// One life of the topic.
#[derive(Debug)]
pub struct Life {
    /// Its id.
    pub id: Uuid,
    /// What was sent to it.
    pub history: Vec<Attempt>,
    /// What readers saw of it.
    pub polls: Vec<Poll>,
}

/// Lives one life after the other until told to stop; the last one is left alone.
pub async fn live(
    bootstrap: String,
    name: String,
    random: Random,
    stop: Arc<AtomicBool>,
) -> Result<Vec<Life>> {
    let mut lives = Vec::new();
    loop {
        let id = create(&bootstrap, &name).await?;
        let (over, deleted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let writers: Vec<_> = (0..PARTITIONS)
            .map(|partition| {
                let (bootstrap, over, deleted) = (bootstrap.clone(), over.clone(), deleted.clone());
                tokio::spawn(write(bootstrap, id, partition, over, deleted))
            })
            .collect();
        let reader = Tail {
            bootstrap: bootstrap.clone(),
            reader: 0,
            topic: name.clone(),
            id: Some(id),
            partitions: PARTITIONS,
            written: over.clone(),
            deleted: deleted.clone(),
        };
        let reader = tokio::spawn(reader.read());
        let until = Instant::now() + LIFE.0 + random.jitter(LIFE.1 - LIFE.0);
        while Instant::now() < until && !stop.load(Ordering::SeqCst) {
            delay(RETRY_PAUSE).await;
        }
        let last = stop.load(Ordering::SeqCst);
        if last {
            over.store(true, Ordering::SeqCst);
        } else {
            delete(&bootstrap, &name).await?;
            deleted.store(true, Ordering::SeqCst);
        }
        let mut history = Vec::new();
        for writer in writers {
            history.extend(writer.await??);
        }
        lives.push(Life { id, history, polls: reader.await?? });
        if last {
            return Ok(lives);
        }
    }
}

/// What must not be in the lives of a topic; `log` is what is under its name now.
pub fn anomalies(lives: &[Life], log: &BTreeMap<i32, Content>) -> Vec<String> {
    let mut found = Vec::new();
    for (number, life) in lives.iter().enumerate() {
        let log = (number + 1 == lives.len()).then_some(log);
        found.extend(reads::anomalies(&life.polls, log));
        found.extend(reads::unexplained(&life.polls, &life.history));
        if let Some(log) = log {
            found.extend(history::anomalies(&life.history, log));
        }
    }
    found
}

/// What is under the topic's name.
pub async fn read(bootstrap: &str, name: &str) -> Result<BTreeMap<i32, Content>> {
    let mut log = BTreeMap::new();
    for partition in 0..PARTITIONS {
        log.insert(partition, topic::read(bootstrap, name, partition).await?);
    }
    Ok(log)
}

async fn create(bootstrap: &str, name: &str) -> Result<Uuid> {
    let keep = CreatableTopicConfig::default()
        .with_name(StrBytes::from_static_str("retention.ms"))
        .with_value(Some(StrBytes::from_static_str("-1")));
    let asked = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(PARTITIONS)
        .with_replication_factor(1)
        .with_configs(vec![keep]);
    let request = CreateTopicsRequest::default().with_topics(vec![asked]).with_timeout_ms(10_000);
    let begin = Instant::now();
    loop {
        ensure!(begin.elapsed() < CHANGE_WITHIN, "stuck: {name} cannot be created");
        let Ok(mut client) = connect(bootstrap).await else { continue };
        let Ok(answer) = client.call(version::CREATE_TOPICS, &request).await else { continue };
        let told = answer.topics.first().context("no topic in the answer")?;
        match told.error_code {
            0 => return Ok(told.topic_id),
            // An answer was lost before.
            EXISTS => {
                if let Some(id) = id_of(&mut client, name).await {
                    return Ok(id);
                }
            }
            _ => delay(RETRY_PAUSE).await,
        }
    }
}

async fn id_of(client: &mut RawClient, name: &str) -> Option<Uuid> {
    let asked = MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    let request = MetadataRequest::default().with_topics(Some(vec![asked]));
    let answer = client.call(version::METADATA, &request).await.ok()?;
    let told = answer.topics.first()?;
    (told.error_code == 0).then_some(told.topic_id)
}

/// Deletes a topic.
pub async fn delete(bootstrap: &str, name: &str) -> Result<()> {
    let request = DeleteTopicsRequest::default()
        .with_topic_names(vec![topic_name(name)])
        .with_timeout_ms(10_000);
    let begin = Instant::now();
    loop {
        ensure!(begin.elapsed() < CHANGE_WITHIN, "stuck: {name} cannot be deleted");
        let Ok(mut client) = connect(bootstrap).await else { continue };
        let Ok(answer) = client.call(DELETE_TOPICS, &request).await else { continue };
        match answer.responses.first().context("no topic in the answer")?.error_code {
            0 => return Ok(()),
            // Deleted by an attempt whose answer was lost.
            code if UNKNOWN_TOPIC.contains(&code) => return Ok(()),
            _ => delay(RETRY_PAUSE).await,
        }
    }
}

async fn connect(bootstrap: &str) -> Result<RawClient> {
    match RawClient::connect(bootstrap).await {
        Ok(client) => Ok(client.with_patience(PATIENCE)),
        Err(error) => {
            delay(RETRY_PAUSE).await;
            Err(error)
        }
    }
}

/// Writes records to one partition, one at a time, never the same twice.
async fn write(
    bootstrap: String,
    id: Uuid,
    partition: i32,
    over: Arc<AtomicBool>,
    deleted: Arc<AtomicBool>,
) -> Result<Vec<Attempt>> {
    let mut history = Vec::new();
    let mut client = None;
    let mut batch = 0;
    while !over.load(Ordering::SeqCst) {
        delay(PACE).await;
        if client.is_none() {
            client = connect(&bootstrap).await.ok();
        }
        let Some(connected) = &mut client else { continue };
        // Asked before: a refusal after the deletion is expected.
        let was_deleted = deleted.load(Ordering::SeqCst);
        let values = vec![payload::value(&format!("{id}/{partition}/{batch}"), 40)];
        let records = topic::batch(&values, TIMESTAMP, None)?;
        let data =
            PartitionProduceData::default().with_index(partition).with_records(Some(records));
        let data = TopicProduceData::default().with_topic_id(id).with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_transactional_id(None)
            .with_acks(-1)
            .with_timeout_ms(10_000)
            .with_topic_data(vec![data]);
        let outcome = match connected.call(PRODUCE_BY_ID, &request).await {
            Err(_) => {
                client = None;
                Outcome::Unknown
            }
            Ok(answer) => {
                let topic = answer.responses.first().context("no topic in the answer")?;
                let told = topic.partition_responses.first().context("no partition")?;
                match told.error_code {
                    0 => Outcome::Acknowledged(told.base_offset),
                    code => Outcome::Refused(code),
                }
            }
        };
        let values = vec![payload::id(&values[0]).to_owned()];
        let (producer, kind) = (partition as u32, Kind::Once);
        history.push(Attempt { producer, kind, partition, batch, values, outcome });
        batch += 1;
        match outcome {
            Outcome::Refused(code) if was_deleted && UNKNOWN_TOPIC.contains(&code) => break,
            Outcome::Acknowledged(_) if was_deleted => {
                bail!("deleted-but-stored: {id} took a record after its deletion was acknowledged")
            }
            _ => {}
        }
    }
    Ok(history)
}
