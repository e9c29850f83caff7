//! OffsetForLeaderEpoch (key 23), versions 2–4.
//!
//! Every partition has one leader epoch for ever, so the end of that epoch is the high watermark.
//! Kafka's answer for another one: a later epoch is not known and has no end, −1 and −1; an
//! earlier one, which a client can bring from a cluster it was moved from, ended where the only
//! epoch begins. A consumer takes −1 for "truncated" and starts over as `auto.offset.reset` says,
//! so the difference decides whether it skips records.
//!
//! - v2: the client's current leader epoch (KIP-320). v3: replica id. v4: flexible versions.
//!
//! Sources: Kafka's `OffsetForLeaderEpochRequest.json`, `ReplicaManager.lastOffsetForLeaderEpoch`,
//! `LeaderEpochFileCache.endOffsetFor`.

use std::cmp::Ordering;

use kafka_protocol::ResponseError as Kafka;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};
use ottla_control_api::PartitionBounds;
use ottla_control_api::view::TopicInfo;
use ottla_model::LEADER_EPOCH;
use tokio::time::{Instant, timeout_at};

use crate::context::{ConnectionInfo, Context};
use crate::errors::{self, NamedBy};
use crate::{limits, topics};

/// Answers a request.
pub async fn handle(
    context: &Context,
    _connection: &ConnectionInfo,
    _version: i16,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let deadline = Instant::now() + limits::REQUEST_WAIT_MAX;
    let mut answered = Vec::with_capacity(request.topics.len());
    for wanted in request.topics {
        let topic = topics::by_name(&context.view, &wanted.topic);
        let mut partitions = Vec::with_capacity(wanted.partitions.len());
        for partition in wanted.partitions {
            let end = match &topic {
                Ok(topic) => {
                    let end = end_of_epoch(context, topic, &partition);
                    timeout_at(deadline, end).await.unwrap_or(Err(Kafka::RequestTimedOut))
                }
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
    let bounds = context.reader.bounds(partition).await;
    let bounds = bounds.map_err(|error| errors::read(&error, NamedBy::Name))?;
    Ok(end_in(&bounds, wanted.leader_epoch))
}

/// The epoch that ends, and where.
fn end_in(bounds: &PartitionBounds, asked: i32) -> (i32, i64) {
    match asked.cmp(&LEADER_EPOCH.0) {
        Ordering::Equal => (LEADER_EPOCH.0, bounds.high_watermark.0),
        Ordering::Less if asked >= 0 => (asked, bounds.log_start.0),
        Ordering::Less | Ordering::Greater => (-1, -1),
    }
}

#[cfg(test)]
mod tests {
    use ottla_model::Offset;

    use super::*;

    #[test]
    fn an_earlier_epoch_ended_at_the_log_start_and_a_later_one_is_unknown() {
        let (log_start, high_watermark) = (Offset(7), Offset(40));
        let bounds = PartitionBounds { log_start, high_watermark, last_stable: high_watermark };
        let only = LEADER_EPOCH.0;
        assert_eq!(end_in(&bounds, only), (only, 40));
        assert_eq!(end_in(&bounds, only - 1), (only - 1, 7));
        assert_eq!(end_in(&bounds, only + 1), (-1, -1));
        assert_eq!(end_in(&bounds, -1), (-1, -1), "no epoch");
    }
}
