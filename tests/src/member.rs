//! A group's only member, on a raw connection.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, OffsetCommitRequest,
    SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;
use ottla_env::delay;

use crate::raw::{RawClient, topic_name, version};

/// How often a coordinator is asked for, a tenth of a second apart.
const TRIES: usize = 100;

/// Kafka's MEMBER_ID_REQUIRED: join again with the id that came with it.
const MEMBER_ID_REQUIRED: i16 = 79;

/// What a member knows of itself.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its group.
    pub group: GroupId,
    /// Its id.
    pub id: StrBytes,
    /// The generation it is part of.
    pub generation: i32,
}

/// The id of the group of this name.
pub fn group_id(name: &'static str) -> GroupId {
    GroupId(StrBytes::from_static_str(name))
}

/// Waits until the group has a coordinator, and goes on with that connection: there is one broker.
pub async fn coordinator(client: &mut RawClient, group: &'static str) -> Result<()> {
    let request = FindCoordinatorRequest::default().with_key(StrBytes::from_static_str(group));
    for _ in 0..TRIES {
        if client.call(version::FIND_COORDINATOR, &request).await?.error_code == 0 {
            return Ok(());
        }
        delay(Duration::from_millis(100)).await;
    }
    bail!("no coordinator of {group}")
}

impl Member {
    /// Joins as the only member, and assigns itself something.
    pub async fn join(client: &mut RawClient, group: &'static str) -> Result<Self> {
        Self::join_for(client, group, Duration::from_secs(30)).await
    }

    /// The same, with a session of this length.
    pub async fn join_for(
        client: &mut RawClient,
        group: &'static str,
        session: Duration,
    ) -> Result<Self> {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(StrBytes::from_static_str("range"))
            .with_metadata(Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
        let mut request = JoinGroupRequest::default()
            .with_group_id(group_id(group))
            .with_session_timeout_ms(session.as_millis().try_into()?)
            .with_rebalance_timeout_ms(30_000)
            .with_protocol_type(StrBytes::from_static_str("consumer"))
            .with_protocols(vec![protocol]);
        let mut answer = client.call(version::JOIN_GROUP, &request).await?;
        if answer.error_code == MEMBER_ID_REQUIRED {
            request.member_id = answer.member_id;
            answer = client.call(version::JOIN_GROUP, &request).await?;
        }
        ensure!(answer.error_code == 0, "join: error {}", answer.error_code);
        let (id, generation) = (answer.member_id, answer.generation_id);
        let assignment = SyncGroupRequestAssignment::default()
            .with_member_id(id.clone())
            .with_assignment(Bytes::from_static(b"anything"));
        let sync = SyncGroupRequest::default()
            .with_group_id(group_id(group))
            .with_generation_id(generation)
            .with_member_id(id.clone())
            .with_protocol_type(Some(StrBytes::from_static_str("consumer")))
            .with_protocol_name(Some(StrBytes::from_static_str("range")))
            .with_assignments(vec![assignment]);
        let synced = client.call(version::SYNC_GROUP, &sync).await?;
        ensure!(synced.error_code == 0, "sync: error {}", synced.error_code);
        let assigned = &synced.assignment;
        ensure!(&assigned[..] == b"anything", "another assignment: {assigned:?}");
        Ok(Self { group: group_id(group), id, generation })
    }

    /// Commits an offset of a topic's first partition.
    pub async fn commit(&self, client: &mut RawClient, topic: &str, offset: i64) -> Result<()> {
        client.send(version::OFFSET_COMMIT, &self.commit_request(topic, offset)).await?;
        self.committed(client).await
    }

    /// What [`Member::commit`] sends.
    pub fn commit_request(&self, topic: &str, offset: i64) -> OffsetCommitRequest {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(0)
            .with_committed_offset(offset);
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![partition]);
        OffsetCommitRequest::default()
            .with_group_id(self.group.clone())
            .with_member_id(self.id.clone())
            .with_generation_id_or_member_epoch(self.generation)
            .with_topics(vec![topic])
    }

    /// Waits until it is answered, without an error.
    pub async fn committed(&self, client: &mut RawClient) -> Result<()> {
        let answer = client.receive::<OffsetCommitRequest>().await?;
        let code = answer.topics.first().and_then(|topic| topic.partitions.first());
        ensure!(code.is_some_and(|partition| partition.error_code == 0), "{answer:?}");
        Ok(())
    }

    /// Tells the coordinator that it lives.
    pub async fn heartbeat(&self, client: &mut RawClient) -> Result<()> {
        let request = HeartbeatRequest::default()
            .with_group_id(self.group.clone())
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone());
        let answer = client.call(version::HEARTBEAT, &request).await?;
        ensure!(answer.error_code == 0, "heartbeat: error {}", answer.error_code);
        Ok(())
    }
}
