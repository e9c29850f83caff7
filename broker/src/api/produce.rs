//! Produce (key 0), versions 3–13; advertised from 0, which librdkafka needs (KAFKA-18659).
//!
//! Validates every batch by its header, puts the good ones into the write path's buffer in the
//! order of arrival, and answers when they are decided. Before the batches are in the buffer,
//! nothing waits but for the compressed records of compacted topics to be looked through. Bytes are
//! kept as received. One bad partition never fails another. acks=1 and −1 mean the same: answered
//! after the object is durable and the commit applied. acks=0 has no answer and no time-out; an error
//! closes the connection.
//!
//! Differences from Kafka: timestamps are checked by the batch header's base and maximum, not
//! record by record; a partition named twice in one request is refused.
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

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError as Kafka;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use ottla_control_api::view::TopicInfo;
use ottla_model::{PartitionId, TimestampMs, TimestampType};
use ottla_storage::write::{
    AppendBatch, AppendOutcome, AppendRequest, AppendTicket, ConnectionId, Reservation,
};
use ottla_wire::batch::{self, BatchHeader, Compression};
use tokio::time::Instant;
use uuid::Uuid;

use super::Closes;
use crate::context::{ConnectionInfo, Context};
use crate::errors::{self, ApiError, NamedBy};
use crate::record_keys::RecordKeys;
use crate::topic_configs::WriteSettings;
use crate::{limits, topics};

/// The first version that names topics by id.
const BY_ID_FROM: i16 = 13;

/// The first version whose clients know zstd.
const ZSTD_FROM: i16 = 7;

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
    named_by: NamedBy,
    topics: Vec<PendingTopic>,
    ticket: AppendTicket,
    waiting: Waiting,
}

struct PendingTopic {
    name: TopicName,
    id: Uuid,
    partitions: Vec<PendingPartition>,
}

struct PendingPartition {
    index: i32,
    /// `Ok`: the next outcome of the ticket is its own.
    appended: Result<(), ApiError>,
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
        0 => limits::SILENT_PRODUCE_MAX,
        _ => Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0)),
    };
    let acks_are_valid = matches!(request.acks, -1..=1);
    let repeated = repeated_partitions(&request);
    let now = context.clock.now();

    let mut batches = Vec::new();
    let mut pending_topics = Vec::with_capacity(request.topic_data.len());
    for (topic_at, data) in request.topic_data.into_iter().enumerate() {
        let topic = match named_by {
            NamedBy::Id => topics::by_id(&context.view, data.topic_id),
            NamedBy::Name => topics::by_name(&context.view, &data.name),
        };
        let rules = topic.map(|topic| {
            let settings = WriteSettings::of(&topic.configs);
            Rules { topic, settings, version, now }
        });
        let mut partitions = Vec::with_capacity(data.partition_data.len());
        for partition in data.partition_data {
            let index = partition.index;
            let checked = if !acks_are_valid {
                Err(Kafka::InvalidRequiredAcks.into())
            } else if repeated.contains(&(topic_at, index)) {
                let message = "the partition is named twice in one request";
                Err(ApiError::new(Kafka::InvalidRequest, message))
            } else {
                match &rules {
                    Ok(rules) => rules.check(index, partition.records, &context.record_keys).await,
                    Err(unknown) => Err((*unknown).into()),
                }
            };
            if let Err(error) = &checked {
                let reason = format!("{:?}", error.kafka);
                context.metrics.produce.rejected.with([&reason]).inc();
            }
            let appended = checked.map(|batch| batches.push(batch));
            partitions.push(PendingPartition { index, appended });
        }
        pending_topics.push(PendingTopic { name: data.name, id: data.topic_id, partitions });
    }

    let_go_of_frame(&mut batches, frame.length);
    // Counted before it is appended: the write path looks at the number when it gets the batches.
    let waiting = Waiting::new(frame.waiting);
    let ticket = context.writer().append(AppendRequest {
        arrival: frame.arrival,
        timeout,
        connection: ConnectionId(connection.id),
        waiting_on_connection: waiting.0.clone(),
        reservation: Some(frame.reservation),
        batches,
    });
    Ok(Pending { named_by, topics: pending_topics, ticket, waiting })
}

/// Copies the batches that are kept when they are little of their frame. They stay in memory as
/// long as the cache likes, and as slices they would keep what was refused there with them.
fn let_go_of_frame(batches: &mut [AppendBatch], frame_bytes: usize) {
    let kept: usize = batches.iter().map(|batch| batch.bytes.len()).sum();
    if kept < frame_bytes / limits::FRAME_KEPT_SHARE_MIN {
        for batch in batches {
            batch.bytes = Bytes::copy_from_slice(&batch.bytes);
        }
    }
}

/// Partitions that a request names more than once, with the place of each naming topic.
fn repeated_partitions(request: &ProduceRequest) -> Vec<(usize, i32)> {
    let mut places: BTreeMap<(&str, Uuid, i32), Vec<usize>> = BTreeMap::new();
    for (at, topic) in request.topic_data.iter().enumerate() {
        for partition in &topic.partition_data {
            let key = (topic.name.as_str(), topic.topic_id, partition.index);
            places.entry(key).or_default().push(at);
        }
    }
    let repeated = places.into_iter().filter(|(_, topics)| topics.len() > 1);
    repeated.flat_map(|((_, _, index), at)| at.into_iter().map(move |at| (at, index))).collect()
}

/// What the batches of one topic are held to.
struct Rules {
    topic: Arc<TopicInfo>,
    settings: WriteSettings,
    version: i16,
    now: TimestampMs,
}

impl Rules {
    async fn check(
        &self,
        index: i32,
        records: Option<Bytes>,
        record_keys: &RecordKeys,
    ) -> Result<AppendBatch, ApiError> {
        let partition: PartitionId = topics::partition(&self.topic, index)?;
        let bytes = records.unwrap_or_default();
        if bytes.len() > self.settings.batch_bytes_max {
            let most = self.settings.batch_bytes_max;
            return Err(ApiError::new(
                Kafka::MessageTooLarge,
                format!("the record batch has {} bytes; the topic allows {most}", bytes.len()),
            ));
        }
        let header = batch::verify(&bytes)
            .map_err(|error| ApiError::new(errors::batch(&error), error.to_string()))?;
        self.check_header(&header)?;
        if self.settings.keys_required {
            record_keys.check(&header, &bytes).await?;
        }
        Ok(AppendBatch { partition, header, bytes, linger: self.settings.linger })
    }

    fn check_header(&self, header: &BatchHeader) -> Result<(), ApiError> {
        if header.is_transactional() {
            let message = "transactions are not supported";
            return Err(ApiError::new(Kafka::InvalidTxnState, message));
        }
        if self.version < ZSTD_FROM && header.compression() == Ok(Compression::Zstd) {
            let message = "zstd needs Produce version 7";
            return Err(ApiError::new(Kafka::UnsupportedCompressionType, message));
        }
        if self.settings.timestamp_type == TimestampType::LogAppendTime {
            return Ok(());
        }
        if header.timestamp_type() == TimestampType::LogAppendTime {
            let message = "a producer cannot set the timestamp type LogAppendTime";
            return Err(ApiError::new(Kafka::InvalidTimestamp, message));
        }
        for timestamp in [header.base_timestamp, header.max_timestamp] {
            if !self.settings.allows(TimestampMs(timestamp), self.now) {
                return Err(ApiError::new(
                    Kafka::InvalidTimestamp,
                    format!("timestamp {timestamp} is too far from the broker's {}", self.now),
                ));
            }
        }
        Ok(())
    }
}

impl Pending {
    /// Waits until all is decided, or the request's time is over.
    pub async fn response(self) -> ProduceResponse {
        let Self { named_by, topics, ticket, waiting } = self;
        let outcomes = ticket.await;
        drop(waiting);
        let mut outcomes = outcomes.into_iter();
        let topics = topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|partition| {
                let result = partition.appended.and_then(|()| {
                    stored(outcomes.next().unwrap_or(AppendOutcome::Undecided), named_by)
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
    log_start: i64,
}

fn stored(outcome: AppendOutcome, named_by: NamedBy) -> Result<Stored, ApiError> {
    match outcome {
        AppendOutcome::Stored { base_offset, append_time, log_start } => {
            Ok(Stored { base_offset: base_offset.0, append_time, log_start: log_start.0 })
        }
        outcome => Err(errors::append(outcome, named_by)),
    }
}

fn partition_response(index: i32, result: Result<Stored, ApiError>) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default().with_index(index);
    match result {
        Ok(stored) => response
            .with_base_offset(stored.base_offset)
            .with_log_append_time_ms(stored.append_time.unwrap_or(TimestampMs::NONE).0)
            .with_log_start_offset(stored.log_start),
        // No offset is ever a default: an error has none.
        Err(error) => {
            let is_about_records = matches!(error.kafka, Kafka::InvalidRecord);
            let message =
                (!error.message.is_empty()).then(|| StrBytes::from(error.message.clone()));
            let record_errors = if is_about_records {
                let detail = BatchIndexAndErrorMessage::default().with_batch_index(0);
                vec![detail.with_batch_index_error_message(message.clone())]
            } else {
                Vec::new()
            };
            response
                .with_error_code(error.code())
                .with_base_offset(-1)
                .with_log_append_time_ms(-1)
                .with_log_start_offset(-1)
                .with_record_errors(record_errors)
                .with_error_message(message)
        }
    }
}

#[cfg(test)]
mod tests {
    use ottla_model::{PartitionIndex, TopicId};

    use super::*;
    use crate::testing::batch;

    /// A frame of a batch between other bytes, and the batch as it is taken out of it.
    fn frame(around: usize) -> (Bytes, AppendBatch) {
        let batch = batch(&["value"]);
        let frame: Bytes = [&vec![0; around][..], &batch, &vec![0; around]].concat().into();
        let bytes = frame.slice(around..around + batch.len());
        let header = batch::verify(&bytes).unwrap();
        let partition = PartitionId { topic: TopicId(1), index: PartitionIndex(0) };
        (frame, AppendBatch { partition, header, bytes, linger: None })
    }

    #[test]
    fn a_frame_of_which_little_is_kept_is_let_go() {
        let (frame, mut batch) = frame(10_000);
        let sent = batch.bytes.clone();
        let_go_of_frame(std::slice::from_mut(&mut batch), frame.len());
        assert_eq!(batch.bytes, sent);
        drop(sent);
        assert!(frame.is_unique(), "the batch keeps its frame in memory");
    }

    #[test]
    fn a_frame_of_which_most_is_kept_is_not_copied() {
        let (frame, mut batch) = frame(20);
        let place = batch.bytes.as_ptr();
        let_go_of_frame(std::slice::from_mut(&mut batch), frame.len());
        assert_eq!(batch.bytes.as_ptr(), place);
    }
}
