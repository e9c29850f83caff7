//! How long the names may be that clients give: the one place that checks them, for every group API.
//!
//! Names are kept, stored and logged; the protocol lets each be as long as its frame. Kafka refuses
//! none of them by length. The answers are those it has for names that make no sense:
//!
//! - a group id: INVALID_GROUP_ID
//! - an instance id of a member that joins: INVALID_REQUEST, as for an empty one in its newer group
//!   protocol; in other requests, and any member id: UNKNOWN_MEMBER_ID, because it is nobody's
//! - protocol type, protocol name, and more protocols than anybody has: INCONSISTENT_GROUP_PROTOCOL
//!
//! Clients repeat none of these. Reasons are for the log, and are shortened.

use std::sync::Arc;

use ottla_model::GroupId;

use super::error::GroupError;
use super::limits::{
    GROUP_ID_BYTES_MAX, INSTANCE_ID_BYTES_MAX, MEMBER_ID_BYTES_MAX, MEMBERS_PER_GROUP_MAX,
    PROTOCOL_NAME_BYTES_MAX, PROTOCOLS_PER_MEMBER_MAX, REASON_BYTES_MAX,
};
use super::message::{Join, Request, Sync};

/// Checks the id of a group. Offsets can be stored under the empty one.
pub(super) fn check_group_id(group: &GroupId) -> Result<(), GroupError> {
    if group.as_str().len() > GROUP_ID_BYTES_MAX { Err(GroupError::InvalidGroupId) } else { Ok(()) }
}

/// Checks the names in a request to a group.
pub(super) fn check(group: &GroupId, request: &Request) -> Result<(), GroupError> {
    check_group_id(group)?;
    let is_commit = matches!(request, Request::Commit(_));
    if group.as_str().is_empty() && !is_commit {
        return Err(GroupError::InvalidGroupId);
    }
    match request {
        Request::Join(join) => check_join(join),
        Request::Sync(sync) => check_sync(sync),
        Request::Heartbeat(beat) => check_member(&beat.member_id, beat.instance_id.as_deref()),
        // One too long is unknown like any other, and each member has an answer of its own.
        Request::Leave(leave) if leave.members.len() > MEMBERS_PER_GROUP_MAX => {
            Err(GroupError::InvalidRequest)
        }
        Request::Leave(_) => Ok(()),
        Request::Commit(commit) => check_member(&commit.member_id, commit.instance_id.as_deref()),
    }
}

/// A reason as it is logged.
pub(super) fn shorten_reason(reason: &mut Option<Arc<str>>) {
    if let Some(long) = reason.as_deref().filter(|reason| reason.len() > REASON_BYTES_MAX) {
        *reason = Some(long[..long.floor_char_boundary(REASON_BYTES_MAX)].into());
    }
}

/// Nobody has a longer id.
pub(super) fn check_member(member_id: &str, instance_id: Option<&str>) -> Result<(), GroupError> {
    let is_long = member_id.len() > MEMBER_ID_BYTES_MAX
        || instance_id.is_some_and(|id| id.len() > INSTANCE_ID_BYTES_MAX);
    if is_long { Err(GroupError::UnknownMember) } else { Ok(()) }
}

fn check_join(join: &Join) -> Result<(), GroupError> {
    if join.instance_id.as_deref().is_some_and(|id| id.len() > INSTANCE_ID_BYTES_MAX) {
        return Err(GroupError::InvalidRequest);
    }
    check_member(&join.member_id, None)?;
    let is_long = |name: &Arc<str>| name.len() > PROTOCOL_NAME_BYTES_MAX;
    let too_many = join.protocols.len() > PROTOCOLS_PER_MEMBER_MAX;
    if too_many || is_long(&join.protocol_type) || join.protocols.iter().any(|(n, _)| is_long(n)) {
        return Err(GroupError::InconsistentProtocol);
    }
    Ok(())
}

fn check_sync(sync: &Sync) -> Result<(), GroupError> {
    check_member(&sync.member_id, sync.instance_id.as_deref())?;
    // The leader names the members of its group, and there are never more.
    if sync.assignments.len() > MEMBERS_PER_GROUP_MAX {
        return Err(GroupError::MetadataTooLarge);
    }
    let is_long = |name: &Option<Arc<str>>| {
        name.as_deref().is_some_and(|n| n.len() > PROTOCOL_NAME_BYTES_MAX)
    };
    if is_long(&sync.protocol_type) || is_long(&sync.protocol) {
        return Err(GroupError::InconsistentProtocol);
    }
    Ok(())
}
