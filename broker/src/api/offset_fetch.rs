//! OffsetFetch (key 9), versions 1–9: a group's committed offsets.
//!
//! Read from the control plane each time, current, by whichever broker is asked: a committed offset
//! is never answered "none" (G1). −1 means that there is none. When the offsets cannot be read in
//! time, or belong to topics this broker has not heard of yet, the answer is
//! COORDINATOR_LOAD_IN_PROGRESS, the one error that old and new clients all repeat the request for.
//!
//! All groups of a request are read within the time that one has.
//!
//! Partitions that do not exist have no offset, as in Kafka. `require_stable` is accepted: without
//! transactions every offset is stable. Member id and epoch (version 9) belong to another group
//! protocol and are not looked at.
//!
//! - 2: all partitions of a group; an error for the whole group
//! - 3: throttle time
//! - 5: leader epoch (KIP-320)
//! - 6: flexible
//! - 7: `require_stable` (KIP-447)
//! - 8: many groups in one request (KIP-709)
//! - 9: member id and epoch (KIP-848)
//!
//! Source: `OffsetFetchRequest.json`, `OffsetMetadataManager.fetchOffsets`.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    GroupId as KafkaGroupId, OffsetFetchRequest, OffsetFetchResponse, TopicName as KafkaName,
};
use ottla_control_api::view::TopicInfo;
use ottla_format::command::CommittedOffset;
use ottla_model::{GroupId, PartitionId, PartitionIndex, TopicId, TopicName};
use ottla_storage::write::Reservation;
use tokio::time::Instant;

use super::text::{kafka_text, text};
use crate::context::{ConnectionInfo, Context};
use crate::errors;
use crate::group::limits::LOAD_WAIT;
use crate::group::{GroupError, Groups};

/// From this version on an answer has room for an error of the whole group.
const GROUP_ERROR: i16 = 2;
/// From this version on a request has many groups.
const MANY_GROUPS: i16 = 8;

/// Answers a request.
pub async fn handle(
    context: &Context,
    connection: &ConnectionInfo,
    version: i16,
    request: OffsetFetchRequest,
) -> (OffsetFetchResponse, Option<Reservation>) {
    answer(&context.groups, connection, &*context.view, version, request).await
}

/// The topics this broker knows.
pub(crate) trait Topics {
    /// By its name.
    fn by_name(&self, name: &TopicName) -> Option<Arc<TopicInfo>>;
    /// By its id.
    fn by_id(&self, id: TopicId) -> Option<Arc<TopicInfo>>;
}

impl Topics for ottla_storage::view::View {
    fn by_name(&self, name: &TopicName) -> Option<Arc<TopicInfo>> {
        self.topic_by_name(name)
    }

    fn by_id(&self, id: TopicId) -> Option<Arc<TopicInfo>> {
        self.topic(id)
    }
}

pub(super) async fn answer(
    groups: &Groups,
    connection: &ConnectionInfo,
    topics: &impl Topics,
    version: i16,
    request: OffsetFetchRequest,
) -> (OffsetFetchResponse, Option<Reservation>) {
    let asked = asked_of(version, request);
    let mut held = groups.reserve(connection.share(), asked_bytes(&asked));
    let deadline = Instant::now() + LOAD_WAIT;
    let mut responses = Vec::with_capacity(asked.len());
    for (group, asked) in asked {
        let fetched = match &mut held {
            Some(held) => {
                let fetched = fetch(groups, topics, &group, asked, deadline).await;
                fetched.and_then(|fetched| {
                    // A short request may ask for very many offsets, and for those of many groups.
                    let has_room = held.try_grow(response_bytes(&fetched));
                    if has_room {
                        Ok(fetched)
                    } else {
                        Err((GroupError::Loading, asked_in(fetched)))
                    }
                })
            }
            None => Err((GroupError::Loading, asked.unwrap_or_default())),
        };
        if version < MANY_GROUPS {
            return (single_response(version, fetched), held);
        }
        let group = KafkaGroupId(kafka_text(group.as_str()));
        responses.push(group_response(fetched).with_group_id(group));
    }
    (OffsetFetchResponse::default().with_groups(responses), held)
}

/// Bytes of a group's offsets in the response.
fn response_bytes(fetched: &[Fetched]) -> usize {
    let of_offset = |(_, offset): &(i32, Option<CommittedOffset>)| {
        let metadata = offset.as_ref().map_or(0, |offset| offset.metadata.len());
        size_of::<OffsetFetchResponsePartitions>() + metadata
    };
    let of_topic = |topic: &Fetched| {
        let offsets = topic.partitions.iter().map(of_offset).sum::<usize>();
        size_of::<OffsetFetchResponseTopics>() + topic.name.len() + offsets
    };
    fetched.iter().map(of_topic).sum()
}

/// The partitions again that offsets were fetched for.
fn asked_in(fetched: Vec<Fetched>) -> Vec<Asked> {
    let asked = fetched.into_iter().map(|topic| Asked {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(|(index, _)| index).collect(),
    });
    asked.collect()
}

/// What a client asks for, group by group. The frame is not kept for it.
fn asked_of(version: i16, request: OffsetFetchRequest) -> Vec<(GroupId, Option<Vec<Asked>>)> {
    if version < MANY_GROUPS {
        let asked = request.topics.map(|topics| topics.into_iter().map(Asked::from).collect());
        return vec![(GroupId(text(&request.group_id.0)), asked)];
    }
    let asked = request.groups.into_iter().map(|named| {
        let asked = named.topics.map(|topics| topics.into_iter().map(Asked::from).collect());
        (GroupId(text(&named.group_id.0)), asked)
    });
    asked.collect()
}

/// What is kept of a request while offsets are read.
fn asked_bytes(asked: &[(GroupId, Option<Vec<Asked>>)]) -> usize {
    let of_topic = |topic: &Asked| {
        size_of::<Asked>() + topic.name.len() + topic.partitions.len() * size_of::<i32>()
    };
    let of_group = |(group, topics): &(GroupId, Option<Vec<Asked>>)| {
        let topics = topics.iter().flatten().map(of_topic);
        size_of::<OffsetFetchResponseGroup>() + group.as_str().len() + topics.sum::<usize>()
    };
    asked.iter().map(of_group).sum()
}

/// Partitions of a topic that a client asks for.
struct Asked {
    name: KafkaName,
    partitions: Vec<i32>,
}

impl From<OffsetFetchRequestTopics> for Asked {
    fn from(topic: OffsetFetchRequestTopics) -> Self {
        Self { name: KafkaName(kafka_text(&topic.name)), partitions: topic.partition_indexes }
    }
}

impl From<OffsetFetchRequestTopic> for Asked {
    fn from(topic: OffsetFetchRequestTopic) -> Self {
        Self { name: KafkaName(kafka_text(&topic.name)), partitions: topic.partition_indexes }
    }
}

/// The offsets of one topic, in the order of the request; `None` where there is none.
struct Fetched {
    name: KafkaName,
    partitions: Vec<(i32, Option<CommittedOffset>)>,
}

/// What the client asked for, or everything; or an error, with what was asked for.
async fn fetch(
    groups: &Groups,
    topics: &impl Topics,
    group: &GroupId,
    asked: Option<Vec<Asked>>,
    deadline: Instant,
) -> Result<Vec<Fetched>, (GroupError, Vec<Asked>)> {
    let offsets = match groups.fetch(group, deadline).await {
        Ok(offsets) => offsets,
        Err(error) => return Err((error, asked.unwrap_or_default())),
    };
    let heard_of = |id: &PartitionId| topics.by_id(id.topic).is_some();
    let Some(asked) = asked else {
        if !offsets.keys().all(heard_of) {
            return Err((GroupError::Loading, Vec::new()));
        }
        return Ok(everything(topics, offsets));
    };
    let mut fetched = Vec::with_capacity(asked.len());
    let is_new = |asked: &Asked| known(topics, &asked.name).is_none();
    if asked.iter().any(is_new) && !offsets.keys().all(heard_of) {
        // One of the unknown names may be one of the unknown topics.
        return Err((GroupError::Loading, asked));
    }
    for Asked { name, partitions } in asked {
        let topic = known(topics, &name);
        let find = |index: i32| {
            let id = PartitionId { topic: topic.as_ref()?.id, index: PartitionIndex(index) };
            offsets.get(&id).cloned()
        };
        let partitions = partitions.into_iter().map(|index| (index, find(index))).collect();
        fetched.push(Fetched { name, partitions });
    }
    Ok(fetched)
}

fn known(topics: &impl Topics, name: &KafkaName) -> Option<Arc<TopicInfo>> {
    TopicName::new(name.0.as_str()).ok().and_then(|name| topics.by_name(&name))
}

fn everything(
    topics: &impl Topics,
    offsets: BTreeMap<PartitionId, CommittedOffset>,
) -> Vec<Fetched> {
    let mut by_topic: BTreeMap<TopicId, Vec<(i32, Option<CommittedOffset>)>> = BTreeMap::new();
    for (id, offset) in offsets {
        by_topic.entry(id.topic).or_default().push((id.index.0, Some(offset)));
    }
    let named = |(id, partitions)| {
        let topic = topics.by_id(id)?;
        Some(Fetched { name: KafkaName(kafka_text(topic.name.as_str())), partitions })
    };
    by_topic.into_iter().filter_map(named).collect()
}

fn group_response(
    fetched: Result<Vec<Fetched>, (GroupError, Vec<Asked>)>,
) -> OffsetFetchResponseGroup {
    let topics = match fetched {
        Ok(topics) => topics,
        Err((error, _)) => {
            return OffsetFetchResponseGroup::default()
                .with_error_code(errors::group(error).code());
        }
    };
    let topics = topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|(index, offset)| {
            let (offset, leader_epoch, metadata) = fields(offset);
            OffsetFetchResponsePartitions::default()
                .with_partition_index(index)
                .with_committed_offset(offset)
                .with_committed_leader_epoch(leader_epoch)
                .with_metadata(Some(kafka_text(&metadata)))
        });
        OffsetFetchResponseTopics::default()
            .with_name(topic.name)
            .with_partitions(partitions.collect())
    });
    OffsetFetchResponseGroup::default().with_topics(topics.collect())
}

/// The answer before version 8; version 1 has room for errors at partitions only.
fn single_response(
    version: i16,
    fetched: Result<Vec<Fetched>, (GroupError, Vec<Asked>)>,
) -> OffsetFetchResponse {
    let (code, topics) = match fetched {
        Ok(topics) => (0, topics),
        Err((error, _)) if version >= GROUP_ERROR => {
            return OffsetFetchResponse::default().with_error_code(errors::group(error).code());
        }
        Err((error, asked)) => {
            (errors::group(error).code(), asked.into_iter().map(without_offsets).collect())
        }
    };
    let topics = topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|(index, offset)| {
            let (offset, leader_epoch, metadata) = fields(offset);
            OffsetFetchResponsePartition::default()
                .with_partition_index(index)
                .with_committed_offset(offset)
                .with_committed_leader_epoch(leader_epoch)
                .with_metadata(Some(kafka_text(&metadata)))
                .with_error_code(code)
        });
        OffsetFetchResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(partitions.collect())
    });
    OffsetFetchResponse::default().with_topics(topics.collect())
}

fn without_offsets(asked: Asked) -> Fetched {
    let partitions = asked.partitions.into_iter().map(|index| (index, None)).collect();
    Fetched { name: asked.name, partitions }
}

fn fields(offset: Option<CommittedOffset>) -> (i64, i32, Arc<str>) {
    match offset {
        Some(offset) => (offset.offset.0, offset.leader_epoch, offset.metadata),
        None => (-1, -1, "".into()),
    }
}
