//! Metadata (key 3), versions 0–13.
//!
//! Names the brokers, and for each partition the broker this client should use (see
//! [`crate::placement`]). Every existing topic has a leader: LEADER_NOT_AVAILABLE, which some clients
//! answer with a storm, is never sent. A topic that does not exist is created when the broker and
//! the request allow it, and the answer waits until it exists; of very many that do not exist, the
//! request after this one creates the rest.
//!
//! - v1: all topics by null instead of an empty list; controller id, rack, internal flag.
//! - v2: cluster id. v3: throttle time.
//! - v4: the request says whether topics may be created.
//! - v5: offline replicas. v7: leader epoch (KIP-320).
//! - v8: authorized operations (KIP-430): never computed, as no authorizer exists.
//! - v9: flexible versions. v10: topic ids (KIP-516). v11: cluster operations went to
//!   DescribeCluster. v12: topics by id.
//! - v13: an error for the whole request (KIP-1102), never sent.
//!
//! Sources: Kafka's `MetadataRequest.json`, `KafkaApis.handleTopicMetadataRequest`.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::ResponseError as Kafka;
use kafka_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use kafka_protocol::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, TopicName as WireName};
use kafka_protocol::protocol::StrBytes;
use ottla_control_api::BrokerInfo;
use ottla_control_api::view::TopicInfo;
use ottla_model::{Az, LEADER_EPOCH, PartitionId, PartitionIndex, TopicName};
use tokio::time::Instant;
use uuid::Uuid;

use crate::context::{ConnectionInfo, Context};
use crate::{errors, limits, placement, topics};

/// The topics that a request asks for. They are found, and created, before the answer is made: that
/// may wait for the control plane, and holds no memory of answers meanwhile.
pub struct Found {
    version: i16,
    topics: Vec<FoundTopic>,
}

/// Finds the topics that a request asks for, and creates those that it may.
pub async fn find(context: &Context, version: i16, request: MetadataRequest) -> Found {
    let may_create =
        context.options.auto_create_topics && (version < 4 || request.allow_auto_topic_creation);
    let wants_all = match &request.topics {
        None => true,
        Some(topics) => version == 0 && topics.is_empty(),
    };
    let topics = if wants_all {
        context.view.topics().into_iter().map(FoundTopic::Topic).collect()
    } else {
        find_named(context, request.topics.unwrap_or_default(), may_create).await
    };
    Found { version, topics }
}

impl Found {
    /// Bytes that the answer takes, not less: encoded, and as a structure when that is large.
    pub fn answer_bytes(&self, context: &Context) -> usize {
        let brokers = context.view.brokers();
        let listener = &context.options.listener;
        let text = |broker: &BrokerInfo| {
            let host = broker.profile.endpoint(listener).map_or(0, |address| address.host.len());
            host + broker.profile.az.0.len()
        };
        let texts = brokers.iter().map(text).sum::<usize>();
        let mut encoded = ANSWER_FIELDS_BYTES + brokers.len() * BROKER_FIELDS_BYTES + texts;
        let mut structure = brokers.len() * size_of::<MetadataResponseBroker>() + texts;
        for topic in &self.topics {
            encoded += TOPIC_FIELDS_BYTES;
            structure += size_of::<MetadataResponseTopic>();
            match topic {
                FoundTopic::Topic(topic) => {
                    let replicas = usize::try_from(topic.replication_factor).unwrap_or(1).max(1);
                    // The replicas, and those in sync.
                    let nodes = 2 * replicas.min(brokers.len()) * size_of::<BrokerId>();
                    let partitions = usize::try_from(topic.partitions).unwrap_or(0);
                    let name = topic.name.as_str().len();
                    encoded += name + partitions * (PARTITION_FIELDS_BYTES + nodes);
                    structure +=
                        name + partitions * (size_of::<MetadataResponsePartition>() + nodes);
                }
                // The structure shares the request's string.
                FoundTopic::Missing { name, .. } => {
                    encoded += name.as_ref().map_or(0, |name| name.len());
                }
            }
        }
        encoded + limits::counted_structure(structure)
    }

    /// The answer.
    pub fn answer(self, context: &Context, connection: &ConnectionInfo) -> MetadataResponse {
        let Self { version, topics } = self;
        // After the topics: one that was just created must not miss the broker that serves it.
        let listener = &context.options.listener;
        let brokers = placement::reachable(placement::serving(context.view.brokers()), listener);
        let az = placement::client_az(&connection.client_id, &brokers, &context.options.az);
        let topics = topics.into_iter().map(|found| topic_response(found, version, &az, &brokers));
        MetadataResponse::default()
            .with_topics(topics.collect())
            .with_brokers(brokers.iter().filter_map(|b| broker_response(b, listener)).collect())
            .with_cluster_id(Some(StrBytes::from(context.cluster.to_string())))
            .with_controller_id(BrokerId(controller(&brokers, context)))
    }
}

/// The answer when there is no memory for one: it has no broker, which clients take for a failed update
/// and repeat.
pub fn no_answer_now() -> MetadataResponse {
    MetadataResponse::default()
}

/// Header, throttle time, cluster id, controller, counts: at most so many bytes.
const ANSWER_FIELDS_BYTES: usize = 128;
/// The fields of a broker without its texts.
const BROKER_FIELDS_BYTES: usize = 24;
/// The fields of a topic without its name.
const TOPIC_FIELDS_BYTES: usize = 40;
/// The fields of a partition without its replicas.
const PARTITION_FIELDS_BYTES: usize = 32;

/// A topic that a request asks for.
enum FoundTopic {
    Topic(Arc<TopicInfo>),
    Missing { name: Option<WireName>, id: Uuid, error: Kafka },
}

async fn find_named(
    context: &Context,
    wanted: Vec<MetadataRequestTopic>,
    may_create: bool,
) -> Vec<FoundTopic> {
    let mut found = Vec::with_capacity(wanted.len().min(limits::TOPICS_PER_REQUEST_MAX));
    let mut seen = BTreeSet::new();
    let mut creations = if may_create { limits::TOPICS_PER_REQUEST_MAX } else { 0 };
    let deadline = Instant::now() + limits::REQUEST_WAIT_MAX;
    for topic in wanted {
        if Instant::now() >= deadline {
            // The rest is created by the next request that asks.
            creations = 0;
        }
        // Kafka answers a name that is asked twice once. An id beside a name is not looked at.
        let id = if topic.name.is_some() { Uuid::nil() } else { topic.topic_id };
        if seen.insert((topic.name.clone(), id)) {
            found.push(find_one(context, topic, &mut creations, deadline).await);
        }
    }
    found
}

/// `creations`: how many more topics may be created.
async fn find_one(
    context: &Context,
    wanted: MetadataRequestTopic,
    creations: &mut usize,
    deadline: Instant,
) -> FoundTopic {
    let MetadataRequestTopic { name, topic_id: id, .. } = wanted;
    let missing = |name, error| FoundTopic::Missing { name, id, error };
    let Some(name) = name else {
        return match topics::by_id(&context.view, id) {
            Ok(topic) => FoundTopic::Topic(topic),
            Err(error) => missing(None, error),
        };
    };
    let checked = match TopicName::new(&name) {
        Ok(checked) => checked,
        Err(error) => return missing(Some(name), errors::name(&error).kafka),
    };
    if let Some(topic) = context.view.topic_by_name(&checked) {
        return FoundTopic::Topic(topic);
    }
    let Some(left) = creations.checked_sub(1) else {
        return missing(Some(name), Kafka::UnknownTopicOrPartition);
    };
    *creations = left;
    match topics::create_automatically(context, checked, deadline).await {
        Ok(topic) => FoundTopic::Topic(topic),
        Err(error) => missing(Some(name), error.kafka),
    }
}

fn topic_response(
    found: FoundTopic,
    version: i16,
    az: &Az,
    brokers: &[BrokerInfo],
) -> MetadataResponseTopic {
    match found {
        FoundTopic::Topic(topic) => MetadataResponseTopic::default()
            .with_name(Some(WireName(StrBytes::from(topic.name.as_str().to_owned()))))
            .with_topic_id(Uuid::from_u128(topic.id.0))
            .with_partitions(
                (0..topic.partitions)
                    .map(|index| partition_response(&topic, index, az, brokers))
                    .collect(),
            ),
        FoundTopic::Missing { name, id, error } => {
            // Only version 12 and later have room for "no name".
            let name = if version >= 12 { name } else { Some(name.unwrap_or_default()) };
            MetadataResponseTopic::default()
                .with_error_code(error.code())
                .with_name(name)
                .with_topic_id(id)
        }
    }
}

fn partition_response(
    topic: &TopicInfo,
    index: i32,
    az: &Az,
    brokers: &[BrokerInfo],
) -> MetadataResponsePartition {
    let partition = PartitionId { topic: topic.id, index: PartitionIndex(index) };
    let replicas = placement::replicas(partition, az, topic.replication_factor, brokers);
    let nodes: Vec<BrokerId> = replicas.iter().map(|id| BrokerId(id.0)).collect();
    MetadataResponsePartition::default()
        .with_partition_index(index)
        .with_leader_id(nodes.first().copied().unwrap_or(BrokerId(-1)))
        .with_leader_epoch(LEADER_EPOCH.0)
        .with_isr_nodes(nodes.clone())
        .with_replica_nodes(nodes)
}

/// As clients of a listener see it; `None` when they cannot reach it.
fn broker_response(broker: &BrokerInfo, listener: &str) -> Option<MetadataResponseBroker> {
    let (az, address) = (&broker.profile.az.0, broker.profile.endpoint(listener)?);
    Some(
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(broker.author.broker.0))
            .with_host(StrBytes::from(address.host.clone()))
            .with_port(i32::from(address.port))
            .with_rack((!az.is_empty()).then(|| StrBytes::from(az.clone()))),
    )
}

/// The broker shown as controller: admin requests go there, and any broker can take them. The
/// lowest id, so that every broker says the same.
pub(super) fn controller(brokers: &[BrokerInfo], context: &Context) -> i32 {
    let ids = brokers.iter().map(|broker| broker.author.broker);
    ids.min().unwrap_or(context.options.node_id).0
}
