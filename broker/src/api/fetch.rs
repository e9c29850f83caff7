//! Fetch (key 1), versions 4–18.
//!
//! Reads whole record batches from the asked offsets on, and waits for more as long as the client
//! allows. Every fetch is a full one: no fetch session is ever begun (session id 0 in every
//! answer), and one that goes on with a session is told that it is gone. The answer names topics as
//! the request did. High watermark, last stable offset and log start are in every partition's answer
//! whose partition is known, also when it has no records.
//!
//! # Memory
//!
//! Of a request nothing is kept but [`Plan`], which names partitions in a compact form and topics by
//! what the view has of them: neither the frame nor the decoded request lives while a fetch waits.
//! Plans have a budget of their own. A fetch that finds no room in it does not wait for records: it
//! is answered at once with what is there, and its client is asked to pause for as long as it would
//! have waited (KIP-219). Such a fetch keeps the memory of its request, and waits for no memory.
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
use kafka_protocol::messages::fetch_request::{
    FetchPartition as Wanted, FetchTopic as WantedTopic,
};
use ottla_control_api::PartitionBounds;
use ottla_control_api::view::TopicInfo;
use ottla_model::Offset;
use ottla_storage::read::{
    FetchPartition, FetchPartitions, FetchRequest as Read, FetchedPartition, Isolation, PassMemory,
    Records,
};
use ottla_storage::write::Reservation;
use ottla_wire::batch;
use ottla_wire::fetch_response::{
    FetchResponse, FetchTopic, FetchedPartition as PartitionResponse,
};
use tokio::time::timeout;

use super::Closes;
use crate::connection::long_polls::LongPolls;
use crate::context::Context;
use crate::dispatch::RequestMemory;
use crate::errors::{self, NamedBy};
use crate::{limits, topics};

/// The first version that names topics by id.
const BY_ID_FROM: i16 = 13;

/// The session epochs of a full fetch, whatever session it names: 0 would begin one, -1 ends one.
const FULL_FETCH_EPOCHS: [i32; 2] = [0, -1];

/// A request that was decoded and is not answered.
pub(crate) struct Fetch {
    client: IpAddr,
    named_by: NamedBy,
    /// For the whole request.
    error: Option<Kafka>,
    plan: Plan,
    read: Read,
    /// How long its client is asked to pause.
    throttle: Duration,
    memory: PlanMemory,
}

/// Where what a fetch keeps is counted.
enum PlanMemory {
    /// In the budget of plans: it may wait.
    Plan(#[expect(dead_code, reason = "held until it is dropped")] Reservation),
    /// There was no room: still where its request was counted.
    Request(#[expect(dead_code, reason = "held until it is dropped")] RequestMemory),
}

impl Fetch {
    /// Takes from a request all that its answer needs.
    pub fn new(
        context: &Context,
        client: IpAddr,
        version: i16,
        request: FetchRequest,
        memory: RequestMemory,
    ) -> Result<Self, Closes> {
        if request.replica_id.0 >= 0 || request.replica_state.replica_id.0 >= 0 {
            return Err(Closes("a Fetch claims to come from a replica; there are none"));
        }
        let is_full = FULL_FETCH_EPOCHS.contains(&request.session_epoch);
        let error = (!is_full).then_some(Kafka::FetchSessionIdNotFound);
        let named_by = if version >= BY_ID_FROM { NamedBy::Id } else { NamedBy::Name };
        let wanted = if is_full { request.topics.as_slice() } else { &[] };
        let (plan, partitions) = Plan::of(context, named_by, wanted);
        let granted = context.fetch_plans.try_reserve(client, plan.bytes(&partitions));
        let pass_memory = PassMemory { budget: context.fetch_passes.clone(), client };
        let has_errors = !plan.refused.is_empty();
        let mut read = to_read_at_all(&request, has_errors, partitions, pass_memory);
        let mut throttle = Duration::ZERO;
        if granted.is_none() {
            throttle = std::mem::take(&mut read.max_wait);
        }
        let memory = granted.map_or(PlanMemory::Request(memory), PlanMemory::Plan);
        Ok(Self { client, named_by, error, plan, read, throttle, memory })
    }

    /// Waits for records, and reads them. The reservation is what the answer holds.
    pub async fn answer(
        self,
        context: &Context,
        long_polls: &LongPolls,
    ) -> (FetchResponse, Option<Reservation>) {
        let may_wait = matches!(self.memory, PlanMemory::Plan(_));
        let wanted = Arc::clone(&self.read.partitions);
        let (fetched, held) = read(context, long_polls, self.client, self.read, may_wait).await;
        let response = FetchResponse {
            throttle_time_ms: i32::try_from(self.throttle.as_millis()).unwrap_or(i32::MAX),
            error_code: self.error.map_or(0, |error| error.code()),
            topics: self.plan.answer(&wanted, fetched, self.named_by),
        };
        (response, held)
    }
}

/// Whom a request asks about, in its own order.
#[derive(Default)]
struct Plan {
    topics: Vec<PlannedTopic>,
    /// Partitions that are not read: place in the request, number, reason. In order of place.
    refused: Vec<(usize, i32, Kafka)>,
}

struct PlannedTopic {
    name: TopicName,
    /// How many of the request's partitions it has.
    partitions: u32,
}

enum TopicName {
    Known(Arc<TopicInfo>),
    /// As the request has it, name or id.
    Unknown(Box<(Bytes, u128)>),
}

impl Plan {
    /// The plan, and the partitions that are to be read.
    fn of(context: &Context, named_by: NamedBy, wanted: &[WantedTopic]) -> (Self, FetchPartitions) {
        let (mut plan, mut partitions) = (Self::default(), FetchPartitions::default());
        plan.topics.reserve_exact(wanted.len());
        let mut place = 0;
        for wanted in wanted {
            let topic = match named_by {
                NamedBy::Id => topics::by_id(&context.view, wanted.topic_id),
                NamedBy::Name => topics::by_name(&context.view, &wanted.topic),
            };
            for partition in &wanted.partitions {
                let read = topic.as_ref().map_err(|error| *error);
                match read.and_then(|topic| to_read(topic, partition)) {
                    Ok(read) => partitions.push(read),
                    Err(error) => plan.refused.push((place, partition.partition, error)),
                }
                place += 1;
            }
            let name = match topic {
                Ok(topic) => TopicName::Known(topic),
                Err(_) => {
                    let name = Bytes::copy_from_slice(wanted.topic.as_bytes());
                    TopicName::Unknown(Box::new((name, wanted.topic_id.as_u128())))
                }
            };
            // Bounded by the elements that a request may have.
            plan.topics.push(PlannedTopic { name, partitions: wanted.partitions.len() as u32 });
        }
        partitions.shrink_to_fit();
        (plan, partitions)
    }

    /// Bytes in memory, with the partitions that are read.
    fn bytes(&self, partitions: &FetchPartitions) -> usize {
        let unknown = self.topics.iter().map(|topic| match &topic.name {
            TopicName::Known(_) => 0,
            TopicName::Unknown(name) => size_of::<(Bytes, u128)>() + name.0.len(),
        });
        partitions.waiting_bytes()
            + self.topics.capacity() * size_of::<PlannedTopic>()
            + unknown.sum::<usize>()
            + self.refused.capacity() * size_of::<(usize, i32, Kafka)>()
    }

    /// The topics of the answer. `wanted` are the partitions that were read, `fetched` what they brought.
    fn answer(
        self,
        wanted: &FetchPartitions,
        fetched: Vec<FetchedPartition>,
        named_by: NamedBy,
    ) -> Vec<FetchTopic> {
        let mut refused = self.refused.into_iter().peekable();
        let mut fetched = wanted.iter().map(|wanted| wanted.partition.index.0).zip(fetched);
        let mut place = 0;
        let topics = self.topics.into_iter().map(|topic| {
            let partitions = (0..topic.partitions).filter_map(|_| {
                let refusal = refused.next_if(|(at, ..)| *at == place);
                place += 1;
                match refusal {
                    Some((_, index, error)) => Some(refused_partition(index, error)),
                    None => fetched
                        .next()
                        .map(|(index, fetched)| partition_response(index, fetched, named_by)),
                }
            });
            let partitions = partitions.collect();
            let (name, id) = match topic.name {
                TopicName::Known(topic) => {
                    (Bytes::copy_from_slice(topic.name.as_str().as_bytes()), topic.id.0)
                }
                TopicName::Unknown(name) => *name,
            };
            FetchTopic { name, id, partitions }
        });
        topics.collect()
    }
}

fn to_read(topic: &TopicInfo, wanted: &Wanted) -> Result<FetchPartition, Kafka> {
    let partition = topics::partition(topic, wanted.partition)?;
    errors::leader_epoch(wanted.current_leader_epoch)?;
    Ok(FetchPartition {
        partition,
        offset: Offset(wanted.fetch_offset),
        max_bytes: usize::try_from(wanted.partition_max_bytes).unwrap_or(0),
    })
}

fn to_read_at_all(
    request: &FetchRequest,
    has_errors: bool,
    partitions: FetchPartitions,
    memory: PassMemory,
) -> Read {
    let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(limits::FETCH_BYTES_MAX);
    let max_wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    Read {
        // An error is told at once.
        max_wait: match has_errors || partitions.is_empty() {
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
        partitions: Arc::new(partitions),
        memory: Some(memory),
    }
}

/// Reads, and sets memory aside for the answer.
///
/// How much there is to read is known only when it was read, and a fetch that waits for records
/// must not hold memory for them. So: what was read is kept when there is memory for it. Otherwise
/// it is let go, and read again when there is some; less of it, so that there is some for others.
/// When there is none for long, or the fetch may not wait, offsets are answered without records.
async fn read(
    context: &Context,
    long_polls: &LongPolls,
    client: IpAddr,
    wanted: Read,
    may_wait: bool,
) -> (Vec<FetchedPartition>, Option<Reservation>) {
    let at_once = Read { max_wait: Duration::ZERO, ..wanted.clone() };
    let mut fetched = tokio::select! {
        biased;
        fetched = context.reader.fetch(wanted) => fetched,
        // The broker stops, or the client has left: what is there now, instead of an answer that
        // never comes.
        () = context.until_draining() => context.reader.fetch(at_once.clone()).await,
        () = long_polls.ended() => context.reader.fetch(at_once.clone()).await,
    };
    let bytes = length(&fetched);
    if bytes <= limits::SMALL_ANSWER_BYTES {
        return (fetched, None);
    }
    if let Some(held) = context.answers.try_reserve(client, bytes) {
        return (fetched, Some(held));
    }
    let some = bytes.min(limits::PRESSED_ANSWER_BYTES.max(first_batch_length(&fetched)));
    fetched.iter_mut().for_each(|fetched| fetched.records = Records::default());
    if !may_wait {
        return (fetched, None);
    }
    let reserve = context.answers.reserve(client, some);
    let mut held = match timeout(limits::REQUEST_WAIT_MAX, reserve).await {
        Ok(Ok(held)) => held,
        // A batch longer than the whole budget; it must go out all the same.
        Ok(Err(_)) => context.answers.charge(client, some),
        Err(_) => return (fetched, None),
    };
    drop(fetched);
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

fn refused_partition(index: i32, error: Kafka) -> PartitionResponse {
    PartitionResponse {
        index,
        error_code: error.code(),
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        records: Vec::new(),
    }
}

fn partition_response(
    index: i32,
    fetched: FetchedPartition,
    named_by: NamedBy,
) -> PartitionResponse {
    let error = fetched.error.as_ref().map(|error| errors::read(error, named_by));
    if let Some(error) = error
        && fetched.bounds == PartitionBounds::default()
        && error != Kafka::OffsetOutOfRange
    {
        return refused_partition(index, error);
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
