//! A whole broker over real sockets, against a control plane and a store in memory.

mod edges;
mod half_closed;
mod life;
mod order;
mod panics;
mod records;
mod sharing;
mod text;
mod topics;
mod versions;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    FetchRequest, MetadataRequest, MetadataResponse, ProduceRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::testing::Client;

pub fn name(text: &str) -> TopicName {
    TopicName(StrBytes::from(text.to_owned()))
}

pub fn metadata(topic: &str) -> MetadataRequest {
    MetadataRequest::default()
        .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(name(topic)))]))
        .with_allow_auto_topic_creation(true)
}

/// Makes sure that a topic exists, as a producer does.
pub async fn create(client: &mut Client, topic: &str) -> MetadataResponse {
    let response = client.call(12, &metadata(topic)).await;
    assert_eq!(response.topics[0].error_code, 0);
    response
}

pub fn produce(topic: &str, acks: i16, partitions: &[(i32, Bytes)]) -> ProduceRequest {
    let data = partitions.iter().map(|(index, records)| {
        PartitionProduceData::default().with_index(*index).with_records(Some(records.clone()))
    });
    ProduceRequest::default().with_acks(acks).with_timeout_ms(5_000).with_topic_data(vec![
        TopicProduceData::default().with_name(name(topic)).with_partition_data(data.collect()),
    ])
}

/// Produces one batch to partition 0 and returns what became of it.
pub async fn produced(client: &mut Client, topic: &str, batch: Bytes) -> PartitionProduceResponse {
    let response = client.call(9, &produce(topic, -1, &[(0, batch)])).await;
    response.responses[0].partition_responses[0].clone()
}

pub fn fetch(topic: &str, offset: i64, max_wait_ms: i32) -> FetchRequest {
    FetchRequest::default()
        .with_max_wait_ms(max_wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_topics(vec![FetchTopic::default().with_topic(name(topic)).with_partitions(vec![
            FetchPartition::default()
                .with_partition(0)
                .with_fetch_offset(offset)
                .with_partition_max_bytes(1 << 20),
        ])])
}

/// Fetches partition 0 without waiting.
pub async fn fetched(client: &mut Client, topic: &str, offset: i64) -> PartitionData {
    let response = client.call(12, &fetch(topic, offset, 0)).await;
    assert_eq!((response.error_code, response.session_id), (0, 0));
    response.responses[0].partitions[0].clone()
}
