//! A consumer group and its offsets. Metadata and offsets are the same bytes in records and in the
//! commands that set them.

use std::sync::Arc;

use ottla_model::{GroupId, Offset, TimestampMs};

use super::version::{StoredValue, put_value};
use crate::codec::{
    DecodeError, Reader, Result, put_bytes, put_flag, put_text, put_varint, put_zigzag,
};
use crate::command::{CommittedOffset, GroupKind, GroupMember, GroupMetadata};

/// The fewest bytes that a list item can take, for [`Reader::count`].
const MEMBER_BYTES_MIN: usize = 8;
const PROTOCOL_BYTES_MIN: usize = 2;

/// Appends a committed offset as a record has it.
pub fn put_committed_offset(out: &mut Vec<u8>, offset: &CommittedOffset) {
    put_value(out, offset);
}

/// `offset zigzag · leader epoch zigzag · metadata text`
impl StoredValue for CommittedOffset {
    fn put_body(&self, _version: u8, out: &mut Vec<u8>) {
        put_zigzag(out, self.offset.0);
        put_zigzag(out, i64::from(self.leader_epoch));
        put_text(out, &self.metadata);
    }

    fn read_body(_version: u8, r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            offset: Offset(r.zigzag("committed offset")?),
            leader_epoch: r.narrow_zigzag("leader epoch")?,
            metadata: r.text("offset metadata")?.into(),
        })
    }
}

/// A group without its offsets.
///
/// `id text · kind u8 · option idle since zigzag · option metadata`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEntry {
    /// Its id. The only record with it: all others have the group's number.
    pub id: GroupId,
    /// By which protocol its members agree.
    pub kind: GroupKind,
    /// Since when it has been without members and without a commit; `None` while it has members.
    pub idle_since: Option<TimestampMs>,
    /// `None` for a group that only commits offsets.
    pub metadata: Option<Arc<GroupMetadata>>,
}

impl GroupEntry {
    /// Appends the value's bytes.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_value(out, self);
    }

    /// Whether members are in it.
    pub fn has_members(&self) -> bool {
        self.metadata.as_ref().is_some_and(|metadata| !metadata.members.is_empty())
    }
}

impl StoredValue for GroupEntry {
    fn put_body(&self, _version: u8, out: &mut Vec<u8>) {
        put_text(out, self.id.as_str());
        put_group_kind(out, self.kind);
        put_flag(out, self.idle_since.is_some());
        if let Some(since) = self.idle_since {
            put_zigzag(out, since.0);
        }
        put_flag(out, self.metadata.is_some());
        if let Some(metadata) = &self.metadata {
            put_group_metadata(out, metadata);
        }
    }

    fn read_body(_version: u8, r: &mut Reader<'_>) -> Result<Self> {
        let id = GroupId::from(r.text("group id")?);
        let kind = read_group_kind(r)?;
        let is_idle = r.flag("idle group")?;
        let idle_since = if is_idle { Some(TimestampMs(r.zigzag("idle since")?)) } else { None };
        let has_metadata = r.flag("group metadata")?;
        let metadata = if has_metadata { Some(Arc::new(read_group_metadata(r)?)) } else { None };
        Ok(Self { id, kind, idle_since, metadata })
    }
}

const CLASSIC: u8 = 1;

/// Appends a group's kind: 1 for a classic one.
pub(crate) fn put_group_kind(out: &mut Vec<u8>, kind: GroupKind) {
    out.push(match kind {
        GroupKind::Classic => CLASSIC,
    });
}

pub(crate) fn read_group_kind(r: &mut Reader<'_>) -> Result<GroupKind> {
    match r.u8("group kind")? {
        CLASSIC => Ok(GroupKind::Classic),
        other => Err(DecodeError::Invalid { what: "group kind", value: i128::from(other) }),
    }
}

/// Appends the metadata of a classic group.
///
/// ```text
/// generation zigzag · protocol type text · option protocol text · option leader text
/// · list of member
/// member    id text · option instance text · client id text · client host text
///           · session timeout zigzag · rebalance timeout zigzag
///           · list of (protocol text · metadata bytes) · assignment bytes
/// ```
pub fn put_group_metadata(out: &mut Vec<u8>, group: &GroupMetadata) {
    put_zigzag(out, i64::from(group.generation));
    put_text(out, &group.protocol_type);
    put_optional_text(out, group.protocol.as_deref());
    put_optional_text(out, group.leader.as_deref());
    put_varint(out, group.members.len() as u64);
    for member in &group.members {
        put_text(out, &member.member_id);
        put_optional_text(out, member.instance_id.as_deref());
        put_text(out, &member.client_id);
        put_text(out, &member.client_host);
        put_zigzag(out, i64::from(member.session_timeout_ms));
        put_zigzag(out, i64::from(member.rebalance_timeout_ms));
        put_varint(out, member.protocols.len() as u64);
        for (name, metadata) in &member.protocols {
            put_text(out, name);
            put_bytes(out, metadata);
        }
        put_bytes(out, &member.assignment);
    }
}

pub(crate) fn read_group_metadata(r: &mut Reader<'_>) -> Result<GroupMetadata> {
    let generation = r.narrow_zigzag("generation")?;
    let protocol_type = r.text("protocol type")?.into();
    let protocol = read_optional_text(r, "protocol")?;
    let leader = read_optional_text(r, "group leader")?;
    let count = r.count(MEMBER_BYTES_MIN, "member count")?;
    // A member in memory is much larger than the fewest bytes it can take: grow with what is read.
    let mut members = Vec::new();
    for _ in 0..count {
        members.push(read_group_member(r)?);
    }
    Ok(GroupMetadata { generation, protocol_type, protocol, leader, members })
}

fn read_group_member(r: &mut Reader<'_>) -> Result<GroupMember> {
    let member_id = r.text("member id")?.into();
    let instance_id = read_optional_text(r, "instance id")?;
    let client_id = r.text("client id")?.into();
    let client_host = r.text("client host")?.into();
    let session_timeout_ms = r.narrow_zigzag("session timeout")?;
    let rebalance_timeout_ms = r.narrow_zigzag("rebalance timeout")?;
    let protocol_count = r.count(PROTOCOL_BYTES_MIN, "protocol count")?;
    let mut protocols = Vec::new();
    for _ in 0..protocol_count {
        let name = r.text("protocol name")?.into();
        protocols.push((name, r.bytes("protocol metadata")?.to_vec().into()));
    }
    Ok(GroupMember {
        member_id,
        instance_id,
        client_id,
        client_host,
        session_timeout_ms,
        rebalance_timeout_ms,
        protocols,
        assignment: r.bytes("assignment")?.to_vec().into(),
    })
}

fn put_optional_text(out: &mut Vec<u8>, text: Option<&str>) {
    put_flag(out, text.is_some());
    if let Some(text) = text {
        put_text(out, text);
    }
}

fn read_optional_text(r: &mut Reader<'_>, what: &'static str) -> Result<Option<Arc<str>>> {
    Ok(if r.flag(what)? { Some(r.text(what)?.into()) } else { None })
}
