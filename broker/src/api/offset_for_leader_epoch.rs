//! OffsetForLeaderEpoch (key 23), versions 2–4.
//!
//! Every partition has one leader epoch for ever, so the end of that epoch is the high watermark.
//! An epoch that is not known (a later one) has no end: −1 and −1, as Kafka answers.
//!
//! - v2: the client's current leader epoch (KIP-320). v3: replica id. v4: flexible versions.
//!
//! Sources: Kafka's `OffsetForLeaderEpochRequest.json`, `ReplicaManager.lastOffsetForLeaderEpoch`.

use kafka_protocol::ResponseError as Kafka;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};
use ottla_control_api::view::TopicInfo;
use ottla_model::LEADER_EPOCH;

use crate::context::{ConnectionInfo, Context};
use crate::{errors, topics};

/// Answers a request.
pub async fn handle(
    context: &Context,
    _connection: &ConnectionInfo,
    _version: i16,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let mut answered = Vec::with_capacity(request.topics.len());
    for wanted in request.topics {
        let topic = topics::by_name(&context.view, &wanted.topic);
        let mut partitions = Vec::with_capacity(wanted.partitions.len());
        for partition in wanted.partitions {
            let end = match &topic {
                Ok(topic) => end_of_epoch(context, topic, &partition).await,
                Err(error) => Err(*error),
            };
            let answer = EpochEndOffset::default().with_partition(partition.partition);
            partitions.push(match end {
                Ok((epoch, end)) => answer.with_leader_epoch(epoch).with_end_offset(end),
                Err(error) => {
                    answer.with_error_code(error.code()).with_leader_epoch(-1).with_end_offset(-1)
                }
            });
        }
        answered.push(
            OffsetForLeaderTopicResult::default()
                .with_topic(wanted.topic)
                .with_partitions(partitions),
        );
    }
    OffsetForLeaderEpochResponse::default().with_topics(answered)
}

async fn end_of_epoch(
    context: &Context,
    topic: &TopicInfo,
    wanted: &OffsetForLeaderPartition,
) -> Result<(i32, i64), Kafka> {
    let partition = topics::partition(topic, wanted.partition)?;
    errors::leader_epoch(wanted.current_leader_epoch)?;
    let bounds = context
        .control
        .partition_bounds(partition)
        .await
        .map_err(|error| errors::read_call(&error))?
        .ok_or(errors::unknown_topic(errors::NamedBy::Name))?;
    // An older epoch than the only one ended before the first record: Kafka answers the largest
    // known epoch that is not larger, which does not exist.
    match wanted.leader_epoch == LEADER_EPOCH.0 {
        true => Ok((LEADER_EPOCH.0, bounds.high_watermark.0)),
        false => Ok((-1, -1)),
    }
}
