//! Finding and making topics, for the handlers.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError as Kafka;
use ottla_control_api::view::TopicInfo;
use ottla_control_api::{CallErrorKind, CreateTopicRequest, OpError};
use ottla_format::command::CreateTopicRefusal;
use ottla_model::{AppliedIndex, PartitionId, PartitionIndex, TopicId, TopicName};
use ottla_storage::view::View;
use tokio::time::Instant;
use uuid::Uuid;

use crate::calls::retrying;
use crate::context::Context;
use crate::errors::{self, ApiError, NamedBy};
use crate::limits;

/// The living topic of a name that a client sent.
pub fn by_name(view: &View, name: &str) -> Result<Arc<TopicInfo>, Kafka> {
    let unknown = errors::unknown_topic(NamedBy::Name);
    let name = TopicName::new(name).map_err(|_| unknown)?;
    view.topic_by_name(&name).ok_or(unknown)
}

/// The living topic of an id that a client sent.
pub fn by_id(view: &View, id: Uuid) -> Result<Arc<TopicInfo>, Kafka> {
    view.topic(TopicId(id.as_u128())).ok_or(errors::unknown_topic(NamedBy::Id))
}

/// A partition of a topic, when it exists.
pub fn partition(topic: &TopicInfo, index: i32) -> Result<PartitionId, Kafka> {
    let exists = (0..topic.partitions).contains(&index);
    let partition = PartitionId { topic: topic.id, index: PartitionIndex(index) };
    // A known topic without the partition is "unknown" by name in all APIs.
    if exists { Ok(partition) } else { Err(errors::unknown_topic(NamedBy::Name)) }
}

/// How long to wait for a change, from what the client allows.
pub fn change_deadline(timeout_ms: i32) -> Instant {
    let wanted = match u64::try_from(timeout_ms) {
        Ok(ms) if ms > 0 => Duration::from_millis(ms),
        _ => limits::CHANGE_WAIT_MAX,
    };
    Instant::now() + wanted.min(limits::CHANGE_TIMEOUT_MAX)
}

/// Creates a topic and waits until this broker sees it.
pub async fn create(
    context: &Context,
    request: CreateTopicRequest,
    deadline: Instant,
) -> Result<Arc<TopicInfo>, ApiError> {
    let created = retrying(context, deadline, || context.control.create_topic(request.clone()));
    let id = match created.await {
        Ok(id) => id,
        Err(OpError::Refused(refusal)) => return Err(errors::create_topic(&refusal)),
        Err(OpError::Call(error)) => {
            return Err(ApiError::new(errors::call(&error), error.to_string()));
        }
    };
    let seen = seen(&context.view, deadline, || context.view.topic(id)).await;
    seen.ok_or_else(|| Kafka::RequestTimedOut.into())
}

/// The topic that a client asks for without having created it: made with the defaults, unless it
/// came to be in the meantime.
///
/// No call is begun after `deadline`.
pub async fn create_automatically(
    context: &Context,
    name: TopicName,
    deadline: Instant,
) -> Result<Arc<TopicInfo>, ApiError> {
    let deadline = deadline.min(Instant::now() + limits::CHANGE_WAIT_MAX);
    let request = CreateTopicRequest {
        id: fresh_id(context),
        name: name.clone(),
        partitions: context.options.num_partitions,
        replication_factor: context.options.default_replication_factor,
        configs: Default::default(),
    };
    let result =
        retrying(context, deadline, || context.control.create_topic(request.clone())).await;
    let id = match result {
        Ok(id) | Err(OpError::Refused(CreateTopicRefusal::Exists(id))) => id,
        Err(OpError::Refused(refusal)) => return Err(errors::create_topic(&refusal)),
        // The client repeats its Metadata request on this code.
        Err(OpError::Call(error)) => match error.kind() {
            CallErrorKind::Unsupported => return Err(Kafka::UnsupportedVersion.into()),
            CallErrorKind::Internal => return Err(Kafka::UnknownServerError.into()),
            _ => return Err(errors::unknown_topic(NamedBy::Name).into()),
        },
    };
    let seen = seen(&context.view, deadline, || context.view.topic(id)).await;
    seen.ok_or_else(|| errors::unknown_topic(NamedBy::Name).into())
}

/// An id for a new topic.
pub fn fresh_id(context: &Context) -> TopicId {
    loop {
        // As Kafka's: random UUIDs (version 4), never the reserved "no id".
        let id = Uuid::from_u128(context.random.u128());
        let id = uuid::Builder::from_u128(id.as_u128())
            .with_variant(uuid::Variant::RFC4122)
            .with_version(uuid::Version::Random)
            .into_uuid();
        if !id.is_nil() {
            return TopicId(id.as_u128());
        }
    }
}

/// Waits until the view shows something; `None` when the deadline passed or the view ended.
pub async fn seen<T>(
    view: &View,
    deadline: Instant,
    mut look: impl FnMut() -> Option<T>,
) -> Option<T> {
    loop {
        // In this order: what is applied after the look wakes us.
        let applied = view.applied();
        if let Some(found) = look() {
            return Some(found);
        }
        let next = view.reached(AppliedIndex(applied.0 + 1));
        match tokio::time::timeout_at(deadline, next).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return None,
        }
    }
}
