//! Small values with the fields that tests care about; the rest is the same for all.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_control_api::view::{Extent, ObjectRef, TopicInfo};
use ottla_control_api::{BrokerInfo, PartitionBounds};
use ottla_model::{
    Attempt, Az, BrokerAuthor, BrokerEpoch, BrokerId, BrokerProfile, BytePosition, Endpoint,
    HostPort, ObjectId, ObjectName, ObjectSeq, Offset, ProcessNonce, TimestampMs, TopicId,
    TopicName,
};

/// A topic without configs.
///
/// # Panics
///
/// When the name is no legal one.
#[must_use]
pub fn topic(id: u128, name: &str, partitions: i32) -> Arc<TopicInfo> {
    Arc::new(TopicInfo {
        id: TopicId(id),
        name: TopicName::new(name).expect("a legal name"),
        partitions,
        replication_factor: 1,
        configs: BTreeMap::new(),
    })
}

/// The listener that test brokers have: Kafka's name for one without TLS.
pub const LISTENER: &str = "PLAINTEXT";

/// A broker in its first run, which stays.
#[must_use]
pub fn broker(id: i32, az: &str) -> BrokerInfo {
    let address = HostPort::new("localhost", 9092);
    let profile = BrokerProfile {
        az: Az(az.to_owned()),
        endpoints: [Endpoint { listener: LISTENER.to_owned(), address }].into(),
        ..BrokerProfile::default()
    };
    BrokerInfo {
        author: BrokerAuthor { broker: BrokerId(id), epoch: BrokerEpoch(1) },
        profile: profile.into(),
        draining: false,
    }
}

/// The bounds of a partition without open transactions.
#[must_use]
pub fn bounds(log_start: i64, high_watermark: i64) -> PartitionBounds {
    PartitionBounds {
        log_start: Offset(log_start),
        high_watermark: Offset(high_watermark),
        last_stable: Offset(high_watermark),
    }
}

/// The name of the test writer's object `seq`.
#[must_use]
pub fn object_name(seq: u64) -> ObjectName {
    ObjectName {
        author: BrokerAuthor { broker: BrokerId(1), epoch: BrokerEpoch(1) },
        nonce: ProcessNonce(7),
        seq: ObjectSeq(seq),
        attempt: Attempt(0),
    }
}

/// An extent without timestamps at the end of the test writer's object `seq`.
#[must_use]
pub fn extent(base: i64, last: i64, position: u64, length: u64, seq: u64) -> Arc<Extent> {
    Arc::new(Extent {
        base_offset: Offset(base),
        last_offset: Offset(last),
        position: BytePosition(position),
        length,
        max_timestamp: TimestampMs::NONE,
        append_time: None,
        object: Arc::new(ObjectRef {
            id: ObjectId(seq),
            name: object_name(seq),
            size: position + length,
        }),
    })
}
