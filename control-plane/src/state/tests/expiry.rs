//! Producers that are forgotten.

use ottla_format::command::*;
use ottla_model::*;

use super::fixture::*;
use crate::state::State;
use crate::state::semantics::{PRODUCER_EXPIRY_MS, PRODUCERS_EXPIRED_MAX};

#[test]
fn a_producer_is_forgotten_when_its_last_use_is_old_enough() {
    let mut fixture = Fixture::new();
    let send = |id, sequence| batch(partition(1, 0), 1, producer(id, 0, sequence));
    fixture.commit(vec![send(1, 0), send(2, 0)]);
    fixture.time += PRODUCER_EXPIRY_MS - 1;
    fixture.apply(CommandBody::Tick);
    assert_eq!(fixture.commit(vec![send(2, 1), send(1, 5)]), [appended(2), OUT_OF_ORDER]);
    // Producer 1 was last used when it stored a batch; a refused one is no use.
    fixture.time += 1;
    fixture.apply(CommandBody::Tick);
    assert_eq!(fixture.commit(vec![send(2, 9), send(1, 5)]), [OUT_OF_ORDER, appended(3)]);
}

#[test]
fn surplus_producers_are_forgotten_before_their_time_and_the_others_keep_theirs() {
    let mut fixture = Fixture::new();
    let send = |id, sequence| batch(partition(1, 0), 1, producer(id, 0, sequence));
    let used = fixture.time;
    fixture.commit(vec![send(1, 0)]);
    fixture.time += 1_000;
    fixture.commit(vec![send(2, 0)]);
    fixture.apply(CommandBody::ExpireProducers { until: TimestampMs(used) });
    assert_eq!(fixture.state.size().producers, 1);
    assert_eq!(fixture.commit(vec![send(1, 7), send(2, 7)]), [appended(2), OUT_OF_ORDER]);
    fixture.time += PRODUCER_EXPIRY_MS - 1;
    fixture.apply(CommandBody::Tick);
    assert_eq!(fixture.state.size().producers, 2);
    fixture.time += 1;
    fixture.apply(CommandBody::Tick);
    assert_eq!(fixture.state.size().producers, 0);
}

#[test]
fn expiry_does_not_depend_on_how_the_state_came_to_be() {
    let mut fixture = Fixture::new();
    let send = |id, sequence| batch(partition(1, 0), 1, producer(id, 0, sequence));
    fixture.commit(vec![send(1, 0)]);
    fixture.time += 1_000;
    fixture.commit(vec![send(1, 1), send(2, 0)]);
    let mut loaded =
        State::from_records(fixture.state.identity(), fixture.state.records()).unwrap();
    fixture.time += PRODUCER_EXPIRY_MS;
    let tick = Command { time: TimestampMs(fixture.time), body: CommandBody::Tick };
    loaded.apply(AppliedIndex(loaded.applied().0 + 1), &tick);
    fixture.apply(CommandBody::Tick);
    assert_eq!(loaded.digest(), fixture.state.digest());
    assert_eq!(fixture.commit(vec![send(1, 70), send(2, 70)]), [appended(3), appended(4)]);
}

/// Until nothing is left, on a state whose index grew with it and on one that is loaded before each
/// command.
fn expire_twice(fixture: &mut Fixture, until: i64) -> Vec<u64> {
    let mut sizes = Vec::new();
    while fixture.state.has_producers_used_until(TimestampMs(until)) {
        let state = &fixture.state;
        let mut loaded = State::from_records(state.identity(), state.records()).unwrap();
        let index = AppliedIndex(loaded.applied().0 + 1);
        let body = CommandBody::ExpireProducers { until: TimestampMs(until) };
        fixture.apply(body.clone());
        loaded.apply(index, &Command { time: TimestampMs(fixture.time), body });
        assert_eq!(loaded.digest(), fixture.state.digest());
        sizes.push(fixture.state.size().producers);
    }
    sizes
}

#[test]
fn a_command_forgets_a_bounded_number_of_producers_and_the_next_ones_the_rest() {
    const MAX: i64 = PRODUCERS_EXPIRED_MAX as i64;
    const NEW: i64 = MAX + 1;
    let mut fixture = Fixture::new();
    let send = |index, id, sequence| batch(partition(1, index), 1, producer(id, 0, sequence));
    // The index has partition 0 first, whose first producer is then used again.
    fixture.commit(vec![send(0, NEW, 0)]);
    fixture.time += 10;
    fixture.commit((0..MAX * 3 / 4).map(|id| send(1, id, 0)).collect());
    fixture.time += 10;
    fixture.commit((0..MAX * 3 / 4).map(|id| send(0, id, 0)).collect());
    let until = fixture.time;
    fixture.time += 10;
    fixture.commit(vec![send(0, NEW, 1), send(0, MAX, 0), send(1, MAX, 0)]);
    // All of partition 1, because its producers are the oldest, and a part of partition 0.
    let sizes = expire_twice(&mut fixture, until);
    assert_eq!(sizes[..2], [MAX as u64 / 2 + 3, 3]);
    assert!(sizes[2..].iter().all(|size| *size == 3), "{sizes:?}");
    let last = MAX * 3 / 4 - 1;
    let outcomes = fixture.commit(vec![send(0, NEW, 9), send(0, last, 9)]);
    assert!(matches!(outcomes[..], [OUT_OF_ORDER, BatchOutcome::Appended { .. }]), "{outcomes:?}");
}
