//! Outcomes, the frontier, extents and objects.

use std::sync::Arc;

use ottla_control_api::view::Change;
use ottla_control_api::{FindExtents, TimestampQuery};
use ottla_format::command::*;
use ottla_format::state::ObjectStatus;
use ottla_model::*;

use super::fixture::*;
use crate::state::State;
use crate::state::semantics::OUTCOMES_KEPT_MAX;

fn committed(outcomes: &[BatchOutcome]) -> ObjectOutcome {
    ObjectOutcome::Committed(Arc::from(outcomes))
}

fn one(seq: u64) -> CommitObject {
    object(seq, vec![batch(partition(1, 0), 1, None)])
}

/// (base, last, position, length) of every extent of a partition.
fn extents(fixture: &Fixture, id: PartitionId) -> Vec<(i64, i64, u64, u64)> {
    let find = FindExtents { partition: id, from: Offset(0), max_bytes: u64::MAX };
    let page = fixture.state.find_extents(&find);
    page.extents
        .iter()
        .map(|e| (e.base_offset.0, e.last_offset.0, e.positions().start, e.length()))
        .collect()
}

fn status(fixture: &Fixture, object: u64) -> Option<ObjectStatus> {
    fixture.state.objects.get(ObjectId(object)).map(|object| object.status)
}

#[test]
fn objects_are_decided_in_sequence_and_answered_as_decided_for_ever() {
    let mut fixture = Fixture::new();
    let not_yet = |next| ObjectOutcome::NotYet { next: ObjectSeq(next) };
    assert_eq!(fixture.commit_objects(0, vec![one(1)]), [not_yet(0)]);
    assert_eq!(fixture.abandon(0, 2), not_yet(0));
    let both = fixture.commit_objects(0, vec![one(0), one(1)]);
    assert_eq!(both, [committed(&[appended(0)]), committed(&[appended(1)])]);
    // Again, under another attempt's name, and as an abandon that came too late.
    let other_attempt = CommitObject { attempt: Attempt(9), ..one(0) };
    assert_eq!(fixture.commit_objects(0, vec![other_attempt]), [committed(&[appended(0)])]);
    assert_eq!(fixture.abandon(0, 1), committed(&[appended(1)]));
    assert_eq!(fixture.state.bounds(partition(1, 0)).unwrap().high_watermark, Offset(2));
}

#[test]
fn an_abandoned_object_is_never_committed() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.abandon(0, 0), ObjectOutcome::Abandoned);
    assert_eq!(fixture.commit_objects(0, vec![one(0)]), [ObjectOutcome::Abandoned]);
    assert_eq!(fixture.abandon(0, 0), ObjectOutcome::Abandoned);
    assert_eq!(fixture.commit_objects(0, vec![one(1)]), [committed(&[appended(0)])]);
}

#[test]
fn below_the_frontier_everything_is_refused() {
    let mut fixture = Fixture::new();
    fixture.commit_objects(0, vec![one(0), one(1), one(2)]);
    let below = ObjectOutcome::BelowFrontier;
    let third = committed(&[appended(2)]);
    assert_eq!(fixture.commit_objects(2, vec![one(1), one(2)]), [below.clone(), third.clone()]);
    // A command that was sent earlier, with a lower frontier, takes nothing back.
    assert_eq!(fixture.commit_objects(0, vec![one(0)]), std::slice::from_ref(&below));
    assert_eq!(fixture.abandon(1, 1), below);
    // A frontier beyond what is decided counts up to there.
    assert_eq!(fixture.commit_objects(99, vec![one(2), one(3)])[1], committed(&[appended(3)]));
}

#[test]
fn kept_outcomes_are_bounded_and_go_on_when_the_frontier_moves() {
    let mut fixture = Fixture::new();
    let kept = OUTCOMES_KEPT_MAX as u64;
    let empty: Vec<_> = (0..=kept).map(|seq| object(seq, vec![])).collect();
    let outcomes = fixture.commit_objects(0, empty);
    assert_eq!(outcomes.last(), Some(&ObjectOutcome::NotYet { next: ObjectSeq(kept) }));
    assert_eq!(fixture.commit_objects(1, vec![object(kept, vec![])]), [committed(&[])]);
}

#[test]
fn a_fenced_epoch_changes_nothing() {
    let mut fixture = Fixture::new();
    fixture.commit_objects(0, vec![one(0)]);
    fixture.apply(CommandBody::FenceBroker(fixture.author));
    let fenced = ObjectOutcome::Fenced;
    assert_eq!(fixture.commit_objects(0, vec![one(0), one(1)]), [fenced.clone(), fenced.clone()]);
    assert_eq!(fixture.abandon(0, 1), fenced);
    let allocate = AllocateProducerIds { author: fixture.author, count: 10 };
    let answer = fixture.apply(CommandBody::AllocateProducerIds(allocate));
    assert_eq!(answer, Answer::ProducerIds(Err(Fenced)));
}

#[test]
fn an_extent_spans_what_was_stored_and_never_dead_bytes() {
    let mut fixture = Fixture::new();
    let send = |sequence| batch(partition(1, 0), 2, producer(7, 0, sequence));
    let other = |records| batch(partition(1, 1), records, None);
    // Bytes 64, 164: stored; 264: duplicate; 364: refused; 464, 564: stored; then partition 1.
    let batches = vec![send(0), send(2), send(2), send(9), send(4), send(6), other(1), other(3)];
    fixture.commit(batches);
    assert_eq!(extents(&fixture, partition(1, 0)), [(0, 3, 64, 200), (4, 7, 464, 200)]);
    assert_eq!(extents(&fixture, partition(1, 1)), [(0, 3, 664, 200)]);
    let stored = fixture.state.objects.get(ObjectId(0)).unwrap();
    assert_eq!((stored.references, stored.live_bytes), (3, 600));
}

#[test]
fn a_left_out_batch_splits_the_extent() {
    let mut fixture = Fixture::new();
    let mut written = object(0, vec![batch(partition(1, 0), 1, None); 3]);
    written.batches.remove(1);
    fixture.commit_objects(0, vec![written]);
    assert_eq!(extents(&fixture, partition(1, 0)), [(0, 0, 64, 100), (1, 1, 264, 100)]);
}

#[test]
fn two_objects_never_share_an_extent() {
    let mut fixture = Fixture::new();
    fixture.commit_objects(0, vec![one(0), one(1)]);
    assert_eq!(extents(&fixture, partition(1, 0)), [(0, 0, 64, 100), (1, 1, 64, 100)]);
}

#[test]
fn an_object_without_a_stored_batch_is_condemned_at_once() {
    let mut fixture = Fixture::new();
    let send = |sequence| batch(partition(1, 0), 1, producer(7, 0, sequence));
    fixture.commit(vec![send(0)]);
    fixture.time = 2_000;
    fixture.commit(vec![send(0), send(5), batch(partition(9, 0), 1, None)]);
    fixture.commit(vec![]);
    let condemned = Some(ObjectStatus::Condemned { at: TimestampMs(2_000) });
    assert_eq!(status(&fixture, 0), Some(ObjectStatus::Live));
    assert_eq!((status(&fixture, 1), status(&fixture, 2)), (condemned, condemned));
}

#[test]
fn only_condemned_objects_are_forgotten() {
    let mut fixture = Fixture::new();
    fixture.commit(vec![batch(partition(1, 0), 1, None)]);
    fixture.commit(vec![]);
    let all = vec![ObjectId(0), ObjectId(1), ObjectId(2)];
    fixture.apply(CommandBody::ForgetObjects(all));
    assert_eq!((status(&fixture, 0), status(&fixture, 1)), (Some(ObjectStatus::Live), None));
}

#[test]
fn a_batch_for_a_missing_partition_is_refused_and_the_others_are_stored() {
    let mut fixture = Fixture::new();
    let to = |topic, index| batch(partition(topic, index), 1, None);
    let outcomes = fixture.commit(vec![to(1, 0), to(1, 2), to(1, -1), to(2, 0), to(1, 1)]);
    assert_eq!(outcomes, [appended(0), UNKNOWN, UNKNOWN, UNKNOWN, appended(0)]);
}

#[test]
fn log_append_time_is_the_time_of_the_commit_and_stays_with_a_duplicate() {
    let mut fixture = Fixture::new();
    let mut create = create_topic(2, "second", 1);
    create.configs.insert("message.timestamp.type".to_owned(), "LogAppendTime".to_owned());
    fixture.apply(CommandBody::CreateTopic(create));
    let send = batch(partition(2, 0), 1, producer(7, 0, 0));
    fixture.time = 3_000;
    let (base_offset, log_start) = (Offset(0), Offset(0));
    let append_time = Some(TimestampMs(3_000));
    let outcomes = fixture.commit(vec![send.clone()]);
    assert_eq!(outcomes, [BatchOutcome::Appended { base_offset, append_time, log_start }]);
    fixture.time = 4_000;
    let outcomes = fixture.commit(vec![send]);
    assert_eq!(outcomes, [BatchOutcome::Duplicate { base_offset, append_time, log_start }]);
    let page = fixture.state.find_timestamp(partition(2, 0), TimestampQuery::Max);
    let extent = page.extents.first().unwrap();
    assert_eq!((extent.append_time(), extent.max_timestamp), (append_time, TimestampMs(3_000)));
}

#[test]
fn a_run_that_32_bits_do_not_count_is_several_extents() {
    let mut fixture = Fixture::new();
    let extents = |state: &State| -> Vec<(i64, i64, u64)> {
        let id = partition(1, 0);
        let find = FindExtents { partition: id, from: Offset(0), max_bytes: u64::MAX };
        let found = state.find_extents(&find).extents;
        found.iter().map(|e| (e.base_offset.0, e.last_offset.0, e.length())).collect()
    };
    // Three batches in one object, next to each other, of 2^31 - 1 records each.
    let many = i64::from(i32::MAX);
    fixture.commit(vec![batch(partition(1, 0), i32::MAX, None); 3]);
    let expected = [(0, 2 * many - 1, 200), (2 * many, 3 * many - 1, 100)];
    assert_eq!(extents(&fixture.state), expected);

    let mut fixture = Fixture::new();
    let long = CommitBatch { length: u32::MAX / 2, ..batch(partition(1, 0), 1, None) };
    fixture.commit(vec![long; 3]);
    let length = u64::from(u32::MAX / 2);
    assert_eq!(extents(&fixture.state), [(0, 1, 2 * length), (2, 2, length)]);
}

#[test]
fn replicated_time_never_goes_backward() {
    let mut fixture = Fixture::new();
    fixture.time = 9_000;
    fixture.apply(CommandBody::Tick);
    fixture.time = 100;
    fixture.apply(CommandBody::Tick);
    assert_eq!(fixture.state.time(), TimestampMs(9_000));
}

#[test]
fn a_command_reports_each_partition_once_with_all_that_was_added() {
    let mut fixture = Fixture::new();
    let commit = CommitObjects {
        author: fixture.author,
        frontier: ObjectSeq(0),
        objects: vec![
            object(0, vec![batch(partition(1, 1), 2, None), batch(partition(1, 0), 1, None)]),
            object(1, vec![batch(partition(1, 1), 3, None)]),
            object(2, vec![]),
        ],
    };
    let body = CommandBody::CommitObjects(commit);
    let command = Command { time: TimestampMs(0), body };
    let changes = fixture.state.apply(AppliedIndex(9), &command).changes;
    let seen: Vec<_> = changes
        .iter()
        .map(|change| match change {
            Change::Partition { partition, bounds, extents } => {
                let offsets: Vec<_> = extents.iter().map(|e| e.base_offset.0).collect();
                let objects: Vec<_> = extents.iter().map(|e| e.object().unwrap().id.0).collect();
                (partition.index.0, bounds.high_watermark.0, offsets, objects)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(seen, [(0, 1, vec![0], vec![0]), (1, 5, vec![0, 2], vec![0, 1])]);
}

#[test]
fn extents_are_found_from_inside_and_up_to_the_bytes_asked_for() {
    let mut fixture = Fixture::new();
    for _ in 0..600 {
        fixture.commit(vec![batch(partition(1, 0), 10, None)]);
    }
    let find = |from, max_bytes| {
        let find = FindExtents { partition: partition(1, 0), from: Offset(from), max_bytes };
        let page = fixture.state.find_extents(&find);
        page.extents.iter().map(|e| e.base_offset.0).collect::<Vec<_>>()
    };
    assert_eq!(find(2_565, 250), [2_560, 2_570, 2_580]);
    assert_eq!(find(5_999, 0), [5_990]);
    assert_eq!(find(6_000, 100), [0i64; 0]);
    assert_eq!(find(-1, 1), [0]);
}
