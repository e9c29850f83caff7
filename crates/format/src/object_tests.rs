use super::*;
use ottla_model::{
    Attempt, BrokerAuthor, BrokerEpoch, BrokerId, ClusterId, JobId, JobOutput, LeaseNonce,
    ObjectName, ObjectOrigin, ObjectSeq, ProcessNonce,
};
use proptest::prelude::*;

const GOLDEN_V1: &[u8] = include_bytes!("../golden/object_v1.bin");
const GOLDEN_MERGED_V1: &[u8] = include_bytes!("../golden/object_v1_merged.bin");
const CLUSTER: ClusterId = ClusterId(0x0123_4567_89ab_cdef_0011_2233_4455_6677);

fn header() -> ObjectHeader {
    let author = BrokerAuthor { broker: BrokerId(3), epoch: BrokerEpoch(41) };
    let nonce = ProcessNonce(0xfeed_face_cafe_beef);
    let origin = ObjectOrigin::Wal { author, nonce, seq: ObjectSeq(12) };
    ObjectHeader { cluster: CLUSTER, origin }
}

fn merged_header() -> ObjectHeader {
    let (job, nonce) = (JobId(77), LeaseNonce(0xfeed_face_cafe_beef));
    let origin = ObjectOrigin::Merged { job, nonce, output: JobOutput(5) };
    ObjectHeader { cluster: CLUSTER, origin }
}

fn partition(topic: u128, index: i32) -> PartitionId {
    PartitionId { topic: TopicId(topic), index: PartitionIndex(index) }
}

/// Bytes that stand for a batch, with the checksum its header would carry.
fn batch(
    fill: u8,
    length: usize,
    records: u32,
    producer: Option<(i64, i32)>,
) -> (Vec<u8>, BatchSummary) {
    let bytes: Vec<u8> = (0..length).map(|i| fill.wrapping_add(i as u8)).collect();
    let producer = producer.map(|(id, sequence)| BatchProducer {
        id: ProducerId(id),
        epoch: ProducerEpoch(2),
        base_sequence: Sequence(sequence),
    });
    let crc = crc32c::crc32c(&bytes[BATCH_CRC_FROM..]);
    (bytes, BatchSummary { records, crc, producer })
}

type Batches = Vec<(PartitionId, (Vec<u8>, BatchSummary))>;

fn sample() -> Batches {
    vec![
        (partition(7, 0), batch(1, 70, 3, Some((900, i32::MAX - 1)))),
        (partition(7, 0), batch(2, 61, 1, Some((900, 1)))),
        (partition(7, 0), batch(3, 90, 2, Some((100, 5)))),
        (partition(7, 300), batch(4, 65, 4, None)),
        (partition(1 << 100, 1), batch(5, 100, 1, Some((i64::MAX, 0)))),
    ]
}

fn assemble(batches: &Batches) -> (Vec<u8>, Vec<BytePosition>, EncodedObject) {
    assemble_as(&header(), batches)
}

fn assemble_as(
    header: &ObjectHeader,
    batches: &Batches,
) -> (Vec<u8>, Vec<BytePosition>, EncodedObject) {
    let mut encoder = ObjectEncoder::new(header);
    let positions =
        batches.iter().map(|(p, (bytes, about))| encoder.push(*p, bytes, *about)).collect();
    let encoded = encoder.finish();
    let mut object = encoded.header.to_vec();
    batches.iter().for_each(|(_, (bytes, _))| object.extend_from_slice(bytes));
    object.extend_from_slice(&encoded.tail);
    (object, positions, encoded)
}

#[test]
fn what_is_written_is_read_back() {
    let (object, positions, encoded) = assemble(&sample());
    assert_eq!(encoded.length, object.len() as u64);
    assert_eq!(encoded.crc32c, crc32c::crc32c(&object));
    assert_eq!(positions.iter().map(|p| p.0).collect::<Vec<_>>(), [60, 130, 191, 281, 346]);

    let (read_header, runs) = decode_object(&object).unwrap();
    assert_eq!(read_header, header());
    assert_eq!(runs.len(), 3);
    assert_eq!(runs[0].partition, partition(7, 0));
    assert_eq!((runs[0].position.0, runs[0].length), (60, 221));
    assert_eq!((runs[0].records, runs[0].batches), (6, 3));
    assert_eq!(runs[0].checksum, crc32c::crc32c(&object[60..281]));
    let range = |id, first, last| ProducerRange {
        id: ProducerId(id),
        epoch: ProducerEpoch(2),
        first: Sequence(first),
        last: Sequence(last),
    };
    // The producer's first batch here has three records and wraps around.
    assert_eq!(runs[0].producers, [range(100, 5, 6), range(900, i32::MAX - 1, 1)]);
    assert_eq!(runs[1].producers, []);
    assert_eq!(runs[2].partition, partition(1 << 100, 1));
}

#[test]
fn an_object_without_batches_is_legal() {
    let (object, _, encoded) = assemble(&Vec::new());
    assert_eq!(encoded.crc32c, crc32c::crc32c(&object));
    assert_eq!(decode_object(&object).unwrap(), (header(), vec![]));
}

#[test]
fn the_header_is_checked_against_the_extents_name() {
    let author = |epoch| BrokerAuthor { broker: BrokerId(3), epoch: BrokerEpoch(epoch) };
    let wal = |epoch, nonce, seq| ObjectOrigin::Wal {
        author: author(epoch),
        nonce: ProcessNonce(nonce),
        seq: ObjectSeq(seq),
    };
    let merged = |job, nonce, output| ObjectOrigin::Merged {
        job: JobId(job),
        nonce: LeaseNonce(nonce),
        output: JobOutput(output),
    };
    let (first, other) = (0xfeed_face_cafe_beef, 1);
    let origins = [
        wal(41, first, 12),
        wal(41, first, 13),
        wal(41, other, 12),
        wal(42, first, 12),
        merged(77, first, 5),
        merged(78, first, 5),
        merged(77, other, 5),
        merged(77, first, 6),
    ];
    for header in [header(), merged_header()] {
        for origin in origins {
            let name = ObjectName { origin, attempt: Attempt(5) };
            assert_eq!(header.belongs_to(CLUSTER, &name), origin == header.origin, "{name}");
            assert!(!header.belongs_to(ClusterId(1), &name));
        }
    }
}

#[test]
#[should_panic(expected = "in order of their partitions")]
fn a_partition_after_a_higher_one_is_a_defect() {
    let mut encoder = ObjectEncoder::new(&header());
    for index in [2, 1] {
        let (bytes, about) = batch(0, 61, 1, None);
        encoder.push(partition(1, index), &bytes, about);
    }
    encoder.finish();
}

#[test]
fn an_object_cut_anywhere_is_an_error() {
    for header in [header(), merged_header()] {
        let (object, ..) = assemble_as(&header, &sample());
        for length in 0..object.len() {
            assert!(decode_object(&object[..length]).is_err(), "cut to {length} bytes");
        }
    }
}

#[test]
fn a_flip_of_any_bit_is_an_error() {
    for header in [header(), merged_header()] {
        let (mut object, ..) = assemble_as(&header, &sample());
        for bit in 0..object.len() * 8 {
            object[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_object(&object).is_err(), "bit {bit}");
            object[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn a_merged_object_has_no_seq() {
    let mut header = merged_header().encode();
    header[48] = 1;
    let checksum = crc32c::crc32c(&header[..56]);
    header[56..].copy_from_slice(&checksum.to_le_bytes());
    let error = ObjectHeader::decode(&header).unwrap_err();
    assert!(matches!(error, DecodeError::Invalid { value: 1, .. }), "{error}");
}

#[test]
fn a_newer_version_is_named_in_the_error() {
    let (mut object, ..) = assemble(&sample());
    object[4] = 2;
    let error = decode_object(&object).unwrap_err();
    assert!(matches!(error, DecodeError::UnsupportedVersion { found: 2, supported: 1, .. }));
}

#[test]
fn version_1_is_written_as_ever() {
    assert_eq!(assemble(&sample()).0, GOLDEN_V1);
    assert_eq!(assemble_as(&merged_header(), &sample()).0, GOLDEN_MERGED_V1);
}

#[test]
fn version_1_is_read_as_ever() {
    for (golden, header) in [(GOLDEN_V1, header()), (GOLDEN_MERGED_V1, merged_header())] {
        let (read_header, runs) = decode_object(golden).unwrap();
        assert_eq!(read_header, header);
        assert_eq!(runs.iter().map(|run| run.records).sum::<u64>(), 11);
    }
}

proptest! {
    #[test]
    fn any_bytes_decode_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_object(&bytes);
        let _ = ObjectTrailer::decode(&bytes, bytes.len() as u64);
        let trailer = ObjectTrailer { footer_position: BytePosition(60), footer_length: 1 };
        let _ = trailer.decode_footer(&bytes);
        // A footer with a right checksum and any content.
        let mut sealed = bytes.clone();
        sealed.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        let _ = trailer.decode_footer(&sealed);
    }

    #[test]
    fn any_layout_round_trips(
        lengths in proptest::collection::vec((0i32..6, 61usize..9000, 1u32..5), 0..40)
    ) {
        let mut batches: Batches = lengths
            .into_iter()
            .map(|(index, length, records)| {
                (partition(9, index), batch(length as u8, length, records, None))
            })
            .collect();
        batches.sort_by_key(|(partition, _)| *partition);
        let (object, positions, encoded) = assemble(&batches);
        prop_assert_eq!(encoded.crc32c, crc32c::crc32c(&object));
        for ((_, (bytes, _)), position) in batches.iter().zip(positions) {
            let start = position.0 as usize;
            prop_assert_eq!(&object[start..start + bytes.len()], &bytes[..]);
        }
        let (_, runs) = decode_object(&object).unwrap();
        let read: u64 = runs.iter().map(|run| u64::from(run.batches)).sum();
        prop_assert_eq!(read, batches.len() as u64);
    }
}
