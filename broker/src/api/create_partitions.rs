//! CreatePartitions (key 37), versions 0–3.
//!
//! Grows topics to a new total, in one command each, and answers when this broker sees them. A
//! manual assignment is only checked for its length. Every topic of the request has its result.
//!
//! - v1: throttled clients are answered at once. v2: flexible versions. v3: quotas.
//!
//! Sources: Kafka's `CreatePartitionsRequest.json`, `ReplicationControlManager.createPartitions`.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError as Kafka;
use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsRequest, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_partitions_response::{
    CreatePartitionsResponse, CreatePartitionsTopicResult,
};
use kafka_protocol::protocol::StrBytes;
use ottla_control_api::OpError;
use ottla_format::command::CreatePartitions;
use tokio::time::Instant;

use crate::calls::retrying;
use crate::context::{ConnectionInfo, Context};
use crate::errors::{self, ApiError};
use crate::{limits, topics};

/// Answers a request.
pub async fn handle(
    context: &Context,
    _connection: &ConnectionInfo,
    _version: i16,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let deadline = topics::change_deadline(request.timeout_ms);
    let mut results = Vec::with_capacity(request.topics.len());
    let mut seen = BTreeSet::new();
    for (at, topic) in request.topics.into_iter().enumerate() {
        let grown = if !seen.insert(topic.name.clone()) {
            Err(ApiError::new(Kafka::InvalidRequest, "the topic is named twice in one request"))
        } else if at >= limits::TOPICS_PER_REQUEST_MAX {
            Err(ApiError::new(Kafka::InvalidRequest, "too many topics in one request"))
        } else {
            grow(context, &topic, request.validate_only, deadline).await
        };
        let result = CreatePartitionsTopicResult::default().with_name(topic.name);
        results.push(match grown {
            Ok(()) => result,
            Err(error) => {
                let message =
                    (!error.message.is_empty()).then(|| StrBytes::from(error.message.clone()));
                result.with_error_code(error.code()).with_error_message(message)
            }
        });
    }
    CreatePartitionsResponse::default().with_results(results)
}

async fn grow(
    context: &Context,
    wanted: &CreatePartitionsTopic,
    validate_only: bool,
    deadline: Instant,
) -> Result<(), ApiError> {
    let topic = topics::by_name(&context.view, &wanted.name)?;
    let (current, total) = (topic.partitions, wanted.count);
    let refuse = |message: String| Err(ApiError::new(Kafka::InvalidPartitions, message));
    if total <= current {
        return refuse(format!(
            "The topic {} currently has {current} partition(s); {total} would not be an increase.",
            topic.name
        ));
    }
    if total > limits::PARTITIONS_PER_TOPIC_MAX {
        return refuse(format!("at most {} partitions", limits::PARTITIONS_PER_TOPIC_MAX));
    }
    if let Some(assignments) = &wanted.assignments
        && assignments.len() != (total - current) as usize
    {
        let message = "the assignment must have one entry for each new partition";
        return Err(ApiError::new(Kafka::InvalidReplicaAssignment, message));
    }
    if validate_only {
        return Ok(());
    }
    let command = CreatePartitions { topic: topic.id, total };
    match retrying(context, deadline, || context.control.create_partitions(command)).await {
        Ok(()) => {}
        Err(OpError::Refused(refusal)) => return Err(errors::create_partitions(refusal)),
        Err(OpError::Call(error)) => {
            return Err(ApiError::new(errors::call(&error), error.to_string()));
        }
    }
    let grown = || match context.view.topic(topic.id) {
        Some(now) if now.partitions < total => None,
        // Grown, or deleted since: either way there is nothing more to wait for.
        _ => Some(()),
    };
    let seen = topics::seen(&context.view, deadline, grown).await;
    seen.ok_or_else(|| Kafka::RequestTimedOut.into())
}
