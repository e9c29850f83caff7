//! Drain, stop, fence and succession.

use ottla_object_io::faults::WriteFault;
use tokio::time::Instant;

use super::world::{CLIENT, World, is_stored, ms};
use crate::write::AppendOutcome;
use crate::write::testing::producer;

#[tokio::test(start_paused = true)]
async fn drain_seals_at_once_and_waits_until_everything_is_decided() {
    let mut world = World::patient(|_| {});
    world.store.script_write(WriteFault::Slow(ms(500)));
    let start = Instant::now();
    let tickets: Vec<_> = (0..10).map(|_| world.one(None)).collect();
    world.writer.drain().await;
    assert_eq!(start.elapsed().as_millis(), 500);
    for ticket in tickets {
        assert!(is_stored(&ticket.await));
    }
    assert_eq!(start.elapsed().as_millis(), 500, "they were answered by then");
    assert_eq!(world.seals("drain"), 1);
    assert!(is_stored(&world.one(None).await), "late ones are still served, and at once");
    assert_eq!(start.elapsed().as_millis(), 500);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_is_stopped_leaves_no_request_without_an_answer() {
    let mut world = World::patient(|options| options.linger = ms(60_000));
    let waiting = tokio::spawn(world.one(None));
    tokio::task::yield_now().await;
    world.stop().await;
    assert_eq!(waiting.await.unwrap(), [AppendOutcome::NotStored], "it was in no object");
    assert_eq!(world.one(None).await, [AppendOutcome::NotStored]);
    world.writer.drain().await;
    assert!(!world.writer.fenced().await);
}

#[tokio::test(start_paused = true)]
async fn after_a_fence_everything_is_answered_so() {
    let mut world = World::free(|_| {});
    assert!(is_stored(&world.one(None).await));
    world.control.model().fenced = true;
    assert_eq!(world.one(None).await, [AppendOutcome::Undecided], "its commit was handed over");
    assert!(world.writer.fenced().await);
    assert_eq!(world.one(None).await, [AppendOutcome::Fenced]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_fence_failed_keeps_its_successors_out_of_the_next_epoch() {
    let mut world = World::patient(|_| {});
    let in_buffer = world.one(Some(producer(1, 0)));
    let before = world.one(Some(producer(2, 5)));
    tokio::time::sleep_until(Instant::now() + ms(250)).await;
    assert!(is_stored(&in_buffer.await) && is_stored(&before.await));

    let in_object = world.one(Some(producer(1, 1)));
    world.store.script_write(WriteFault::Slow(ms(400)));
    tokio::time::sleep_until(Instant::now() + ms(300)).await;
    let in_buffer = world.one(Some(producer(1, 2)));
    let stale = world.writer.clone();
    let task = world.task.take().unwrap();
    let (writer, task) = stale.succeed(task, world.parts.clone(), &world.options).await;
    assert_eq!(in_object.await, [AppendOutcome::Undecided]);
    assert_eq!(in_buffer.await, [AppendOutcome::NotStored]);

    // A connection that still holds the old writer.
    assert_eq!(world.one(Some(producer(1, 3))).await, [AppendOutcome::NotStored]);
    assert_eq!(world.one(Some(producer(2, 6))).await, [AppendOutcome::NotStored]);
    (world.writer, world.task) = (writer, Some(task));
    let refused = [(1, 2), (1, 3), (2, 7)];
    for (id, sequence) in refused {
        let outcome = world.one(Some(producer(id, sequence))).await;
        assert_eq!(outcome, [AppendOutcome::NotStored], "{id}: {sequence}");
    }
    assert_eq!(world.metrics.produce.buffer_bytes.get(), 0);
    let held = world.writer.budget().reserve(CLIENT, 100).await.unwrap();
    assert_eq!(stale.budget().used(), held.bytes(), "one budget for both");
}
