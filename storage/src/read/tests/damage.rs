//! Objects that are damaged, missing, somebody else's, or refused by the store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_format::object::OBJECT_HEADER_BYTES;
use ottla_model::ExtentFlags;
use ottla_object_io::faults::ReadFault;
use ottla_object_io::{Store as _, keys};
use tokio::time::Instant;

use super::world::{CLUSTER, World, bases, finished, partition, sized};
use crate::read::ReadError;
use ottla_test_kit::values::bounds;

#[tokio::test]
async fn a_damaged_block_is_read_again_once() {
    let world = World::new().await;
    world.append(0, 0, &[sized(5, 100_000)]).await;
    world.store.script_read(ReadFault::Corrupt);
    let fetched = world.fetch(&[(0, 0)]).await;
    assert_eq!((bases(&fetched[0]), &fetched[0].error), (vec![0], &None));
    assert_eq!(world.store.reads().len(), 2);
    assert_eq!(world.metrics.fetch.damaged_reads.get(), 1);
}

#[tokio::test]
async fn damage_that_stays_is_an_error_after_the_good_prefix_of_its_partition_only() {
    let world = World::new().await;
    let mut bad = sized(1, 300).to_vec();
    bad[200] ^= 1;
    let runs: [(i64, &[Bytes]); 2] =
        [(0, &[sized(2, 300), Bytes::from(bad), sized(1, 300)]), (0, &[sized(3, 300)])];
    let extents = world.object(&runs).await;
    world.publish(0, bounds(0, 4), vec![Arc::clone(&extents[0])]).await;
    world.publish(1, bounds(0, 3), vec![Arc::clone(&extents[1])]).await;
    let fetched = world.fetch(&[(0, 0), (1, 0)]).await;
    assert_eq!((bases(&fetched[0]), &fetched[0].error), (vec![0], &None));
    assert_eq!((bases(&fetched[1]), &fetched[1].error), (vec![0], &None));
    let fetched = world.fetch(&[(0, 2), (1, 0)]).await;
    assert!(matches!(fetched[0].error, Some(ReadError::Corrupt(_))));
    assert_eq!(bases(&fetched[1]), [0]);
}

#[tokio::test]
async fn a_store_that_refuses_fails_only_its_partitions() {
    let world = World::new().await;
    world.append(0, 0, &[sized(2, 300)]).await;
    world.append(1, 0, &[sized(2, 300)]).await;
    world.store.script_read(ReadFault::Refused);
    let fetched = world.fetch(&[(0, 0), (1, 0)]).await;
    assert!(matches!(fetched[0].error, Some(ReadError::Storage(_))));
    assert_eq!(bases(&fetched[1]), [0]);
    assert_eq!(bases(&world.fetch(&[(0, 0)]).await[0]), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_hangs_does_not_keep_the_others_of_its_fetch_from_their_client() {
    let world = World::reliable().await;
    world.append(0, 0, &[sized(2, 300)]).await;
    world.append(1, 0, &[sized(2, 300)]).await;
    assert_eq!(bases(&world.fetch(&[(1, 0)]).await[0]), [0]);
    for _ in 0..8 {
        world.store.script_read(ReadFault::AnswerLost);
    }
    let started = Instant::now();
    let fetched = world.fetch(&[(0, 0), (1, 0)]).await;
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert!(matches!(fetched[0].error, Some(ReadError::Storage(_))));
    assert_eq!(bases(&fetched[1]), [0]);
}

#[tokio::test]
async fn a_missing_object_is_looked_up_again_once() {
    let world = World::new().await;
    let gone = world.append(0, 0, &[sized(2, 300)]).await;
    world.store.delete(&keys::object(CLUSTER, &gone.object().unwrap().name)).await.unwrap();
    // Nobody replaced it: an error, not an empty success.
    assert!(matches!(world.fetch(&[(0, 0)]).await[0].error, Some(ReadError::Storage(_))));
    assert_eq!(world.control.finds(), 1);
    // It was merged into another object.
    let merged = world.object(&[(0, &[sized(2, 300)])]).await;
    world.control.set(partition(0), bounds(0, 2), merged);
    assert_eq!(bases(&world.fetch(&[(0, 0)]).await[0]), [0]);
}

#[tokio::test]
async fn a_missing_object_may_have_become_bytes_by_value() {
    let world = World::new().await;
    let gone = world.append(0, 0, &[sized(2, 300)]).await;
    world.store.delete(&keys::object(CLUSTER, &gone.object().unwrap().name)).await.unwrap();
    world.control.set(partition(0), bounds(0, 2), vec![World::inline(0, &[sized(2, 300)])]);
    assert_eq!(bases(&world.fetch(&[(0, 0)]).await[0]), [0]);
}

/// The merged extent begins before the object that is missed: with what the same fetch read already.
#[tokio::test]
async fn records_that_were_read_are_not_repeated_from_the_object_they_were_merged_into() {
    let world = World::new().await;
    let batches = [sized(2, 200), sized(3, 300)];
    let first = world.object(&[(0, &batches[..1])]).await;
    let gone = world.object(&[(2, &batches[1..])]).await;
    let name = gone[0].object().unwrap().name;
    world.publish(0, bounds(0, 5), [first, gone].concat()).await;
    world.store.delete(&keys::object(CLUSTER, &name)).await.unwrap();
    let merged = [finished(&batches[0], 0, None), finished(&batches[1], 2, None)];
    let merged = world.merged(ExtentFlags::NONE, &[(0, &merged)]).await;
    world.control.set(partition(0), bounds(0, 5), merged);
    let fetched = world.fetch(&[(0, 0)]).await;
    assert_eq!((bases(&fetched[0]), &fetched[0].error), (vec![0], &None));
    assert_eq!(bases(&world.fetch(&[(0, 2)]).await[0]), [2]);
}

#[tokio::test]
async fn damaged_bytes_by_value_are_an_error_after_the_good_prefix() {
    let world = World::new().await;
    let mut bad = sized(1, 300).to_vec();
    bad[200] ^= 1;
    let extent = World::inline(0, &[sized(2, 300), Bytes::from(bad)]);
    world.publish(0, bounds(0, 3), vec![extent]).await;
    let fetched = world.fetch(&[(0, 0)]).await;
    assert_eq!((bases(&fetched[0]), &fetched[0].error), (vec![0], &None));
    let fetched = world.fetch(&[(0, 2)]).await;
    assert!(matches!(fetched[0].error, Some(ReadError::Corrupt(_))));
    assert!(world.store.reads().is_empty());
}

#[tokio::test]
async fn final_headers_that_go_back_or_beyond_the_extent_are_not_served() {
    let world = World::new().await;
    let flags = ExtentFlags::NONE;
    let back = [finished(&sized(3, 300), 5, None), finished(&sized(1, 300), 7, None)];
    let mut extents = world.merged(flags, &[(5, &back), (5, &[back[0].clone()])]).await;
    Arc::make_mut(&mut extents[1]).last_offset.0 -= 1;
    world.publish(0, bounds(5, 9), vec![Arc::clone(&extents[0])]).await;
    let fetched = world.fetch(&[(0, 5)]).await;
    assert_eq!((bases(&fetched[0]), &fetched[0].error), (vec![5], &None));
    world.publish(1, bounds(5, 7), vec![Arc::clone(&extents[1])]).await;
    assert!(matches!(world.fetch(&[(1, 5)]).await[0].error, Some(ReadError::Corrupt(_))));
}

#[tokio::test]
async fn an_object_with_another_objects_header_is_not_served() {
    let world = World::new().await;
    let extents = world.object_with(&[(0, &[sized(2, 300)])], None, false).await;
    world.publish(0, bounds(0, 2), extents).await;
    assert!(matches!(world.fetch(&[(0, 0)]).await[0].error, Some(ReadError::Corrupt(_))));
}

#[tokio::test]
async fn the_header_is_looked_at_when_reading_begins_in_the_middle() {
    let world = World::new().await;
    let filler = vec![sized(1, 1_000_000); 3];
    let wrong = world.object_with(&[(0, &filler), (0, &[sized(2, 300)])], None, false).await;
    world.publish(1, bounds(0, 2), vec![Arc::clone(&wrong[1])]).await;
    assert!(matches!(world.fetch(&[(1, 0)]).await[0].error, Some(ReadError::Corrupt(_))));
    let right = world.object(&[(0, &filler), (0, &[sized(2, 300)])]).await;
    world.publish(2, bounds(0, 2), vec![Arc::clone(&right[1])]).await;
    assert_eq!(bases(&world.fetch(&[(2, 0)]).await[0]), [0]);
    let heads =
        world.store.reads().into_iter().filter(|(_, r)| *r == (0..OBJECT_HEADER_BYTES as u64));
    assert_eq!(heads.count(), 3, "twice for the wrong one, once for the right one");
}
