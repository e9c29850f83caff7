//! What an answer means, when it comes, and what a request holds until then.

use std::sync::Arc;

use ottla_object_io::faults::WriteFault;
use tokio::time::Instant;

use super::world::{CLIENT, World, is_stored, ms, offset};
use crate::write::AppendOutcome;
use crate::write::testing::{CallFaults, append_batch, partition, producer};

#[tokio::test(start_paused = true)]
async fn a_batch_is_durable_cached_and_committed_when_it_is_acknowledged() {
    let world = World::free(|_| {});
    let request = vec![
        append_batch(partition(2), None, 500),
        append_batch(partition(0), Some(producer(1, 0)), 100),
        append_batch(partition(2), None, 50),
    ];
    let outcomes = world.append(request).await;
    assert_eq!(outcomes.into_iter().map(offset).collect::<Vec<_>>(), [0, 0, 1]);
    assert_eq!(world.control.model().attempts.len(), 1);
    world.check_objects().await;
}

#[tokio::test(start_paused = true)]
async fn at_80_percent_of_its_timeout_a_request_is_answered_and_its_batch_still_decided() {
    let world = World::free(|_| {});
    (0..3).for_each(|_| world.store.script_write(WriteFault::Slow(ms(9_000))));
    let start = Instant::now();
    let batches = vec![append_batch(partition(0), Some(producer(1, 0)), 10)];
    let ticket = world.append_as(1, ms(10_000), Arc::default(), None, batches);
    assert_eq!(ticket.await, [AppendOutcome::Undecided]);
    assert_eq!(start.elapsed().as_millis(), 8_000);
    // The client's second try is recognised, whatever became of the first.
    assert_eq!(offset(world.one(Some(producer(1, 0))).await[0]), 0);
    assert_eq!(world.control.model().logs[&partition(0)].len(), 1);
}

/// Clients exist that send 0, 1 or 100 ms and wait for the answer all the same.
#[tokio::test(start_paused = true)]
async fn a_short_time_out_does_not_cut_off_linger_and_a_slow_put() {
    let world = World::patient(|options| options.linger = ms(1_000));
    for timeout in [0, 1, 100] {
        (0..2).for_each(|_| world.store.script_write(WriteFault::Slow(ms(3_000))));
        let start = Instant::now();
        let batches = vec![append_batch(partition(0), None, 10)];
        let ticket = world.append_as(1, ms(timeout), Arc::default(), None, batches);
        assert!(matches!(ticket.await[..], [AppendOutcome::Stored { .. }]), "{timeout} ms");
        assert!(start.elapsed() > ms(3_000), "it was no slow PUT");
    }
    assert_eq!(world.control.model().logs[&partition(0)].len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_is_repeated() {
    let world = World::free(|_| {});
    world.control.set_faults(CallFaults { answer_lost: 1.0, ..CallFaults::default() });
    let ticket = world.one(Some(producer(1, 0)));
    tokio::time::sleep_until(Instant::now() + ms(3_000)).await;
    world.control.set_faults(CallFaults::default());
    assert_eq!(offset(ticket.await[0]), 0);
    assert_eq!(world.control.model().logs[&partition(0)].len(), 1);
    let calls = world.control.handed_over();
    assert!(calls.len() > 2 && calls.len() < 20, "{} calls in 3 s", calls.len());
    assert!(calls.windows(2).all(|pair| pair[0] == pair[1]), "the same commit each time");
}

#[tokio::test(start_paused = true)]
async fn bytes_leave_the_budget_when_durable_and_overheads_when_answered() {
    let world = World::free(|_| {});
    world.control.set_faults(CallFaults { unavailable: 1.0, ..CallFaults::default() });
    let budget = world.writer.budget().clone();
    let reservation = budget.reserve(CLIENT, 10_000).await.unwrap();
    let batches = (0..3).map(|n| append_batch(partition(n), None, 3_000)).collect();
    let ticket = world.append_as(1, ms(60_000), Arc::default(), Some(reservation), batches);
    let overhead = 3 * crate::limits::BATCH_OVERHEAD_BYTES;
    assert_eq!(budget.used(), 10_000 + overhead);
    tokio::time::sleep_until(Instant::now() + ms(100)).await;
    assert_eq!(budget.used(), overhead, "durable, not committed");
    world.control.set_faults(CallFaults::default());
    assert!(is_stored(&ticket.await));
    assert_eq!(budget.used(), 0);
}
