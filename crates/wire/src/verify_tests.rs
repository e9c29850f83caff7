use std::io::Write as _;

use ottla_test_kit::batch::{self, push_varint};
use proptest::prelude::*;

use super::*;
use crate::packing::{CODECS, compress};

const NOW: TimestampMs = TimestampMs(1_700_000_000_000);

/// Takes every record.
const ANY: RecordRules = RecordRules { keys_required: false, timestamps: None, refused_max: 10 };

fn verified(bytes: &[u8]) -> Result<VerifiedBatch, BatchError> {
    by(&ANY, bytes)
}

fn by(rules: &RecordRules, bytes: &[u8]) -> Result<VerifiedBatch, BatchError> {
    let batch = ReceivedBatch::read(Bytes::copy_from_slice(bytes))?;
    batch.verify(rules, OutputLimits::full(batch.body_bytes()), &mut Scratch::default())
}

/// A plain batch of `values` at time 1,000.
fn batch_of(values: &[&[u8]]) -> Vec<u8> {
    batch::of_values(values, 1_000).to_vec()
}

fn with(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    batch::changed(&batch_of(&[b"one", b"two"]), change).to_vec()
}

/// Name and value.
type Header = (Option<&'static [u8]>, Option<&'static [u8]>);

/// The fields of a record after its length.
#[derive(Clone)]
struct Record {
    time: i64,
    offset: i64,
    key: Option<&'static [u8]>,
    value: Option<&'static [u8]>,
    headers: Vec<Header>,
}

fn record(offset: i64, time: i64) -> Record {
    let headers: Vec<Header> = vec![(Some(b"name"), None), (Some(b""), Some(b"value"))];
    Record { time, offset, key: Some(b"key"), value: Some(b"value"), headers }
}

fn push_text(out: &mut Vec<u8>, text: Option<&[u8]>) {
    push_varint(out, text.map_or(-1, |text| text.len() as i64));
    out.extend_from_slice(text.unwrap_or_default());
}

fn encoded(records: &[Record]) -> Vec<u8> {
    let mut body = Vec::new();
    for record in records {
        let mut fields = vec![0];
        push_varint(&mut fields, record.time);
        push_varint(&mut fields, record.offset);
        push_text(&mut fields, record.key);
        push_text(&mut fields, record.value);
        push_varint(&mut fields, record.headers.len() as i64);
        for (name, value) in &record.headers {
            push_text(&mut fields, *name);
            push_text(&mut fields, *value);
        }
        push_text(&mut body, Some(&fields));
    }
    body
}

/// A batch of bytes that may be records, whose header claims so many; base timestamp [`NOW`], and the
/// maximum as old clients leave it.
fn claiming(count: i32, codec: Compression, body: &[u8]) -> Vec<u8> {
    let empty = batch_of(&[]);
    let sealed = batch::changed(&empty, |bytes| {
        bytes[22] = CODECS.iter().position(|c| *c == codec).unwrap() as u8;
        bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        bytes[27..35].copy_from_slice(&NOW.0.to_be_bytes());
        bytes[35..43].fill(0xff);
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        bytes.extend_from_slice(body);
    });
    sealed.to_vec()
}

fn of_records(codec: Compression, records: &[Record]) -> Vec<u8> {
    claiming(records.len() as i32, codec, &compress(codec, &encoded(records)))
}

#[test]
fn each_rule_has_its_own_error() {
    let error = |bytes: Vec<u8>| verified(&bytes).unwrap_err();
    assert_eq!(verified(&[]).unwrap_err(), BatchError::Empty);
    assert_eq!(error(with(|b| b[16] = 1)), BatchError::Magic(1));
    assert_eq!(error(with(|b| b[22] = 7)), BatchError::UnknownCompression(7));
    assert_eq!(error(with(|b| b[22] |= 0x08)), BatchError::TimestampType);
    assert_eq!(error(with(|b| b[22] |= 0x20)), BatchError::Control);
    assert_eq!(error(with(|b| b[22] |= 0x40)), BatchError::DeleteHorizon);
    let unsequenced = with(|b| b[43..51].fill(0));
    assert!(matches!(error(unsequenced), BatchError::Producer { id: 0, epoch: -1, sequence: -1 }));
    assert!(matches!(error(with(|b| b[60] = 3)), BatchError::Count { .. }));
    let none = with(|b| {
        b[57..61].fill(0);
        b[23..27].fill(0xff);
    });
    assert!(matches!(error(none), BatchError::Count { count: 0, last_offset_delta: -1 }));
    let two = [batch_of(&[b"a"]), batch_of(&[b"b"])].concat();
    assert!(matches!(error(two), BatchError::SeveralBatches(_)));
    let mut corrupt = batch_of(&[b"a"]);
    corrupt[65] ^= 1;
    assert!(matches!(error(corrupt), BatchError::Crc { .. }));
    let mut negative = batch_of(&[b"a"]);
    negative[8..12].copy_from_slice(&(-1i32).to_be_bytes());
    assert_eq!(error(negative.clone()), BatchError::Length(-1));
    negative[8..12].copy_from_slice(&48i32.to_be_bytes());
    assert_eq!(error(negative), BatchError::Length(48));
}

#[test]
fn records_must_fill_the_batch_exactly() {
    let left_over = with(|b| b.push(0));
    assert_eq!(verified(&left_over).unwrap_err(), BatchError::Record { record: 2 });
    let cut = with(|b| {
        b.pop();
    });
    assert_eq!(verified(&cut).unwrap_err(), BatchError::Record { record: 1 });
}

#[test]
fn the_count_in_the_header_is_the_number_of_records_under_every_codec() {
    let three = encoded(&[record(0, 0), record(1, 0), record(2, 0)]);
    for codec in CODECS {
        let body = compress(codec, &three);
        assert_eq!(verified(&claiming(3, codec, &body)).unwrap().record_count(), 3, "{codec:?}");
        for (claimed, found) in [(2, 3), (4, 3)] {
            let error = verified(&claiming(claimed, codec, &body)).unwrap_err();
            assert_eq!(error, BatchError::FalseCount { claimed, found }, "{codec:?}");
        }
    }
    let million = claiming(1_000_000, Compression::Gzip, &compress(Compression::Gzip, &three));
    assert!(matches!(verified(&million), Err(BatchError::FalseCount { found: 3, .. })));
}

#[test]
fn a_count_that_the_bytes_cannot_hold_is_refused_unopened() {
    let uncompressed = claiming(1_000, Compression::None, &encoded(&[record(0, 0)]));
    assert!(matches!(verified(&uncompressed), Err(BatchError::CountTooLarge { .. })));
    let most = (limits::DECOMPRESSED_BYTES_ANY_RATIO / limits::RECORD_BYTES_MIN) as i32;
    let claimed = |count| {
        let batch = claiming(count, Compression::Zstd, b"body");
        ReceivedBatch::read(batch.into())
    };
    assert!(claimed(most).is_ok());
    assert!(matches!(claimed(most + 1), Err(BatchError::CountTooLarge { .. })));
}

/// A valid checksum, one record of ten bytes that claims 10⁹ headers: costs another decoder seven
/// seconds and two gigabytes.
#[test]
fn the_header_bomb_costs_nothing() {
    let mut fields = vec![0, 0, 0, 1, 1];
    push_varint(&mut fields, 1_000_000_000);
    let mut body = Vec::new();
    push_text(&mut body, Some(&fields));
    let bomb = claiming(1, Compression::None, &body);
    assert_eq!(bomb.len(), 72);
    assert_eq!(verified(&bomb).unwrap_err(), BatchError::Record { record: 0 });
}

#[test]
fn a_record_that_no_consumer_can_read_is_refused_under_every_codec() {
    let good = record(0, 0);
    let mut bad: Vec<Vec<u8>> = Vec::new();
    let nameless = Record { headers: vec![(None, Some(b"v")), (Some(b"n"), None)], ..good.clone() };
    bad.push(encoded(&[nameless]));
    bad.push(encoded(&[Record { offset: 1, ..good.clone() }]));
    bad.push(encoded(&[Record { offset: -1, ..good.clone() }]));
    bad.push(encoded(&[Record { time: i64::MAX, ..good.clone() }]));
    // Lengths and counts that are not what follows, at each place where one stands.
    let plain = encoded(&[Record { key: None, value: None, headers: vec![], ..good }]);
    assert_eq!(plain, [12, 0, 0, 0, 1, 1, 0]);
    for at in [0, 4, 5, 6] {
        for wrong in [2, 3, 5, 14, 16, 0x7f] {
            let mut wrong_length = plain.clone();
            wrong_length[at] = wrong;
            bad.push(wrong_length);
        }
    }
    for codec in CODECS {
        for body in &bad {
            let error = verified(&claiming(1, codec, &compress(codec, body))).unwrap_err();
            assert_eq!(error, BatchError::Record { record: 0 }, "{codec:?} {body:?}");
            assert_eq!(error.kind(), crate::batch_error::BatchErrorKind::Invalid);
        }
    }
}

#[test]
fn what_is_not_the_codecs_is_refused() {
    let plain = encoded(&[record(0, 0), record(1, 5)]);
    for codec in CODECS.into_iter().skip(1) {
        let packed = compress(codec, &plain);
        assert!(verified(&claiming(2, codec, &packed)).is_ok(), "{codec:?}");
        for cut in 0..packed.len() {
            assert!(
                verified(&claiming(2, codec, &packed[..cut])).is_err(),
                "{codec:?} cut to {cut}"
            );
        }
        for other in CODECS.into_iter().filter(|other| *other != codec) {
            let not_its_own = claiming(2, codec, &compress(other, &plain));
            assert!(verified(&not_its_own).is_err(), "{other:?} marked {codec:?}");
        }
        let noise: Vec<u8> =
            (0..50u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        assert!(verified(&claiming(2, codec, &noise)).is_err(), "{codec:?}");
    }
    // The format of snappy's own files, which is not what Kafka's codec 2 stands for.
    let mut stream = snap::write::FrameEncoder::new(Vec::new());
    stream.write_all(&plain).unwrap();
    let stream = stream.into_inner().unwrap();
    assert!(verified(&claiming(2, Compression::Snappy, &stream)).is_err());
}

#[test]
fn the_maximum_timestamp_is_that_of_the_records_whatever_the_header_says() {
    let records = [record(0, 5), record(1, 100), record(2, -7)];
    for codec in CODECS {
        let unset = of_records(codec, &records);
        for claimed in [-1, 0, NOW.0, NOW.0 + 50, NOW.0 + 100, i64::MAX] {
            let claims = batch::changed(&unset, |bytes| {
                bytes[35..43].copy_from_slice(&claimed.to_be_bytes());
            });
            let verified = verified(&claims).unwrap();
            assert_eq!(verified.max_timestamp(), TimestampMs(NOW.0 + 100), "{codec:?} {claimed}");
            assert_eq!(verified.bytes(), &claims, "the bytes stay");
        }
    }
}

#[test]
fn records_without_timestamps_have_none_as_their_maximum() {
    let bytes = batch::of_values(&[b"a", b"b"], -1);
    assert_eq!(verified(&bytes).unwrap().max_timestamp(), TimestampMs::NONE);
}

#[test]
fn each_record_that_the_topic_does_not_take_is_named_up_to_a_number() {
    let keyless = |offset| Record { key: None, ..record(offset, 0) };
    let records = [record(0, 0), keyless(1), record(2, 0), keyless(3), keyless(4)];
    let rules = RecordRules { keys_required: true, refused_max: 2, ..ANY };
    for codec in CODECS {
        let bytes = of_records(codec, &records);
        assert!(verified(&bytes).is_ok());
        let refused = [1, 3].map(|record| RefusedRecord { record, reason: RefusedReason::NoKey });
        let error = by(&rules, &bytes).unwrap_err();
        assert_eq!(error, BatchError::Refused(refused.to_vec()), "{codec:?}");
    }
}

#[test]
fn timestamps_are_held_to_the_clock_record_by_record() {
    let limits = TimestampLimits { now: NOW, before_max_ms: 50, after_max_ms: 50 };
    let rules = RecordRules { timestamps: Some(limits), ..ANY };
    for codec in CODECS {
        assert!(by(&rules, &of_records(codec, &[record(0, -50), record(1, 50)])).is_ok());
        let error = by(&rules, &of_records(codec, &[record(0, 0), record(1, 51), record(2, 0)]));
        let error = error.unwrap_err();
        let timestamp = TimestampMs(NOW.0 + 51);
        let reason = RefusedReason::Timestamp { timestamp, now: NOW };
        assert_eq!(error, BatchError::Refused(vec![RefusedRecord { record: 1, reason }]));
        assert_eq!(error.kind(), crate::batch_error::BatchErrorKind::InvalidTimestamp);
    }
}

#[test]
fn timestamps_have_limits_unless_there_is_none() {
    let now = TimestampMs(10_000_000);
    let limits = TimestampLimits { now, before_max_ms: i64::MAX, after_max_ms: 3_600_000 };
    assert!(limits.allow(TimestampMs(0)));
    assert!(limits.allow(TimestampMs(now.0 + 3_600_000)));
    assert!(!limits.allow(TimestampMs(now.0 + 3_600_001)));
    assert!(!limits.allow(TimestampMs(i64::MAX)));
    assert!(limits.allow(TimestampMs::NONE));
    assert!(limits.allow(TimestampMs(i64::MIN)));
}

#[test]
fn an_attempt_with_small_limits_says_only_that_it_was_not_enough() {
    let zeros = vec![0; OutputLimits::SMALL.bytes_max + 1];
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let mut fields = vec![0, 0, 0, 1];
        push_text(&mut fields, Some(&zeros));
        fields.push(0);
        let mut body = Vec::new();
        push_text(&mut body, Some(&fields));
        let large = claiming(1, codec, &compress(codec, &body));
        let batch = ReceivedBatch::read(large.into()).unwrap();
        let small = batch.verify(&ANY, OutputLimits::SMALL, &mut Scratch::default());
        assert!(matches!(small, Err(BatchError::Unreadable { .. })), "{codec:?}");
    }
}

#[test]
fn only_a_maximum_that_can_be_true_is_believed_unopened() {
    let received = |max: i64| {
        let bytes = batch::changed(&batch::gzipped(&[(NOW.0, b"v")]), |bytes| {
            bytes[35..43].copy_from_slice(&max.to_be_bytes());
        });
        ReceivedBatch::read(bytes).unwrap()
    };
    assert!(!received(-1).has_plausible_max_timestamp());
    assert!(!received(NOW.0 - 1).has_plausible_max_timestamp());
    assert!(received(NOW.0).has_plausible_max_timestamp());
    let limits = TimestampLimits { now: NOW, before_max_ms: 0, after_max_ms: 5 };
    let rules = RecordRules { timestamps: Some(limits), ..ANY };
    assert_eq!(received(NOW.0 + 5).unopened(&rules).unwrap().max_timestamp().0, NOW.0 + 5);
    assert!(matches!(received(NOW.0 + 6).unopened(&rules), Err(BatchError::Refused(_))));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = verified(&bytes);
    }

    /// Random bytes never have a good checksum; damage inside a valid frame gets further.
    #[test]
    fn no_damage_behind_a_good_checksum_panics(
        at in 21usize..120, value in any::<u8>(), cut in 0usize..20, codec in 0usize..5,
    ) {
        let good = of_records(CODECS[codec], &[record(0, 0), record(1, 5)]);
        let bytes = batch::changed(&good, |b| {
            if let Some(byte) = b.get_mut(at) { *byte = value }
            b.truncate(b.len() - cut.min(b.len() - BATCH_HEADER_BYTES));
        });
        if let Ok(batch) = verified(&bytes) {
            prop_assert!(batch.record_count() > 0);
        }
    }
}
