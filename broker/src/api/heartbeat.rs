//! Heartbeat (key 12), versions 0–4: a member lives, and learns whether it has to join again.
//!
//! A group that is in memory answers at once; one that is not is looked up in the control plane.
//! Never waits for a write: with the control plane away, members of a loaded group stay members.
//!
//! - 1: throttle time
//! - 3: instance id: static membership (KIP-345)
//! - 4: flexible
//!
//! Source: `HeartbeatRequest.json`, `GroupMetadataManager.classicGroupHeartbeat`.

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};
use ottla_model::GroupId;

use super::text::{optional_text, text};
use crate::context::{ConnectionInfo, Context};
use crate::errors;
use crate::group::{Groups, Heartbeat};

/// Answers a request.
pub async fn handle(
    context: &Context,
    _connection: &ConnectionInfo,
    _version: i16,
    request: HeartbeatRequest,
) -> HeartbeatResponse {
    answer(&context.groups, request).await
}

pub(super) async fn answer(groups: &Groups, request: HeartbeatRequest) -> HeartbeatResponse {
    let group = GroupId(text(&request.group_id.0));
    let heartbeat = Heartbeat {
        member_id: text(&request.member_id),
        instance_id: optional_text(&request.group_instance_id),
        generation: request.generation_id,
    };
    // The frame is not kept while the group is looked up.
    drop(request);
    let code = match groups.heartbeat(&group, heartbeat).await {
        Ok(()) => 0,
        Err(error) => errors::group(error).code(),
    };
    HeartbeatResponse::default().with_error_code(code)
}
