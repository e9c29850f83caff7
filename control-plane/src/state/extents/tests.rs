use ottla_format::state::ExtentLocation;
use ottla_model::{BytePosition, ExtentFlags, ObjectId};
use proptest::prelude::*;

use super::*;

/// One extent in five holds its bytes by value.
fn extent(base: i64, records: i64, object: u64, time: i64) -> ExtentEntry {
    let (object, position) = (ObjectId(object), BytePosition(0));
    let location = match object.0 % 5 {
        4 => ExtentLocation::Inline(object.0.to_le_bytes().into()),
        _ => ExtentLocation::Object { object, position, length: 100 },
    };
    ExtentEntry {
        base_offset: Offset(base),
        last_offset_delta: u32::try_from(records - 1).unwrap(),
        max_timestamp: TimestampMs(time),
        flags: ExtentFlags::NONE,
        location,
    }
}

fn hash(extent: &ExtentEntry) -> u128 {
    let number = match &extent.location {
        ExtentLocation::Object { object, .. } => object.0,
        ExtentLocation::Inline(bytes) => u64::from_le_bytes(bytes[..].try_into().unwrap()),
    };
    u128::from(number) << 64 | u128::from(extent.base_offset.0 as u64)
}

/// Extents of two records each; timestamps go up and down.
fn appended(count: i64) -> Extents {
    let mut extents = Extents::default();
    for at in 0..count {
        let extent = extent(2 * at, 2, at as u64, (at * 7919) % 1000);
        let hash = hash(&extent);
        extents.push(extent, hash);
    }
    extents
}

fn all(extents: &Extents) -> Vec<ExtentEntry> {
    extents.iter().cloned().collect()
}

fn names(extents: &Extents) -> Vec<i64> {
    extents.chunks().filter_map(Chunk::first_offset).map(|offset| offset.0).collect()
}

#[test]
fn every_extent_is_found_by_each_of_its_offsets_at_any_depth() {
    for count in [0, 1, 255, 256, 257, 512, 1_000, 70_000] {
        let extents = appended(count);
        assert_eq!(extents.check(hash), Ok(()));
        for at in (0..count).step_by(1 + count as usize / 300) {
            for offset in [2 * at, 2 * at + 1] {
                let found = extents.from_offset(Offset(offset)).next();
                assert_eq!(found.map(|extent| extent.base_offset), Some(Offset(2 * at)));
            }
        }
        assert_eq!(extents.from_offset(Offset(2 * count)).next(), None);
        let behind = count / 2;
        let rest = extents.from_offset(Offset(2 * behind)).count();
        assert_eq!(rest as i64, count - behind);
    }
}

#[test]
fn a_copy_keeps_what_it_had_and_shares_the_full_chunks() {
    let mut extents = appended(600);
    let copy = extents.clone();
    let next = extent(1_200, 2, 600, 0);
    let hash = hash(&next);
    extents.push(next, hash);
    assert_eq!((copy.len(), extents.len()), (600, 601));
    let shared = |at| copy.chunks().nth(at).unwrap().shares_with(extents.chunks().nth(at).unwrap());
    assert_eq!([shared(0), shared(1), shared(2)], [true, true, false]);
}

#[test]
fn a_rewritten_run_renames_nothing_behind_it() {
    let mut extents = appended(2_000);
    let before = names(&extents);
    let merged = extent(1_030, 2 * 900, 9_999, 5);
    let spliced = extents.replace(Offset(1_030), Offset(2_829), &[merged], hash).unwrap();
    assert_eq!(spliced.removed.len(), 900);
    assert_eq!(extents.check(hash), Ok(()));
    assert_eq!(extents.len(), 1_101);
    let kept = |name: &&i64| **name < 1_024 || **name >= 3_072;
    let expected: Vec<_> = before.iter().filter(kept).collect();
    let after = names(&extents);
    assert_eq!(after.iter().filter(kept).collect::<Vec<_>>(), expected);
    for name in &before {
        let is_told = spliced.chunks.contains(&Offset(*name));
        assert_eq!(is_told, !after.contains(name) || !kept(&name), "chunk {name}");
    }
}

#[test]
fn many_small_rewrites_leave_few_chunks() {
    let mut extents = appended(20_000);
    while extents.len() > 40 {
        let run: Vec<_> = extents.iter().take(20).cloned().collect();
        let mut rest = run.as_slice();
        let mut offset = rest[0].base_offset;
        while let (Some(first), Some(last)) = (rest.first(), rest.get(9)) {
            let (base, end) = (first.base_offset, last.last_offset());
            let merged = extent(base.0, end.0 - base.0 + 1, 1, 1);
            extents.replace(base, end, &[merged], hash).unwrap();
            offset = end.plus(1);
            rest = &rest[10..];
        }
        let passed = extents.trim(offset, hash);
        assert_eq!(passed.removed.len(), 2);
        assert_eq!(extents.check(hash), Ok(()));
        let most = extents.len().div_ceil(CHUNK_LENGTH / 4) + 2;
        assert!(names(&extents).len() <= most, "{} chunks", names(&extents).len());
    }
}

#[test]
fn what_would_break_the_sequence_is_refused_and_changes_nothing() {
    let mut extents = appended(10);
    let before = all(&extents);
    let whole = [extent(4, 4, 1, 1)];
    let cases = [
        (5, 7, &whole[..], SpliceError::NotARun),
        (4, 6, &whole[..], SpliceError::NotARun),
        (7, 4, &whole[..], SpliceError::NotARun),
        (18, 21, &whole[..], SpliceError::NotARun),
        (4, 9, &whole[..], SpliceError::NotCovering),
        (4, 7, &[], SpliceError::NotCovering),
        (4, 7, &[extent(4, 1, 1, 1), extent(6, 2, 1, 1)], SpliceError::NotCovering),
    ];
    for (first, last, new, error) in cases {
        let refused = extents.replace(Offset(first), Offset(last), new, hash);
        assert_eq!(refused, Err(error), "{first} to {last}");
        assert_eq!(all(&extents), before);
    }
}

/// One operation on a sequence; numbers choose places as parts of what there is.
#[derive(Clone, Debug)]
enum Operation {
    Append { count: usize, time: i64 },
    Replace { from: usize, count: usize, pieces: usize, time: i64 },
    Trim { to: usize },
    DropAll,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => (1usize..400, 0i64..50).prop_map(|(count, time)| Operation::Append { count, time }),
        4 => (any::<usize>(), 1usize..600, 1usize..5, 0i64..50).prop_map(
            |(from, count, pieces, time)| Operation::Replace { from, count, pieces, time }
        ),
        2 => any::<usize>().prop_map(|to| Operation::Trim { to }),
        1 => Just(Operation::DropAll),
    ]
}

/// Does the same to the extents and to a plain vector; returns the names of chunks that it was told
/// have changed.
fn perform(
    operation: &Operation,
    extents: &mut Extents,
    model: &mut Vec<ExtentEntry>,
) -> Vec<Offset> {
    let end = |model: &[ExtentEntry]| model.last().map_or(0, |extent| extent.last_offset().0 + 1);
    match *operation {
        Operation::Append { count, time } => {
            let appended = (0..count as i64).map(|at| {
                let new = extent(end(model), 1 + at % 3, at as u64, time + at % 7);
                model.push(new.clone());
                let hash = hash(&new);
                extents.push(new, hash)
            });
            appended.collect()
        }
        Operation::Replace { from, count, pieces, time } => {
            if model.is_empty() {
                return Vec::new();
            }
            let from = from % model.len();
            let until = (from + count).min(model.len());
            let (first, last) = (model[from].base_offset, model[until - 1].last_offset());
            let records = last.0 - first.0 + 1;
            let cuts: Vec<i64> =
                (0..=pieces as i64).map(|at| first.0 + records * at / pieces as i64).collect();
            let new: Vec<_> = cuts
                .windows(2)
                .filter(|cut| cut[0] < cut[1])
                .map(|cut| extent(cut[0], cut[1] - cut[0], 7_777, time))
                .collect();
            let spliced = extents.replace(first, last, &new, hash).unwrap();
            let removed: Vec<_> = model.splice(from..until, new).collect();
            assert_eq!(spliced.removed, removed);
            spliced.chunks
        }
        Operation::Trim { to } => {
            let first = model.first().map_or(0, |extent| extent.base_offset.0);
            let to = Offset(first + (to as u64 % (end(model) - first + 1) as u64) as i64);
            let spliced = extents.trim(to, hash);
            let gone = model.iter().take_while(|extent| extent.last_offset() < to).count();
            let removed: Vec<_> = model.drain(..gone).collect();
            assert_eq!(spliced.removed, removed);
            spliced.chunks
        }
        Operation::DropAll => {
            model.clear();
            let dropped = std::mem::take(extents);
            dropped.chunks().filter_map(Chunk::first_offset).collect()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_operations_do_what_they_do_to_a_vector(
        operations in proptest::collection::vec(operation(), 1..40),
    ) {
        let (mut extents, mut model) = (Extents::default(), Vec::new());
        let mut copies = Vec::new();
        for operation in &operations {
            copies.push((extents.clone(), model.clone()));
            perform(operation, &mut extents, &mut model);
            prop_assert_eq!(extents.check(hash), Ok(()));
            prop_assert_eq!(all(&extents), model.clone());
            for time in 0..60 {
                let scanned = model.iter().find(|extent| extent.max_timestamp.0 >= time);
                prop_assert_eq!(extents.find_timestamp(TimestampMs(time)), scanned);
            }
            let max = model.iter().map(|extent| extent.max_timestamp).max();
            let first = model.iter().find(|extent| Some(extent.max_timestamp) == max);
            prop_assert_eq!(extents.find_max_timestamp(), first);
        }
        for (copy, model) in copies {
            prop_assert_eq!(all(&copy), model);
        }
    }

    #[test]
    fn dirty_names_are_enough_to_bring_a_stored_copy_up_to_date(
        operations in proptest::collection::vec(operation(), 1..30),
    ) {
        let (mut extents, mut model) = (Extents::default(), Vec::new());
        let mut stored: std::collections::BTreeMap<Offset, Vec<ExtentEntry>> = Default::default();
        for operation in &operations {
            for name in perform(operation, &mut extents, &mut model) {
                match extents.chunk(name) {
                    Some(chunk) => stored.insert(name, chunk.extents().to_vec()),
                    None => stored.remove(&name),
                };
            }
            let mut loaded = Extents::default();
            for chunk in stored.values() {
                prop_assert_eq!(loaded.push_chunk(chunk.clone(), hash), Some(()));
            }
            prop_assert_eq!(loaded.check(hash), Ok(()));
            prop_assert_eq!((all(&loaded), names(&loaded)), (all(&extents), names(&extents)));
            prop_assert_eq!(loaded.digest(), extents.digest());
        }
    }
}
