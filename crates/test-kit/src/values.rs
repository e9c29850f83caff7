//! Small values with the fields that tests care about; the rest is the same for all.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_control_api::view::{Extent, ExtentBytes, ObjectRange, ObjectRef, TopicInfo};
use ottla_control_api::{BrokerInfo, PartitionBounds};
use ottla_model::{
    Attempt, Az, BrokerAuthor, BrokerEpoch, BrokerId, BrokerProfile, BytePosition, Endpoint,
    ExtentFlags, HostPort, JobId, JobOutput, LeaseNonce, ObjectId, ObjectName, ObjectSeq, Offset,
    ProcessNonce, TimestampMs, TopicId, TopicName,
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
    let author = BrokerAuthor { broker: BrokerId(1), epoch: BrokerEpoch(1) };
    ObjectName::wal(author, ProcessNonce(7), ObjectSeq(seq), Attempt(0))
}

/// The name of the output of a test's merge job.
#[must_use]
pub fn merged_name(job: u64) -> ObjectName {
    ObjectName::merged(JobId(job), LeaseNonce(7), JobOutput(0), Attempt(0))
}

/// An extent without timestamps at the end of the test writer's object `seq`.
#[must_use]
pub fn extent(base: i64, last: i64, position: u64, length: u32, seq: u64) -> Arc<Extent> {
    let size = position + u64::from(length);
    let object = Arc::new(ObjectRef { id: ObjectId(seq), name: object_name(seq), size });
    let position = BytePosition(position);
    extent_of(base, last, ExtentBytes::Object(ObjectRange { object, position, length }))
}

/// An extent without timestamps that holds so many bytes by value.
#[must_use]
pub fn inline_extent(base: i64, last: i64, length: usize) -> Arc<Extent> {
    extent_of(base, last, ExtentBytes::Inline(vec![0; length].into()))
}

fn extent_of(base: i64, last: i64, bytes: ExtentBytes) -> Arc<Extent> {
    Arc::new(Extent {
        base_offset: Offset(base),
        last_offset: Offset(last),
        max_timestamp: TimestampMs::NONE,
        flags: ExtentFlags::NONE,
        bytes,
    })
}
