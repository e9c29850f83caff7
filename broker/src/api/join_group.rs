//! JoinGroup (key 11), versions 0–9: a member asks to be part of the next generation.
//!
//! Answered when the generation begins: after everybody joined, after the longest rebalance timeout
//! of the members, or for a new group after `group.initial.rebalance.delay.ms`. Nothing is stored by
//! it; the generation becomes durable with its assignment (SyncGroup).
//!
//! - 0: the rebalance timeout is the session timeout
//! - 1: a rebalance timeout of its own
//! - 2: throttle time
//! - 4: a member without an id is told one and has to come again (KIP-394)
//! - 5: instance id: static membership (KIP-345)
//! - 6: flexible
//! - 7: the answer names the protocol type; protocol name can be null (KIP-559)
//! - 8: a reason, logged (KIP-800)
//! - 9: a returning static leader is told to skip the assignment (KIP-814)
//!
//! Source: `JoinGroupRequest.json`, `GroupMetadataManager.classicGroupJoin`.

use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;
use ottla_model::GroupId;

use super::text::{kafka_text, optional_kafka_text, optional_text, text};
use crate::context::{ConnectionInfo, Context};
use crate::errors;
use crate::group::limits::PROTOCOLS_PER_MEMBER_MAX;
use crate::group::{Groups, Join, JoinRefused, Joined, JoinedMember};

/// From this version on the client can be told its id first.
const MEMBER_ID_FIRST: i16 = 4;
/// From this version on members have instance ids.
const INSTANCE_IDS: i16 = 5;
/// From this version on the protocol's name can be null.
const NULLABLE_PROTOCOL: i16 = 7;
/// From this version on a leader can be told to skip the assignment.
const SKIP_ASSIGNMENT: i16 = 9;

/// Answers a request; waits for the generation to begin.
pub async fn handle(
    context: &Context,
    connection: &ConnectionInfo,
    version: i16,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    answer(&context.groups, connection, version, request).await
}

pub(super) async fn answer(
    groups: &Groups,
    connection: &ConnectionInfo,
    version: i16,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    let group = GroupId(text(&request.group_id.0));
    let join = join_of(connection, version, &request);
    // The frame is not kept for as long as the generation is waited for.
    drop(request);
    match groups.join(&group, join).await {
        Ok(joined) => joined_response(version, joined),
        Err(refused) => refused_response(version, &refused),
    }
}

fn join_of(connection: &ConnectionInfo, version: i16, request: &JoinGroupRequest) -> Join {
    // One more than there may be is enough to refuse them.
    let protocols = request.protocols.iter().take(PROTOCOLS_PER_MEMBER_MAX + 1);
    Join {
        member_id: text(&request.member_id),
        instance_id: optional_text(&request.group_instance_id),
        client_id: connection.client_id.clone(),
        client_host: connection.client_host().into(),
        client: connection.share(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        protocol_type: text(&request.protocol_type),
        // Copied: the group outlives the request's buffer by far.
        protocols: protocols.map(|p| (text(&p.name), p.metadata.to_vec().into())).collect(),
        can_be_told_its_id: version >= MEMBER_ID_FIRST,
        can_skip_assignment: version >= SKIP_ASSIGNMENT,
        reason: optional_text(&request.reason),
        fresh_id: "".into(),
    }
}

fn joined_response(version: i16, joined: Joined) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|member| member_of(version, member)).collect();
    JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_type(optional_kafka_text(&joined.protocol_type))
        .with_protocol_name(protocol_name(version, optional_kafka_text(&joined.protocol)))
        .with_leader(optional_kafka_text(&joined.leader).unwrap_or_default())
        .with_skip_assignment(joined.skip_assignment)
        .with_member_id(kafka_text(&joined.member_id))
        .with_members(members)
}

fn member_of(version: i16, member: JoinedMember) -> JoinGroupResponseMember {
    let instance_id = optional_kafka_text(&member.instance_id);
    JoinGroupResponseMember::default()
        .with_member_id(kafka_text(&member.member_id))
        .with_group_instance_id(instance_id.filter(|_| version >= INSTANCE_IDS))
        .with_metadata(member.metadata)
}

fn refused_response(version: i16, refused: &JoinRefused) -> JoinGroupResponse {
    JoinGroupResponse::default()
        .with_error_code(errors::group(refused.error).code())
        .with_generation_id(-1)
        .with_protocol_name(protocol_name(version, None))
        .with_member_id(kafka_text(&refused.member_id))
}

fn protocol_name(version: i16, name: Option<StrBytes>) -> Option<StrBytes> {
    if version < NULLABLE_PROTOCOL { Some(name.unwrap_or_default()) } else { name }
}
