use bytes::Bytes;
use ottla_model::{
    Attempt, Az, BatchProducer, BrokerProfile, BytePosition, Endpoint, HostPort, Offset,
    ProducerEpoch, ProducerId, Sequence,
};
use proptest::prelude::*;

use super::*;
use crate::codec::put_bytes;
use crate::command::{
    CommitBatch, CommitObject, CommitObjects, CommittedOffset, GroupKind, GroupMember,
    GroupMetadata, StepTime,
};

fn author(broker: i32, epoch: u64) -> BrokerAuthor {
    BrokerAuthor { broker: BrokerId(broker), epoch: BrokerEpoch(epoch) }
}

fn partition(topic: u128, index: i32) -> PartitionId {
    PartitionId { topic: TopicId(topic), index: PartitionIndex(index) }
}

fn batch(partition: PartitionId, position: u64, sequence: Option<i32>) -> CommitBatch {
    CommitBatch {
        partition,
        position: BytePosition(position),
        length: 1_000,
        last_offset_delta: 9,
        max_timestamp: TimestampMs(1_700_000_000_000 + position as i64),
        producer: sequence.map(|base| BatchProducer {
            id: ProducerId(7),
            epoch: ProducerEpoch(1),
            base_sequence: Sequence(base),
        }),
    }
}

fn metadata() -> GroupMetadata {
    GroupMetadata {
        generation: 3,
        protocol_type: "consumer".into(),
        protocol: Some("range".into()),
        leader: Some("m-1".into()),
        members: vec![GroupMember {
            member_id: "m-1".into(),
            instance_id: Some("static-1".into()),
            client_id: "app".into(),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: 45_000,
            rebalance_timeout_ms: 300_000,
            protocols: vec![("range".into(), Bytes::from_static(b"\0\x01topic"))],
            assignment: Bytes::from_static(b"\0\x01assigned"),
        }],
    }
}

fn profile() -> BrokerProfile {
    let endpoint = |listener: &str, host: &str| Endpoint {
        listener: listener.to_owned(),
        address: HostPort::new(host, 9092),
    };
    BrokerProfile {
        az: Az("eu-west-1a".to_owned()),
        endpoints: [
            endpoint("PLAINTEXT", "broker-1.internal"),
            endpoint("OUTSIDE", "broker-1.example"),
        ]
        .into(),
        internal: HostPort::new("broker-1.internal", 9093),
        software: "1.2.3".to_owned(),
    }
}

/// One command of each kind. Only ever added to, like the golden file that holds them.
#[expect(clippy::too_many_lines, reason = "a table")]
fn samples() -> Vec<Command> {
    let (until, wall) = (TimestampMs(1_699_000_000_000), TimestampMs(1_764_545_734_000));
    timed(vec![
        CommandBody::RegisterBroker(RegisterBroker {
            broker: BrokerId(1),
            nonce: ProcessNonce(0x0123_4567_89ab_cdef),
            profile: profile().into(),
        }),
        CommandBody::FenceBroker(author(1, 5)),
        CommandBody::DrainBroker(author(2, 6)),
        CommandBody::CommitObjects(CommitObjects {
            author: author(1, 5),
            frontier: ObjectSeq(17),
            objects: vec![
                CommitObject {
                    seq: ObjectSeq(18),
                    attempt: Attempt(1),
                    size: 9_000,
                    batches: vec![
                        batch(partition(0xa, 0), 64, Some(0)),
                        batch(partition(0xa, 0), 1_064, Some(10)),
                        batch(partition(0xa, 3), 2_064, None),
                        batch(partition(0xb, 0), 5_000, Some(i32::MAX)),
                    ],
                },
                CommitObject {
                    seq: ObjectSeq(19),
                    attempt: Attempt(0),
                    size: 500,
                    batches: vec![],
                },
            ],
        }),
        CommandBody::AbandonObject(AbandonObject {
            author: author(1, 5),
            frontier: ObjectSeq(18),
            seq: ObjectSeq(20),
        }),
        CommandBody::CreateTopic(CreateTopic {
            id: TopicId(0xa),
            name: TopicName::new("orders.v1").unwrap(),
            partitions: 16,
            replication_factor: 3,
            configs: [("message.timestamp.type".to_owned(), "LogAppendTime".to_owned())].into(),
        }),
        CommandBody::DeleteTopic(TopicId(0xb)),
        CommandBody::CreatePartitions(CreatePartitions { topic: TopicId(0xa), total: 32 }),
        CommandBody::AllocateProducerIds(AllocateProducerIds {
            author: author(1, 5),
            count: 1_000,
        }),
        CommandBody::CommitOffsets(CommitOffsets {
            author: author(1, 5),
            group: GroupId::from("readers"),
            offsets: vec![(
                partition(0xa, 0),
                CommittedOffset { offset: Offset(42), leader_epoch: -1, metadata: "note".into() },
            )],
        }),
        CommandBody::PutGroup(PutGroup {
            author: author(1, 5),
            group: GroupId::from("readers"),
            kind: GroupKind::Classic,
            metadata: metadata(),
        }),
        CommandBody::Tick,
        CommandBody::ForgetObjects(vec![ObjectId(3), ObjectId(4), ObjectId(1_000)]),
        CommandBody::AcceptLoss,
        CommandBody::ExpireGroups { until },
        CommandBody::ExpireProducers { until },
        CommandBody::StepTime(StepTime { wall, is_accepted: true }),
        CommandBody::StepTime(StepTime { wall: TimestampMs(-1), is_accepted: false }),
        CommandBody::RaiseFeatureLevel { to: FeatureLevel(300) },
    ])
}

fn timed(bodies: Vec<CommandBody>) -> Vec<Command> {
    let time = |at: usize| TimestampMs(1_700_000_000_000 + at as i64);
    bodies.into_iter().enumerate().map(|(at, body)| Command { time: time(at), body }).collect()
}

fn encoded(command: &Command) -> Vec<u8> {
    let mut out = Vec::new();
    command.encode(&mut out);
    out
}

#[test]
fn golden_commands_are_read_and_written_byte_for_byte() {
    let mut written = Vec::new();
    for command in &samples() {
        put_bytes(&mut written, &encoded(command));
    }
    crate::golden::check("commands_v1.bin", &written);
    let mut golden = Reader::new(&written);
    for command in samples() {
        let bytes = golden.bytes("command").unwrap();
        assert_eq!(Command::decode(bytes).unwrap(), command);
    }
    golden.finish("golden file").unwrap();
}

#[test]
fn every_kind_is_among_the_samples_and_has_a_level() {
    let samples = samples();
    for kind in CommandKind::ALL {
        assert!(samples.iter().any(|sample| sample.body.kind() == kind), "no sample of {kind:?}");
    }
    for sample in samples {
        assert!(sample.body.needed_level() <= feature_level::NEWEST, "{sample:?}");
    }
}

#[test]
fn a_cut_at_any_byte_is_an_error() {
    for command in samples() {
        let bytes = encoded(&command);
        for cut in 0..bytes.len() {
            assert!(Command::decode(&bytes[..cut]).is_err(), "{command:?} cut at {cut}");
        }
    }
}

/// The log's frame finds flips by its checksum. The codec still never panics on one, and what it
/// accepts it gives back byte for byte: two encodings of one command do not exist.
#[test]
fn a_flip_of_any_bit_is_an_error_or_another_command() {
    for command in samples() {
        let bytes = encoded(&command);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(other) = Command::decode(&flipped) {
                assert_ne!(other, command, "bit {bit}");
            }
        }
    }
}

#[test]
fn a_kind_or_version_of_a_newer_ottla_is_named() {
    let judged = |kind: u8, version: u8| {
        let mut bytes = encoded(&samples()[0]);
        (bytes[0], bytes[1]) = (kind, version);
        let error = Command::decode(&bytes).unwrap_err();
        assert_eq!(Command::check_known(&bytes).as_ref(), Err(&error));
        error
    };
    assert_eq!(judged(200, 1), DecodeError::Unknown { what: "command kind", value: 200 });
    let newer = DecodeError::UnsupportedVersion { what: "register_broker", found: 2, supported: 1 };
    assert_eq!(judged(1, 2), newer);
    assert!(judged(200, 1).is_of_another_version() && judged(1, 2).is_of_another_version());
    assert!(!judged(1, 0).is_of_another_version(), "no version is 0");
}

#[test]
fn a_raise_beyond_what_this_version_knows_is_named() {
    let raise = |to| {
        encoded(&Command {
            time: TimestampMs(0),
            body: CommandBody::RaiseFeatureLevel { to: FeatureLevel(to) },
        })
    };
    let newest = feature_level::NEWEST.0;
    assert_eq!(Command::check_known(&raise(newest)), Ok(()));
    let error = Command::check_known(&raise(newest + 1)).unwrap_err();
    assert_eq!(error, DecodeError::FeatureLevel { level: FeatureLevel(newest + 1) });
    assert!(error.is_of_another_version());
}

#[test]
fn a_command_is_read_in_the_version_that_it_is_written_in_and_no_other() {
    for command in samples() {
        let mut bytes = encoded(&command);
        let own = bytes[1];
        for other in (0..=own + 2).filter(|version| *version != own) {
            bytes[1] = other;
            assert!(Command::decode(&bytes).is_err(), "{command:?} as version {other}");
        }
    }
}

#[test]
fn a_claimed_count_reserves_no_memory() {
    let mut bytes = vec![CommandKind::CommitObjects as u8, 1, 0, 2, 1, 0];
    put_varint(&mut bytes, u64::from(u32::MAX));
    assert!(matches!(Command::decode(&bytes), Err(DecodeError::Truncated { .. })));
}

#[test]
fn a_steady_producers_batch_takes_a_dozen_bytes() {
    let batches: Vec<_> = (0..100)
        .map(|at| batch(partition(0xa, 0), 64 + at * 1_000, Some(at as i32 * 10)))
        .collect();
    let object = CommitObject { seq: ObjectSeq(0), attempt: Attempt(0), size: 100_064, batches };
    let commit =
        CommitObjects { author: author(1, 1), frontier: ObjectSeq(0), objects: vec![object] };
    let body = CommandBody::CommitObjects(commit);
    let bytes = encoded(&Command { time: TimestampMs(0), body });
    assert!(bytes.len() < 100 * 12, "{} bytes", bytes.len());
}

fn any_batch() -> impl Strategy<Value = CommitBatch> {
    let producer = (any::<i64>(), any::<i16>(), any::<i32>()).prop_map(|(id, epoch, sequence)| {
        BatchProducer {
            id: ProducerId(id),
            epoch: ProducerEpoch(epoch),
            base_sequence: Sequence(sequence),
        }
    });
    let place = (0u128..3, -1i32..3, any::<u64>(), any::<u32>());
    (place, any::<i32>(), any::<i64>(), proptest::option::of(producer)).prop_map(
        |((topic, index, position, length), delta, timestamp, producer)| CommitBatch {
            partition: partition(topic, index),
            position: BytePosition(position),
            length,
            last_offset_delta: delta,
            max_timestamp: TimestampMs(timestamp),
            producer,
        },
    )
}

fn any_commit() -> impl Strategy<Value = CommitObjects> {
    let object =
        (any::<u64>(), any::<u32>(), any::<u64>(), proptest::collection::vec(any_batch(), 0..8))
            .prop_map(|(seq, attempt, size, batches)| CommitObject {
                seq: ObjectSeq(seq),
                attempt: Attempt(attempt),
                size,
                batches,
            });
    (any::<i32>(), any::<u64>(), any::<u64>(), proptest::collection::vec(object, 0..4)).prop_map(
        |(broker, epoch, frontier, objects)| CommitObjects {
            author: author(broker, epoch),
            frontier: ObjectSeq(frontier),
            objects,
        },
    )
}

proptest! {
    #[test]
    fn any_commit_comes_back_as_it_was(time in any::<i64>(), commit in any_commit()) {
        let body = CommandBody::CommitObjects(commit);
        let command = Command { time: TimestampMs(time), body };
        prop_assert_eq!(Command::decode(&encoded(&command)).unwrap(), command);
    }

    #[test]
    fn any_object_ids_come_back_as_they_were(ids in proptest::collection::vec(any::<u64>(), 0..9)) {
        let body = CommandBody::ForgetObjects(ids.into_iter().map(ObjectId).collect());
        let command = Command { time: TimestampMs(0), body };
        prop_assert_eq!(Command::decode(&encoded(&command)).unwrap(), command);
    }

    #[test]
    fn any_bytes_decode_without_panic(
        kind in 0u8..20,
        rest in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = vec![kind, 1, 0];
        bytes.extend(rest);
        if let Ok(command) = Command::decode(&bytes) {
            // Canonical: what is accepted is what would be written.
            prop_assert_eq!(Command::decode(&encoded(&command)).unwrap(), command);
        }
    }
}
