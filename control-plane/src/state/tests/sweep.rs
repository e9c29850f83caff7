//! Which objects can go.

use ottla_control_api::CondemnedObject;
use ottla_control_api::ObjectStanding::{self, Committed, Foreign, Orphan, Undecided};
use ottla_format::command::*;
use ottla_format::state::{ExtentEntry, ExtentLocation, ObjectEntry, ObjectStatus};
use ottla_model::*;

use super::fixture::*;
use crate::state::State;

fn name(epoch: u64, nonce: u64, seq: u64, attempt: u32) -> ObjectName {
    let author = BrokerAuthor { broker: BrokerId(1), epoch: BrokerEpoch(epoch) };
    let (seq, attempt) = (ObjectSeq(seq), Attempt(attempt));
    ObjectName::wal(author, ProcessNonce(nonce), seq, attempt)
}

fn standing(state: &State, name: ObjectName) -> ObjectStanding {
    state.standings(&[name])[0]
}

fn due(state: &State, until: i64) -> Vec<u64> {
    let condemned = state.condemned(TimestampMs(until), 1_000);
    condemned.due.into_iter().map(|object| object.id.0).collect()
}

#[test]
fn condemned_objects_are_due_in_the_order_of_their_condemnation() {
    let mut fixture = Fixture::new();
    fixture.create_topic(2, "second", 1).unwrap();
    fixture.commit(vec![batch(partition(1, 0), 1, None)]);
    fixture.commit(vec![batch(partition(2, 0), 1, None)]);
    fixture.commit(vec![batch(partition(1, 0), 1, None), batch(partition(2, 0), 1, None)]);
    assert_eq!(due(&fixture.state, i64::MAX), [] as [u64; 0]);

    fixture.time = 2_000;
    fixture.delete_topic(2);
    fixture.time = 3_000;
    fixture.delete_topic(1);
    assert_eq!(due(&fixture.state, 1_999), [] as [u64; 0]);
    assert_eq!(due(&fixture.state, 2_999), [1]);
    assert_eq!(due(&fixture.state, 3_000), [1, 0, 2]);
    assert_eq!(fixture.state.condemned(TimestampMs(3_000), 1).due.len(), 1);
    let all = fixture.state.condemned(TimestampMs(0), 1);
    assert_eq!((all.condemned, all.objects), (3, 3));

    fixture.apply(CommandBody::ForgetObjects(vec![ObjectId(1), ObjectId(1), ObjectId(9)]));
    assert_eq!(due(&fixture.state, 3_000), [0, 2]);
}

#[test]
fn a_loaded_state_knows_what_is_condemned() {
    let mut fixture = Fixture::new();
    for _ in 0..300 {
        fixture.commit(vec![batch(partition(1, 0), 1, None)]);
    }
    fixture.delete_topic(1);
    let state = &fixture.state;
    let loaded = State::from_records(state.identity(), state.records()).unwrap();
    loaded.check().unwrap();
    let until = TimestampMs(i64::MAX);
    assert_eq!(loaded.condemned(until, 1_000), state.condemned(until, 1_000));
    assert_eq!(due(&loaded, i64::MAX).len(), 300);
}

#[test]
fn an_empty_state_owns_nothing_in_the_bucket() {
    let state = State::new(CLUSTER);
    assert_eq!(standing(&state, name(1, 11, 0, 0)), Foreign);
    assert_eq!(state.condemned(TimestampMs(i64::MAX), 10).due, []);
}

#[test]
fn of_a_decided_object_only_the_committed_attempt_stays() {
    let mut fixture = Fixture::new();
    fixture.commit(vec![batch(partition(1, 0), 1, None)]);
    fixture.abandon(1, 1);
    let names = [name(1, 11, 0, 0), name(1, 11, 0, 1), name(1, 11, 1, 0), name(1, 11, 2, 0)];
    assert_eq!(fixture.state.standings(&names), [Committed, Orphan, Orphan, Undecided]);
}

#[test]
fn a_merged_object_is_condemned_like_others_and_unreferenced_it_is_foreign() {
    let mut fixture = Fixture::new();
    fixture.commit(vec![batch(partition(1, 0), 2, None)]);
    fixture.commit(vec![batch(partition(1, 0), 2, None)]);
    let merged = |job, nonce, output, attempt| {
        let (job, nonce) = (JobId(job), LeaseNonce(nonce));
        ObjectName::merged(job, nonce, JobOutput(output), Attempt(attempt))
    };
    let name = merged(7, 70, 0, 1);
    let (size, status) = (2_000, ObjectStatus::Live);
    let entry = ObjectEntry { name, size, live_bytes: 0, references: 0, status };
    let (position, length) = (BytePosition(64), 190);
    let run = (Offset(0), Offset(3));
    let extents = |object| {
        vec![ExtentEntry {
            base_offset: run.0,
            last_offset_delta: 3,
            max_timestamp: TimestampMs(5_000),
            flags: ExtentFlags::FINAL_HEADERS,
            location: ExtentLocation::Object { object, position, length },
        }]
    };
    let number = fixture.state.replace_by_object(partition(1, 0), run, entry, extents).unwrap();
    fixture.state.check().unwrap();
    assert_eq!(due(&fixture.state, i64::MAX), [0, 1], "what it replaced");
    let names = [name, merged(7, 70, 0, 0), merged(7, 70, 1, 1), merged(7, 71, 0, 1)];
    let others_are_foreign = [Committed, Foreign, Foreign, Foreign];
    assert_eq!(fixture.state.standings(&names), others_are_foreign);
    fixture.apply(CommandBody::ForgetObjects(vec![ObjectId(0), ObjectId(1)]));

    fixture.state.trim_partition(partition(1, 0), Offset(4));
    let condemned = fixture.state.condemned(TimestampMs(i64::MAX), 10).due;
    assert_eq!(condemned, [CondemnedObject { id: number, name, size }]);
    assert_eq!(fixture.state.standings(&names), others_are_foreign);
    fixture.apply(CommandBody::ForgetObjects(vec![number]));
    assert_eq!(standing(&fixture.state, name), Foreign);
}

#[test]
fn what_a_fenced_run_did_not_commit_is_an_orphan_for_ever() {
    let mut fixture = Fixture::new();
    fixture.commit(vec![batch(partition(1, 0), 1, None)]);
    assert_eq!(standing(&fixture.state, name(1, 11, 5, 0)), Undecided);
    fixture.apply(CommandBody::FenceBroker(fixture.author));
    assert_eq!(standing(&fixture.state, name(1, 11, 5, 0)), Orphan);
    fixture.apply(CommandBody::RegisterBroker(register(1, 12)));
    let names = [name(1, 11, 5, 0), name(1, 11, 0, 0), name(2, 12, 0, 0), name(2, 11, 0, 0)];
    assert_eq!(fixture.state.standings(&names), [Orphan, Committed, Undecided, Foreign]);
}

#[test]
fn a_restored_state_leaves_alone_what_it_never_registered() {
    let mut fixture = Fixture::new();
    let restored = fixture.state.clone();
    fixture.apply(CommandBody::RegisterBroker(register(1, 12)));
    fixture.author.epoch = BrokerEpoch(2);
    fixture.commit(vec![batch(partition(1, 0), 1, None)]);
    let lost = name(2, 12, 0, 0);
    assert_eq!(standing(&fixture.state, lost), Committed);

    fixture.state = restored;
    assert_eq!(standing(&fixture.state, lost), Foreign, "an epoch that was not given yet");
    fixture.apply(CommandBody::RegisterBroker(register(1, 13)));
    assert_eq!(standing(&fixture.state, lost), Foreign, "the epoch was given to another start");
    fixture.apply(CommandBody::RegisterBroker(register(1, 14)));
    assert_eq!(standing(&fixture.state, lost), Foreign, "and is over");
}

#[test]
fn the_run_of_a_copy_is_unknown_once_its_loss_was_accepted() {
    let mut fixture = Fixture::new();
    fixture.commit(vec![batch(partition(1, 0), 1, None)]);
    let copied = fixture.state.clone();
    // The copy was taken while the run went on.
    fixture.commit(vec![batch(partition(1, 0), 1, None)]);
    let (kept, lost) = (name(1, 11, 0, 0), name(1, 11, 1, 0));
    assert_eq!(standing(&fixture.state, lost), Committed);

    fixture.state = copied;
    assert_eq!(standing(&fixture.state, lost), Undecided);
    fixture.apply(CommandBody::AcceptLoss);
    assert_eq!(standing(&fixture.state, kept), Committed);
    assert_eq!(standing(&fixture.state, lost), Foreign);
    fixture.apply(CommandBody::RegisterBroker(register(1, 12)));
    assert_eq!(standing(&fixture.state, lost), Foreign);
    let names = [name(2, 12, 0, 0), name(1, 11, 0, 1)];
    assert_eq!(fixture.state.standings(&names), [Undecided, Foreign]);
}

#[test]
fn producer_ids_of_a_lost_time_are_not_given_again() {
    let mut fixture = Fixture::new();
    let author = fixture.author;
    let allocate = CommandBody::AllocateProducerIds(AllocateProducerIds { author, count: 1_000 });
    let first = |answer| match answer {
        Answer::ProducerIds(Ok(first)) => first.0,
        other => panic!("{other:?}"),
    };
    let copied = fixture.state.clone();
    let lost = first(fixture.apply(allocate.clone()));
    fixture.state = copied;
    fixture.apply(CommandBody::AcceptLoss);
    assert_eq!(fixture.apply(allocate), Answer::ProducerIds(Err(Fenced)), "of a run that is over");
    fixture.apply(CommandBody::RegisterBroker(register(1, 12)));
    let author = BrokerAuthor { broker: BrokerId(1), epoch: BrokerEpoch(2) };
    let allocate = CommandBody::AllocateProducerIds(AllocateProducerIds { author, count: 1_000 });
    assert!(first(fixture.apply(allocate)) > lost + 1_000_000_000);
}

#[test]
fn the_mark_moves_with_everything_that_can_make_an_orphan() {
    let mut fixture = Fixture::new();
    let mark = |state: &State| state.condemned(TimestampMs(0), 0).mark;
    let mut marks = vec![mark(&fixture.state)];
    fixture.commit(vec![batch(partition(1, 0), 1, None)]);
    marks.push(mark(&fixture.state));
    fixture.abandon(1, 1);
    marks.push(mark(&fixture.state));
    fixture.apply(CommandBody::FenceBroker(fixture.author));
    marks.push(mark(&fixture.state));
    fixture.apply(CommandBody::RegisterBroker(register(1, 12)));
    marks.push(mark(&fixture.state));
    for (at, one) in marks.iter().enumerate() {
        assert!(!marks[..at].contains(one), "{marks:?}");
    }
    fixture.apply(CommandBody::Tick);
    assert_eq!(mark(&fixture.state), marks[4]);
}
