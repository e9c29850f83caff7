//! Fetch (key 1), versions 4–18.
//!
//! Reads whole record batches from the asked offsets on, and waits for more as long as the client
//! allows. Every fetch is a full one: no fetch session is ever begun (session id 0 in every
//! answer), and one that goes on with a session is told that it is gone. The answer names topics as
//! the request did. High watermark, last stable offset and log start are in every partition's answer
//! whose partition is known, also when it has no records.
//!
//! - v4: isolation level (KIP-98). v5: log start offset (KIP-107).
//! - v7: fetch sessions (KIP-227). v9: leader epoch (KIP-320). v10: zstd (KIP-110).
//! - v11: rack and preferred replica (KIP-392): none is preferred, the leader is in the client's zone.
//! - v12: flexible versions, last fetched epoch (KIP-595), which only truncation would need.
//! - v13: topics by id (KIP-516). v14: tiered storage errors. v15: replica state (KIP-903).
//! - v16: leader hints (KIP-951), never sent. v17, v18: for replicas (KIP-853, KIP-1166).
//!
//! Sources: Kafka's `FetchRequest.json`, `KafkaApis.handleFetchRequest`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError as Kafka;
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::FetchPartition as Wanted;
use ottla_control_api::PartitionBounds;
use ottla_control_api::view::TopicInfo;
use ottla_model::Offset;
use ottla_storage::read::{FetchPartition, FetchRequest as Read, FetchedPartition, Isolation};
use ottla_storage::write::Reservation;
use ottla_wire::batch;
use ottla_wire::fetch_response::{
    FetchResponse, FetchTopic, FetchedPartition as PartitionResponse,
};

use super::Closes;
use crate::context::{ConnectionInfo, Context};
use crate::errors::{self, NamedBy};
use crate::{limits, topics};

/// The first version that names topics by id.
const BY_ID_FROM: i16 = 13;

/// The session epochs of a full fetch, whatever session it names: 0 would begin one, -1 ends one.
const FULL_FETCH_EPOCHS: [i32; 2] = [0, -1];

/// Answers a request.
pub(crate) async fn handle(
    context: &Context,
    connection: &ConnectionInfo,
    version: i16,
    request: FetchRequest,
) -> Result<(FetchResponse, Option<Reservation>), Closes> {
    if request.replica_id.0 >= 0 || request.replica_state.replica_id.0 >= 0 {
        return Err(Closes("a Fetch claims to come from a replica; there are none"));
    }
    if !FULL_FETCH_EPOCHS.contains(&request.session_epoch) {
        let error_code = Kafka::FetchSessionIdNotFound.code();
        return Ok((FetchResponse { error_code, topics: Vec::new() }, None));
    }
    let named_by = if version >= BY_ID_FROM { NamedBy::Id } else { NamedBy::Name };
    let plan = Plan::of(context, named_by, &request);
    let wanted = to_read_at_all(&request, &plan);
    let (fetched, held) = read(context, connection.address.ip(), wanted).await;
    let mut fetched = fetched.into_iter();
    let topics = plan.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|(index, checked)| {
            let fetched = checked.and_then(|()| fetched.next().ok_or(Kafka::UnknownServerError));
            partition_response(index, fetched, named_by)
        });
        FetchTopic { name: topic.name, id: topic.id, partitions: partitions.collect() }
    });
    Ok((FetchResponse { error_code: 0, topics: topics.collect() }, held))
}

/// A request with its partitions found, in its own order.
struct Plan {
    topics: Vec<PlannedTopic>,
    reads: Vec<FetchPartition>,
    has_errors: bool,
}

struct PlannedTopic {
    name: Bytes,
    id: u128,
    /// `Ok`: the next read is its own.
    partitions: Vec<(i32, Result<(), Kafka>)>,
}

impl Plan {
    fn of(context: &Context, named_by: NamedBy, request: &FetchRequest) -> Self {
        let mut plan = Self { topics: Vec::new(), reads: Vec::new(), has_errors: false };
        for wanted in &request.topics {
            let topic = match named_by {
                NamedBy::Id => topics::by_id(&context.view, wanted.topic_id),
                NamedBy::Name => topics::by_name(&context.view, &wanted.topic),
            };
            let mut partitions = Vec::with_capacity(wanted.partitions.len());
            for partition in &wanted.partitions {
                let read = topic.clone().and_then(|topic| to_read(&topic, partition));
                plan.has_errors |= read.is_err();
                partitions.push((partition.partition, read.map(|read| plan.reads.push(read))));
            }
            plan.topics.push(PlannedTopic {
                name: wanted.topic.0.clone().into_bytes(),
                id: wanted.topic_id.as_u128(),
                partitions,
            });
        }
        plan
    }
}

fn to_read(topic: &Arc<TopicInfo>, wanted: &Wanted) -> Result<FetchPartition, Kafka> {
    let partition = topics::partition(topic, wanted.partition)?;
    errors::leader_epoch(wanted.current_leader_epoch)?;
    Ok(FetchPartition {
        partition,
        offset: Offset(wanted.fetch_offset),
        max_bytes: usize::try_from(wanted.partition_max_bytes).unwrap_or(0),
    })
}

fn to_read_at_all(request: &FetchRequest, plan: &Plan) -> Read {
    let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(limits::FETCH_BYTES_MAX);
    let max_wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    Read {
        // An error is told at once.
        max_wait: match plan.has_errors || plan.reads.is_empty() {
            true => Duration::ZERO,
            false => max_wait.min(limits::FETCH_WAIT_MAX),
        },
        min_bytes: usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes),
        max_bytes,
        isolation: if request.isolation_level == 1 {
            Isolation::Committed
        } else {
            Isolation::Uncommitted
        },
        partitions: plan.reads.clone(),
    }
}

/// Reads, and sets memory aside for the answer.
///
/// How much there is to read is known only when it was read, and a fetch that waits for records
/// must not hold memory for them. So: what was read is kept when there is memory for it. Otherwise
/// it is let go, and read again when there is some; less of it, so that there is some for others.
async fn read(
    context: &Context,
    client: IpAddr,
    wanted: Read,
) -> (Vec<FetchedPartition>, Option<Reservation>) {
    let at_once = Read { max_wait: Duration::ZERO, ..wanted.clone() };
    let fetched = tokio::select! {
        biased;
        fetched = context.reader.fetch(wanted) => fetched,
        // The broker stops: what is there now, instead of an answer that never comes.
        () = context.until_draining() => context.reader.fetch(at_once.clone()).await,
    };
    let bytes = length(&fetched);
    if bytes <= limits::SMALL_ANSWER_BYTES {
        return (fetched, None);
    }
    if let Some(held) = context.answers.try_reserve(client, bytes) {
        return (fetched, Some(held));
    }
    let some = bytes.min(limits::PRESSED_ANSWER_BYTES.max(first_batch_length(&fetched)));
    drop(fetched);
    let mut held = match context.answers.reserve(client, some).await {
        Ok(held) => held,
        // A batch longer than the whole budget; it must go out all the same.
        Err(_) => context.answers.charge(client, some),
    };
    let fetched = context.reader.fetch(Read { max_bytes: some, ..at_once }).await;
    held.resize(length(&fetched));
    (fetched, Some(held))
}

fn length(fetched: &[FetchedPartition]) -> usize {
    fetched.iter().map(|partition| partition.records.length).sum()
}

/// Length of the batch that goes out whatever the limits.
fn first_batch_length(fetched: &[FetchedPartition]) -> usize {
    let first = fetched.iter().find_map(|partition| partition.records.pieces.first());
    let header = first.and_then(|header| batch::parse_head(header).ok());
    header.map_or(0, |header| header.length as usize)
}

fn partition_response(
    index: i32,
    fetched: Result<FetchedPartition, Kafka>,
    named_by: NamedBy,
) -> PartitionResponse {
    let unknown = |error: Kafka| PartitionResponse {
        index,
        error_code: error.code(),
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        records: Vec::new(),
    };
    let fetched = match fetched {
        Ok(fetched) => fetched,
        Err(error) => return unknown(error),
    };
    let error = fetched.error.as_ref().map(|error| errors::read(error, named_by));
    if let Some(error) = error
        && fetched.bounds == PartitionBounds::default()
        && error != Kafka::OffsetOutOfRange
    {
        return unknown(error);
    }
    PartitionResponse {
        index,
        error_code: error.map_or(0, |error| error.code()),
        high_watermark: fetched.bounds.high_watermark.0,
        last_stable_offset: fetched.bounds.last_stable.0,
        log_start_offset: fetched.bounds.log_start.0,
        records: fetched.records.pieces,
    }
}
