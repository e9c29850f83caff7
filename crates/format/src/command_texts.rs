//! Which texts a command may bring into the replicated state: see [`crate::limits`].
//!
//! A command with a longer one is refused as a whole. The proposer of a command checks before, so
//! that it never reaches the log; the state machine checks once more, because it must not rely on
//! that. Topic names are not in it: [`ottla_model::TopicName`] has its limit in its type.

use ottla_model::{BrokerProfile, Endpoint};
use thiserror::Error;

use crate::command::{
    CommandBody, CommitOffsets, CreateTopic, GroupMember, GroupMetadata, PutGroup, RegisterBroker,
};
use crate::limits::{
    AZ_BYTES_MAX, CONFIG_VALUE_BYTES_MAX, CONFIGS_BYTES_MAX, ENDPOINTS_BYTES_MAX,
    GROUP_ID_BYTES_MAX, GROUP_TEXT_BYTES_MAX, HOST_BYTES_MAX, OFFSET_METADATA_BYTES_MAX,
    SOFTWARE_BYTES_MAX,
};

/// A text that the state does not keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{what} has {bytes} bytes; at most {max} are kept")]
pub struct TextTooLong {
    /// Which text.
    pub what: &'static str,
    /// Its length.
    pub bytes: usize,
    /// The longest that is kept.
    pub max: usize,
}

type Checked = Result<(), TextTooLong>;

fn check(what: &'static str, bytes: usize, max: usize) -> Checked {
    if bytes <= max { Ok(()) } else { Err(TextTooLong { what, bytes, max }) }
}

impl CommandBody {
    /// Checks every text that the command would leave in the state.
    ///
    /// # Errors
    /// The first one that is too long.
    pub fn check_texts(&self) -> Checked {
        match self {
            Self::RegisterBroker(register) => check_broker(register),
            Self::CreateTopic(create) => check_configs(create),
            Self::CommitOffsets(commit) => check_offsets(commit),
            Self::PutGroup(put) => check_group(put),
            Self::FenceBroker(_)
            | Self::DrainBroker(_)
            | Self::CommitObjects(_)
            | Self::AbandonObject(_)
            | Self::DeleteTopic(_)
            | Self::CreatePartitions(_)
            | Self::AllocateProducerIds(_)
            | Self::Tick
            | Self::ForgetObjects(_)
            | Self::AcceptLoss
            | Self::ExpireGroups { .. }
            | Self::ExpireProducers { .. }
            | Self::StepTime(_)
            | Self::RaiseFeatureLevel { .. } => Ok(()),
        }
    }
}

fn check_broker(register: &RegisterBroker) -> Checked {
    let BrokerProfile { az, endpoints, internal, software } = &*register.profile;
    check("the availability zone", az.0.len(), AZ_BYTES_MAX)?;
    check("the host for other nodes", internal.host.len(), HOST_BYTES_MAX)?;
    check("the software version", software.len(), SOFTWARE_BYTES_MAX)?;
    let mut bytes = 0;
    for Endpoint { listener, address } in endpoints.iter() {
        check("the advertised host", address.host.len(), HOST_BYTES_MAX)?;
        bytes += listener.len() + address.host.len() + size_of_val(&address.port);
    }
    check("the endpoints of a broker", bytes, ENDPOINTS_BYTES_MAX)
}

fn check_configs(create: &CreateTopic) -> Checked {
    let mut bytes = 0;
    for (name, value) in &create.configs {
        check("the value of a topic config", value.len(), CONFIG_VALUE_BYTES_MAX)?;
        bytes += name.len() + value.len();
    }
    check("the configs of a topic", bytes, CONFIGS_BYTES_MAX)
}

fn check_offsets(commit: &CommitOffsets) -> Checked {
    check_group_id(commit.group.as_str())?;
    let mut metadata = commit.offsets.iter().map(|(_, offset)| offset.metadata.len());
    metadata.try_for_each(|bytes| check("offset metadata", bytes, OFFSET_METADATA_BYTES_MAX))
}

fn check_group(put: &PutGroup) -> Checked {
    check_group_id(put.group.as_str())?;
    let GroupMetadata { generation: _, protocol_type, protocol, leader, members } = &put.metadata;
    check_group_text("the protocol type", protocol_type)?;
    check_group_text("the protocol", protocol.as_deref().unwrap_or_default())?;
    check_group_text("the leader's member id", leader.as_deref().unwrap_or_default())?;
    members.iter().try_for_each(check_member)
}

/// Metadata and assignment of members are no texts: the length of the command bounds them.
fn check_member(member: &GroupMember) -> Checked {
    check_group_text("a member id", &member.member_id)?;
    check_group_text("an instance id", member.instance_id.as_deref().unwrap_or_default())?;
    check_group_text("a client id", &member.client_id)?;
    check_group_text("a client's host", &member.client_host)?;
    member.protocols.iter().try_for_each(|(name, _)| check_group_text("a protocol", name))
}

fn check_group_id(id: &str) -> Checked {
    check("the group id", id.len(), GROUP_ID_BYTES_MAX)
}

fn check_group_text(what: &'static str, text: &str) -> Checked {
    check(what, text.len(), GROUP_TEXT_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ottla_model::{
        Az, BrokerAuthor, BrokerEpoch, BrokerId, GroupId, HostPort, Offset, PartitionId,
        PartitionIndex, ProcessNonce, TopicId, TopicName,
    };

    use super::*;
    use crate::command::{CommittedOffset, GroupKind};

    const AUTHOR: BrokerAuthor = BrokerAuthor { broker: BrokerId(1), epoch: BrokerEpoch(1) };

    /// The text of a command that is set to some length.
    type Slot = fn(usize) -> CommandBody;

    fn text(bytes: usize) -> Arc<str> {
        "x".repeat(bytes).into()
    }

    fn register(change: impl FnOnce(&mut BrokerProfile)) -> CommandBody {
        let mut profile = BrokerProfile::default();
        change(&mut profile);
        let (broker, nonce) = (BrokerId(1), ProcessNonce(1));
        CommandBody::RegisterBroker(RegisterBroker { broker, nonce, profile: profile.into() })
    }

    /// Each with a listener's name and a host of these lengths.
    fn endpoints(lengths: &[(usize, usize)]) -> Arc<[Endpoint]> {
        let endpoint = |(listener, host): &(usize, usize)| Endpoint {
            listener: text(*listener).to_string(),
            address: HostPort::new(&*text(*host), 9092),
        };
        lengths.iter().map(endpoint).collect()
    }

    fn create(values: &[usize]) -> CommandBody {
        let config = |(at, bytes): (usize, &usize)| (at.to_string(), text(*bytes).to_string());
        CommandBody::CreateTopic(CreateTopic {
            id: TopicId(1),
            name: TopicName::new("t").unwrap(),
            partitions: 1,
            replication_factor: 1,
            configs: values.iter().enumerate().map(config).collect(),
        })
    }

    fn commit(group: usize, metadata: usize) -> CommandBody {
        let partition = PartitionId { topic: TopicId(1), index: PartitionIndex(0) };
        let offset =
            CommittedOffset { offset: Offset(1), leader_epoch: 0, metadata: text(metadata) };
        let group = GroupId(text(group));
        let offsets = vec![(partition, offset)];
        CommandBody::CommitOffsets(CommitOffsets { author: AUTHOR, group, offsets })
    }

    fn put(change: impl FnOnce(&mut PutGroup, &mut GroupMember)) -> CommandBody {
        let mut member = GroupMember {
            member_id: text(1),
            instance_id: None,
            client_id: text(1),
            client_host: text(1),
            session_timeout_ms: 1,
            rebalance_timeout_ms: 1,
            protocols: vec![],
            assignment: Default::default(),
        };
        let metadata = GroupMetadata {
            generation: 1,
            protocol_type: text(1),
            protocol: None,
            leader: None,
            members: vec![],
        };
        let mut put = PutGroup {
            author: AUTHOR,
            group: GroupId(text(1)),
            kind: GroupKind::Classic,
            metadata,
        };
        change(&mut put, &mut member);
        put.metadata.members.push(member);
        CommandBody::PutGroup(put)
    }

    #[test]
    fn every_text_is_kept_up_to_its_limit_and_refused_above() {
        let slots: &[(usize, Slot)] = &[
            (AZ_BYTES_MAX, |n| register(|profile| profile.az = Az(text(n).to_string()))),
            (HOST_BYTES_MAX, |n| register(|profile| profile.endpoints = endpoints(&[(1, n)]))),
            (HOST_BYTES_MAX, |n| register(|profile| profile.internal.host = text(n).to_string())),
            (SOFTWARE_BYTES_MAX, |n| register(|profile| profile.software = text(n).to_string())),
            (ENDPOINTS_BYTES_MAX, |n| {
                register(|profile| profile.endpoints = endpoints(&[(9, 10), (n - 33, 10)]))
            }),
            (CONFIG_VALUE_BYTES_MAX, |n| create(&[n])),
            (CONFIGS_BYTES_MAX, |n| create(&[4_000, 4_000, n - 8_003])),
            (GROUP_ID_BYTES_MAX, |n| commit(n, 1)),
            (OFFSET_METADATA_BYTES_MAX, |n| commit(1, n)),
            (GROUP_ID_BYTES_MAX, |n| put(|put, _| put.group = GroupId(text(n)))),
            (GROUP_TEXT_BYTES_MAX, |n| put(|put, _| put.metadata.protocol_type = text(n))),
            (GROUP_TEXT_BYTES_MAX, |n| put(|put, _| put.metadata.protocol = Some(text(n)))),
            (GROUP_TEXT_BYTES_MAX, |n| put(|put, _| put.metadata.leader = Some(text(n)))),
            (GROUP_TEXT_BYTES_MAX, |n| put(|_, member| member.member_id = text(n))),
            (GROUP_TEXT_BYTES_MAX, |n| put(|_, member| member.instance_id = Some(text(n)))),
            (GROUP_TEXT_BYTES_MAX, |n| put(|_, member| member.client_id = text(n))),
            (GROUP_TEXT_BYTES_MAX, |n| put(|_, member| member.client_host = text(n))),
            (GROUP_TEXT_BYTES_MAX, |n| {
                put(|_, member| member.protocols = vec![(text(n), Default::default())])
            }),
        ];
        for (at, (max, slot)) in slots.iter().enumerate() {
            assert_eq!(slot(*max).check_texts(), Ok(()), "text {at}");
            let error = slot(max + 1).check_texts().unwrap_err();
            assert_eq!((error.bytes, error.max), (max + 1, *max), "text {at}");
        }
    }
}
