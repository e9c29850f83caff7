//! What a Produce request's batches are held to, and what a refused one is answered.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError as Kafka;
use kafka_protocol::messages::produce_request::TopicProduceData;
use kafka_protocol::messages::{ProduceRequest, TopicName};
use ottla_control_api::view::TopicInfo;
use ottla_model::{PartitionId, TimestampMs};
use ottla_storage::write::AppendBatch;
use ottla_wire::batch::Compression;
use ottla_wire::batch_error::BatchError;
use ottla_wire::verify::ReceivedBatch;
use tokio::time::Instant;
use uuid::Uuid;

use crate::context::{ConnectionInfo, Context};
use crate::errors::{self, ApiError, NamedBy};
use crate::record_check::Candidate;
use crate::topic_configs::WriteSettings;
use crate::{limits, topics};

/// The first version whose clients know zstd.
const ZSTD_FROM: i16 = 7;

/// Why a batch is not stored.
#[derive(Debug)]
pub(super) struct Refusal {
    pub error: ApiError,
    /// The records that are to blame, with what is wrong with each; empty when it is all of them.
    pub records: Vec<(i32, String)>,
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self { error, records: Vec::new() }
    }
}

impl From<Kafka> for Refusal {
    fn from(kafka: Kafka) -> Self {
        ApiError::from(kafka).into()
    }
}

impl From<BatchError> for Refusal {
    fn from(error: BatchError) -> Self {
        let api_error = ApiError::new(errors::batch(&error), error.to_string());
        let records = match error {
            BatchError::Refused(refused) => {
                refused.iter().map(|one| (one.record, one.reason.to_string())).collect()
            }
            BatchError::Record { record } => vec![(record, "the record is malformed".to_owned())],
            _ => Vec::new(),
        };
        Self { error: api_error, records }
    }
}

/// The partitions of a topic in a request, each with its batch or why it has none.
pub(super) struct CheckedTopic {
    pub name: TopicName,
    pub id: Uuid,
    pub partitions: Vec<(i32, Result<AppendBatch, Refusal>)>,
}

/// A batch on its way through the checks of its records.
struct Admitted {
    partition: PartitionId,
    settings: WriteSettings,
    batch: ReceivedBatch,
}

/// A topic whose batches were looked at as far as their headers go.
type AdmittedTopic = (TopicName, Uuid, Vec<(i32, Result<Admitted, Refusal>)>);

/// Checks all batches of a request. Waits while compressed ones are looked at.
pub(super) async fn all(
    context: &Context,
    connection: &ConnectionInfo,
    version: i16,
    named_by: NamedBy,
    request: ProduceRequest,
) -> Vec<CheckedTopic> {
    let admitted = admit(context, version, named_by, request);
    let candidates = candidates(&admitted, context.clock.now());
    let client = connection.share();
    let are_compressed = candidates.iter().any(|one| one.batch.codec() != Compression::None);
    let began = Instant::now();
    let mut verdicts = context.record_check.check(client, candidates).await.into_iter();
    if are_compressed {
        context.metrics.produce.stage_seconds.with(["check"]).time(began.elapsed());
    }

    let finish = |(name, id, partitions): AdmittedTopic| {
        let finish_one = |(index, admitted): (i32, Result<Admitted, Refusal>)| {
            let checked = admitted.and_then(|Admitted { partition, settings, .. }| {
                // One for each, in the same order.
                let batch = verdicts.next().unwrap_or(Err(BatchError::Empty))?;
                Ok(AppendBatch { partition, batch, linger: settings.linger })
            });
            (index, checked)
        };
        CheckedTopic { name, id, partitions: partitions.into_iter().map(finish_one).collect() }
    };
    admitted.into_iter().map(finish).collect()
}

fn candidates(admitted: &[AdmittedTopic], now: TimestampMs) -> Vec<Candidate> {
    let batches = || {
        let partitions = admitted.iter().flat_map(|(_, _, partitions)| partitions);
        partitions.filter_map(|(_, admitted)| admitted.as_ref().ok())
    };
    let refused_max = limits::RECORD_ERRORS_MAX / batches().count().max(1);
    let candidate = |admitted: &Admitted| Candidate {
        batch: admitted.batch.clone(),
        rules: admitted.settings.record_rules(now, refused_max),
    };
    batches().map(candidate).collect()
}

fn admit(
    context: &Context,
    version: i16,
    named_by: NamedBy,
    request: ProduceRequest,
) -> Vec<AdmittedTopic> {
    let acks_are_valid = matches!(request.acks, -1..=1);
    let repeated = repeated_partitions(&request);
    let admit_topic = |(topic_at, data): (usize, TopicProduceData)| {
        let topic = match named_by {
            NamedBy::Id => topics::by_id(&context.view, data.topic_id),
            NamedBy::Name => topics::by_name(&context.view, &data.name),
        };
        let rules = topic.map(|topic| {
            let settings = WriteSettings::of(&topic.configs);
            TopicRules { topic, settings, version }
        });
        let partitions = data.partition_data.into_iter().map(|partition| {
            let index = partition.index;
            let admitted = if !acks_are_valid {
                Err(Kafka::InvalidRequiredAcks.into())
            } else if repeated.contains(&(topic_at, index)) {
                let message = "the partition is named twice in one request";
                Err(ApiError::new(Kafka::InvalidRequest, message).into())
            } else {
                match &rules {
                    Ok(rules) => rules.admit(index, partition.records.unwrap_or_default()),
                    Err(unknown) => Err((*unknown).into()),
                }
            };
            (index, admitted)
        });
        (data.name, data.topic_id, partitions.collect())
    };
    request.topic_data.into_iter().enumerate().map(admit_topic).collect()
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

/// What the batches of one topic are held to before their records are looked at.
struct TopicRules {
    topic: Arc<TopicInfo>,
    settings: WriteSettings,
    version: i16,
}

impl TopicRules {
    fn admit(&self, index: i32, bytes: Bytes) -> Result<Admitted, Refusal> {
        let partition = topics::partition(&self.topic, index)?;
        let most = self.settings.batch_bytes_max;
        if bytes.len() > most {
            let message =
                format!("the record batch has {} bytes; the topic allows {most}", bytes.len());
            return Err(ApiError::new(Kafka::MessageTooLarge, message).into());
        }
        let batch = ReceivedBatch::read(bytes)?;
        if batch.is_transactional() {
            let message = "transactions are not supported";
            return Err(ApiError::new(Kafka::InvalidTxnState, message).into());
        }
        if self.version < ZSTD_FROM && batch.codec() == Compression::Zstd {
            let message = "zstd needs Produce version 7";
            return Err(ApiError::new(Kafka::UnsupportedCompressionType, message).into());
        }
        Ok(Admitted { partition, settings: self.settings, batch })
    }
}
