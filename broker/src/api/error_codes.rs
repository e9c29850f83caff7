//! Where each answer has its error codes, for the metrics.

use kafka_protocol::messages::{
    ApiVersionsResponse, CreatePartitionsResponse, CreateTopicsResponse, DeleteTopicsResponse,
    DescribeClusterResponse, FindCoordinatorResponse, HeartbeatResponse, InitProducerIdResponse,
    JoinGroupResponse, LeaveGroupResponse, ListOffsetsResponse, MetadataResponse,
    OffsetCommitResponse, OffsetFetchResponse, OffsetForLeaderEpochResponse, ProduceResponse,
    SaslAuthenticateResponse, SaslHandshakeResponse, SyncGroupResponse,
};
use ottla_wire::fetch_response::FetchResponse;

/// An answer with error codes in it.
pub(crate) trait Errors {
    /// Calls `seen` with every code of the answer, 0 included.
    fn errors(&self, seen: &mut dyn FnMut(i16));
}

/// Answers with a single code.
macro_rules! one_code {
    ($($response:ty),+ $(,)?) => {
        $(impl Errors for $response {
            fn errors(&self, seen: &mut dyn FnMut(i16)) {
                seen(self.error_code);
            }
        })+
    };
}

one_code!(
    ApiVersionsResponse,
    DescribeClusterResponse,
    HeartbeatResponse,
    InitProducerIdResponse,
    JoinGroupResponse,
    SaslAuthenticateResponse,
    SaslHandshakeResponse,
    SyncGroupResponse,
);

/// Answers with a code per element of one list.
macro_rules! one_list {
    ($($response:ty: $list:ident),+ $(,)?) => {
        $(impl Errors for $response {
            fn errors(&self, seen: &mut dyn FnMut(i16)) {
                self.$list.iter().for_each(|element| seen(element.error_code));
            }
        })+
    };
}

one_list!(
    CreatePartitionsResponse: results,
    CreateTopicsResponse: topics,
    DeleteTopicsResponse: responses,
);

/// Answers with a code per partition.
macro_rules! partitions {
    ($($response:ty: $topics:ident . $partitions:ident),+ $(,)?) => {
        $(impl Errors for $response {
            fn errors(&self, seen: &mut dyn FnMut(i16)) {
                let partitions = self.$topics.iter().flat_map(|topic| &topic.$partitions);
                partitions.for_each(|partition| seen(partition.error_code));
            }
        })+
    };
}

partitions!(
    ListOffsetsResponse: topics.partitions,
    OffsetCommitResponse: topics.partitions,
    OffsetForLeaderEpochResponse: topics.partitions,
    ProduceResponse: responses.partition_responses,
);

impl Errors for FetchResponse {
    fn errors(&self, seen: &mut dyn FnMut(i16)) {
        seen(self.error_code);
        let partitions = self.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.for_each(|partition| seen(partition.error_code));
    }
}

impl Errors for MetadataResponse {
    fn errors(&self, seen: &mut dyn FnMut(i16)) {
        seen(self.error_code);
        for topic in &self.topics {
            seen(topic.error_code);
            topic.partitions.iter().for_each(|partition| seen(partition.error_code));
        }
    }
}

impl Errors for FindCoordinatorResponse {
    fn errors(&self, seen: &mut dyn FnMut(i16)) {
        seen(self.error_code);
        self.coordinators.iter().for_each(|coordinator| seen(coordinator.error_code));
    }
}

impl Errors for LeaveGroupResponse {
    fn errors(&self, seen: &mut dyn FnMut(i16)) {
        seen(self.error_code);
        self.members.iter().for_each(|member| seen(member.error_code));
    }
}

impl Errors for OffsetFetchResponse {
    fn errors(&self, seen: &mut dyn FnMut(i16)) {
        seen(self.error_code);
        let partitions = self.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.for_each(|partition| seen(partition.error_code));
        for group in &self.groups {
            seen(group.error_code);
            let partitions = group.topics.iter().flat_map(|topic| &topic.partitions);
            partitions.for_each(|partition| seen(partition.error_code));
        }
    }
}
