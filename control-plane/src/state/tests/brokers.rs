//! Registration, draining and fencing.

use ottla_control_api::view::Change;
use ottla_format::command::*;
use ottla_model::*;

use super::fixture::*;
use crate::state::semantics::REPLACED_NONCES_MAX;

fn registered(fixture: &mut Fixture, broker: i32, nonce: u64) -> Result<u64, RegisterRefusal> {
    match fixture.apply(CommandBody::RegisterBroker(register(broker, nonce))) {
        Answer::Registered(result) => result.map(|epoch| epoch.0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_repeated_registration_is_answered_with_the_same_epoch() {
    let mut fixture = Fixture::new();
    let digest = fixture.state.digest();
    assert_eq!(registered(&mut fixture, 1, 11), Ok(1));
    assert_eq!(fixture.state.digest(), digest);
}

#[test]
fn a_newer_process_fences_the_older_one_which_learns_of_it() {
    let mut fixture = Fixture::new();
    let old = fixture.author;
    assert_eq!(registered(&mut fixture, 1, 12), Ok(2));
    assert!(!fixture.state.is_living(old));
    assert_eq!(registered(&mut fixture, 1, 11), Err(RegisterRefusal::ReplacedByNewer));
    assert_eq!(registered(&mut fixture, 1, 12), Ok(2));
}

#[test]
fn a_process_whose_session_ended_registers_again_under_a_new_epoch() {
    let mut fixture = Fixture::new();
    fixture.apply(CommandBody::FenceBroker(fixture.author));
    assert_eq!(registered(&mut fixture, 1, 11), Ok(2));
    // Its own old process start does not stand in its way.
    assert_eq!(registered(&mut fixture, 1, 11), Ok(2));
}

#[test]
fn epochs_are_given_once_in_the_cluster() {
    let mut fixture = Fixture::new();
    assert_eq!(registered(&mut fixture, 2, 21), Ok(2));
    assert_eq!(registered(&mut fixture, 1, 12), Ok(3));
    assert_eq!(registered(&mut fixture, 3, 31), Ok(4));
}

#[test]
fn remembered_process_starts_are_bounded() {
    let mut fixture = Fixture::new();
    for nonce in 0..2 * REPLACED_NONCES_MAX as u64 {
        registered(&mut fixture, 1, 100 + nonce).unwrap();
    }
    let broker = fixture.state.brokers.get(BrokerId(1)).unwrap();
    assert_eq!(broker.entry().replaced.len(), REPLACED_NONCES_MAX);
}

#[test]
fn a_draining_broker_still_commits_and_is_shown_as_draining() {
    let mut fixture = Fixture::new();
    fixture.apply(CommandBody::DrainBroker(fixture.author));
    assert!(fixture.state.view().brokers[0].draining);
    assert_eq!(fixture.commit(vec![batch(partition(1, 0), 1, None)]), [appended(0)]);
}

#[test]
fn a_fenced_broker_is_gone_from_the_view_once() {
    let mut fixture = Fixture::new();
    let fence = Command { time: TimestampMs(0), body: CommandBody::FenceBroker(fixture.author) };
    let first = fixture.state.apply(AppliedIndex(9), &fence).changes;
    assert_eq!(first, [Change::BrokerGone(BrokerId(1))]);
    assert_eq!(fixture.state.apply(AppliedIndex(10), &fence).changes, []);
    assert!(fixture.state.view().brokers.is_empty());
}

#[test]
fn fencing_an_older_epoch_leaves_the_newer_one_alone() {
    let mut fixture = Fixture::new();
    let old = fixture.author;
    registered(&mut fixture, 1, 12).unwrap();
    fixture.apply(CommandBody::FenceBroker(old));
    fixture.author.epoch = BrokerEpoch(2);
    assert_eq!(fixture.commit(vec![batch(partition(1, 0), 1, None)]), [appended(0)]);
}

#[test]
fn producer_ids_are_given_in_blocks_that_never_overlap() {
    let mut fixture = Fixture::new();
    let allocate = |count| {
        CommandBody::AllocateProducerIds(AllocateProducerIds { author: fixture.author, count })
    };
    let (first, second) = (allocate(1_000), allocate(5));
    assert_eq!(fixture.apply(first), Answer::ProducerIds(Ok(ProducerId(0))));
    assert_eq!(fixture.apply(second.clone()), Answer::ProducerIds(Ok(ProducerId(1_000))));
    assert_eq!(fixture.apply(second), Answer::ProducerIds(Ok(ProducerId(1_005))));
}
