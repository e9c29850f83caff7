//! Extents of every kind: by value, and of merged objects, whose batches have final headers.

use std::sync::Arc;

use ottla_control_api::TimestampQuery;
use ottla_model::{ExtentFlags, Offset, TimestampMs, TimestampType};
use ottla_wire::batch;

use super::world::{CLIENT, World, bases, batch_of, change, finished, partition, request, sized};
use crate::read::Isolation;
use ottla_test_kit::values::bounds;

/// Two batches in an object, two by value, one in another object; records 0 to 8.
async fn mixed(world: &World) {
    let first = world.object(&[(0, &[sized(2, 300), sized(1, 300)])]).await;
    let inline = World::inline(3, &[sized(2, 3_000), sized(2, 300)]);
    let last = world.object(&[(7, &[sized(2, 300)])]).await;
    let extents = vec![Arc::clone(&first[0]), inline, Arc::clone(&last[0])];
    world.publish(0, bounds(0, 9), extents).await;
}

#[tokio::test]
async fn bytes_by_value_are_served_between_those_of_objects() {
    let world = World::new().await;
    mixed(&world).await;
    let fetched = world.fetch(&[(0, 0)]).await;
    assert_eq!((bases(&fetched[0]), &fetched[0].error), (vec![0, 2, 3, 5, 7], &None));
    assert_eq!(world.store.reads().len(), 2, "one of each object");
}

#[tokio::test]
async fn bytes_by_value_are_served_without_the_store() {
    let world = World::new().await;
    world.publish(0, bounds(0, 4), vec![World::inline(0, &[sized(3, 300), sized(1, 300)])]).await;
    for (offset, expected) in [(0, vec![0, 3]), (1, vec![0, 3]), (3, vec![3])] {
        assert_eq!(bases(&world.fetch(&[(0, offset)]).await[0]), expected);
    }
    assert!(world.store.reads().is_empty());
}

#[tokio::test]
async fn bytes_by_value_that_the_view_forgot_come_with_the_leaders_answer() {
    let world = World::new().await;
    let inline = World::inline(0, &[sized(3, 300)]);
    world.publish(0, bounds(0, 3), vec![]).await;
    world.control.set(partition(0), bounds(0, 3), vec![inline]);
    assert_eq!(bases(&world.fetch(&[(0, 1)]).await[0]), [0]);
    assert_eq!(world.control.finds(), 1);
}

#[tokio::test]
async fn extents_of_all_kinds_are_taken_in_parts() {
    let world = World::new().await;
    mixed(&world).await;
    for max_bytes in [1, 400, 3_100, 3_400] {
        let (mut next, mut found) = (0, Vec::new());
        while next < 9 {
            let mut request = request(&[(0, next)]);
            change(&mut request, |partition| partition.max_bytes = max_bytes);
            let fetched = world.reader.fetch(request).await;
            let got = bases(&fetched[0]);
            let last = batch::walk(&fetched[0].records.pieces.concat()).last().unwrap().unwrap().0;
            next = last.base_offset + i64::from(last.last_offset_delta) + 1;
            found.extend(got);
        }
        assert_eq!(found, [0, 2, 3, 5, 7], "{max_bytes} bytes at a time");
    }
}

#[tokio::test]
async fn a_time_is_looked_up_in_bytes_by_value() {
    let world = World::new().await;
    let batches = [batch_of(&[10, 30, 20], 10, false), batch_of(&[40, 50], 10, true)];
    world.publish(0, bounds(0, 5), vec![World::inline(0, &batches)]).await;
    let at = async |query| {
        world.reader.offset_at(CLIENT, partition(0), query, Isolation::Uncommitted).await.unwrap()
    };
    let found = |offset, time| Some((Offset(offset), TimestampMs(time)));
    assert_eq!(at(TimestampQuery::AtOrAfter(TimestampMs(15))).await, found(1, 30));
    assert_eq!(at(TimestampQuery::AtOrAfter(TimestampMs(41))).await, found(4, 50));
    assert_eq!(at(TimestampQuery::AtOrAfter(TimestampMs(51))).await, None);
    assert_eq!(at(TimestampQuery::Max).await, found(4, 50));
    assert!(world.store.reads().is_empty());
}

#[tokio::test]
async fn a_merged_object_is_served_with_the_offsets_of_its_headers() {
    let world = World::new().await;
    // Key compaction left nothing of 2 to 9 and of 13.
    let batches = [
        finished(&sized(2, 300), 0, None),
        finished(&sized(3, 300), 10, None),
        finished(&sized(1, 300), 14, None),
    ];
    let extents = world.merged(ExtentFlags::NONE, &[(0, &batches)]).await;
    assert_eq!(extents[0].last_offset, Offset(14));
    world.publish(0, bounds(0, 15), extents).await;
    let fetched = world.fetch(&[(0, 0)]).await;
    assert_eq!(bases(&fetched[0]), [0, 10, 14]);
    assert_eq!(fetched[0].records.pieces.concat(), batches.concat(), "as they are stored");
    for (offset, first) in [(1, 0), (2, 10), (5, 10), (13, 14), (14, 14)] {
        assert_eq!(bases(&world.fetch(&[(0, offset)]).await[0])[0], first, "from {offset}");
    }
}

#[tokio::test]
async fn a_consumer_goes_on_behind_a_gap_without_walking_the_extent_again() {
    let world = World::new().await;
    let batches: Vec<_> = (0..40).map(|at| finished(&sized(1, 100_000), at * 7, None)).collect();
    let extents = world.merged(ExtentFlags::NONE, &[(0, &batches)]).await;
    world.publish(0, bounds(0, 39 * 7 + 1), extents).await;
    let (mut next, mut found) = (0, Vec::new());
    while next < 39 * 7 {
        let got = bases(&world.fetch(&[(0, next)]).await[0]);
        next = got.last().unwrap() + 1;
        found.extend(got);
    }
    assert_eq!(found, (0..40).map(|at| at * 7).collect::<Vec<_>>());
    let read: u64 = world.store.reads().iter().map(|(_, range)| range.end - range.start).sum();
    assert!(read <= 40 * 100_000 + 1_000, "{read}");
}

#[tokio::test]
async fn batches_of_a_merged_object_have_each_the_time_that_the_log_gave_them() {
    let world = World::new().await;
    let sent = batch_of(&[5, 6], 10, false);
    let batches = [finished(&sent, 0, Some(7_000)), finished(&sent, 2, Some(9_000))];
    let extents = world.merged(ExtentFlags::LOG_APPEND_TIME, &[(0, &batches)]).await;
    world.publish(0, bounds(0, 4), extents).await;
    let answer = world.fetch(&[(0, 0)]).await[0].records.pieces.concat();
    let times: Vec<_> = batch::walk(&answer)
        .map(|found| found.unwrap().0)
        .map(|header| (header.timestamp_type(), header.max_timestamp))
        .collect();
    let by_log = |time| (TimestampType::LogAppendTime, time);
    assert_eq!(times, [by_log(7_000), by_log(9_000)]);
    let at = async |time| {
        let query = TimestampQuery::AtOrAfter(TimestampMs(time));
        world.reader.offset_at(CLIENT, partition(0), query, Isolation::Uncommitted).await.unwrap()
    };
    assert_eq!(at(7_000).await, Some((Offset(0), TimestampMs(7_000))));
    assert_eq!(at(7_001).await, Some((Offset(2), TimestampMs(9_000))));
}
