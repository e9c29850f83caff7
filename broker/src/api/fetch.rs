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
//! is answered at once with what is there. When that is nothing, its client is asked to pause for as
//! long as it would have waited (KIP-219). Such a fetch keeps the memory of its request, and waits for
//! no memory: without any for its pass or its records, it is answered without records.
//!
//! An answer holds memory for all of it, records and the names that it repeats. While a fetch waits for
//! some, an answer behind it may need some too: then this one goes out without records.
//!
//! - v4: isolation level (KIP-98). v5: log start offset (KIP-107).
//! - v7: fetch sessions (KIP-227). v9: leader epoch (KIP-320). v10: zstd (KIP-110).
//! - v11: rack and preferred replica (KIP-392): none is preferred, the leader is in the client's zone.
//! - v12: flexible versions, last fetched epoch (KIP-595), which only truncation would need.
//! - v13: topics by id (KIP-516). v14: tiered storage errors. v15: replica state (KIP-903).
//! - v16: leader hints (KIP-951), never sent. v17, v18: for replicas (KIP-853, KIP-1166).
//!
//! Sources: Kafka's `FetchRequest.json`, `KafkaApis.handleFetchRequest`.

mod plan;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError as Kafka;
use kafka_protocol::messages::FetchRequest;
use ottla_storage::read::{
    FetchPartitions, FetchRequest as Read, FetchedPartition, Isolation, PassMemory, Records,
};
use ottla_storage::write::Reservation;
use ottla_wire::batch;
use ottla_wire::fetch_response::FetchResponse;
use tokio::time::timeout;

use super::Closes;
use crate::connection::End;
use crate::connection::long_polls::LongPoll;
use crate::context::Context;
use crate::dispatch::RequestMemory;
use crate::errors::NamedBy;
use crate::limits;
use plan::Plan;

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
    /// How long its client is asked to pause when the answer brings nothing.
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
        let may_wait = granted.is_some();
        let pass_memory = PassMemory { budget: context.fetch_passes.clone(), client, may_wait };
        let has_errors = plan.has_errors();
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
        long_poll: &LongPoll,
    ) -> Result<(FetchResponse, Option<Reservation>), End> {
        let wanted = Arc::clone(&self.read.partitions);
        let reading = Reading {
            context,
            long_poll,
            client: self.client,
            may_wait: matches!(self.memory, PlanMemory::Plan(_)),
            besides: self.plan.answer_bytes(),
        };
        let (fetched, held) = reading.read(self.read).await?;
        let throttle = if brings_something(&fetched) { Duration::ZERO } else { self.throttle };
        let response = FetchResponse {
            throttle_time_ms: i32::try_from(throttle.as_millis()).unwrap_or(i32::MAX),
            error_code: self.error.map_or(0, |error| error.code()),
            topics: self.plan.answer(&wanted, fetched, self.named_by),
        };
        Ok((response, held))
    }
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

/// The partitions in the answer to a Fetch, and the memory that it holds.
type Brought = (Vec<FetchedPartition>, Option<Reservation>);

/// Reads, and sets memory aside for the answer.
///
/// How much there is to read is known only when it was read, and a fetch that waits for records
/// must not hold memory for them. So: what was read is kept when there is memory for it. Otherwise
/// it is let go, and read again when there is some; less of it, so that there is some for others.
/// When there is none for long, or the fetch may not wait, offsets are answered without records.
struct Reading<'a> {
    context: &'a Context,
    long_poll: &'a LongPoll,
    client: IpAddr,
    may_wait: bool,
    /// Bytes of the answer besides records: most answers have few, those that echo very many names
    /// have megabytes.
    besides: usize,
}

impl Reading<'_> {
    async fn read(&self, wanted: Read) -> Result<Brought, End> {
        let reader = &self.context.reader;
        let at_once = Read { max_wait: Duration::ZERO, ..wanted.clone() };
        let mut fetched = tokio::select! {
            biased;
            fetched = reader.fetch(wanted) => fetched,
            // The broker stops, the client has left, or an answer behind this one needs memory: what is
            // there now, instead of an answer that never comes.
            () = self.context.until_draining() => reader.fetch(at_once.clone()).await,
            () = self.long_poll.ended() => reader.fetch(at_once.clone()).await,
        };
        let bytes = length(&fetched) + self.besides;
        if bytes <= limits::SMALL_ANSWER_BYTES {
            return Ok((fetched, None));
        }
        if let Some(held) = self.context.answers.try_reserve(self.client, bytes) {
            return Ok((fetched, Some(held)));
        }
        let first_batch = first_batch_length(&fetched);
        let some = length(&fetched).min(limits::PRESSED_ANSWER_BYTES.max(first_batch));
        fetched.iter_mut().for_each(|fetched| fetched.records = Records::default());
        if !self.may_wait {
            return Ok((fetched, self.without_records().await?));
        }
        // A batch may be longer than the whole budget. It goes out all the same, alone.
        let most = self.context.answers.total();
        let Some(mut held) = self.reserve(most.min(some + self.besides)).await else {
            return Ok((fetched, self.without_records().await?));
        };
        drop(fetched);
        let mut fetched = reader.fetch(Read { max_bytes: some, ..at_once }).await;
        if length(&fetched) + self.besides > held.bytes() && held.bytes() < most {
            // Another batch than before is the first now, and longer than all that was granted.
            fetched.iter_mut().for_each(|fetched| fetched.records = Records::default());
        }
        held.resize(length(&fetched) + self.besides);
        Ok((fetched, Some(held)))
    }

    /// Waits for memory; `None` when there is none for long, or an answer behind this one needs some:
    /// that one would wait for this one, and hold what this one waits for.
    async fn reserve(&self, bytes: usize) -> Option<Reservation> {
        let reserve = self.context.answers.reserve(self.client, bytes);
        tokio::select! {
            biased;
            granted = timeout(limits::REQUEST_WAIT_MAX, reserve) => granted.ok()?.ok(),
            () = self.long_poll.ended() => None,
        }
    }

    /// The memory of an answer without records. A fetch that may not wait holds the memory of its
    /// request, and does not wait for this either.
    async fn without_records(&self) -> Result<Option<Reservation>, End> {
        let bytes = self.besides;
        if bytes <= limits::SMALL_ANSWER_BYTES {
            return Ok(None);
        }
        let held = match self.may_wait {
            true => {
                let reserve = self.context.answers.reserve(self.client, bytes);
                timeout(limits::REQUEST_WAIT_MAX, reserve).await.ok().and_then(Result::ok)
            }
            false => self.context.answers.try_reserve(self.client, bytes),
        };
        held.map(Some).ok_or(End::NoAnswerMemory { bytes })
    }
}

/// Whether a client has something to do before it asks again.
fn brings_something(fetched: &[FetchedPartition]) -> bool {
    fetched.iter().any(|partition| partition.records.length > 0 || partition.error.is_some())
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
