//! What an answer holds: whole batches with their offsets, within the bounds of the request.

use std::sync::Arc;

use bytes::Bytes;
use ottla_model::{TimestampMs, TimestampType};
use ottla_wire::batch;

use super::world::{World, bases, batch_of, change, request, sized};
use crate::limits::{BLOCK_BYTES, FETCH_BLOCKS_MAX};
use crate::write::WrittenObjects as _;
use ottla_test_kit::values::bounds;

#[tokio::test]
async fn batches_come_back_with_their_offsets_and_unchanged_records() {
    let world = World::new().await;
    let batches = [sized(3, 300), sized(1, 5_000), sized(2, 200)];
    world.append(0, 0, &batches).await;
    world.append(0, 6, &batches).await;
    let fetched = world.fetch(&[(0, 0)]).await;
    assert_eq!(fetched[0].error, None);
    assert_eq!(fetched[0].bounds, bounds(0, 12));
    assert_eq!(bases(&fetched[0]), [0, 3, 4, 6, 9, 10]);
    let bytes = fetched[0].records.pieces.concat();
    assert_eq!(bytes[61..batches[0].len()], batches[0][61..]);
    // The second fetch reads nothing new.
    let reads = world.store.reads().len();
    assert_eq!(world.fetch(&[(0, 0)]).await[0].records, fetched[0].records);
    assert_eq!(world.store.reads().len(), reads);
}

#[tokio::test]
async fn large_batches_are_not_copied() {
    let world = World::new().await;
    let batch = sized(10, 100_000);
    let extent = world.append(0, 0, std::slice::from_ref(&batch)).await;
    let held = Bytes::from(batch.to_vec());
    let header = Bytes::from(vec![0; extent.positions().start as usize]);
    let object = extent.object().unwrap();
    world.cache.insert_written(&object.name, object.size, vec![header, held.clone()]);
    let fetched = world.fetch(&[(0, 0)]).await;
    let pieces = &fetched[0].records.pieces;
    assert_eq!(pieces.len(), 2);
    assert_eq!(pieces[1].as_ptr(), held[61..].as_ptr());
    assert!(world.store.reads().is_empty());
}

#[tokio::test]
async fn an_offset_inside_a_batch_gets_the_whole_batch() {
    let world = World::new().await;
    world.append(0, 0, &[sized(5, 300), sized(5, 300), sized(5, 300)]).await;
    assert_eq!(bases(&world.fetch(&[(0, 7)]).await[0]), [5, 10]);
    assert_eq!(bases(&world.fetch(&[(0, 14)]).await[0]), [10]);
}

#[tokio::test]
async fn four_partitions_get_equal_shares_over_rounds() {
    let world = World::new().await;
    let batches = vec![sized(1, 1_000); 16];
    for index in 0..4 {
        world.append(index, 0, &batches).await;
    }
    let mut next = [0i64; 4];
    for round in 0..4 {
        let order: Vec<(i32, i64)> = (0..4)
            .map(|i| (i + round) % 4)
            .map(|index| (index, next[usize::try_from(index).unwrap()]))
            .collect();
        let mut request = request(&order);
        request.max_bytes = 8_500;
        change(&mut request, |partition| partition.max_bytes = 2_100);
        for ((index, _), fetched) in order.iter().zip(world.reader.fetch(request).await) {
            next[usize::try_from(*index).unwrap()] += bases(&fetched).len() as i64;
        }
    }
    assert_eq!(next, [8; 4]);
}

#[tokio::test]
async fn partitions_past_the_budget_are_empty_with_real_offsets() {
    let world = World::new().await;
    for index in 0..3 {
        world.append(index, 0, &[sized(1, 1_000), sized(1, 1_000)]).await;
    }
    let mut small = request(&[(0, 0), (1, 0), (2, 0)]);
    small.max_bytes = 1_000;
    let fetched = world.reader.fetch(small).await;
    assert_eq!(bases(&fetched[0]), [0]);
    for rest in &fetched[1..] {
        assert_eq!((rest.records.length, rest.bounds, &rest.error), (0, bounds(0, 2), &None));
    }
}

#[tokio::test]
async fn a_first_batch_beyond_every_limit_is_sent() {
    let world = World::new().await;
    let large = sized(3, 3 * BLOCK_BYTES as usize);
    world.append(0, 0, &[large.clone(), sized(1, 100)]).await;
    let mut small = request(&[(0, 1)]);
    small.max_bytes = 10;
    change(&mut small, |partition| partition.max_bytes = 10);
    let fetched = world.reader.fetch(small).await;
    assert_eq!(bases(&fetched[0]), [0]);
    assert_eq!(fetched[0].records.length, large.len());
}

#[tokio::test]
async fn a_large_extent_is_taken_in_parts_without_walking_it_again() {
    let world = World::new().await;
    let batches = vec![sized(1, 100_000); 40];
    world.append(0, 0, &batches).await;
    let mut next = 0;
    while next < 40 {
        let fetched = world.fetch(&[(0, next)]).await;
        let found = bases(&fetched[0]);
        assert_eq!(found.first(), Some(&next));
        next = found.last().unwrap() + 1;
    }
    let read: u64 = world.store.reads().iter().map(|(_, range)| range.end - range.start).sum();
    assert!(read <= 40 * 100_000 + 1_000, "{read}");
}

#[tokio::test]
async fn small_extents_of_many_objects_are_read_within_bounds_and_copied() {
    let world = World::new().await;
    let filler = vec![sized(1, 900_000); 2];
    let mut all = Vec::new();
    for offset in 0..40 {
        let extents = world.object(&[(offset, &[sized(1, 4_000)]), (0, &filler)]).await;
        all.push(Arc::clone(&extents[0]));
    }
    world.publish(0, bounds(0, 40), all).await;
    let fetched = world.fetch(&[(0, 0)]).await;
    assert_eq!(bases(&fetched[0]), (0..FETCH_BLOCKS_MAX as i64).collect::<Vec<_>>());
    assert_eq!(fetched[0].records.pieces.len(), 1, "no block is kept for 4 KB of it");
    assert_eq!(
        bases(&world.fetch(&[(0, FETCH_BLOCKS_MAX as i64)]).await[0]),
        (FETCH_BLOCKS_MAX as i64..40).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn an_answer_counts_as_much_as_the_read_it_is_a_slice_of() {
    let world = World::new().await;
    let large = vec![sized(1, 600_000); 11];
    let extents = world.object(&[(0, &large), (0, &[sized(1, 600_000)])]).await;
    for (partition, extent) in extents.iter().enumerate() {
        let end = if partition == 0 { large.len() as i64 } else { 1 };
        world.publish(partition as i32, bounds(0, end), vec![Arc::clone(extent)]).await;
    }
    let mut request = request(&[(0, 0), (1, 0)]);
    change(&mut request, |partition| partition.max_bytes = 50 << 20);
    let all = world.reader.fetch(request).await;
    assert!(all[0].records.pieces.len() > large.len(), "most of what was read is in the answer");
    let one = world.fetch(&[(1, 0)]).await;
    assert_eq!(world.store.reads().len(), 1);
    assert_eq!(one[0].records.pieces.len(), 1, "600 KB would keep 7 MB in memory");
}

#[tokio::test]
async fn log_append_time_is_in_the_answer() {
    let world = World::new().await;
    let time = Some(TimestampMs(77_000));
    let batches = [batch_of(&[5, 6], 10, false)];
    let extents = world.object_with(&[(0, &batches)], time, true).await;
    world.publish(0, bounds(0, 2), extents).await;
    let fetched = world.fetch(&[(0, 0)]).await;
    assert_eq!(bases(&fetched[0]), [0]);
    let header = batch::parse(&fetched[0].records.pieces.concat()).unwrap();
    assert_eq!(header.max_timestamp, 77_000);
    assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
}
