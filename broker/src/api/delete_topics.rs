//! DeleteTopics (key 20), versions 1–6.
//!
//! A deleted topic is gone at once: its data cannot be reached any more, and a new topic of its
//! name has another id. Answered when this broker no longer sees it.
//!
//! - v1: throttle time. v2: throttled clients are answered at once. v3: TOPIC_DELETION_DISABLED.
//! - v4: flexible versions. v5: an error message, THROTTLING_QUOTA_EXCEEDED.
//! - v6: topics by name or id (KIP-516).
//!
//! Sources: Kafka's `DeleteTopicsRequest.json`, `ControllerApis.deleteTopics`.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::ResponseError as Kafka;
use kafka_protocol::messages::TopicName as WireName;
use kafka_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use kafka_protocol::messages::delete_topics_response::{
    DeletableTopicResult, DeleteTopicsResponse,
};
use kafka_protocol::protocol::StrBytes;
use ottla_control_api::view::TopicInfo;
use tokio::time::Instant;
use uuid::Uuid;

use crate::calls::retrying;
use crate::context::{ConnectionInfo, Context};
use crate::errors::{self, ApiError, NamedBy};
use crate::{limits, topics};

/// The first version that lists topics by name or id.
const STATES_FROM: i16 = 6;

/// Answers a request.
pub async fn handle(
    context: &Context,
    _connection: &ConnectionInfo,
    version: i16,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let deadline = topics::change_deadline(request.timeout_ms);
    let wanted: Vec<(Option<WireName>, Uuid)> = if version >= STATES_FROM {
        let pair = |topic: DeleteTopicState| (topic.name, topic.topic_id);
        request.topics.into_iter().map(pair).collect()
    } else {
        request.topic_names.into_iter().map(|name| (Some(name), Uuid::nil())).collect()
    };
    let mut responses = Vec::with_capacity(wanted.len());
    let mut seen = BTreeSet::new();
    for (at, (name, id)) in wanted.into_iter().enumerate() {
        let deleted = if !seen.insert((name.clone(), id)) {
            Err(ApiError::new(Kafka::InvalidRequest, "the topic is named twice in one request"))
        } else if at >= limits::TOPICS_PER_REQUEST_MAX {
            Err(ApiError::new(Kafka::InvalidRequest, "too many topics in one request"))
        } else {
            delete(context, name.as_ref(), id, deadline).await
        };
        responses.push(result(deleted, name, id, version));
    }
    DeleteTopicsResponse::default().with_responses(responses)
}

async fn delete(
    context: &Context,
    name: Option<&WireName>,
    id: Uuid,
    deadline: Instant,
) -> Result<Arc<TopicInfo>, ApiError> {
    let (topic, named_by) = match name {
        Some(_) if !id.is_nil() => {
            let message = "a topic is named by name or by id, not by both";
            return Err(ApiError::new(Kafka::InvalidRequest, message));
        }
        Some(name) => (topics::by_name(&context.view, name)?, NamedBy::Name),
        None if id.is_nil() => {
            let message = "neither name nor id of the topic is given";
            return Err(ApiError::new(Kafka::InvalidRequest, message));
        }
        None => (topics::by_id(&context.view, id)?, NamedBy::Id),
    };
    let mut first_try = true;
    let existed = retrying(context, deadline, || {
        // A repeated call that finds nothing was answered by the first.
        let repeated = !std::mem::take(&mut first_try);
        let call = context.control.delete_topic(topic.id);
        async move { call.await.map(|existed| existed || repeated) }
    });
    match existed.await {
        Ok(true) => {}
        Ok(false) => return Err(errors::unknown_topic(named_by).into()),
        Err(error) => return Err(ApiError::new(errors::call(&error), error.to_string())),
    }
    let gone = || context.view.topic(topic.id).is_none().then_some(());
    match topics::seen(&context.view, deadline, gone).await {
        Some(()) => Ok(topic),
        None => Err(Kafka::RequestTimedOut.into()),
    }
}

fn result(
    deleted: Result<Arc<TopicInfo>, ApiError>,
    name: Option<WireName>,
    id: Uuid,
    version: i16,
) -> DeletableTopicResult {
    match deleted {
        Ok(topic) => DeletableTopicResult::default()
            .with_name(Some(WireName(StrBytes::from(topic.name.as_str().to_owned()))))
            .with_topic_id(Uuid::from_u128(topic.id.0)),
        Err(error) => {
            let message = (version >= 5 && !error.message.is_empty())
                .then(|| StrBytes::from(error.message.clone()));
            DeletableTopicResult::default()
                .with_name(name)
                .with_topic_id(id)
                .with_error_code(error.code())
                .with_error_message(message)
        }
    }
}
