//! The cost of groups: in memory, and as commands of the replicated log.
//!
//! Every string, every entry of a list and every entry of a map counts. The fixed parts are measured
//! and rounded up, because allocators do; a test of the whole process holds them to what it takes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ottla_format::command::{CommittedOffset, GroupMember, GroupMetadata};
use ottla_model::{GroupId, PartitionId};

use super::message::{Join, Request};
use super::roster::Member;

/// A loaded group without members: its task, its inbox, its places in the registry.
const GROUP_BYTES: usize = 6 * 1024;
/// A member without its strings: itself, its places in the maps of its group, a request that waits.
const MEMBER_BYTES: usize = 1024;
/// One protocol of a member: name and metadata are allocations of their own, and counted by name.
const PROTOCOL_BYTES: usize = 192;
/// A member id that was given out and not used.
const PENDING_ID_BYTES: usize = 256;
/// One part of an assignment.
const PART_BYTES: usize = 128;
/// One member that a request asks to remove, and its place in the answer.
const LEAVING_BYTES: usize = 192;
/// One committed offset: its partition, its numbers, its text as an allocation of its own.
const OFFSET_BYTES: usize = 128;
/// A request without its strings.
const REQUEST_BYTES: usize = 512;

/// A member as it is stored, without its strings: counts, times, lengths.
const STORED_MEMBER_BYTES: usize = 64;
/// One protocol as it is stored.
const STORED_PROTOCOL_BYTES: usize = 48;

/// What a client says about itself when it joins, and what a member keeps of it.
pub(super) struct Said<'a> {
    pub id: &'a str,
    pub instance_id: Option<&'a str>,
    pub client_id: &'a str,
    pub client_host: &'a str,
    pub protocols: &'a [(Arc<str>, Bytes)],
}

impl<'a> Said<'a> {
    /// By a join that is to be member `id`.
    pub fn by(join: &'a Join, id: &'a str) -> Self {
        Self {
            id,
            instance_id: join.instance_id.as_deref(),
            client_id: &join.client_id,
            client_host: &join.client_host,
            protocols: &join.protocols,
        }
    }

    fn names(&self) -> usize {
        let instance_id = self.instance_id.map_or(0, str::len);
        self.id.len() + instance_id + self.client_id.len() + self.client_host.len()
    }

    /// Bytes in memory.
    pub fn in_memory(&self) -> usize {
        let protocols = protocols(self.protocols, PROTOCOL_BYTES);
        // The id and the instance id stand in maps that share them.
        MEMBER_BYTES + self.names() + protocols
    }

    /// Bytes in the group's durable metadata, without the assignment.
    pub fn stored(&self) -> usize {
        STORED_MEMBER_BYTES + self.names() + protocols(self.protocols, STORED_PROTOCOL_BYTES)
    }
}

impl Member {
    /// Its own statements about itself.
    pub fn said(&self) -> Said<'_> {
        Said {
            id: &self.id,
            instance_id: self.instance_id.as_deref(),
            client_id: &self.client_id,
            client_host: &self.client_host,
            protocols: &self.protocols,
        }
    }
}

fn protocols(protocols: &[(Arc<str>, Bytes)], each: usize) -> usize {
    protocols.iter().map(|(name, metadata)| each + name.len() + metadata.len()).sum()
}

/// A loaded group without members.
pub(super) fn group(group: &GroupId) -> usize {
    // The registry's maps and the writer have the id; they share it.
    GROUP_BYTES + group.as_str().len()
}

/// A member id that was given out and not used.
pub(super) fn pending_id(id: &str) -> usize {
    PENDING_ID_BYTES + id.len()
}

/// The parts of an assignment.
pub(super) fn assignment<'a>(parts: impl Iterator<Item = (&'a Arc<str>, &'a Bytes)>) -> usize {
    parts.map(|(id, part)| PART_BYTES + id.len() + part.len()).sum()
}

/// Offsets of one commit, as a command and while it waits.
pub(super) fn offsets(offsets: &BTreeMap<PartitionId, CommittedOffset>) -> usize {
    offsets.values().map(|offset| OFFSET_BYTES + offset.metadata.len()).sum()
}

/// A request on its way to its group. A heartbeat is as good as nothing.
pub(super) fn request(request: &Request) -> usize {
    let lists = match request {
        Request::Join(join) => protocols(&join.protocols, PROTOCOL_BYTES),
        Request::Sync(sync) => assignment(sync.assignments.iter()),
        Request::Heartbeat(_) => return 0,
        Request::Leave(leave) => {
            let name = |name: &Option<Arc<str>>| name.as_deref().map_or(0, str::len);
            let members = leave.members.iter();
            let of = members.map(|m| m.member_id.len() + name(&m.instance_id) + name(&m.reason));
            of.map(|names| LEAVING_BYTES + names).sum()
        }
        Request::Commit(commit) => offsets(&commit.offsets) + commit.answer_bytes,
    };
    REQUEST_BYTES + lists
}

/// A group's durable metadata as a command.
pub(super) fn metadata(group: &GroupId, metadata: &GroupMetadata) -> usize {
    let of_member = |member: &GroupMember| {
        let said = Said {
            id: &member.member_id,
            instance_id: member.instance_id.as_deref(),
            client_id: &member.client_id,
            client_host: &member.client_host,
            protocols: &member.protocols,
        };
        said.stored() + member.assignment.len()
    };
    let name = |name: &Option<Arc<str>>| name.as_deref().map_or(0, str::len);
    let names = group.as_str().len()
        + metadata.protocol_type.len()
        + name(&metadata.protocol)
        + name(&metadata.leader);
    REQUEST_BYTES + names + metadata.members.iter().map(of_member).sum::<usize>()
}
