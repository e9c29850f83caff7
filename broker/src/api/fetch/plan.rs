//! What a fetch keeps of its request besides the partitions that it reads: who is asked about, in which
//! order, and which partitions get an error instead. Nothing of it is a slice of the request's frame.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError as Kafka;
use kafka_protocol::messages::fetch_request::{
    FetchPartition as Wanted, FetchTopic as WantedTopic,
};
use ottla_control_api::PartitionBounds;
use ottla_control_api::view::TopicInfo;
use ottla_model::Offset;
use ottla_storage::read::{FetchPartition, FetchPartitions, FetchedPartition};
use ottla_wire::fetch_response::{FetchTopic, FetchedPartition as PartitionResponse};

use crate::context::Context;
use crate::errors::{self, NamedBy};
use crate::{limits, topics};

/// The frame's header and the fields of a whole answer.
const ANSWER_FIELDS_BYTES: usize = 32;
/// The fields of a topic in an answer without its name: an id, two lengths, tagged fields.
const TOPIC_FIELDS_BYTES: usize = 28;
/// The fields of a partition in an answer without its records.
const PARTITION_FIELDS_BYTES: usize = 48;

/// Whom a request asks about, in its own order.
#[derive(Default)]
pub(super) struct Plan {
    topics: Vec<PlannedTopic>,
    /// Partitions that are not read: place in the request, number, reason. In order of place.
    refused: Vec<(usize, i32, Kafka)>,
}

struct PlannedTopic {
    name: TopicName,
    /// How many of the request's partitions it has.
    partitions: u32,
}

enum TopicName {
    Known(Arc<TopicInfo>),
    /// As the request has it, name or id.
    Unknown(Box<(Bytes, u128)>),
}

impl Plan {
    /// The plan, and the partitions that are to be read.
    pub fn of(
        context: &Context,
        named_by: NamedBy,
        wanted: &[WantedTopic],
    ) -> (Self, FetchPartitions) {
        let (mut plan, mut partitions) = (Self::default(), FetchPartitions::default());
        plan.topics.reserve_exact(wanted.len());
        let mut place = 0;
        for wanted in wanted {
            let topic = match named_by {
                NamedBy::Id => topics::by_id(&context.view, wanted.topic_id),
                NamedBy::Name => topics::by_name(&context.view, &wanted.topic),
            };
            for partition in &wanted.partitions {
                let read = topic.as_ref().map_err(|error| *error);
                match read.and_then(|topic| to_read(topic, partition)) {
                    Ok(read) => partitions.push(read),
                    Err(error) => plan.refused.push((place, partition.partition, error)),
                }
                place += 1;
            }
            let name = match topic {
                Ok(topic) => TopicName::Known(topic),
                Err(_) => {
                    let name = Bytes::copy_from_slice(wanted.topic.as_bytes());
                    TopicName::Unknown(Box::new((name, wanted.topic_id.as_u128())))
                }
            };
            // Bounded by the elements that a request may have.
            plan.topics.push(PlannedTopic { name, partitions: wanted.partitions.len() as u32 });
        }
        partitions.shrink_to_fit();
        (plan, partitions)
    }

    /// Whether a partition gets an error whatever is read.
    pub fn has_errors(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Bytes in memory, with the partitions that are read.
    pub fn bytes(&self, partitions: &FetchPartitions) -> usize {
        let unknown = self.topics.iter().map(|topic| match &topic.name {
            TopicName::Known(_) => 0,
            TopicName::Unknown(name) => size_of::<(Bytes, u128)>() + name.0.len(),
        });
        partitions.waiting_bytes()
            + self.topics.capacity() * size_of::<PlannedTopic>()
            + unknown.sum::<usize>()
            + self.refused.capacity() * size_of::<(usize, i32, Kafka)>()
    }

    /// Bytes of the answer besides records, not less: encoded, and as a structure when that is large.
    pub fn answer_bytes(&self) -> usize {
        let (mut encoded, mut structure) = (ANSWER_FIELDS_BYTES, 0);
        for topic in &self.topics {
            let partitions = topic.partitions as usize;
            let name = match &topic.name {
                TopicName::Known(topic) => topic.name.as_str().len(),
                TopicName::Unknown(name) => name.0.len(),
            };
            encoded += TOPIC_FIELDS_BYTES + name + partitions * PARTITION_FIELDS_BYTES;
            // Names that are long are unknown ones, and moved from the plan.
            structure += size_of::<FetchTopic>() + partitions * size_of::<PartitionResponse>();
        }
        encoded + limits::counted_structure(structure)
    }

    /// The topics of the answer. `wanted` are the partitions that were read, `fetched` what they brought.
    pub fn answer(
        self,
        wanted: &FetchPartitions,
        fetched: Vec<FetchedPartition>,
        named_by: NamedBy,
    ) -> Vec<FetchTopic> {
        let mut refused = self.refused.into_iter().peekable();
        let mut fetched = wanted.iter().map(|wanted| wanted.partition.index.0).zip(fetched);
        let mut place = 0;
        let topics = self.topics.into_iter().map(|topic| {
            let partitions = (0..topic.partitions).filter_map(|_| {
                let refusal = refused.next_if(|(at, ..)| *at == place);
                place += 1;
                match refusal {
                    Some((_, index, error)) => Some(refused_partition(index, error)),
                    None => fetched
                        .next()
                        .map(|(index, fetched)| partition_response(index, fetched, named_by)),
                }
            });
            let partitions = partitions.collect();
            let (name, id) = match topic.name {
                TopicName::Known(topic) => {
                    (Bytes::copy_from_slice(topic.name.as_str().as_bytes()), topic.id.0)
                }
                TopicName::Unknown(name) => *name,
            };
            FetchTopic { name, id, partitions }
        });
        topics.collect()
    }
}

fn to_read(topic: &TopicInfo, wanted: &Wanted) -> Result<FetchPartition, Kafka> {
    let partition = topics::partition(topic, wanted.partition)?;
    errors::leader_epoch(wanted.current_leader_epoch)?;
    Ok(FetchPartition {
        partition,
        offset: Offset(wanted.fetch_offset),
        max_bytes: usize::try_from(wanted.partition_max_bytes).unwrap_or(0),
    })
}

fn refused_partition(index: i32, error: Kafka) -> PartitionResponse {
    PartitionResponse {
        index,
        error_code: error.code(),
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        records: Vec::new(),
    }
}

fn partition_response(
    index: i32,
    fetched: FetchedPartition,
    named_by: NamedBy,
) -> PartitionResponse {
    let error = fetched.error.as_ref().map(|error| errors::read(error, named_by));
    if let Some(error) = error
        && fetched.bounds == PartitionBounds::default()
        && error != Kafka::OffsetOutOfRange
    {
        return refused_partition(index, error);
    }
    PartitionResponse {
        index,
        error_code: error.map_or(0, |error| error.code()),
        high_watermark: fetched.bounds.high_watermark.0,
        last_stable_offset: fetched.bounds.last_stable.0,
        log_start_offset: fetched.bounds.log_start.0,
        records: fetched.records.pieces,
    }
}

#[cfg(test)]
mod tests {
    use ottla_wire::fetch_response::{self, FetchResponse};

    use super::*;

    #[test]
    fn an_answer_takes_no_more_than_is_reserved_for_it() {
        let plan = |topics: usize, partitions: u32| {
            let name = |n: usize| TopicName::Unknown(Box::new((vec![7; n % 300].into(), 7)));
            let topics = (0..topics).map(|n| PlannedTopic { name: name(n), partitions });
            let refused = |at| (at, 7, Kafka::UnknownTopicOrPartition);
            let topics: Vec<_> = topics.collect();
            let refused = (0..topics.len() * partitions as usize).map(refused).collect();
            Plan { topics, refused }
        };
        for (topics, partitions) in [(0, 0), (1, 1), (1, 1_000), (1_000, 1), (300, 30)] {
            let reserved = plan(topics, partitions).answer_bytes();
            let none = FetchPartitions::default();
            let topics = plan(topics, partitions).answer(&none, Vec::new(), NamedBy::Name);
            let response = FetchResponse { topics, ..FetchResponse::default() };
            for version in fetch_response::VERSION_MIN..=fetch_response::VERSION_MAX {
                let encoded: usize = response.encode(version).iter().map(Bytes::len).sum();
                assert!(encoded + 9 <= reserved, "{encoded} of {reserved} in version {version}");
            }
        }
    }
}
