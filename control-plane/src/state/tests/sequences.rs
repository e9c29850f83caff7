//! The rules for idempotent producers, as tables: (epoch, first sequence, records) and the outcome.

use super::fixture::*;
use ottla_format::command::BatchOutcome;

const P: i64 = 7;
const MAX: i32 = i32::MAX;

/// Sends the batches one by one, each in an object of its own, to one partition.
fn table(rows: &[((i16, i32, i32), BatchOutcome)]) {
    let mut fixture = Fixture::new();
    for (at, ((epoch, sequence, records), expected)) in rows.iter().enumerate() {
        let batch = batch(partition(1, 0), *records, producer(P, *epoch, *sequence));
        assert_eq!(fixture.commit(vec![batch]), [*expected], "row {at}");
    }
}

#[test]
fn sequences_follow_each_other() {
    table(&[
        ((0, 0, 3), appended(0)),
        ((0, 3, 1), appended(3)),
        ((0, 5, 1), OUT_OF_ORDER),
        ((0, 4, 2), appended(4)),
        ((0, 5, 2), OUT_OF_ORDER),
    ]);
}

#[test]
fn an_unknown_producer_may_begin_anywhere() {
    table(&[((3, 41, 2), appended(0)), ((3, 43, 1), appended(2)), ((3, 42, 1), OUT_OF_ORDER)]);
}

#[test]
fn each_of_the_last_five_batches_is_recognised_and_the_sixth_is_not() {
    table(&[
        ((0, 0, 1), appended(0)),
        ((0, 1, 2), appended(1)),
        ((0, 3, 1), appended(3)),
        ((0, 4, 1), appended(4)),
        ((0, 5, 1), appended(5)),
        ((0, 6, 1), appended(6)),
        ((0, 6, 1), duplicate(6)),
        ((0, 5, 1), duplicate(5)),
        ((0, 4, 1), duplicate(4)),
        ((0, 3, 1), duplicate(3)),
        ((0, 1, 2), duplicate(1)),
        ((0, 0, 1), OUT_OF_ORDER),
        ((0, 1, 1), OUT_OF_ORDER),
        ((0, 7, 1), appended(7)),
    ]);
}

#[test]
fn sequences_wrap_from_the_largest_to_zero() {
    table(&[
        ((0, MAX - 1, 2), appended(0)),
        ((0, 0, 1), appended(2)),
        ((0, MAX - 1, 2), duplicate(0)),
        ((0, 1, 1), appended(3)),
    ]);
}

#[test]
fn a_batch_may_straddle_the_wrap() {
    table(&[
        ((0, MAX - 1, 4), appended(0)),
        ((0, MAX - 1, 4), duplicate(0)),
        ((0, 1, 1), OUT_OF_ORDER),
        ((0, 2, 1), appended(4)),
        ((0, MAX - 1, 4), duplicate(0)),
    ]);
}

#[test]
fn a_newer_epoch_must_begin_at_zero_and_forgets_the_older_one() {
    table(&[
        ((0, 0, 5), appended(0)),
        ((1, 5, 1), OUT_OF_ORDER),
        ((1, 0, 2), appended(5)),
        ((0, 0, 5), STALE),
        ((0, 5, 1), STALE),
        ((1, 0, 2), duplicate(5)),
        ((3, 0, 1), appended(7)),
        ((2, 0, 1), STALE),
    ]);
}

#[test]
fn several_batches_of_one_commit_are_checked_in_order() {
    let mut fixture = Fixture::new();
    let send = |sequence, records| batch(partition(1, 0), records, producer(P, 0, sequence));
    let outcomes = fixture.commit(vec![send(0, 2), send(2, 1), send(2, 1), send(4, 1), send(3, 1)]);
    assert_eq!(outcomes, [appended(0), appended(2), duplicate(2), OUT_OF_ORDER, appended(3)]);
}

#[test]
fn partitions_and_producers_do_not_touch_each_other() {
    let mut fixture = Fixture::new();
    let outcomes = fixture.commit(vec![
        batch(partition(1, 0), 2, producer(1, 0, 0)),
        batch(partition(1, 0), 2, producer(2, 0, 10)),
        batch(partition(1, 0), 1, None),
        batch(partition(1, 1), 2, producer(1, 0, 30)),
    ]);
    assert_eq!(outcomes, [appended(0), appended(2), appended(4), appended(0)]);
}
