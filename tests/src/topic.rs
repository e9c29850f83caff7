//! Topics and their content, by the raw client.

use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, DeleteTopicsRequest, FetchRequest, ListOffsetsRequest,
    MetadataRequest, ProduceRequest,
};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

use crate::codecs;
use crate::raw::{RawClient, topic_name, version};

/// Bytes asked for by one fetch.
const FETCH_BYTES: i32 = 8 * 1024 * 1024;
/// `timeout_ms` of produce requests.
pub const PRODUCE_TIMEOUT_MS: i32 = 10_000;

/// Creates a topic that keeps everything: the records of tests have fixed timestamps, long ago.
pub async fn create(bootstrap: &str, name: &str, partitions: i32) -> Result<()> {
    create_with(bootstrap, name, partitions, &[("retention.ms", "-1")]).await
}

/// Creates a topic with configs.
pub async fn create_with(
    bootstrap: &str,
    name: &str,
    partitions: i32,
    configs: &[(&'static str, &'static str)],
) -> Result<()> {
    let configs = configs
        .iter()
        .map(|(name, value)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_static_str(name))
                .with_value(Some(StrBytes::from_static_str(value)))
        })
        .collect();
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(configs);
    let request =
        CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(PRODUCE_TIMEOUT_MS);
    let mut client = RawClient::connect(bootstrap).await?;
    let answer = client.call(version::CREATE_TOPICS, &request).await?;
    let result = answer.topics.first().context("no topic in the answer")?;
    ensure!(result.error_code == 0, "create {name}: error {}", result.error_code);
    Ok(())
}

/// Deletes a topic.
pub async fn delete(bootstrap: &str, name: &str) -> Result<()> {
    let request = DeleteTopicsRequest::default()
        .with_topic_names(vec![topic_name(name)])
        .with_timeout_ms(PRODUCE_TIMEOUT_MS);
    let mut client = RawClient::connect(bootstrap).await?;
    let answer = client.call(version::DELETE_TOPICS, &request).await?;
    let result = answer.responses.first().context("no topic in the answer")?;
    ensure!(result.error_code == 0, "delete {name}: error {}", result.error_code);
    Ok(())
}

/// Asks for the metadata of all topics; answers the length of the answer.
pub async fn all_metadata_bytes(client: &mut RawClient) -> Result<usize> {
    let frame = client.frame(version::METADATA, &MetadataRequest::default().with_topics(None))?;
    client.send_bytes(&frame).await?;
    Ok(client.receive_frame().await?.len())
}

/// Who writes a batch, for idempotent producers.
#[derive(Clone, Copy, Debug)]
pub struct Sequenced {
    /// The producer id.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The sequence of the batch's first record.
    pub sequence: i32,
}

/// One uncompressed record batch of these values.
pub fn batch(values: &[String], timestamp: i64, from: Option<Sequenced>) -> Result<Bytes> {
    let records: Vec<Record> = values
        .iter()
        .enumerate()
        .map(|(index, value)| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: from.map_or(-1, |from| from.producer_id),
            producer_epoch: from.map_or(-1, |from| from.epoch),
            timestamp_type: TimestampType::Creation,
            offset: index as i64,
            // The encoder takes a run of records with one distance between offset and sequence as
            // one batch.
            sequence: from.map_or(-1, |from| from.sequence).wrapping_add(index as i32),
            timestamp,
            key: None,
            value: Some(Bytes::from(value.clone())),
            headers: Default::default(),
        })
        .collect();
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut bytes, &records, &options)?;
    Ok(bytes.freeze())
}

/// A produce request of one batch for one partition, acks=all.
pub fn produce_request(topic: &str, partition: i32, batch: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
    let topic =
        TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default()
        .with_transactional_id(None)
        .with_acks(-1)
        .with_timeout_ms(PRODUCE_TIMEOUT_MS)
        .with_topic_data(vec![topic])
}

/// A fetch of one partition that does not wait.
pub fn fetch_request(topic: &str, partition: i32, offset: i64) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(FETCH_BYTES);
    let topic =
        FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(0)
        .with_min_bytes(0)
        .with_max_bytes(FETCH_BYTES)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// The log end of a partition (`ListOffsets`, latest).
pub async fn end(client: &mut RawClient, topic: &str, partition: i32) -> Result<i64> {
    let asked = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(-1);
    let asked =
        ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![asked]);
    let request =
        ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![asked]);
    let answer = client.call(version::LIST_OFFSETS, &request).await?;
    let found = answer
        .topics
        .first()
        .and_then(|topic| topic.partitions.first())
        .context("no partition in the answer")?;
    ensure!(
        found.error_code == 0,
        "list offsets of {topic}-{partition}: error {}",
        found.error_code
    );
    Ok(found.offset)
}

/// Everything that is in a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// The record batches as they came, one after the other.
    pub bytes: Vec<u8>,
    /// Offset, timestamp and value of each record.
    pub records: Vec<(i64, i64, String)>,
    /// The log end when reading began.
    pub end: i64,
}

/// Reads a partition from offset 0 to its end.
pub async fn read(bootstrap: &str, topic: &str, partition: i32) -> Result<Content> {
    let mut client = RawClient::connect(bootstrap).await?;
    let mut content =
        Content { end: end(&mut client, topic, partition).await?, ..Content::default() };
    let mut offset = 0;
    while offset < content.end {
        let answer = client.call(version::FETCH, &fetch_request(topic, partition, offset)).await?;
        ensure!(answer.error_code == 0, "fetch: error {}", answer.error_code);
        let part = answer
            .responses
            .first()
            .and_then(|topic| topic.partitions.first())
            .context("no partition in the answer")?;
        ensure!(
            part.error_code == 0,
            "fetch {topic}-{partition}@{offset}: error {}",
            part.error_code
        );
        let mut bytes = whole_batches(part.records.clone().unwrap_or_default());
        ensure!(!bytes.is_empty(), "fetch {topic}-{partition}@{offset}: nothing below the log end");
        content.bytes.extend_from_slice(&bytes);
        for set in codecs::decode_all(&mut bytes)? {
            for record in set.records {
                let value = record.value.unwrap_or_default();
                let value = String::from_utf8_lossy(&value).into_owned();
                offset = record.offset + 1;
                content.records.push((record.offset, record.timestamp, value));
            }
        }
    }
    Ok(content)
}

/// Drops a batch that was cut at the end of an answer, as Kafka may do.
pub(crate) fn whole_batches(bytes: Bytes) -> Bytes {
    /// Base offset and length, which the length does not count.
    const PREFIX: usize = 12;
    let mut whole = 0;
    while let Some(length) = bytes.get(whole + 8..whole + PREFIX) {
        let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        if whole + PREFIX + length > bytes.len() {
            break;
        }
        whole += PREFIX + length;
    }
    bytes.slice(..whole)
}
