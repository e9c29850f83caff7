//! ListOffsets (key 2), versions 1–10.
//!
//! Answers with the leader's knowledge, not with this broker's view. A timestamp is looked up to the
//! record: the first one, in offset order, that is as late. A client that reads committed records only
//! gets no offset from the last stable one on. An offset that is not found within the time that the
//! client gives, or [`limits::REQUEST_WAIT_MAX`], is answered REQUEST_TIMED_OUT, and clients ask
//! again.
//!
//! - v1: one offset per partition, by timestamp; −1 latest, −2 earliest.
//! - v2: isolation level (KIP-98). v4: leader epoch (KIP-320). v6: flexible versions.
//! - v7: −3, the record with the largest timestamp (KIP-734).
//! - v8: −4, the earliest local offset (KIP-405): there is one tier, so this is the earliest.
//! - v9: −5, the latest tiered offset (KIP-1005): nothing is tiered, so there is none.
//! - v10: the client's time-out (KIP-1075), for tiered look-ups.
//!
//! Sources: Kafka's `ListOffsetsRequest.json`, `ReplicaManager.fetchOffset`,
//! `UnifiedLog.fetchOffsetByTimestamp`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use kafka_protocol::ResponseError as Kafka;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use ottla_control_api::TimestampQuery;
use ottla_control_api::view::TopicInfo;
use ottla_model::{LEADER_EPOCH, TimestampMs};
use ottla_storage::read::Isolation;
use tokio::time::{Instant, timeout_at};

use crate::context::{ConnectionInfo, Context};
use crate::errors::{self, NamedBy};
use crate::{limits, topics};

/// From this version on the client says how long it waits.
const TIMEOUT: i16 = 10;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

/// Answers a request.
pub async fn handle(
    context: &Context,
    connection: &ConnectionInfo,
    version: i16,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let isolation = match request.isolation_level {
        1 => Isolation::Committed,
        _ => Isolation::Uncommitted,
    };
    let repeated = repeated_partitions(&request);
    let client = connection.share();
    let deadline = Instant::now() + longest_wait(version, request.timeout_ms);
    let mut answered = Vec::with_capacity(request.topics.len());
    for wanted in request.topics {
        let topic = topics::by_name(&context.view, &wanted.name);
        let look_up = |partition: ListOffsetsPartition| {
            let (topic, name) = (topic.clone(), wanted.name.clone());
            let repeated = &repeated;
            async move {
                let found = if repeated.contains(&(name, partition.partition_index)) {
                    Err(Kafka::InvalidRequest)
                } else {
                    match topic {
                        Ok(topic) => {
                            let find =
                                find(context, client, &topic, &partition, version, isolation);
                            let found = timeout_at(deadline, find).await;
                            found.unwrap_or(Err(Kafka::RequestTimedOut))
                        }
                        Err(error) => Err(error),
                    }
                };
                partition_response(partition.partition_index, version, found)
            }
        };
        let partitions = stream::iter(wanted.partitions)
            .map(look_up)
            .buffered(limits::LOOKUPS_AT_ONCE)
            .collect()
            .await;
        answered.push(
            ListOffsetsTopicResponse::default()
                .with_name(wanted.name.clone())
                .with_partitions(partitions),
        );
    }
    ListOffsetsResponse::default().with_topics(answered)
}

/// How long all look-ups of a request may take together.
fn longest_wait(version: i16, timeout_ms: i32) -> Duration {
    match u64::try_from(timeout_ms) {
        Ok(ms) if version >= TIMEOUT && ms > 0 => {
            Duration::from_millis(ms).min(limits::REQUEST_WAIT_MAX)
        }
        _ => limits::REQUEST_WAIT_MAX,
    }
}

fn repeated_partitions(
    request: &ListOffsetsRequest,
) -> BTreeSet<(kafka_protocol::messages::TopicName, i32)> {
    let mut seen = BTreeSet::new();
    let mut repeated = BTreeSet::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let key = (topic.name.clone(), partition.partition_index);
            if !seen.insert(key.clone()) {
                repeated.insert(key);
            }
        }
    }
    repeated
}

/// An offset and its timestamp; −1 for none.
type Found = (i64, i64);
const NOTHING: Found = (-1, -1);

async fn find(
    context: &Context,
    client: IpAddr,
    topic: &Arc<TopicInfo>,
    wanted: &ListOffsetsPartition,
    version: i16,
    isolation: Isolation,
) -> Result<Found, Kafka> {
    let partition = topics::partition(topic, wanted.partition_index)?;
    errors::leader_epoch(wanted.current_leader_epoch)?;
    let needs = match wanted.timestamp {
        LATEST | EARLIEST | 0.. => 1,
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        _ => return Err(Kafka::UnsupportedVersion),
    };
    if version < needs {
        return Err(Kafka::UnsupportedVersion);
    }
    let query = match wanted.timestamp {
        LATEST | EARLIEST | EARLIEST_LOCAL => {
            let bounds = context.reader.bounds(partition).await;
            let bounds = bounds.map_err(|error| errors::read(&error, NamedBy::Name))?;
            let latest = wanted.timestamp == LATEST;
            let offset = if latest { isolation.end(&bounds) } else { bounds.log_start };
            return Ok((offset.0, -1));
        }
        LATEST_TIERED => return Ok(NOTHING),
        MAX_TIMESTAMP => TimestampQuery::Max,
        timestamp => TimestampQuery::AtOrAfter(TimestampMs(timestamp)),
    };
    let found = context.reader.offset_at(client, partition, query, isolation).await;
    let found = found.map_err(|error| errors::read(&error, NamedBy::Name))?;
    Ok(found.map_or(NOTHING, |(offset, timestamp)| (offset.0, timestamp.0)))
}

fn partition_response(
    index: i32,
    version: i16,
    found: Result<Found, Kafka>,
) -> ListOffsetsPartitionResponse {
    let response = ListOffsetsPartitionResponse::default().with_partition_index(index);
    let epoch = if version >= 4 { LEADER_EPOCH.0 } else { -1 };
    match found {
        Ok(NOTHING) => response.with_offset(-1).with_timestamp(-1),
        Ok((offset, timestamp)) => {
            response.with_offset(offset).with_timestamp(timestamp).with_leader_epoch(epoch)
        }
        Err(error) => response.with_error_code(error.code()).with_offset(-1).with_timestamp(-1),
    }
}
