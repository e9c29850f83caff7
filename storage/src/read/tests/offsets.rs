//! Which offsets can be read, and who says so: the view, or the leader.

use ottla_control_api::{PartitionBounds, TimestampQuery};
use ottla_model::Offset;

use tokio::time::Instant;

use super::world::{CLIENT, World, bases, change, partition, request, sized};
use crate::limits::FETCH_QUESTION_TIME_MAX;
use crate::read::{Isolation, ReadError};
use ottla_test_kit::values::bounds;

#[tokio::test]
async fn read_committed_stops_at_the_last_stable_offset() {
    let world = World::new().await;
    let extents = world.object(&[(0, &[sized(2, 200), sized(2, 200), sized(2, 200)])]).await;
    let stable = PartitionBounds { last_stable: Offset(4), ..bounds(0, 6) };
    world.publish(0, stable, extents).await;
    let mut committed = request(&[(0, 0)]);
    committed.isolation = Isolation::Committed;
    assert_eq!(bases(&world.reader.fetch(committed.clone()).await[0]), [0, 2]);
    change(&mut committed, |partition| partition.offset = Offset(4));
    let at_end = world.reader.fetch(committed).await;
    assert_eq!((at_end[0].records.length, &at_end[0].error), (0, &None));
    assert_eq!(at_end[0].bounds, stable);
}

#[tokio::test]
async fn out_of_range_is_said_only_after_asking_the_leader() {
    let world = World::new().await;
    world.append(0, 0, &[sized(2, 200)]).await;
    // The view is behind: the leader has more, and so the offset is right.
    let more = world.object(&[(2, &[sized(2, 200)])]).await;
    world.control.set(partition(0), bounds(0, 4), more);
    assert_eq!(bases(&world.fetch(&[(0, 3)]).await[0]), [2]);
    let at_end = world.fetch(&[(0, 4)]).await;
    assert_eq!((at_end[0].bounds, &at_end[0].error), (bounds(0, 4), &None));

    let above = world.fetch(&[(0, 5)]).await;
    assert_eq!(above[0].error, Some(ReadError::OffsetOutOfRange));
    assert_eq!(above[0].bounds, bounds(0, 4));
    world.control.set(partition(0), bounds(2, 4), Vec::new());
    let mut trimmed = world.fetch(&[(0, -1)]).await;
    assert_eq!(trimmed.remove(0).error, Some(ReadError::OffsetOutOfRange));
    world.control.set_away(true);
    assert!(matches!(world.fetch(&[(0, 9)]).await[0].error, Some(ReadError::Unavailable(_))));
}

#[tokio::test]
async fn what_the_leader_answers_to_any_question_is_not_taken_back_by_a_fetch() {
    let world = World::new().await;
    world.append(0, 0, &[sized(2, 200)]).await;
    let view_is_behind = |to| {
        let more = bounds(0, to);
        assert!(world.view.bounds(partition(0)).unwrap().high_watermark < Offset(to));
        world.control.set(partition(0), more, Vec::new());
        more
    };
    let seen_by_a_fetch = async || world.fetch(&[(0, 0)]).await[0].bounds;

    let ahead = view_is_behind(4);
    assert_eq!(world.reader.bounds(partition(0)).await, Ok(ahead));
    assert_eq!(seen_by_a_fetch().await, ahead);

    let ahead = view_is_behind(6);
    let query = TimestampQuery::Max;
    world.reader.offset_at(CLIENT, partition(0), query, Isolation::Uncommitted).await.unwrap();
    assert_eq!(seen_by_a_fetch().await, ahead);
}

#[tokio::test]
async fn an_answer_that_the_view_has_passed_is_not_shown() {
    let world = World::new().await;
    world.append(0, 0, &[sized(2, 200)]).await;
    world.control.set(partition(0), bounds(0, 1), Vec::new());
    assert_eq!(world.reader.bounds(partition(0)).await, Ok(bounds(0, 2)));
    let unknown = world.reader.bounds(partition(99)).await;
    assert_eq!(unknown, Err(ReadError::UnknownPartition));
}

#[tokio::test]
async fn an_unknown_partition_does_not_disturb_the_others() {
    let world = World::new().await;
    world.append(0, 0, &[sized(2, 200)]).await;
    let fetched = world.fetch(&[(99, 0), (0, 0)]).await;
    assert_eq!(fetched[0].error, Some(ReadError::UnknownPartition));
    assert_eq!(bases(&fetched[1]), [0]);
}

#[tokio::test]
async fn older_records_are_found_through_the_control_plane() {
    let world = World::new().await;
    let old = world.object(&[(0, &[sized(5, 500)])]).await;
    world.control.set(partition(0), bounds(0, 5), old);
    world.append(0, 5, &[sized(5, 500)]).await;
    assert_eq!(bases(&world.fetch(&[(0, 0)]).await[0]), [0, 5]);
    assert_eq!(world.control.finds(), 1);
    world.reader.stop().await;
}

#[tokio::test(start_paused = true)]
async fn very_many_questions_have_no_more_time_than_one() {
    let world = World::new().await;
    world.append(0, 0, &[sized(1, 100)]).await;
    world.control.hang_questions(true);
    // Behind the end: only the leader can tell that they do not exist.
    let beyond: Vec<_> = (0..1_000).map(|_| (0, 50)).collect();
    let began = Instant::now();
    let fetched = world.reader.fetch(request(&beyond)).await;
    assert!(began.elapsed() <= FETCH_QUESTION_TIME_MAX, "{:?}", began.elapsed());
    assert_eq!(fetched.len(), 1_000);
    assert!(fetched.iter().all(|f| matches!(f.error, Some(ReadError::Unavailable(_)))));
}
