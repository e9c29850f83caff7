//! LeaveGroup (key 13), versions 0–5: members go, or an operator sends them away.
//!
//! The leave of the last member is answered when the empty group is stored.
//!
//! - 1: throttle time
//! - 3: many members, and static ones by their instance id (KIP-345); errors per member
//! - 4: flexible
//! - 5: a reason, logged (KIP-800)
//!
//! Source: `LeaveGroupRequest.json`, `GroupMetadataManager.classicGroupLeave`.

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use ottla_model::GroupId;

use super::text::{kafka_text, optional_kafka_text, optional_text, text};
use crate::context::{ConnectionInfo, Context};
use crate::errors;
use crate::group::limits::MEMBERS_PER_GROUP_MAX;
use crate::group::{GroupError, Groups, Leave, Leaving};

/// From this version on a request has many members, and an answer one entry for each.
const MANY_MEMBERS: i16 = 3;

/// Answers a request.
pub async fn handle(
    context: &Context,
    connection: &ConnectionInfo,
    version: i16,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    answer(&context.groups, connection, version, request).await
}

pub(super) async fn answer(
    groups: &Groups,
    connection: &ConnectionInfo,
    version: i16,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    let group = GroupId(text(&request.group_id.0));
    let leave = Leave { members: leaving_of(version, request), client: connection.share() };
    let asked = if version >= MANY_MEMBERS { leave.members.clone() } else { Vec::new() };
    let results = match groups.leave(&group, leave).await {
        Ok(results) => results,
        Err(error) => {
            return LeaveGroupResponse::default().with_error_code(errors::group(error).code());
        }
    };
    if version < MANY_MEMBERS {
        let code = results.first().copied().map_or(0, code_of);
        return LeaveGroupResponse::default().with_error_code(code);
    }
    let responses = asked.into_iter().zip(results).map(|(leaving, result)| {
        MemberResponse::default()
            .with_member_id(kafka_text(&leaving.member_id))
            .with_group_instance_id(optional_kafka_text(&leaving.instance_id))
            .with_error_code(code_of(result))
    });
    LeaveGroupResponse::default().with_members(responses.collect())
}

/// Who leaves. The frame is not kept for it.
fn leaving_of(version: i16, request: LeaveGroupRequest) -> Vec<Leaving> {
    let identities = if version >= MANY_MEMBERS {
        request.members
    } else {
        vec![MemberIdentity::default().with_member_id(request.member_id)]
    };
    let leaving = |identity: &MemberIdentity| Leaving {
        member_id: text(&identity.member_id),
        instance_id: optional_text(&identity.group_instance_id),
        reason: optional_text(&identity.reason),
    };
    // One more than there may be is enough to refuse them.
    identities.iter().take(MEMBERS_PER_GROUP_MAX + 1).map(leaving).collect()
}

fn code_of(result: Result<(), GroupError>) -> i16 {
    result.map_or_else(|error| errors::group(error).code(), |()| 0)
}
