//! CreateTopics (key 19), versions 2–7.
//!
//! Creates topics one by one and answers when this broker sees them. Any replication factor is
//! accepted and kept: it is what tools are shown, while the object store does the replication. A manual
//! assignment only says how many partitions there are and how many replicas to show. Configs are
//! checked by name and type (see [`crate::topic_configs`]).
//!
//! - v1: validate_only. v2: throttle time. v3: throttled clients are answered at once.
//! - v4: −1 for partitions and replication factor means the default (KIP-464).
//! - v5: the answer carries configs (KIP-525), flexible versions. v6: THROTTLING_QUOTA_EXCEEDED.
//! - v7: the answer carries the topic id (KIP-516).
//!
//! Sources: Kafka's `CreateTopicsRequest.json`, `ReplicationControlManager.createTopics`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_protocol::ResponseError as Kafka;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult, CreateTopicsResponse,
};
use kafka_protocol::protocol::StrBytes;
use ottla_control_api::CreateTopicRequest;
use ottla_format::command::CreateTopicRefusal;
use ottla_model::{TopicId, TopicName};
use tokio::time::Instant;
use uuid::Uuid;

use crate::context::{ConnectionInfo, Context};
use crate::errors::{self, ApiError};
use crate::topic_configs::{self, LINGER, TOPIC_CONFIGS};
use crate::{limits, topics};

/// Kafka's number for "set on this topic".
const SOURCE_TOPIC: i8 = 1;
/// Kafka's number for "set in the broker's settings".
const SOURCE_BROKER: i8 = 4;
/// Kafka's number for "default".
const SOURCE_DEFAULT: i8 = 5;

/// Answers a request.
pub async fn handle(
    context: &Context,
    _connection: &ConnectionInfo,
    _version: i16,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let deadline = topics::change_deadline(request.timeout_ms);
    let mut seen = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for topic in &request.topics {
        if !seen.insert(topic.name.clone()) {
            twice.insert(topic.name.clone());
        }
    }
    let mut results = Vec::with_capacity(request.topics.len());
    let mut answered = BTreeSet::new();
    for (at, topic) in request.topics.into_iter().enumerate() {
        let name = topic.name.clone();
        let created = if twice.contains(&name) {
            if !answered.insert(name.clone()) {
                continue;
            }
            Err(ApiError::new(Kafka::InvalidRequest, "the topic is named twice in one request"))
        } else if at >= limits::TOPICS_PER_REQUEST_MAX {
            Err(ApiError::new(Kafka::InvalidRequest, "too many topics in one request"))
        } else {
            create(context, topic, request.validate_only, deadline).await
        };
        results.push(
            match created {
                Ok(created) => created.result(context.writer().linger()),
                Err(error) => CreatableTopicResult::default()
                    .with_error_code(error.code())
                    .with_error_message(Some(StrBytes::from(text_of(&error))))
                    .with_num_partitions(-1)
                    .with_replication_factor(-1),
            }
            .with_name(name),
        );
    }
    CreateTopicsResponse::default().with_topics(results)
}

fn text_of(error: &ApiError) -> String {
    if error.message.is_empty() { error.kafka.to_string() } else { error.message.clone() }
}

/// A topic as it was created, or would be.
struct Created {
    id: TopicId,
    partitions: i32,
    replication_factor: i16,
    configs: BTreeMap<String, String>,
}

async fn create(
    context: &Context,
    topic: CreatableTopic,
    validate_only: bool,
    deadline: Instant,
) -> Result<Created, ApiError> {
    let name = TopicName::new(&topic.name).map_err(|error| errors::name(&error))?;
    if context.view.topic_by_name(&name).is_some() {
        let message = format!("topic {name} already exists");
        return Err(ApiError::new(Kafka::TopicAlreadyExists, message));
    }
    let (partitions, replication_factor) = size(context, &topic)?;
    let given = topic.configs.iter().map(|c| (c.name.as_str(), c.value.as_deref()));
    let configs = topic_configs::check(given)
        .map_err(|message| ApiError::new(Kafka::InvalidConfig, message))?;
    if validate_only {
        // The control plane decides the same when it is asked to create.
        if let Some(other) =
            context.view.topics().iter().find(|other| name.collides_with(&other.name))
        {
            return Err(errors::create_topic(&CreateTopicRefusal::Collides(other.name.clone())));
        }
        return Ok(Created { id: TopicId::ZERO, partitions, replication_factor, configs });
    }
    let id = topics::fresh_id(context);
    let request = CreateTopicRequest { id, name, partitions, replication_factor, configs };
    let topic = topics::create(context, request, deadline).await?;
    Ok(Created { id, partitions, replication_factor, configs: topic.configs.clone() })
}

/// Number of partitions and replication factor, from the numbers or from the assignment.
fn size(context: &Context, topic: &CreatableTopic) -> Result<(i32, i16), ApiError> {
    if !topic.assignments.is_empty() {
        return assigned_size(topic);
    }
    let partitions = match topic.num_partitions {
        -1 => context.options.num_partitions,
        given => given,
    };
    if !(1..=limits::PARTITIONS_PER_TOPIC_MAX).contains(&partitions) {
        let most = limits::PARTITIONS_PER_TOPIC_MAX;
        let message = format!("Number of partitions must be from 1 to {most}, or -1");
        return Err(ApiError::new(Kafka::InvalidPartitions, message));
    }
    let replication_factor = match topic.replication_factor {
        -1 => context.options.default_replication_factor,
        given => given,
    };
    if replication_factor < 1 {
        let message = "Replication factor must be larger than 0, or -1 for the default";
        return Err(ApiError::new(Kafka::InvalidReplicationFactor, message));
    }
    Ok((partitions, replication_factor))
}

fn assigned_size(topic: &CreatableTopic) -> Result<(i32, i16), ApiError> {
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        let message = "a manual assignment comes without partition count and replication factor";
        return Err(ApiError::new(Kafka::InvalidRequest, message));
    }
    let refuse = |message| Err(ApiError::new(Kafka::InvalidReplicaAssignment, message));
    let mut indexes: Vec<i32> = topic.assignments.iter().map(|a| a.partition_index).collect();
    indexes.sort_unstable();
    let count = indexes.len();
    if count > limits::PARTITIONS_PER_TOPIC_MAX as usize {
        return refuse("too many partitions");
    }
    if indexes.into_iter().ne(0..count as i32) {
        return refuse("partitions should be a consecutive 0-based integer sequence");
    }
    let factors = topic.assignments.iter().map(|a| a.broker_ids.len());
    let (Some(least), Some(most)) = (factors.clone().min(), factors.max()) else {
        return refuse("the assignment is empty");
    };
    match i16::try_from(most) {
        Ok(factor) if least == most && factor > 0 => Ok((count as i32, factor)),
        _ => refuse("every partition needs the same number of replicas, at least one"),
    }
}

impl Created {
    /// `linger` is the broker's.
    fn result(self, linger: Duration) -> CreatableTopicResult {
        let linger = linger.as_millis().to_string();
        let configs = TOPIC_CONFIGS.iter().map(|config| {
            let (value, source) = match self.configs.get(config.name) {
                Some(set) => (set.as_str(), SOURCE_TOPIC),
                None if config.name == LINGER && linger != config.default => {
                    (linger.as_str(), SOURCE_BROKER)
                }
                None => (config.default, SOURCE_DEFAULT),
            };
            CreatableTopicConfigs::default()
                .with_name(StrBytes::from_static_str(config.name))
                .with_value(Some(StrBytes::from(value.to_owned())))
                .with_config_source(source)
        });
        CreatableTopicResult::default()
            .with_topic_id(Uuid::from_u128(self.id.0))
            .with_num_partitions(self.partitions)
            .with_replication_factor(self.replication_factor)
            .with_configs(Some(configs.collect()))
    }
}
