//! Extents whose bytes the state itself holds: kept, counted, shown and let go like all others.

use ottla_control_api::view::{Change, Extent, ExtentBytes};
use ottla_control_api::{FindExtents, TimestampQuery};
use ottla_format::state::{EXTENT_INLINE_BYTES_MAX, StateRecord};
use ottla_model::*;

use super::fixture::*;
use crate::limits::EXTENT_PAGE_INLINE_BYTES_MAX;
use crate::state::changes::Changes;
use crate::state::inline::InlineRun;
use crate::state::{RecordDigest, State};

const FLAGS: ExtentFlags = ExtentFlags::CONTROL.with(ExtentFlags::TRANSACTIONAL);

/// `records` records in `length` bytes, all with this timestamp.
fn run(records: u32, length: usize, time: i64) -> InlineRun {
    InlineRun {
        bytes: vec![time as u8; length].into(),
        last_offset_delta: records - 1,
        max_timestamp: TimestampMs(time),
        flags: FLAGS,
    }
}

fn append(state: &mut State, run: InlineRun) -> (Option<Offset>, Vec<Change>) {
    let mut changes = Changes::default();
    let base_offset = state.append_inline(partition(1, 0), run, &mut changes);
    state.check().unwrap();
    (base_offset, changes.finish())
}

/// A batch in an object with two records, then 61 bytes by value with three, then one in an object.
fn mixed() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.commit(vec![batch(partition(1, 0), 2, None)]);
    assert_eq!(append(&mut fixture.state, run(3, 61, 9_000)).0, Some(Offset(2)));
    fixture.commit(vec![batch(partition(1, 0), 1, None)]);
    fixture
}

fn find(state: &State, from: i64, max_bytes: u64) -> Vec<std::sync::Arc<Extent>> {
    let find = FindExtents { partition: partition(1, 0), from: Offset(from), max_bytes };
    state.find_extents(&find).extents
}

#[test]
fn bytes_by_value_have_their_place_among_offsets_and_are_found_by_each_of_them() {
    let fixture = mixed();
    let bounds = fixture.state.bounds(partition(1, 0)).unwrap();
    assert_eq!(bounds.high_watermark, Offset(6));
    let places: Vec<_> = find(&fixture.state, 0, u64::MAX)
        .iter()
        .map(|extent| (extent.base_offset.0, extent.last_offset.0, extent.length()))
        .collect();
    assert_eq!(places, [(0, 1, 100), (2, 4, 61), (5, 5, 100)]);
    for offset in 2..5 {
        let found = find(&fixture.state, offset, 61);
        assert_eq!(found.len(), 1, "their length counts");
        assert_eq!(found[0].bytes, ExtentBytes::Inline(vec![9_000_i64 as u8; 61].into()));
        assert_eq!((found[0].flags, found[0].max_timestamp), (FLAGS, TimestampMs(9_000)));
    }
}

#[test]
fn a_time_is_looked_up_in_them() {
    let fixture = mixed();
    let found = |query| {
        let page = fixture.state.find_timestamp(partition(1, 0), query);
        page.extents.first().map(|extent| extent.base_offset.0)
    };
    assert_eq!(found(TimestampQuery::AtOrAfter(TimestampMs(5_001))), Some(2));
    assert_eq!(found(TimestampQuery::AtOrAfter(TimestampMs(9_001))), None);
    assert_eq!(found(TimestampQuery::Max), Some(2));
}

#[test]
fn watchers_are_shown_them() {
    let mut fixture = Fixture::new();
    let (_, changes) = append(&mut fixture.state, run(3, 61, 1));
    let bounds = fixture.state.bounds(partition(1, 0)).unwrap();
    let extents = find(&fixture.state, 0, 1);
    assert_eq!(changes, [Change::Partition { partition: partition(1, 0), bounds, extents }]);
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let mut fixture = Fixture::new();
    let before = fixture.state.digest();
    for length in [0, EXTENT_INLINE_BYTES_MAX + 1] {
        assert_eq!(append(&mut fixture.state, run(1, length, 0)), (None, vec![]));
    }
    let changes = &mut Changes::default();
    let nowhere = fixture.state.append_inline(partition(9, 0), run(1, 61, 0), changes);
    assert_eq!((nowhere, fixture.state.digest()), (None, before));
    assert!(append(&mut fixture.state, run(1, EXTENT_INLINE_BYTES_MAX, 0)).0.is_some());
}

#[test]
fn an_answer_has_a_bound_for_them_besides_what_is_asked_for() {
    let mut fixture = Fixture::new();
    let most = EXTENT_PAGE_INLINE_BYTES_MAX as usize / EXTENT_INLINE_BYTES_MAX;
    for _ in 0..most + 5 {
        append(&mut fixture.state, run(1, EXTENT_INLINE_BYTES_MAX, 0));
    }
    assert_eq!(find(&fixture.state, 0, u64::MAX).len(), most);
    assert_eq!(find(&fixture.state, most as i64, u64::MAX).len(), 5);
}

#[test]
fn they_are_counted_in_the_size_until_they_are_gone() {
    let mut fixture = mixed();
    let inline = |state: &State| state.size().inline_bytes;
    let with = fixture.state.size();
    assert_eq!(with.inline_bytes, 61);
    append(&mut fixture.state, run(1, 1_000, 0));
    assert_eq!(inline(&fixture.state), 1_061);
    assert!(fixture.state.size().bytes() >= with.bytes() + 1_000);

    fixture.state.trim_partition(partition(1, 0), Offset(4));
    assert_eq!(inline(&fixture.state), 1_061, "the log start lies in the first");
    fixture.state.trim_partition(partition(1, 0), Offset(5));
    fixture.state.check().unwrap();
    assert_eq!(inline(&fixture.state), 1_000);
    fixture.delete_topic(1);
    assert_eq!(inline(&fixture.state), 0);
}

#[test]
fn no_object_is_kept_by_them() {
    let mut fixture = mixed();
    fixture.state.trim_partition(partition(1, 0), Offset(2));
    fixture.state.check().unwrap();
    let condemned = fixture.state.condemned(TimestampMs(i64::MAX), 10);
    assert_eq!(condemned.due.len(), 1);
}

#[test]
fn a_copy_keeps_them_when_the_state_goes_on() {
    let mut fixture = mixed();
    let copy = fixture.state.clone();
    let shown = find(&copy, 0, u64::MAX);
    fixture.delete_topic(1);
    copy.check().unwrap();
    assert_eq!(find(&copy, 0, u64::MAX), shown);
}

#[test]
fn records_hold_them_and_the_digest_covers_every_byte_of_them() {
    let fixture = mixed();
    let state = &fixture.state;
    let loaded = State::from_records(state.identity(), state.records()).unwrap();
    loaded.check().unwrap();
    assert_eq!(find(&loaded, 0, u64::MAX), find(state, 0, u64::MAX));
    let mut of_records = RecordDigest::default();
    for (key, value) in state.records() {
        of_records.add(&StateRecord::decode(&key, &value).unwrap());
    }
    assert_eq!(of_records.sum(), state.digest());

    let other = |run: InlineRun| {
        let mut fixture = Fixture::new();
        append(&mut fixture.state, run);
        fixture.state.digest()
    };
    let mut changed = run(3, 61, 9);
    changed.bytes =
        changed.bytes.iter().enumerate().map(|(at, b)| b ^ u8::from(at == 60)).collect();
    assert_ne!(other(run(3, 61, 9)), other(changed));
}
