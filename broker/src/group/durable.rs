//! The part of a group that outlives its coordinator, and how a group begins from it.
//!
//! Stored are the generation, the members with all they said about themselves, and the assignment:
//! everything that members of a stable group hold the coordinator to. Not stored are waiting
//! requests, ids that were given out and not used, and a rebalance on its way: after a move the
//! group is as it was before that rebalance, members learn it (illegal generation, unknown member)
//! and join again.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_control_api::GroupState;
use ottla_format::command::{GroupKind, GroupMember, GroupMetadata};
use ottla_model::GroupId;
use tokio::time::Instant;

use crate::client_share::share_key;

use super::budget::{GroupBudget, NO_CLIENT};
use super::error::GroupError;
use super::limits::REBALANCE_TIMEOUT_MAX;
use super::message::{Effect, StorePurpose};
use super::options::GroupOptions;
use super::roster::Member;
use super::sizes;
use super::state::{Group, State};

fn duration_of(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

fn ms_of(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// The key of the shares of a stored member's client, which is charged for it.
pub(super) fn client_of(host: &str) -> IpAddr {
    host.trim_start_matches('/').parse().map_or(NO_CLIENT, share_key)
}

impl Group {
    /// A group as it was stored: stable if it has members, each with a fresh session.
    pub fn load(
        id: GroupId,
        options: GroupOptions,
        budget: GroupBudget,
        stored: GroupState,
        now: Instant,
    ) -> Self {
        let GroupState { kind: GroupKind::Classic, metadata, offsets } = stored;
        let mut group = Self::new(id, options, budget);
        group.stored = metadata.is_some() || !offsets.is_empty();
        group.known = group.stored;
        let Some(metadata) = metadata else { return group };
        group.generation = metadata.generation;
        group.protocol_type = Some(metadata.protocol_type).filter(|name| !name.is_empty());
        for member in metadata.members {
            let member_id = member.member_id.clone();
            group.roster.add(member_from(member, &group.budget));
            group.renew(now, &member_id);
        }
        if !group.roster.is_empty() {
            group.state = State::Stable;
            group.protocol = metadata.protocol;
            group.leader = metadata.leader;
            let parts = group.roster.iter().map(|member| (&member.id, &member.assignment));
            let charge = group.budget.charge(NO_CLIENT, sizes::assignment(parts));
            group.assignment_charge = Some(charge);
        }
        group
    }

    /// What is to be stored of the group as it is.
    pub(super) fn metadata(&self) -> GroupMetadata {
        let assignment = self.roster.iter().map(|m| (m.id.clone(), m.assignment.clone())).collect();
        self.metadata_with(&assignment)
    }

    /// What is to be stored of the group with an assignment that members do not have yet.
    pub(super) fn metadata_with(&self, assignment: &BTreeMap<Arc<str>, Bytes>) -> GroupMetadata {
        let member_to = |member: &Member| GroupMember {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            session_timeout_ms: ms_of(member.session_timeout),
            rebalance_timeout_ms: ms_of(member.rebalance_timeout),
            protocols: member.protocols.clone(),
            assignment: assignment.get(&member.id).cloned().unwrap_or_default(),
        };
        GroupMetadata {
            generation: self.generation,
            protocol_type: self.protocol_type.clone().unwrap_or_else(|| "".into()),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            members: self.roster.iter().map(member_to).collect(),
        }
    }

    /// An [`Effect::Store`] is done.
    pub fn stored(
        &mut self,
        now: Instant,
        purpose: StorePurpose,
        result: Result<(), GroupError>,
    ) -> Vec<Effect> {
        self.stored |= result.is_ok();
        match purpose {
            StorePurpose::Assignment { generation } => {
                self.assignment_stored(now, generation, result);
            }
            StorePurpose::Empty { leaving } => self.empty_stored(leaving),
            purpose @ StorePurpose::StaticReturn { .. } => {
                self.static_return_stored(now, purpose, result);
            }
        }
        self.take_effects()
    }
}

fn member_from(member: GroupMember, budget: &GroupBudget) -> Member {
    let mut loaded = Member {
        charge: budget.charge(client_of(&member.client_host), 0),
        id: member.member_id,
        instance_id: member.instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
        session_timeout: duration_of(member.session_timeout_ms),
        rebalance_timeout: duration_of(member.rebalance_timeout_ms).min(REBALANCE_TIMEOUT_MAX),
        protocols: member.protocols,
        assignment: member.assignment,
        join: None,
        sync: None,
        is_new: false,
        expires: None,
    };
    // It is in, whatever is free.
    loaded.charge = budget.charge(loaded.charge.client(), loaded.said().in_memory());
    loaded
}
