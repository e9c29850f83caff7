//! Offsets by time.

use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::{FutureExt as _, poll};
use ottla_control_api::{PartitionBounds, TimestampQuery};
use ottla_model::{Offset, TimestampMs};

use super::world::{CLIENT, World, batch_of, partition};
use crate::cache::Heat;
use crate::fair_turns::Turn;
use crate::limits::{CLIENT_SHARE, HELD_CATCH_UP_BLOCKS_MAX, RECORD_WALKS_MAX};
use crate::read::{Isolation, ReadError};
use ottla_test_kit::batch;
use ottla_test_kit::values::bounds;

const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

#[tokio::test]
async fn timestamps_are_found_exact_to_the_record() {
    let world = World::new().await;
    for gzip in [false, true] {
        let index = i32::from(gzip);
        let batches = [
            batch_of(&[100, 105, 103], 20, gzip),
            batch_of(&[90, 110, 120], 20, gzip),
            batch_of(&[120, 119], 20, gzip),
        ];
        world.append(index, 0, &batches).await;
        let at = |time| {
            let query = TimestampQuery::AtOrAfter(TimestampMs(time));
            let (reader, partition) = (&world.reader, partition(index));
            async move {
                let found =
                    reader.offset_at(CLIENT, partition, query, Isolation::Uncommitted).await;
                found.unwrap().map(|(offset, time)| (offset.0, time.0))
            }
        };
        assert_eq!(at(0).await, Some((0, 100)));
        assert_eq!(at(101).await, Some((1, 105)));
        assert_eq!(at(106).await, Some((4, 110)));
        assert_eq!(at(111).await, Some((5, 120)));
        assert_eq!(at(121).await, None);
        let max = world
            .reader
            .offset_at(CLIENT, partition(index), TimestampQuery::Max, Isolation::Uncommitted)
            .await;
        assert_eq!(max, Ok(Some((Offset(5), TimestampMs(120)))));
    }
}

#[tokio::test]
async fn timestamps_respect_isolation_log_start_and_append_time() {
    let world = World::new().await;
    let batches = [batch_of(&[100, 101], 5, true), batch_of(&[200, 201], 5, true)];
    let extents = world.object(&[(0, &batches)]).await;
    let stable = PartitionBounds { last_stable: Offset(2), ..bounds(1, 4) };
    world.publish(0, stable, extents).await;
    let find = async |index, time, isolation| {
        let query = TimestampQuery::AtOrAfter(TimestampMs(time));
        world.reader.offset_at(CLIENT, partition(index), query, isolation).await.unwrap()
    };
    assert_eq!(find(0, 0, Isolation::Uncommitted).await, Some((Offset(1), TimestampMs(101))));
    assert_eq!(find(0, 150, Isolation::Uncommitted).await, Some((Offset(2), TimestampMs(200))));
    assert_eq!(find(0, 150, Isolation::Committed).await, None);

    let time = Some(TimestampMs(900));
    let extents = world.object_with(&[(0, &batches)], time, true).await;
    world.publish(1, bounds(0, 4), extents).await;
    assert_eq!(find(1, 500, Isolation::Uncommitted).await, Some((Offset(0), TimestampMs(900))));
    let unknown = world
        .reader
        .offset_at(CLIENT, partition(99), TimestampQuery::Max, Isolation::Uncommitted)
        .await;
    assert_eq!(unknown, Err(ReadError::UnknownPartition));
}

/// A batch of two records whose header claims this maximum; old clients leave it at −1.
fn claiming(max: i64, first: i64, gzip: bool) -> Bytes {
    batch::changed(&batch_of(&[first, first + 100], 5, gzip), |bytes| {
        bytes[35..43].copy_from_slice(&max.to_be_bytes());
    })
}

/// As the write path stores them: the extent's maximum is that of its records, and the bytes are as
/// they were sent.
#[tokio::test]
async fn the_maximum_in_a_batchs_header_is_not_believed() {
    let world = World::new().await;
    let claims = [-1, 0, 1_150, i64::MAX];
    for (index, claimed) in (0..).zip(claims) {
        let batches = [
            claiming(claimed, 1_000, false),
            claiming(claimed, 2_000, true),
            batch_of(&[1_500], 5, true),
            claiming(claimed, 1_200, false),
        ];
        let mut extents = world.object(&[(0, &batches)]).await;
        let mut extent = (*extents[0]).clone();
        extent.max_timestamp = TimestampMs(2_100);
        extents[0] = std::sync::Arc::new(extent);
        world.publish(index, bounds(0, 7), extents).await;
        let look_up = async |query| {
            let found =
                world.reader.offset_at(CLIENT, partition(index), query, Isolation::Uncommitted);
            found.await.unwrap().map(|(offset, time)| (offset.0, time.0))
        };
        let at = |time| TimestampQuery::AtOrAfter(TimestampMs(time));
        for (time, found) in [
            (0, Some((0, 1_000))),
            (1_050, Some((1, 1_100))),
            (1_101, Some((2, 2_000))),
            (2_001, Some((3, 2_100))),
            (2_101, None),
        ] {
            assert_eq!(look_up(at(time)).await, found, "{time} where headers say {claimed}");
        }
        assert_eq!(look_up(TimestampQuery::Max).await, Some((3, 2_100)), "{claimed}");
    }
}

#[tokio::test]
async fn records_without_timestamps_have_no_latest_one() {
    let world = World::new().await;
    world.append(0, 0, &[batch_of(&[-1, -1], 5, false)]).await;
    let query = TimestampQuery::Max;
    let found = world.reader.offset_at(CLIENT, partition(0), query, Isolation::Uncommitted).await;
    assert_eq!(found, Ok(None));
}

/// Stored unopened, as an operator may choose for large ones.
#[tokio::test]
async fn a_batch_that_cannot_be_read_hides_only_itself() {
    let world = World::new().await;
    let batches = [batch_of(&[100, 101], 5, true), damaged_at_its_end(), batch_of(&[900], 5, true)];
    world.append(0, 0, &batches).await;
    let at = |time| {
        let query = TimestampQuery::AtOrAfter(TimestampMs(time));
        world.reader.offset_at(CLIENT, partition(0), query, Isolation::Uncommitted)
    };
    assert_eq!(at(101).await, Ok(Some((Offset(1), TimestampMs(101)))));
    assert_eq!(at(800).await, Ok(Some((Offset(202), TimestampMs(900)))));
    assert!(matches!(at(299).await, Err(ReadError::Corrupt(_))));
}

/// A batch whose header claims a later time than its two records have.
fn liar() -> Bytes {
    batch::changed(&batch_of(&[100, 101], 5, false), |bytes| {
        bytes[35..43].copy_from_slice(&500i64.to_be_bytes());
    })
}

#[tokio::test]
async fn headers_that_claim_a_later_time_are_looked_behind() {
    let world = World::new().await;
    world.append(0, 0, &[liar()]).await;
    world.append(0, 2, &[batch_of(&[50], 5, false)]).await;
    world.append(0, 3, &[batch_of(&[300, 400], 5, false)]).await;
    let query = TimestampQuery::AtOrAfter(TimestampMs(350));
    let found = world.reader.offset_at(CLIENT, partition(0), query, Isolation::Uncommitted).await;
    assert_eq!(found, Ok(Some((Offset(4), TimestampMs(400)))));
}

#[tokio::test]
async fn a_record_far_behind_a_header_that_claims_its_time_is_found() {
    let world = World::new().await;
    world.append(0, 0, &[liar()]).await;
    for base in 2..42 {
        world.append(0, base, &[batch_of(&[50], 5, false)]).await;
    }
    world.append(0, 42, &[batch_of(&[400], 5, false)]).await;
    let query = TimestampQuery::AtOrAfter(TimestampMs(350));
    let found = world.reader.offset_at(CLIENT, partition(0), query, Isolation::Uncommitted).await;
    assert_eq!(found, Ok(Some((Offset(42), TimestampMs(400)))));
}

#[tokio::test]
async fn a_look_up_that_is_given_up_never_says_that_there_is_no_record() {
    let world = World::new().await;
    for at in 0..20 {
        world.append(0, 2 * at, &[liar()]).await;
    }
    world.append(0, 40, &[batch_of(&[400], 5, false)]).await;
    let query = TimestampQuery::AtOrAfter(TimestampMs(350));
    let found = world.reader.offset_at(CLIENT, partition(0), query, Isolation::Uncommitted).await;
    assert!(matches!(found, Err(ReadError::Corrupt(_))), "{found:?}");
}

/// A compressed batch whose last records are not there.
fn damaged_at_its_end() -> Bytes {
    // Values that do not compress, so that the records are spread over the compressed bytes.
    let noise: Vec<u8> =
        (0..200_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let records: Vec<_> = (100..).zip(noise.chunks(1_000)).collect();
    batch::changed(&batch::gzipped(&records), |bytes| bytes.truncate(bytes.len() - 2_000))
}

#[tokio::test]
async fn a_batch_is_looked_through_up_to_the_answer_only() {
    let world = World::new().await;
    world.append(0, 0, &[damaged_at_its_end()]).await;
    let at = |time| {
        let query = TimestampQuery::AtOrAfter(TimestampMs(time));
        world.reader.offset_at(CLIENT, partition(0), query, Isolation::Uncommitted)
    };
    assert_eq!(at(110).await, Ok(Some((Offset(10), TimestampMs(110)))));
    let whole =
        world.reader.offset_at(CLIENT, partition(0), TimestampQuery::Max, Isolation::Uncommitted);
    assert!(matches!(whole.await, Err(ReadError::Corrupt(_))));
}

fn all_turns(world: &World) -> Vec<Turn> {
    std::iter::from_fn(|| world.reader.walks.try_turn()).collect()
}

#[tokio::test]
async fn very_many_look_ups_of_one_address_hold_up_neither_others_nor_fetches() {
    const MANY: usize = 600;
    let world = World::new().await;
    world.append(0, 0, &[batch_of(&[100, 200], 5, true)]).await;
    let mut turns = all_turns(&world);
    let answered = Arc::new(AtomicUsize::new(0));
    let query = TimestampQuery::AtOrAfter(TimestampMs(150));
    let look_up = |client| {
        let (reader, answered) = (world.reader.clone(), answered.clone());
        tokio::spawn(async move {
            let found = reader.offset_at(client, partition(0), query, Isolation::Uncommitted);
            assert_eq!(found.await, Ok(Some((Offset(1), TimestampMs(200)))));
            answered.fetch_add(1, Ordering::SeqCst)
        })
    };
    let used = || world.reader.look_ups.used();
    let many: Vec<_> = (0..MANY).map(|_| look_up(CLIENT)).collect();
    let share = world.reader.look_ups.total() / CLIENT_SHARE;
    while used() < share {
        tokio::task::yield_now().await;
    }
    let other = look_up(OTHER);
    while used() <= share {
        tokio::task::yield_now().await;
    }
    let held = world.reader.gather.hold(HELD_CATCH_UP_BLOCKS_MAX, Heat::CatchUp).now_or_never();
    assert!(held.is_some(), "look-ups hold blocks of fetches");
    turns.pop();
    // One turn of the other address comes first; a few may end before this task runs again.
    let before = other.await.unwrap();
    assert!(before < 8, "{before} look-ups of one address came first");
    drop(turns);
    for look_up in many {
        look_up.await.unwrap();
    }
    assert_eq!(used(), 0);
}

#[tokio::test]
async fn look_ups_take_turns_at_walking_over_records() {
    let world = World::new().await;
    world.append(0, 0, &[batch_of(&[100, 200], 5, true)]).await;
    let turns = all_turns(&world);
    let query = TimestampQuery::AtOrAfter(TimestampMs(150));
    let mut looking =
        pin!(world.reader.offset_at(CLIENT, partition(0), query, Isolation::Uncommitted));
    for _ in 0..1_000 {
        assert!(poll!(&mut looking).is_pending(), "it walked without a turn");
        tokio::task::yield_now().await;
    }
    drop(turns);
    assert_eq!(looking.await, Ok(Some((Offset(1), TimestampMs(200)))));
    assert_eq!(all_turns(&world).len(), RECORD_WALKS_MAX);
}

#[tokio::test]
async fn look_ups_wait_until_there_is_room_for_what_they_read() {
    let world = World::new().await;
    world.append(0, 0, &[batch_of(&[100], 20, false)]).await;
    let query = TimestampQuery::AtOrAfter(TimestampMs(0));
    let all = world.reader.look_ups.charge(OTHER, world.reader.look_ups.total());
    let mut looking_up =
        pin!(world.reader.offset_at(CLIENT, partition(0), query, Isolation::Uncommitted));
    for _ in 0..1_000 {
        assert!(poll!(&mut looking_up).is_pending(), "it reads without room");
        tokio::task::yield_now().await;
    }
    assert!(world.store.reads().is_empty());
    drop(all);
    assert_eq!(looking_up.await, Ok(Some((Offset(0), TimestampMs(100)))));
}
