//! Produce (key 0), versions 3–13; advertised from 0, which librdkafka needs (KAFKA-18659).
//!
//! Checks every batch and all of its records ([`check`]), puts the good ones into the write path's
//! buffer in the order of arrival, and answers when they are decided. Before the batches are in the
//! buffer, nothing waits but for compressed records to be looked at. Bytes are kept as received. One
//! bad partition never fails another.
//!
//! acks=1 and −1 mean the same: answered after the object is durable and the commit applied. The
//! time-out counts with −1 only, as in Kafka, and a short one is not taken at its word
//! ([`AppendTicket`]). acks=0 has no answer; an error closes the connection.
//!
//! Differences from Kafka: the timestamp type LogAppendTime in a batch is refused on every topic; a
//! partition named twice in one request is refused.
//!
//! - v3: record batches of magic 2 (KIP-98).
//! - v4: KAFKA_STORAGE_ERROR, never sent.
//! - v5: log start offset in the answer.
//! - v6: throttled clients are answered at once.
//! - v7: zstd (KIP-110); refused in lower versions.
//! - v8: per-record errors and a message (KIP-467).
//! - v9: flexible versions.
//! - v10: leader hints (KIP-951), never sent: any broker takes any partition.
//! - v11, v12: transactions (KIP-890), not served.
//! - v13: topics by id (KIP-516).
//!
//! Sources: Kafka's `ProduceRequest.json`, `KafkaApis.handleProduceRequest`, `LogValidator`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use ottla_model::{Offset, PartitionId, TimestampMs};
use ottla_storage::view::View;
use ottla_storage::write::{
    AppendBatch, AppendOutcome, AppendRequest, AppendTicket, ConnectionId, Reservation,
};
use tokio::time::Instant;
use uuid::Uuid;

use self::check::Refusal;
use super::Closes;
use crate::context::{ConnectionInfo, Context};
use crate::errors::{self, ApiError, NamedBy};
use crate::limits;

mod check;

/// The first version that names topics by id.
const BY_ID_FROM: i16 = 13;

/// What came with the frame of the request.
pub(crate) struct Frame {
    /// How many bytes it has.
    pub length: usize,
    /// When it had been read.
    pub arrival: Instant,
    /// Its bytes in the budget.
    pub reservation: Reservation,
    /// How many produce requests of the connection wait; this one is counted here.
    pub waiting: Arc<AtomicU32>,
}

/// A request whose good batches are in the buffer.
pub(crate) struct Pending {
    view: Arc<View>,
    named_by: NamedBy,
    topics: Vec<PendingTopic>,
    ticket: AppendTicket,
    waiting: Waiting,
    /// The part of the frame's memory that the names take which the answer repeats, until that is
    /// encoded; `None` when they are short.
    pub echoed: Option<Reservation>,
}

struct PendingTopic {
    name: TopicName,
    id: Uuid,
    partitions: Vec<PendingPartition>,
}

struct PendingPartition {
    index: i32,
    /// `Ok`: the next outcome of the ticket is its own.
    appended: Result<Appended, Refusal>,
}

/// A batch that is in the buffer.
struct Appended {
    partition: PartitionId,
    /// How many offsets it takes.
    offsets: i64,
}

/// Counts a request as waiting until it is dropped.
struct Waiting(Arc<AtomicU32>);

impl Waiting {
    fn new(count: Arc<AtomicU32>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Validates a request and puts its good batches into the buffer.
pub(crate) async fn handle(
    context: &Context,
    connection: &ConnectionInfo,
    version: i16,
    request: ProduceRequest,
    frame: Frame,
) -> Result<Pending, Closes> {
    let named_by = if version >= BY_ID_FROM { NamedBy::Id } else { NamedBy::Name };
    let timeout = match request.acks {
        -1 => Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0)),
        _ => limits::UNTIMED_PRODUCE_MAX,
    };
    let mut batches = Vec::new();
    let topics = check::all(context, connection, version, named_by, request).await;
    let topics = topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|(index, checked)| {
            if let Err(refusal) = &checked {
                let reason = format!("{:?}", refusal.error.kafka);
                context.metrics.produce.rejected.with([&reason]).inc();
            }
            let appended = checked.map(|batch| {
                let offsets = i64::from(batch.batch.last_offset_delta()) + 1;
                let appended = Appended { partition: batch.partition, offsets };
                batches.push(batch);
                appended
            });
            PendingPartition { index, appended }
        });
        PendingTopic { name: topic.name, id: topic.id, partitions: partitions.collect() }
    });
    let mut topics: Vec<PendingTopic> = topics.collect();

    let mut reservation = frame.reservation;
    let echoed = names_kept(&mut topics, frame.length).map(|bytes| reservation.split(bytes));
    detach_if_little(&mut batches, frame.length);
    // Counted before it is appended: the write path looks at the number when it gets the batches.
    let waiting = Waiting::new(frame.waiting);
    let ticket = context.writer().append(AppendRequest {
        arrival: frame.arrival,
        timeout,
        connection: ConnectionId(connection.id),
        waiting_on_connection: waiting.0.clone(),
        reservation: Some(reservation),
        batches,
    });
    Ok(Pending { view: context.view.clone(), named_by, topics, ticket, waiting, echoed })
}

/// Bytes of the names that wait for the answer, when they are long. They are copied when they are
/// little of the frame, which they would keep in memory.
fn names_kept(topics: &mut [PendingTopic], frame_bytes: usize) -> Option<usize> {
    let bytes: usize = topics.iter().map(|topic| topic.name.len()).sum();
    if bytes <= limits::SMALL_ANSWER_BYTES {
        return None;
    }
    if bytes < frame_bytes / limits::FRAME_KEPT_SHARE_MIN {
        for topic in topics {
            topic.name = TopicName(StrBytes::from_string(topic.name.as_str().to_owned()));
        }
    }
    Some(bytes)
}

/// Copies the batches that are kept when they are little of their frame. They stay in memory as
/// long as the cache likes, and as slices they would keep what was refused there with them.
fn detach_if_little(batches: &mut [AppendBatch], frame_bytes: usize) {
    let kept: usize = batches.iter().map(|append| append.batch.bytes().len()).sum();
    if kept < frame_bytes / limits::FRAME_KEPT_SHARE_MIN {
        for append in batches {
            append.batch.detach();
        }
    }
}

impl Pending {
    /// Waits until all is decided, or the request's time is over.
    pub async fn response(self) -> ProduceResponse {
        let Self { view, named_by, topics, ticket, waiting, echoed: _echoed } = self;
        let outcomes = ticket.await;
        drop(waiting);
        let mut outcomes = outcomes.into_iter();
        let topics = topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|partition| {
                let result = partition.appended.and_then(|appended| {
                    let outcome = outcomes.next().unwrap_or(AppendOutcome::Undecided);
                    let stored = stored(outcome, named_by)?;
                    // No fetch shows an older log start after this answer (I-FWD), and one that
                    // follows it finds the records.
                    let end = Offset(stored.base_offset).plus(appended.offsets);
                    let log_start = view.learn_appended(appended.partition, stored.log_start, end);
                    Ok(Stored { log_start, ..stored })
                });
                partition_response(partition.index, result)
            });
            TopicProduceResponse::default()
                .with_name(topic.name)
                .with_topic_id(topic.id)
                .with_partition_responses(partitions.collect())
        });
        ProduceResponse::default().with_responses(topics.collect())
    }

    /// The same for a request without answer: any error closes the connection.
    pub async fn outcome(self) -> Result<(), Closes> {
        let response = self.response().await;
        let failed = |p: &PartitionProduceResponse| p.error_code != 0;
        if response.responses.iter().any(|topic| topic.partition_responses.iter().any(failed)) {
            return Err(Closes("a Produce with acks=0 failed"));
        }
        Ok(())
    }
}

/// Where a batch was stored.
struct Stored {
    base_offset: i64,
    append_time: Option<TimestampMs>,
    log_start: Offset,
}

fn stored(outcome: AppendOutcome, named_by: NamedBy) -> Result<Stored, ApiError> {
    match outcome {
        AppendOutcome::Stored { base_offset, append_time, log_start } => {
            Ok(Stored { base_offset: base_offset.0, append_time, log_start })
        }
        outcome => Err(errors::append(outcome, named_by)),
    }
}

fn partition_response(index: i32, result: Result<Stored, Refusal>) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default().with_index(index);
    match result {
        Ok(stored) => response
            .with_base_offset(stored.base_offset)
            .with_log_append_time_ms(stored.append_time.unwrap_or(TimestampMs::NONE).0)
            .with_log_start_offset(stored.log_start.0),
        // No offset is ever a default: an error has none.
        Err(Refusal { error, records }) => response
            .with_error_code(error.code())
            .with_base_offset(-1)
            .with_log_append_time_ms(-1)
            .with_log_start_offset(-1)
            .with_record_errors(records.into_iter().map(record_error).collect())
            .with_error_message((!error.message.is_empty()).then(|| error.message.into())),
    }
}

fn record_error((record, reason): (i32, String)) -> BatchIndexAndErrorMessage {
    BatchIndexAndErrorMessage::default()
        .with_batch_index(record)
        .with_batch_index_error_message(Some(StrBytes::from(reason)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ottla_model::{PartitionIndex, TopicId};
    use ottla_wire::decompress::{OutputLimits, Scratch};
    use ottla_wire::verify::{ReceivedBatch, RecordRules};

    use super::*;
    use crate::testing::batch;

    /// A frame of a batch between other bytes, and the batch as it is taken out of it.
    fn frame(around: usize) -> (Bytes, AppendBatch) {
        let batch = batch(&["value"]);
        let frame: Bytes = [&vec![0; around][..], &batch, &vec![0; around]].concat().into();
        let received = ReceivedBatch::read(frame.slice(around..around + batch.len())).unwrap();
        let scratch = &mut Scratch::default();
        let batch = received.verify(&RecordRules::NONE, OutputLimits::SMALL, scratch).unwrap();
        let partition = PartitionId { topic: TopicId(1), index: PartitionIndex(0) };
        (frame, AppendBatch { partition, batch, linger: None })
    }

    #[test]
    fn batches_that_are_little_of_their_frame_do_not_keep_it_in_memory() {
        let (frame, mut append) = frame(10_000);
        let sent = append.batch.bytes().clone();
        detach_if_little(std::slice::from_mut(&mut append), frame.len());
        assert_eq!(append.batch.bytes(), &sent);
        drop(sent);
        assert!(frame.is_unique(), "the batch keeps its frame in memory");
    }

    #[test]
    fn batches_that_are_most_of_their_frame_are_not_copied() {
        let (frame, mut append) = frame(20);
        let place = append.batch.bytes().as_ptr();
        detach_if_little(std::slice::from_mut(&mut append), frame.len());
        assert_eq!(append.batch.bytes().as_ptr(), place);
    }
}
