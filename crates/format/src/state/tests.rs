use std::sync::Arc;

use ottla_model::{
    Attempt, Az, BrokerAuthor, BrokerEpoch, BrokerId, BrokerProfile, BytePosition, Endpoint,
    ExtentFlags, GroupId, GroupNumber, HostPort, JobId, JobOutput, LeaseNonce, ObjectId,
    ObjectName, ObjectSeq, Offset, PartitionId, PartitionIndex, ProcessNonce, ProducerEpoch,
    ProducerId, Sequence, TimestampMs, TopicId, TopicName,
};
use proptest::prelude::*;

use super::*;
use crate::checkpoint::CheckpointHead;
use crate::codec::{DecodeError, Reader, put_bytes};
use crate::command::{
    BatchOutcome, BatchRefusal, CommittedOffset, GroupKind, GroupMetadata, ObjectOutcome,
};
use crate::feature_level::FeatureLevel;
use crate::golden;
use crate::software::Software;

fn extent(at: i64) -> ExtentEntry {
    let flags = if at % 2 == 1 { ExtentFlags::LOG_APPEND_TIME } else { ExtentFlags::NONE };
    ExtentEntry {
        base_offset: Offset(at * 10),
        last_offset_delta: 9,
        max_timestamp: TimestampMs(1_700_000_000_000 + at),
        flags,
        location: ExtentLocation::Object {
            object: ObjectId(at as u64),
            position: BytePosition(64),
            length: 1_000,
        },
    }
}

fn inline(at: i64, length: usize) -> ExtentEntry {
    let flags = ExtentFlags::FINAL_HEADERS.with(ExtentFlags::TRANSACTIONAL);
    let location = ExtentLocation::Inline(vec![0xab; length].into());
    ExtentEntry { flags, location, ..extent(at) }
}

fn wal_object(status: ObjectStatus) -> ObjectEntry {
    let author = BrokerAuthor { broker: BrokerId(1), epoch: BrokerEpoch(2) };
    let name = ObjectName::wal(author, ProcessNonce(0xfeed), ObjectSeq(3), Attempt(4));
    ObjectEntry { name, size: 9_000, live_bytes: 8_000, references: 2, status }
}

fn merged_object(status: ObjectStatus) -> ObjectEntry {
    let name = ObjectName::merged(JobId(300), LeaseNonce(0xfeed), JobOutput(2), Attempt(1));
    ObjectEntry { name, ..wal_object(status) }
}

fn producer(batches: i32) -> ProducerEntry {
    let mut entry = ProducerEntry::new(ProducerEpoch(2));
    entry.last_use = TimestampMs(1_700_000_000_000);
    for at in 0..batches {
        entry.push(RecentBatch {
            base_sequence: Sequence(i32::MAX - 1),
            last_sequence: Sequence(at),
            base_offset: Offset(i64::from(at) * 5),
            append_time: TimestampMs::NONE,
        });
    }
    entry
}

/// A record of each kind. Only ever added to, like the golden file that holds them.
#[expect(clippy::too_many_lines, reason = "a table")]
fn samples() -> Vec<StateRecord> {
    let partition = PartitionId { topic: TopicId(0xa), index: PartitionIndex(3) };
    let profile = BrokerProfile {
        az: Az("a".to_owned()),
        endpoints: [Endpoint {
            listener: "PLAINTEXT".to_owned(),
            address: HostPort::new("broker-1.example", 9092),
        }]
        .into(),
        internal: HostPort::new("10.0.0.1", 9093),
        software: "1.2.3".to_owned(),
    };
    let broker = BrokerEntry {
        epoch: BrokerEpoch(5),
        nonce: ProcessNonce(0xfeed),
        profile: profile.into(),
        status: BrokerStatus::Draining,
        next: ObjectSeq(20),
        frontier: ObjectSeq(18),
        replaced: vec![ProcessNonce(1), ProcessNonce(2)],
    };
    let batches = vec![
        BatchOutcome::Appended {
            base_offset: Offset(7),
            append_time: Some(TimestampMs(9)),
            log_start: Offset(0),
        },
        BatchOutcome::Duplicate { base_offset: Offset(3), append_time: None, log_start: Offset(1) },
        BatchOutcome::Refused(BatchRefusal::UnknownPartition),
        BatchOutcome::Refused(BatchRefusal::OutOfOrderSequence),
        BatchOutcome::Refused(BatchRefusal::StaleProducerEpoch),
    ];
    let metadata = GroupMetadata {
        generation: 1,
        protocol_type: "consumer".into(),
        protocol: None,
        leader: None,
        members: vec![],
    };
    let offset =
        CommittedOffset { offset: Offset(42), leader_epoch: -1, metadata: Arc::from("note") };
    let at = TimestampMs(1_700_000_000_000);
    let idle = |id: &str, metadata| GroupEntry {
        id: GroupId::from(id),
        kind: GroupKind::Classic,
        idle_since: Some(at),
        metadata,
    };
    vec![
        StateRecord::Counters(Counters {
            time: at,
            wall_offset_ms: -86_400_000,
            next_broker_epoch: BrokerEpoch(6),
            next_object: ObjectId(300),
            next_producer_id: ProducerId(2_000),
            next_group: GroupNumber(9),
            feature_level: FeatureLevel(1),
        }),
        StateRecord::Topic(
            TopicId(0xa),
            TopicEntry {
                name: TopicName::new("orders.v1").unwrap(),
                partitions: 16,
                replication_factor: 3,
                configs: [("cleanup.policy".to_owned(), "delete".to_owned())].into(),
            },
        ),
        StateRecord::Partition(
            partition,
            PartitionEntry { log_start: Offset(0), next_offset: Offset(40), extents: 4 },
        ),
        StateRecord::Extents(
            partition,
            Offset(0),
            (0..3).map(extent).chain([inline(3, 61)]).collect(),
        ),
        StateRecord::Producer(partition, ProducerId(7), producer(3)),
        StateRecord::Objects(
            1,
            vec![
                (0, wal_object(ObjectStatus::Live)),
                (44, wal_object(ObjectStatus::Condemned { at })),
                (45, merged_object(ObjectStatus::Live)),
            ],
        ),
        StateRecord::Broker(BrokerId(1), broker),
        StateRecord::Outcome(BrokerId(1), ObjectSeq(18), ObjectOutcome::Abandoned),
        StateRecord::Outcome(
            BrokerId(1),
            ObjectSeq(19),
            ObjectOutcome::Committed(Arc::from(batches)),
        ),
        StateRecord::Group(GroupNumber(3), idle("", None)),
        StateRecord::Group(GroupNumber(7), idle("readers", Some(Arc::new(metadata)))),
        StateRecord::GroupOffset(GroupNumber(7), partition, offset),
        StateRecord::DeletedTopics(vec![TopicId(0xb), TopicId(0x9)]),
    ]
}

fn head() -> CheckpointHead {
    CheckpointHead {
        feature_level: FeatureLevel(1),
        software: Software::new("1.2.3"),
        cluster: ottla_model::ClusterId(0xc1),
        applied: ottla_model::AppliedIndex(77),
        digest: 0xd1,
        meta: b"meta".to_vec(),
    }
}

fn encoded(record: &StateRecord) -> (Vec<u8>, Vec<u8>) {
    let mut value = Vec::new();
    record.put_value(&mut value);
    (record.key().to_bytes(), value)
}

#[test]
fn golden_records_are_read_and_written_byte_for_byte() {
    let mut written = Vec::new();
    for record in &samples() {
        let (key, value) = encoded(record);
        put_bytes(&mut written, &key);
        put_bytes(&mut written, &value);
    }
    // Named after the version of the snapshots that hold these records.
    golden::check("state_v4.bin", &written);
    let mut golden = Reader::new(&written);
    for record in samples() {
        let key = golden.bytes("key").unwrap();
        let value = golden.bytes("value").unwrap();
        assert_eq!(StateRecord::decode(key, value).unwrap(), record);
    }
    golden.finish("golden file").unwrap();
}

/// A client's text of any length is in no key: what is kept by the thousand repeats its key.
#[test]
fn keys_are_short_and_have_one_length_per_kind() {
    for record in samples() {
        let key = record.key().to_bytes();
        assert!(key.len() <= 29, "{record:?} has a key of {} bytes", key.len());
    }
}

#[test]
fn keys_come_back_and_sort_by_what_they_are_about() {
    let keys: Vec<StateKey> = samples().iter().map(StateRecord::key).collect();
    let bytes: Vec<Vec<u8>> = keys.iter().map(StateKey::to_bytes).collect();
    assert!(bytes.is_sorted());
    for (key, bytes) in keys.iter().zip(&bytes) {
        assert_eq!(StateKey::decode(bytes).unwrap(), *key);
    }
}

#[test]
fn a_cut_at_any_byte_is_an_error() {
    for record in samples() {
        let (key, value) = encoded(&record);
        for cut in 0..value.len() {
            assert!(StateRecord::decode(&key, &value[..cut]).is_err(), "{record:?} at {cut}");
        }
        for cut in 0..key.len() {
            assert!(StateKey::decode(&key[..cut]).is_err(), "{record:?} at {cut}");
        }
    }
}

#[test]
fn a_flip_of_any_bit_is_an_error_or_another_record() {
    for record in samples() {
        let (key, value) = encoded(&record);
        for bit in 0..value.len() * 8 {
            let mut flipped = value.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(other) = StateRecord::decode(&key, &flipped) {
                assert_ne!(other, record, "bit {bit}");
            }
        }
    }
}

#[test]
fn a_record_of_an_unknown_kind_is_an_error() {
    let error = StateRecord::decode(&[12, 0, 0], &[]).unwrap_err();
    assert!(matches!(error, DecodeError::Unknown { value: 12, .. }));
}

#[test]
fn every_kind_is_among_the_samples() {
    let samples = samples();
    for kind in StateKeyKind::ALL {
        assert!(samples.iter().any(|sample| sample.key().kind() == kind), "no sample of {kind:?}");
    }
}

#[test]
fn a_version_that_is_not_known_is_named() {
    for record in samples() {
        let (key, mut value) = encoded(&record);
        assert_eq!(value[0], record.version());
        value[0] = 9;
        let error = StateRecord::decode(&key, &value).unwrap_err();
        let (what, supported) = (record.key().kind().name(), record.version().into());
        assert_eq!(error, DecodeError::UnsupportedVersion { what, found: 9, supported });
        value[0] = 0;
        let error = StateRecord::decode(&key, &value).unwrap_err();
        assert!(!error.is_of_another_version(), "no version is 0: {error}");
    }
}

#[test]
fn an_empty_or_too_long_chunk_is_an_error() {
    let partition = PartitionId { topic: TopicId(1), index: PartitionIndex(0) };
    for length in [0, 257] {
        let record = StateRecord::Extents(partition, Offset(0), (0..length).map(extent).collect());
        let (key, value) = encoded(&record);
        assert!(StateRecord::decode(&key, &value).is_err(), "{length}");
    }
}

#[test]
fn an_extent_by_value_has_some_bytes_and_not_too_many() {
    let partition = PartitionId { topic: TopicId(1), index: PartitionIndex(0) };
    let most = EXTENT_INLINE_BYTES_MAX;
    for (length, is_read) in [(0, false), (1, true), (most, true), (most + 1, false)] {
        let record = StateRecord::Extents(partition, Offset(0), vec![inline(0, length)]);
        let (key, value) = encoded(&record);
        let read = StateRecord::decode(&key, &value);
        assert_eq!(read.ok(), is_read.then_some(record), "{length}");
    }
}

#[test]
fn a_flag_without_a_name_and_an_offset_that_does_not_fit_are_errors() {
    let partition = PartitionId { topic: TopicId(1), index: PartitionIndex(0) };
    let read = |extent: ExtentEntry, change: &dyn Fn(&mut [u8])| {
        let (key, mut value) =
            encoded(&StateRecord::Extents(partition, extent.base_offset, vec![extent]));
        change(&mut value);
        StateRecord::decode(&key, &value)
    };
    // version · count · base · delta · six bytes of time · flags
    assert!(read(extent(0), &|value| assert_eq!(value[10], 0)).is_ok());
    for bit in 4..7 {
        assert!(read(extent(0), &|value| value[10] = 1 << bit).is_err(), "bit {bit}");
    }
    let last = ExtentEntry { base_offset: Offset(i64::MAX - 9), ..extent(0) };
    assert!(read(last.clone(), &|_| ()).is_ok());
    assert!(read(ExtentEntry { last_offset_delta: 10, ..last }, &|_| ()).is_err());
}

#[test]
fn a_producer_remembers_its_last_five_batches() {
    let entry = producer(7);
    let offsets: Vec<i64> = entry.batches().iter().map(|batch| batch.base_offset.0).collect();
    assert_eq!(offsets, [10, 15, 20, 25, 30]);
}

#[test]
fn the_golden_checkpoint_head_is_read_and_written_byte_for_byte() {
    golden::check("checkpoint_head_v4.bin", &head().encode());
    assert_eq!(CheckpointHead::decode(&head().encode()).unwrap(), head());
}

#[test]
fn a_checkpoint_head_with_a_cut_or_a_flip_is_an_error() {
    let bytes = head().encode();
    for cut in 0..bytes.len() {
        assert!(CheckpointHead::decode(&bytes[..cut]).is_err());
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(CheckpointHead::decode(&flipped).is_err(), "bit {bit}");
    }
}

proptest! {
    #[test]
    fn any_bytes_decode_without_panic(
        record in proptest::sample::select(samples()),
        value in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        let key = record.key().to_bytes();
        if let Ok(other) = StateRecord::decode(&key, &value) {
            prop_assert_eq!(encoded(&other), (key, value));
        }
    }
}
