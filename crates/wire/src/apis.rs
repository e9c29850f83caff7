//! The one table of APIs and versions. The dispatcher serves what stands here, ApiVersions
//! advertises it, and the reference page is made from it.
//!
//! Advertised and served differ in one place: librdkafka needs a Produce range that begins at 0,
//! although no version below 3 exists any more (KAFKA-18659). Kafka does the same.

use std::fmt::Write;

use kafka_protocol::messages::ApiKey;

use crate::shape::{Shape, requests};

/// A range of versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The lowest.
    pub min: i16,
    /// The highest.
    pub max: i16,
}

impl Versions {
    /// Whether the range includes `version`.
    pub fn contains(self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

/// An API that is served.
#[derive(Clone, Copy, Debug)]
pub struct Api {
    /// Which.
    pub key: ApiKey,
    /// Its name in Kafka's documentation.
    pub name: &'static str,
    /// The versions that are answered.
    pub served: Versions,
    /// The versions that ApiVersions shows.
    pub advertised: Versions,
    /// Where the request has its counts, in every version.
    pub shape: &'static Shape,
}

const fn api(
    key: ApiKey,
    name: &'static str,
    (min, max): (i16, i16),
    shape: &'static Shape,
) -> Api {
    let versions = Versions { min, max };
    Api { key, name, served: versions, advertised: versions, shape }
}

const PRODUCE: Api = Api {
    advertised: Versions { min: 0, max: 13 },
    ..api(ApiKey::Produce, "Produce", (3, 13), &requests::PRODUCE)
};

/// Every API that is served, by ascending key.
pub const APIS: &[Api] = &[
    PRODUCE,
    api(ApiKey::Fetch, "Fetch", (4, 18), &requests::FETCH),
    api(ApiKey::ListOffsets, "ListOffsets", (1, 10), &requests::LIST_OFFSETS),
    api(ApiKey::Metadata, "Metadata", (0, 13), &requests::METADATA),
    api(ApiKey::OffsetCommit, "OffsetCommit", (2, 9), &requests::OFFSET_COMMIT),
    api(ApiKey::OffsetFetch, "OffsetFetch", (1, 9), &requests::OFFSET_FETCH),
    api(ApiKey::FindCoordinator, "FindCoordinator", (0, 6), &requests::FIND_COORDINATOR),
    api(ApiKey::JoinGroup, "JoinGroup", (0, 9), &requests::JOIN_GROUP),
    api(ApiKey::Heartbeat, "Heartbeat", (0, 4), &requests::HEARTBEAT),
    api(ApiKey::LeaveGroup, "LeaveGroup", (0, 5), &requests::LEAVE_GROUP),
    api(ApiKey::SyncGroup, "SyncGroup", (0, 5), &requests::SYNC_GROUP),
    api(ApiKey::SaslHandshake, "SaslHandshake", (0, 1), &requests::SASL_HANDSHAKE),
    api(ApiKey::ApiVersions, "ApiVersions", (0, 4), &requests::API_VERSIONS),
    api(ApiKey::CreateTopics, "CreateTopics", (2, 7), &requests::CREATE_TOPICS),
    api(ApiKey::DeleteTopics, "DeleteTopics", (1, 6), &requests::DELETE_TOPICS),
    api(ApiKey::InitProducerId, "InitProducerId", (0, 5), &requests::INIT_PRODUCER_ID),
    api(
        ApiKey::OffsetForLeaderEpoch,
        "OffsetForLeaderEpoch",
        (2, 4),
        &requests::OFFSET_FOR_LEADER_EPOCH,
    ),
    api(ApiKey::SaslAuthenticate, "SaslAuthenticate", (0, 2), &requests::SASL_AUTHENTICATE),
    api(ApiKey::CreatePartitions, "CreatePartitions", (0, 3), &requests::CREATE_PARTITIONS),
    api(ApiKey::DescribeCluster, "DescribeCluster", (0, 2), &requests::DESCRIBE_CLUSTER),
];

impl Api {
    /// The API with this key; `None` when it is not served in any version.
    pub fn find(key: i16) -> Option<&'static Api> {
        APIS.iter().find(|api| api.key as i16 == key)
    }

    /// Whether this version's request header has tagged fields.
    pub fn request_is_flexible(&self, version: i16) -> bool {
        self.key.request_header_version(version) >= 2
    }

    /// Whether this version's response header has tagged fields.
    pub fn response_is_flexible(&self, version: i16) -> bool {
        self.key.response_header_version(version) >= 1
    }
}

/// The reference page: a table in Markdown.
pub fn reference_page() -> String {
    let mut page = String::from(
        "# Kafka APIs and versions\n\n\
         Generated from the table that the broker serves by. An API or version that is not listed \
         closes the connection, as in Kafka; only ApiVersions is always answered.\n\n\
         | Key | API | Versions |\n| ---: | --- | --- |\n",
    );
    for api in APIS {
        let Versions { min, max } = api.served;
        let note = if api.advertised == api.served {
            String::new()
        } else {
            format!(" (advertised from {}, for librdkafka)", api.advertised.min)
        };
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| {} | {} | {min}–{max}{note} |", api.key as i16, api.name);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_within_what_the_codec_knows() {
        assert!(APIS.windows(2).all(|pair| (pair[0].key as i16) < (pair[1].key as i16)));
        for api in APIS {
            let known = api.key.valid_versions();
            assert!(known.min <= api.served.min && api.served.max <= known.max, "{}", api.name);
            assert!(api.served.min <= api.served.max, "{}", api.name);
            assert_eq!(api.served.max, api.advertised.max, "{}", api.name);
            assert_eq!(format!("{:?}", api.key), api.name);
        }
    }

    #[test]
    fn the_page_names_every_api() {
        let page = reference_page();
        for api in APIS {
            assert!(page.contains(&format!("| {} |", api.name)));
        }
    }
}
