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

use super::text::{optional_text, text};
use crate::context::{ConnectionInfo, Context};
use crate::errors;
use crate::group::{GroupError, Groups, Leaving};

/// From this version on a request has many members, and an answer one entry for each.
const MANY_MEMBERS: i16 = 3;

/// Answers a request.
pub async fn handle(
    context: &Context,
    _connection: &ConnectionInfo,
    version: i16,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    answer(&context.groups, version, request).await
}

pub(super) async fn answer(
    groups: &Groups,
    version: i16,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    let group = GroupId(text(&request.group_id.0));
    let identities = if version >= MANY_MEMBERS {
        request.members
    } else {
        vec![MemberIdentity::default().with_member_id(request.member_id)]
    };
    let leaving = identities.iter().map(leaving_of).collect();
    let results = match groups.leave(&group, leaving).await {
        Ok(results) => results,
        Err(error) => {
            return LeaveGroupResponse::default().with_error_code(errors::group(error).code());
        }
    };
    if version < MANY_MEMBERS {
        let code = results.first().copied().map_or(0, code_of);
        return LeaveGroupResponse::default().with_error_code(code);
    }
    let responses = identities.into_iter().zip(results).map(|(identity, result)| {
        MemberResponse::default()
            .with_member_id(identity.member_id)
            .with_group_instance_id(identity.group_instance_id)
            .with_error_code(code_of(result))
    });
    LeaveGroupResponse::default().with_members(responses.collect())
}

fn leaving_of(identity: &MemberIdentity) -> Leaving {
    Leaving {
        member_id: text(&identity.member_id),
        instance_id: optional_text(&identity.group_instance_id),
        reason: optional_text(&identity.reason),
    }
}

fn code_of(result: Result<(), GroupError>) -> i16 {
    result.map_or_else(|error| errors::group(error).code(), |()| 0)
}
