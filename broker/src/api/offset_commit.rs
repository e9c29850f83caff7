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
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse, TopicName as KafkaName};
use ottla_control_api::view::TopicInfo;
use ottla_format::command::CommittedOffset;
use ottla_model::{GroupId, Offset, PartitionId, PartitionIndex, TopicName};

use super::text::{kafka_text, optional_text, text};
use crate::context::{ConnectionInfo, Context};
use crate::errors::{self, NamedBy};
use crate::group::limits::{OFFSET_COMMIT_BYTES_MAX, OFFSET_METADATA_LENGTH_MAX};
use crate::group::{Commit, GroupError, Groups};

/// From this version on clients know the answer "no such group".
const GROUP_NOT_FOUND: i16 = 9;

/// Answers a request; waits until the offsets are stored.
pub async fn handle(
    context: &Context,
    connection: &ConnectionInfo,
    version: i16,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let topic = |name: &TopicName| context.view.topic_by_name(name);
    answer(&context.groups, connection, topic, version, request).await
}

pub(super) async fn answer(
    groups: &Groups,
    connection: &ConnectionInfo,
    topic: impl Fn(&TopicName) -> Option<Arc<TopicInfo>>,
    version: i16,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let group = GroupId(text(&request.group_id.0));
    let answer_bytes = answer_bytes(&request);
    if answer_bytes > OFFSET_COMMIT_BYTES_MAX {
        let too_large = errors::group(GroupError::CommitTooLarge);
        let topics = request.topics.iter().map(|named| TopicPlan::refused(named, too_large));
        return response(topics.collect(), &Ok(BTreeSet::new()));
    }
    let plan: Vec<_> = request.topics.iter().map(|named| TopicPlan::new(named, &topic)).collect();
    let offsets: BTreeMap<_, _> =
        plan.iter().flat_map(|topic| topic.accepted()).map(|(id, o)| (id, o.clone())).collect();
    let commit = Commit {
        member_id: text(&request.member_id),
        instance_id: optional_text(&request.group_instance_id),
        generation: request.generation_id_or_member_epoch,
        knows_group_not_found: version >= GROUP_NOT_FOUND,
        offsets,
        answer_bytes,
        client: connection.share(),
    };
    // The frame is not kept while the offsets are stored.
    drop(request);
    let outcome = if commit.offsets.is_empty() {
        Ok(Vec::new())
    } else {
        groups.commit(&group, commit).await
    };
    let outcome = outcome.map(|missing| missing.into_iter().collect()).map_err(errors::group);
    response(plan, &outcome)
}

/// What is kept to answer a request with.
fn answer_bytes(request: &OffsetCommitRequest) -> usize {
    let of_topic = |topic: &OffsetCommitRequestTopic| {
        let of_partition = |partition: &OffsetCommitRequestPartition| {
            let metadata = partition.committed_metadata.as_ref().map_or(0, |text| text.len());
            size_of::<(i32, PartitionPlan)>() + metadata
        };
        let partitions = topic.partitions.iter().map(of_partition);
        size_of::<TopicPlan>() + topic.name.len() + partitions.sum::<usize>()
    };
    request.topics.iter().map(of_topic).sum()
}

/// Which of the partitions that were accepted do not exist, or the error of all of them.
type Outcome = Result<BTreeSet<PartitionId>, Kafka>;

fn response(plan: Vec<TopicPlan>, outcome: &Outcome) -> OffsetCommitResponse {
    let topics = plan.into_iter().map(|topic| topic.response(outcome)).collect();
    OffsetCommitResponse::default().with_topics(topics)
}

/// What to do about one partition.
type PartitionPlan = Result<(PartitionId, CommittedOffset), Kafka>;

/// What to do about each partition of one topic of the request, in its order.
struct TopicPlan {
    name: KafkaName,
    partitions: Vec<(i32, PartitionPlan)>,
}

impl TopicPlan {
    fn of(
        named: &OffsetCommitRequestTopic,
        plan: impl Fn(&OffsetCommitRequestPartition) -> PartitionPlan,
    ) -> Self {
        let partitions = named.partitions.iter();
        let partitions = partitions.map(|partition| (partition.partition_index, plan(partition)));
        let partitions = partitions.collect();
        Self { name: KafkaName(kafka_text(&named.name)), partitions }
    }

    fn refused(named: &OffsetCommitRequestTopic, error: Kafka) -> Self {
        Self::of(named, |_| Err(error))
    }

    fn new(
        named: &OffsetCommitRequestTopic,
        topic: impl Fn(&TopicName) -> Option<Arc<TopicInfo>>,
    ) -> Self {
        let known = TopicName::new(named.name.0.as_str()).ok().and_then(|name| topic(&name));
        Self::of(named, |partition| {
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
        })
    }

    fn accepted(&self) -> impl Iterator<Item = (PartitionId, &CommittedOffset)> {
        self.partitions.iter().flat_map(|(_, plan)| plan).map(|(id, offset)| (*id, offset))
    }

    fn response(self, outcome: &Outcome) -> OffsetCommitResponseTopic {
        let unknown = errors::unknown_topic(NamedBy::Name).code();
        let code_of = |plan: PartitionPlan| match (plan, outcome) {
            (Err(error), _) => error.code(),
            (Ok(_), Err(error)) => error.code(),
            (Ok((id, _)), Ok(missing)) if missing.contains(&id) => unknown,
            (Ok(_), Ok(_)) => 0,
        };
        let partitions = self.partitions.into_iter().map(|(index, plan)| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code_of(plan))
        });
        let partitions = partitions.collect();
        OffsetCommitResponseTopic::default().with_name(self.name).with_partitions(partitions)
    }
}
