//! Trims and replacements among ordinary commands, and the three ways to the same state.

use std::collections::BTreeMap;

use ottla_env::Random;
use ottla_format::state::{ExtentEntry, ExtentLocation, ObjectEntry, ObjectStatus};
use ottla_model::*;

use super::fixture::*;
use crate::state::State;
use crate::state::changed::RecordChange;
use crate::state::changes::Changes;
use crate::state::extents::SpliceError;
use crate::state::inline::InlineRun;
use crate::state::rewrite::ReplaceError;

/// One step of a history, which can be repeated on another state.
#[derive(Clone, Debug)]
enum Step {
    Commit { partition: PartitionId, batches: usize },
    Inline { partition: PartitionId, fill: u8 },
    Trim { partition: PartitionId, to: Offset },
    Replace { partition: PartitionId, run: (Offset, Offset), pieces: i64 },
    DeleteAndCreate,
}

const PARTITIONS: i32 = 2;

fn object_entry(number: u64) -> ObjectEntry {
    ObjectEntry {
        name: ObjectName::merged(JobId(number), LeaseNonce(1), JobOutput(0), Attempt(2)),
        size: 1 << 20,
        live_bytes: 0,
        references: 0,
        status: ObjectStatus::Live,
    }
}

/// Extents that cover a run's offsets in about equal pieces, in one object; of more than two, the last
/// holds its bytes by value.
fn pieces(object: ObjectId, (first, last): (Offset, Offset), pieces: i64) -> Vec<ExtentEntry> {
    let records = last.0 - first.0 + 1;
    let cuts: Vec<i64> = (0..=pieces).map(|at| first.0 + records * at / pieces).collect();
    let cuts = cuts.windows(2).filter(|cut| cut[0] < cut[1]);
    cuts.enumerate()
        .map(|(at, cut)| ExtentEntry {
            base_offset: Offset(cut[0]),
            last_offset_delta: (cut[1] - 1 - cut[0]) as u32,
            max_timestamp: TimestampMs(cut[0] % 97),
            flags: ExtentFlags::FINAL_HEADERS,
            location: match at {
                2 => ExtentLocation::Inline(vec![cut[0] as u8; 40].into()),
                _ => ExtentLocation::Object { object, position: BytePosition(64), length: 50 },
            },
        })
        .collect()
}

/// Some batches by value, which differ by `fill`.
fn inline(fill: u8) -> InlineRun {
    InlineRun {
        bytes: vec![fill; 1 + usize::from(fill)].into(),
        last_offset_delta: u32::from(fill % 5),
        max_timestamp: TimestampMs(i64::from(fill)),
        flags: ExtentFlags::NONE,
    }
}

impl Step {
    fn random(random: &Random, fixture: &Fixture, topic: u128) -> Self {
        let partition = partition(topic, random.below(PARTITIONS as u64) as i32);
        let state = fixture.state.topics.partition(partition).unwrap();
        let extents: Vec<_> = state.extents().iter().cloned().collect();
        let next = state.bounds().high_watermark;
        match random.below(12) {
            10.. => Self::Inline { partition, fill: random.below(256) as u8 },
            0..5 => Self::Commit { partition, batches: 1 + random.below(40) as usize },
            5..8 if !extents.is_empty() => {
                let from = random.below(extents.len() as u64) as usize;
                let until = (from + random.below(300) as usize).min(extents.len() - 1);
                let run = (extents[from].base_offset, extents[until].last_offset());
                Self::Replace { partition, run, pieces: 1 + random.below(4) as i64 }
            }
            8 => Self::Trim { partition, to: Offset(random.below(next.0 as u64 + 1) as i64) },
            9 if random.chance(0.2) => Self::DeleteAndCreate,
            _ => Self::Commit { partition, batches: 300 },
        }
    }

    fn perform(&self, fixture: &mut Fixture, topic: &mut u128) {
        match *self {
            Self::Commit { partition, batches } => {
                // An object of its own for each batch: neighbours make no common extent.
                for _ in 0..batches {
                    let commit = vec![batch(partition, 2, None)];
                    fixture.commit_unchecked(commit);
                }
            }
            Self::Inline { partition, fill } => {
                let changes = &mut Changes::default();
                fixture.state.append_inline(partition, inline(fill), changes).unwrap();
            }
            Self::Trim { partition, to } => fixture.state.trim_partition(partition, to),
            Self::Replace { partition, run, pieces: count } => {
                let number = fixture.state.books.counters.next_object;
                let entry = object_entry(number.0);
                let new = |object| pieces(object, run, count);
                fixture.state.replace_by_object(partition, run, entry, new).unwrap();
            }
            Self::DeleteAndCreate => {
                fixture.delete_topic(*topic);
                *topic += 1;
                fixture.create_topic(*topic, "again", PARTITIONS).unwrap();
            }
        }
    }
}

/// A checkpoint as it lies on disk.
#[derive(Default)]
struct Stored(BTreeMap<Vec<u8>, Vec<u8>>);

impl Stored {
    fn bring_up_to_date(&mut self, state: &mut State) {
        let (copy, dirty) = state.cut_checkpoint();
        copy.changed_records(&dirty, &mut |change| match change {
            RecordChange::Put((key, value)) => drop(self.0.insert(key, value)),
            RecordChange::Remove(key) => drop(self.0.remove(&key)),
            RecordChange::RemovePrefix(prefix) => {
                self.0.retain(|key, _| !key.starts_with(&prefix));
            }
        });
    }
}

#[test]
fn log_checkpoint_and_snapshot_lead_to_one_state_whatever_is_rewritten() {
    for seed in 0..12 {
        let random = Random::seeded(seed);
        let (mut fixture, mut topic) = (Fixture::new(), 1);
        let (mut replayed, mut replayed_topic) = (Fixture::new(), 1);
        let mut stored = Stored::default();
        for step in 0..60 {
            let next = Step::random(&random, &fixture, topic);
            let before = fixture.state.clone();
            next.perform(&mut fixture, &mut topic);
            fixture.state.check().unwrap_or_else(|e| panic!("seed {seed}, {step}, {next:?}: {e}"));
            crate::state::invariants::forward(&before, &fixture.state).unwrap();
            before.check().unwrap();
            next.perform(&mut replayed, &mut replayed_topic);
            if random.chance(0.3) {
                stored.bring_up_to_date(&mut fixture.state);
                let records = stored.0.iter();
                let loaded = State::from_records(fixture.state.identity(), records).unwrap();
                loaded.check().unwrap();
                assert_eq!(loaded.digest(), fixture.state.recompute_digest());
            }
        }
        let state = &fixture.state;
        assert_eq!(replayed.state.digest(), state.digest(), "seed {seed}");
        let snapshot = State::from_records(state.identity(), state.records()).unwrap();
        snapshot.check().unwrap();
        assert_eq!(snapshot.digest(), state.digest());
    }
}

#[test]
fn a_trim_may_end_inside_an_extent_and_releases_only_what_ends_before_it() {
    let mut fixture = Fixture::new();
    for _ in 0..3 {
        fixture.commit(vec![batch(partition(1, 0), 10, None)]);
    }
    let bounds = |state: &State| state.bounds(partition(1, 0)).unwrap();
    let live = |state: &State| {
        let objects = state.objects().iter();
        objects.filter(|(_, object)| object.status == ObjectStatus::Live).count()
    };
    fixture.state.trim_partition(partition(1, 0), Offset(15));
    fixture.state.check().unwrap();
    assert_eq!((bounds(&fixture.state).log_start, live(&fixture.state)), (Offset(15), 2));
    fixture.state.trim_partition(partition(1, 0), Offset(3));
    assert_eq!(bounds(&fixture.state).log_start, Offset(15), "never back");
    fixture.state.trim_partition(partition(1, 0), Offset(99));
    fixture.state.check().unwrap();
    let empty = bounds(&fixture.state);
    assert_eq!((empty.log_start, empty.high_watermark), (Offset(30), Offset(30)));
    assert_eq!(live(&fixture.state), 0);
    assert_eq!(fixture.commit(vec![batch(partition(1, 0), 1, None)]).len(), 1);
}

#[test]
fn a_replacement_that_does_not_fit_changes_nothing() {
    let mut fixture = Fixture::new();
    fixture.commit(vec![batch(partition(1, 0), 10, None)]);
    let digest = fixture.state.digest();
    let mut replace = |id, run: (i64, i64), covered: (i64, i64)| {
        let covered = (Offset(covered.0), Offset(covered.1));
        let new = |object| pieces(object, covered, 1);
        let run = (Offset(run.0), Offset(run.1));
        fixture.state.replace_by_object(id, run, object_entry(5), new).unwrap_err()
    };
    let known = partition(1, 0);
    assert_eq!(replace(partition(9, 0), (0, 9), (0, 9)), ReplaceError::UnknownPartition);
    assert_eq!(replace(known, (0, 8), (0, 8)), ReplaceError::Splice(SpliceError::NotARun));
    assert_eq!(replace(known, (0, 9), (0, 8)), ReplaceError::Splice(SpliceError::NotCovering));
    assert_eq!(fixture.state.digest(), digest);
    fixture.state.check().unwrap();
}
