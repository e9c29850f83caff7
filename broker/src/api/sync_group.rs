//! SyncGroup (key 14), versions 0–5: the leader brings the assignment, everybody gets a part.
//!
//! Answered when the assignment is stored in the control plane. In a stable group it is answered at
//! once, also by the next coordinator after a move.
//!
//! - 1: throttle time
//! - 3: instance id: static membership (KIP-345)
//! - 4: flexible
//! - 5: protocol type and name must be given and must match (KIP-559)
//!
//! Source: `SyncGroupRequest.json`, `GroupMetadataManager.classicGroupSync`.

use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use ottla_model::GroupId;

use super::text::{optional_kafka_text, optional_text, text};
use crate::context::{ConnectionInfo, Context};
use crate::errors;
use crate::group::limits::MEMBERS_PER_GROUP_MAX;
use crate::group::{GroupError, Groups, Sync};

/// From this version on protocol type and name must be given.
const PROTOCOL_REQUIRED: i16 = 5;

/// Answers a request; waits for the assignment.
pub async fn handle(
    context: &Context,
    connection: &ConnectionInfo,
    version: i16,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    answer(&context.groups, connection, version, request).await
}

pub(super) async fn answer(
    groups: &Groups,
    connection: &ConnectionInfo,
    version: i16,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    let refused = |error| SyncGroupResponse::default().with_error_code(errors::group(error).code());
    let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    if version >= PROTOCOL_REQUIRED && !names_protocol {
        return refused(GroupError::InconsistentProtocol);
    }
    let group = GroupId(text(&request.group_id.0));
    let sync = sync_of(connection, &request);
    // The frame is not kept for as long as the assignment is waited for.
    drop(request);
    match groups.sync(&group, sync).await {
        Ok(synced) => SyncGroupResponse::default()
            .with_protocol_type(optional_kafka_text(&synced.protocol_type))
            .with_protocol_name(optional_kafka_text(&synced.protocol))
            .with_assignment(synced.assignment),
        Err(error) => refused(error),
    }
}

fn sync_of(connection: &ConnectionInfo, request: &SyncGroupRequest) -> Sync {
    // One more than there may be is enough to refuse them.
    let parts = request.assignments.iter().take(MEMBERS_PER_GROUP_MAX + 1);
    Sync {
        member_id: text(&request.member_id),
        instance_id: optional_text(&request.group_instance_id),
        generation: request.generation_id,
        protocol_type: optional_text(&request.protocol_type),
        protocol: optional_text(&request.protocol_name),
        // Copied: the group outlives the request's buffer by far.
        assignments: parts
            .map(|part| (text(&part.member_id), part.assignment.to_vec().into()))
            .collect(),
        client: connection.share(),
    }
}
