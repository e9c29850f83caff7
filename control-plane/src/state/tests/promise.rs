//! A change that meets a broken promise panics, and the line says which one.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ottla_format::command::{Answer, Command, CommandBody, CommitObjects, ObjectOutcome};
use ottla_model::*;

use super::fixture::*;
use crate::state::State;

/// The line with which the next commit ends after `damage`; `None` when it does not.
fn line_after(damage: impl FnOnce(&mut State)) -> Option<String> {
    let mut fixture = Fixture::new();
    let commit = |seq| {
        let objects = vec![object(seq, vec![batch(partition(1, 0), 2, None)])];
        let author = fixture.author;
        CommandBody::CommitObjects(CommitObjects { author, frontier: ObjectSeq(0), objects })
    };
    let (first, second) = (commit(0), commit(1));
    let answer = fixture.apply(first);
    assert!(
        matches!(&answer, Answer::Commits(all) if matches!(all[..], [ObjectOutcome::Committed(_)]))
    );
    let mut state = fixture.state;
    damage(&mut state);
    let index = AppliedIndex(state.applied().0 + 1);
    let command = Command { time: TimestampMs(2_000), body: second };
    let panic = catch_unwind(AssertUnwindSafe(|| state.apply(index, &command))).err()?;
    Some(*panic.downcast::<String>().expect("a line"))
}

#[track_caller]
fn assert_names(line: Option<String>, promise: &str) {
    let line = line.expect("a broken promise");
    assert!(line.starts_with(&format!("{promise} is broken: ")), "{line}");
    assert!(line.contains("Please report"), "{line}");
}

#[test]
fn a_sound_state_takes_the_commit() {
    assert_eq!(line_after(|_| {}), None);
}

#[test]
fn an_offset_given_twice_or_left_out_is_noticed() {
    let moved_by = |by: i64| {
        line_after(|state| {
            let partition = state.topics.partition_mut(partition(1, 0)).unwrap();
            partition.next_offset = partition.next_offset.plus(by);
        })
    };
    assert_names(moved_by(-1), "I-DENSE");
    assert_names(moved_by(1), "I-DENSE");
    let trimmed = line_after(|state| {
        state.topics.partition_mut(partition(1, 0)).unwrap().log_start = Offset(-1);
    });
    assert_names(trimmed, "I-DENSE");
}

#[test]
fn a_number_given_twice_is_noticed() {
    let object_again = line_after(|state| state.books.counters.next_object = ObjectId(0));
    assert_names(object_again, "I-ONE");
    let epoch_again = line_after(|state| state.books.counters.next_broker_epoch = BrokerEpoch(1));
    assert_names(epoch_again, "I-FENCE");
}

#[test]
fn a_lost_outcome_is_noticed() {
    let lost = line_after(|state| {
        state.brokers.broker_mut(BrokerId(1)).unwrap().outcomes = Default::default();
    });
    assert_names(lost, "I-FENCE");
}

#[test]
fn an_entry_out_of_the_logs_order_is_noticed() {
    let mut state = State::new(CLUSTER);
    state.skip_to(AppliedIndex(3));
    let tick = Command { time: TimestampMs(1), body: CommandBody::Tick };
    let again = catch_unwind(AssertUnwindSafe(|| state.apply(AppliedIndex(3), &tick))).unwrap_err();
    assert_names(Some(*again.downcast::<String>().unwrap()), "The order of the log");
}

#[test]
fn an_object_that_loses_more_than_it_has_is_noticed() {
    let mut fixture = Fixture::new();
    fixture.commit(vec![batch(partition(1, 0), 2, None)]);
    let mut state = fixture.state;
    state.objects.change(ObjectId(0), &mut state.books, |entry| entry.live_bytes -= 1);
    let index = AppliedIndex(state.applied().0 + 1);
    let body = CommandBody::DeleteTopic(TopicId(1));
    let delete = Command { time: TimestampMs(2_000), body };
    let panic = catch_unwind(AssertUnwindSafe(|| state.apply(index, &delete))).unwrap_err();
    assert_names(Some(*panic.downcast::<String>().unwrap()), "I-LIVE");
}
