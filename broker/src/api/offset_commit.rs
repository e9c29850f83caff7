//! OffsetCommit (key 8), versions 2–9: a group's places in partitions are stored.
//!
//! Answered when the offsets are stored in the control plane. Members commit under their
//! generation; clients without group membership (and operators) under none, while the group has no
//! members. A partition that does not exist, or whose text is too long, fails alone. The retention
//! time of old versions is ignored, as in Kafka.
//!
//! - 3: throttle time
//! - 5: no retention time
//! - 6: leader epoch, stored and given back (KIP-320)
//! - 7: instance id: static membership (KIP-345)
//! - 8: flexible
//! - 9: an unknown group is answered GROUP_ID_NOT_FOUND (KIP-848)
//!
//! Source: `OffsetCommitRequest.json`, `OffsetMetadataManager.commitOffset`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::ResponseError as Kafka;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use ottla_control_api::view::TopicInfo;
use ottla_format::command::CommittedOffset;
use ottla_model::{GroupId, Offset, PartitionId, PartitionIndex, TopicName};

use super::text::{optional_text, text};
use crate::context::{ConnectionInfo, Context};
use crate::errors::{self, NamedBy};
use crate::group::{Commit, Groups, limits::OFFSET_METADATA_LENGTH_MAX};

/// From this version on clients know the answer "no such group".
const GROUP_NOT_FOUND: i16 = 9;

/// Answers a request; waits until the offsets are stored.
pub async fn handle(
    context: &Context,
    _connection: &ConnectionInfo,
    version: i16,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let topic = |name: &TopicName| context.view.topic_by_name(name);
    answer(&context.groups, topic, version, request).await
}

pub(super) async fn answer(
    groups: &Groups,
    topic: impl Fn(&TopicName) -> Option<Arc<TopicInfo>>,
    version: i16,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let group = GroupId(text(&request.group_id.0));
    let plan: Vec<_> = request.topics.iter().map(|named| TopicPlan::new(named, &topic)).collect();
    let offsets: BTreeMap<_, _> =
        plan.iter().flat_map(|topic| topic.accepted()).map(|(id, o)| (id, o.clone())).collect();
    let outcome = if offsets.is_empty() {
        Ok(Vec::new())
    } else {
        let commit = Commit {
            member_id: text(&request.member_id),
            instance_id: optional_text(&request.group_instance_id),
            generation: request.generation_id_or_member_epoch,
            knows_group_not_found: version >= GROUP_NOT_FOUND,
            offsets,
        };
        groups.commit(&group, commit).await
    };
    let outcome =
        outcome.map(|missing| missing.into_iter().collect::<BTreeSet<_>>()).map_err(errors::group);
    let topics = request.topics.into_iter().zip(plan);
    let topics = topics.map(|(named, plan)| plan.response(named, &outcome)).collect();
    OffsetCommitResponse::default().with_topics(topics)
}

/// What to do about each partition of one topic of the request, in its order.
struct TopicPlan(Vec<Result<(PartitionId, CommittedOffset), Kafka>>);

impl TopicPlan {
    fn new(
        named: &OffsetCommitRequestTopic,
        topic: impl Fn(&TopicName) -> Option<Arc<TopicInfo>>,
    ) -> Self {
        let known = TopicName::new(named.name.0.as_str()).ok().and_then(|name| topic(&name));
        let plan = |partition: &OffsetCommitRequestPartition| {
            let index = partition.partition_index;
            let topic = known.as_ref().filter(|topic| (0..topic.partitions).contains(&index));
            let Some(topic) = topic else { return Err(errors::unknown_topic(NamedBy::Name)) };
            let metadata = optional_text(&partition.committed_metadata).unwrap_or_default();
            // Counted as Kafka does, in UTF-16 units.
            if metadata.encode_utf16().count() > OFFSET_METADATA_LENGTH_MAX {
                return Err(Kafka::OffsetMetadataTooLarge);
            }
            let id = PartitionId { topic: topic.id, index: PartitionIndex(index) };
            let offset = CommittedOffset {
                offset: Offset(partition.committed_offset),
                leader_epoch: partition.committed_leader_epoch,
                metadata,
            };
            Ok((id, offset))
        };
        Self(named.partitions.iter().map(plan).collect())
    }

    fn accepted(&self) -> impl Iterator<Item = (PartitionId, &CommittedOffset)> {
        self.0.iter().flatten().map(|(id, offset)| (*id, offset))
    }

    fn response(
        self,
        named: OffsetCommitRequestTopic,
        outcome: &Result<BTreeSet<PartitionId>, Kafka>,
    ) -> OffsetCommitResponseTopic {
        let unknown = errors::unknown_topic(NamedBy::Name).code();
        let code_of = |planned: Result<&(PartitionId, _), &Kafka>| match (planned, outcome) {
            (Err(error), _) | (Ok(_), Err(error)) => error.code(),
            (Ok((id, _)), Ok(missing)) if missing.contains(id) => unknown,
            (Ok(_), Ok(_)) => 0,
        };
        let partitions = named.partitions.iter().zip(&self.0).map(|(partition, planned)| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code_of(planned.as_ref()))
        });
        let partitions = partitions.collect();
        OffsetCommitResponseTopic::default().with_name(named.name).with_partitions(partitions)
    }
}
