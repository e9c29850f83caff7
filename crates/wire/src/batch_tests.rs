use ottla_test_kit::batch;
use proptest::prelude::*;

use super::*;

/// A plain batch of `values` at time 1,000.
fn batch_of(values: &[&[u8]]) -> Vec<u8> {
    batch::of_values(values, 1_000).to_vec()
}

fn with(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    batch::changed(&batch_of(&[b"one", b"two"]), change).to_vec()
}

#[test]
fn a_good_batch_passes_and_shows_its_fields() {
    let bytes = batch_of(&[b"one", b"two", b"three"]);
    let header = check(&bytes).unwrap();
    assert_eq!(header.length as usize, bytes.len());
    assert_eq!((header.record_count, header.last_offset_delta), (3, 2));
    assert_eq!(header.compression(), Ok(Compression::None));
    assert_eq!(header.timestamp_type(), TimestampType::CreateTime);
    assert_eq!(header.producer(), None);
    assert_eq!(header.max_timestamp, 1_000);
}

#[test]
fn every_truncation_and_every_flipped_bit_after_the_epoch_is_refused() {
    let bytes = batch_of(&[b"one", b"two"]);
    for end in 0..bytes.len() {
        assert!(check(&bytes[..end]).is_err(), "cut at {end}");
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let broker_owned = bit / 8 < 8 || (12..16).contains(&(bit / 8));
        assert_eq!(check(&flipped).is_ok(), broker_owned, "bit {bit}");
    }
}

#[test]
fn walking_finds_each_batch_and_stops_at_damage() {
    let first = batch_of(&[b"a"]);
    let second = batch_of(&[b"b", b"c"]);
    let both = [first.clone(), second.clone()].concat();
    let found: Vec<_> = walk(&both).map(|batch| batch.unwrap().1.to_vec()).collect();
    assert_eq!(found, [first.clone(), second]);
    let cut = &both[..both.len() - 1];
    let found: Vec<_> = walk(cut).map(|batch| batch.is_ok()).collect();
    assert_eq!(found, [true, false]);
}

#[test]
fn the_patched_copy_carries_offset_and_epoch_and_keeps_its_checksum() {
    let bytes = batch_of(&[b"one", b"two"]);
    let mut copy = bytes.clone();
    copy[..61].copy_from_slice(&patched_header(&bytes, Offset(42), None).unwrap());
    let header = check(&copy).unwrap();
    assert_eq!((header.base_offset, header.leader_epoch), (42, LEADER_EPOCH.0));
    assert_eq!(copy[17..], bytes[17..]);
    assert!(patched_header(&bytes[..60], Offset(0), None).is_err());
}

#[test]
fn the_log_append_time_comes_with_a_combined_checksum() {
    let bytes = batch_of(&[b"one", b"two"]);
    let time = Some(TimestampMs(77_000));
    let mut copy = bytes.clone();
    copy[..61].copy_from_slice(&patched_header(&bytes, Offset(7), time).unwrap());
    let header = check(&copy).unwrap();
    assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!((header.max_timestamp, header.base_timestamp), (77_000, 1_000));
    assert_eq!(copy[61..], bytes[61..]);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
        let _ = check(&bytes);
        let _ = walk(&bytes).count();
        let _ = patched_header(&bytes, Offset(1), Some(TimestampMs(1)));
    }

    /// Random bytes never have a good checksum; damage inside a valid frame gets further.
    #[test]
    fn no_damage_behind_a_good_checksum_panics(
        at in 21usize..80, value in any::<u8>(), cut in 0usize..20,
    ) {
        let bytes = with(|b| {
            if let Some(byte) = b.get_mut(at) { *byte = value }
            b.truncate(b.len() - cut.min(b.len() - BATCH_HEADER_BYTES));
        });
        prop_assert_eq!(check(&bytes).is_ok(), bytes[16] == 2);
    }

    #[test]
    fn the_combined_checksum_equals_a_computed_one(
        value in proptest::collection::vec(any::<u8>(), 0..300), time in any::<i64>(),
    ) {
        let bytes = batch_of(&[&value]);
        let mut copy = bytes.clone();
        copy[..61].copy_from_slice(
            &patched_header(&bytes, Offset(7), Some(TimestampMs(time))).unwrap());
        prop_assert!(check(&copy).is_ok());
    }
}
