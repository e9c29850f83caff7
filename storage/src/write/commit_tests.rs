//! The committer against the model of the control plane, without tasks and without time: the rules
//! one by one here, random interleavings of every event in [`play`].

use std::time::Duration;

use ottla_control_api::CallError;
use ottla_format::command::ObjectOutcome;
use ottla_model::{Attempt, BatchProducer, BytePosition, ObjectSeq, PartitionId, TimestampMs};
use tokio::time::Instant;

use super::super::answer::AppendTicket;
use super::super::failed::FailedProducers;
use super::super::intake::take_not_admitted;
use super::super::layout::Layout;
use super::super::testing::{AUTHOR, Model, partition, producer};
use super::super::upload::Verified;
use super::*;

#[path = "commit_play_tests.rs"]
mod play;

/// A committer with the tickets of all batches, named as they are appended.
struct World {
    committer: Committer,
    model: Model,
    failed: FailedProducers,
    told: Vec<(PartitionId, BatchProducer, AppendOutcome)>,
    now: Instant,
    /// It was learnt that the epoch is over: the writer seals nothing any more.
    over: bool,
}

impl World {
    fn new() -> Self {
        Self {
            committer: Committer::new(AUTHOR),
            model: Model::default(),
            failed: FailedProducers::default(),
            told: Vec::new(),
            now: Instant::now(),
            over: false,
        }
    }

    fn seal(&mut self, batches: &[BatchProducer]) -> ObjectSeq {
        let entries = batches.iter().map(|producer| entry(*producer)).collect();
        self.committer.sealed(entries)
    }

    fn verify(&mut self, seq: ObjectSeq) {
        let object = self.committer.object(seq).unwrap();
        let order = (0u32..).zip(&object.entries);
        let order = order.map(|(n, _)| (n, BytePosition(60 + u64::from(n) * 100))).collect();
        let verified =
            Verified { attempt: Attempt(0), size: 1000, layout: Layout { order }, at: self.now };
        self.committer.uploaded(seq, Some(verified));
    }

    fn give_up(&mut self, seq: ObjectSeq) {
        self.committer.uploaded(seq, None);
    }

    fn apply(&mut self, message: &Message) -> Vec<ObjectOutcome> {
        match message {
            Message::Commit(request) => {
                let objects = request.objects.iter();
                objects.map(|object| self.model.commit(object, request.frontier)).collect()
            }
            Message::Abandon(request) => {
                vec![self.model.abandon(request.seq, request.frontier)]
            }
        }
    }

    fn answer(&mut self, id: MessageId, result: Result<Vec<ObjectOutcome>, CallError>) {
        let progress = self.committer.answered(id, result);
        self.over |= progress.fenced || progress.closed;
        for object in progress.decided {
            for (entry, outcome) in object.outcomes {
                if entry.answer.is_some() {
                    self.told.push((entry.partition, entry.producer.unwrap(), outcome));
                }
            }
        }
        while let Some(Abandoned { seq, entries }) = self.committer.take_abandoned() {
            let unanswered = entries.iter().filter(|entry| entry.answer.is_some());
            let streams = unanswered.clone().map(|e| (e.partition, e.producer.unwrap()));
            self.failed.record(streams, self.now);
            for entry in unanswered {
                let producer = entry.producer.unwrap();
                self.told.push((entry.partition, producer, AppendOutcome::NotStored));
            }
            // Which ones are taken out is seen by their missing answers.
            let above = self.committer.uncommitted_above(seq);
            take_not_admitted(&mut self.failed, above, self.now);
        }
    }

    /// Sends everything that can be sent, with answers, until nothing moves.
    fn settle(&mut self) {
        while let Some((id, message)) = self.committer.next_message(self.now) {
            let outcomes = self.apply(&message);
            self.answer(id, Ok(outcomes));
        }
    }

    fn outcome(&self, producer: BatchProducer) -> Option<AppendOutcome> {
        let told = self.told.iter().find(|(_, told, _)| *told == producer);
        told.map(|(_, _, outcome)| *outcome)
    }

    fn stored(&self, producer: BatchProducer) -> bool {
        matches!(self.outcome(producer), Some(AppendOutcome::Stored { .. }))
    }
}

fn entry(producer: BatchProducer) -> Entry {
    let ticket = AppendTicket::new(1, Instant::now(), Duration::from_secs(30), None);
    Entry {
        partition: partition(0),
        length: 100,
        last_offset_delta: 0,
        max_timestamp: TimestampMs(0),
        producer: Some(producer),
        answer: Some(ticket.answer(0)),
    }
}

fn commit_seqs(message: Option<(MessageId, Message)>) -> (MessageId, Vec<u64>) {
    match message {
        Some((id, Message::Commit(request))) => {
            (id, request.objects.iter().map(|object| object.seq.0).collect())
        }
        other => panic!("not a commit: {other:?}"),
    }
}

fn abandon_seq(message: Option<(MessageId, Message)>) -> (MessageId, u64) {
    match message {
        Some((id, Message::Abandon(request))) => (id, request.seq.0),
        other => panic!("not an abandon: {other:?}"),
    }
}

fn unknown<T>() -> Result<T, CallError> {
    Err(CallError::OutcomeUnknown("lost".to_owned()))
}

#[test]
fn an_object_that_is_still_uploading_holds_up_those_above_it() {
    let mut world = World::new();
    let seqs: Vec<_> = (0..3).map(|n| world.seal(&[producer(n, 0)])).collect();
    world.verify(seqs[1]);
    world.verify(seqs[2]);
    assert!(world.committer.next_message(world.now).is_none());
    world.verify(seqs[0]);
    assert_eq!(commit_seqs(world.committer.next_message(world.now)).1, [0, 1, 2]);
    assert!(world.committer.next_message(world.now).is_none(), "all are on their way");
}

#[test]
fn commits_are_handed_over_without_waiting_for_answers() {
    let mut world = World::new();
    for n in 0..3 {
        let seq = world.seal(&[producer(n, 0)]);
        world.verify(seq);
        assert_eq!(commit_seqs(world.committer.next_message(world.now)).1, [seq.0]);
    }
}

#[test]
fn a_lost_message_is_sent_again_before_what_came_after_it() {
    let mut world = World::new();
    let seqs: Vec<_> = (0..2).map(|n| world.seal(&[producer(n, 0)])).collect();
    world.verify(seqs[0]);
    let (first, _) = commit_seqs(world.committer.next_message(world.now));
    world.verify(seqs[1]);
    let (second, message) = world.committer.next_message(world.now).unwrap();
    let not_yet = world.apply(&message);
    assert!(matches!(not_yet[0], ObjectOutcome::NotYet { .. }));
    world.answer(second, Ok(not_yet));
    assert!(
        world.committer.next_message(world.now).is_none(),
        "no busy repeating of what must wait"
    );
    world.answer(first, unknown());
    assert_eq!(commit_seqs(world.committer.next_message(world.now)).1, [0, 1]);
}

#[test]
fn an_answer_lost_after_the_effect_is_found_out_by_repeating() {
    let mut world = World::new();
    let seq = world.seal(&[producer(1, 0)]);
    world.verify(seq);
    let (id, message) = world.committer.next_message(world.now).unwrap();
    world.apply(&message);
    world.answer(id, unknown());
    assert_eq!(world.outcome(producer(1, 0)), None, "nobody is told anything yet");
    world.settle();
    assert!(world.stored(producer(1, 0)));
    assert_eq!(world.model.logs[&partition(0)].len(), 1);
    assert_eq!(world.committer.frontier(), ObjectSeq(1));
}

#[test]
fn nobody_is_told_not_stored_before_the_abandon_is_replicated() {
    let mut world = World::new();
    let seq = world.seal(&[producer(1, 0)]);
    world.give_up(seq);
    let (id, abandoned) = abandon_seq(world.committer.next_message(world.now));
    assert_eq!((abandoned, world.outcome(producer(1, 0))), (0, None));
    world.answer(id, unknown());
    assert_eq!(world.outcome(producer(1, 0)), None);
    world.settle();
    assert_eq!(world.outcome(producer(1, 0)), Some(AppendOutcome::NotStored));
}

#[test]
fn no_commit_passes_an_abandon_that_is_on_its_way() {
    let mut world = World::new();
    let failing: Vec<_> = (0..2).map(|n| world.seal(&[producer(1, n)])).collect();
    let above = world.seal(&[producer(1, 2), producer(2, 0)]);
    world.verify(above);
    failing.into_iter().for_each(|seq| world.give_up(seq));
    let (first, _) = abandon_seq(world.committer.next_message(world.now));
    let (second, _) = abandon_seq(world.committer.next_message(world.now));
    assert!(world.committer.next_message(world.now).is_none());
    world.answer(second, Ok(vec![ObjectOutcome::Abandoned]));
    assert!(world.committer.next_message(world.now).is_none());
    world.answer(first, Ok(vec![ObjectOutcome::Abandoned]));
    assert_eq!(commit_seqs(world.committer.next_message(world.now)).1, [2]);
}

#[test]
fn abandons_that_are_answered_out_of_order_are_noted_in_order() {
    let mut world = World::new();
    let seqs: Vec<_> = (0..2).map(|n| world.seal(&[producer(1, n)])).collect();
    seqs.into_iter().for_each(|seq| world.give_up(seq));
    let (lower, _) = abandon_seq(world.committer.next_message(world.now));
    let (higher, _) = abandon_seq(world.committer.next_message(world.now));
    world.answer(higher, Ok(vec![ObjectOutcome::Abandoned]));
    assert_eq!(world.outcome(producer(1, 1)), None, "the one before it may be told first");
    let above = world.seal(&[producer(2, 0)]);
    world.verify(above);
    assert!(world.committer.next_message(world.now).is_none(), "what fails is not known yet");
    world.answer(lower, Ok(vec![ObjectOutcome::Abandoned]));
    assert!(!world.failed.admit(partition(0), Some(producer(1, 1)), world.now));
    assert!(world.failed.admit(partition(0), Some(producer(1, 0)), world.now));
    assert_eq!(commit_seqs(world.committer.next_message(world.now)).1, [2]);
}

#[test]
fn an_object_of_which_nothing_is_left_is_abandoned_itself() {
    let mut world = World::new();
    let first = world.seal(&[producer(1, 0)]);
    let second = world.seal(&[producer(1, 1)]);
    world.verify(second);
    world.give_up(first);
    world.settle();
    assert_eq!(world.model.abandoned, [ObjectSeq(0), ObjectSeq(1)]);
}

#[test]
fn successors_of_a_failed_batch_are_left_out_and_others_are_committed() {
    let mut world = World::new();
    let first = world.seal(&[producer(1, 0)]);
    let second = world.seal(&[producer(1, 1), producer(2, 0)]);
    world.verify(second);
    world.give_up(first);
    world.settle();
    assert_eq!(world.outcome(producer(1, 0)), Some(AppendOutcome::NotStored));
    assert!(world.stored(producer(2, 0)));
    assert_eq!(world.model.logs[&partition(0)], [Some(producer(2, 0))]);
}

#[test]
fn a_second_send_that_was_buffered_before_the_failure_is_kept_with_what_follows() {
    let mut world = World::new();
    let first = world.seal(&[producer(1, 0), producer(1, 1)]);
    let second = world.seal(&[producer(1, 2), producer(1, 0), producer(1, 1)]);
    world.verify(second);
    world.give_up(first);
    world.settle();
    let log = &world.model.logs[&partition(0)];
    assert_eq!(log, &[Some(producer(1, 0)), Some(producer(1, 1))]);
}

#[test]
fn after_a_fence_only_what_was_never_handed_over_is_certainly_not_stored() {
    let mut world = World::new();
    let seqs: Vec<_> = (0..3).map(|n| world.seal(&[producer(n, 0)])).collect();
    world.verify(seqs[0]);
    let (first, message) = world.committer.next_message(world.now).unwrap();
    world.apply(&message);
    world.answer(first, unknown());
    world.model.fenced = true;
    world.verify(seqs[1]);
    let (both, message) = world.committer.next_message(world.now).unwrap();
    let outcomes = world.apply(&message);
    world.answer(both, Ok(outcomes));
    assert_eq!(world.outcome(producer(0, 0)), Some(AppendOutcome::Undecided));
    // The call may have arrived twice, once before the fence.
    assert_eq!(world.outcome(producer(1, 0)), Some(AppendOutcome::Undecided));
    assert_eq!(world.outcome(producer(2, 0)), Some(AppendOutcome::Fenced));
    assert!(world.committer.next_message(world.now).is_none());
    assert_eq!(world.committer.len(), 0);
}

#[test]
fn a_commit_on_its_way_when_the_fence_is_learnt_still_counts() {
    let mut world = World::new();
    let seqs: Vec<_> = (0..2).map(|n| world.seal(&[producer(n, 0)])).collect();
    world.verify(seqs[0]);
    let (first, message) = world.committer.next_message(world.now).unwrap();
    let committed = world.apply(&message);
    world.model.fenced = true;
    world.verify(seqs[1]);
    let (second, message) = world.committer.next_message(world.now).unwrap();
    let fenced = world.apply(&message);
    world.answer(second, Ok(fenced));
    assert_eq!(world.outcome(producer(0, 0)), None);
    world.answer(first, Ok(committed));
    assert!(world.stored(producer(0, 0)));
}

#[test]
fn when_the_control_plane_goes_for_good_everything_is_undecided() {
    let mut world = World::new();
    let seqs: Vec<_> = (0..2).map(|n| world.seal(&[producer(n, 0)])).collect();
    world.verify(seqs[0]);
    let (id, _) = world.committer.next_message(world.now).unwrap();
    world.answer(id, Err(CallError::ShuttingDown));
    for n in 0..2 {
        assert_eq!(world.outcome(producer(n, 0)), Some(AppendOutcome::Undecided));
    }
}

#[test]
fn an_answer_with_a_wrong_number_of_outcomes_is_no_answer() {
    let mut world = World::new();
    let seq = world.seal(&[producer(1, 0)]);
    world.verify(seq);
    let (id, _) = world.committer.next_message(world.now).unwrap();
    world.answer(id, Ok(vec![]));
    world.settle();
    assert!(world.stored(producer(1, 0)));
}

#[test]
fn messages_are_bounded() {
    let mut world = World::new();
    for n in 0..COMMIT_OBJECTS_MAX as i64 + 1 {
        let seq = world.seal(&[producer(n, 0)]);
        world.verify(seq);
    }
    assert_eq!(commit_seqs(world.committer.next_message(world.now)).1.len(), COMMIT_OBJECTS_MAX);
    assert_eq!(commit_seqs(world.committer.next_message(world.now)).1.len(), 1);
    for n in 0..COMMITS_IN_FLIGHT_MAX as i64 {
        let seq = world.seal(&[producer(1000 + n, 0)]);
        world.verify(seq);
        let sent = world.committer.next_message(world.now).is_some();
        assert_eq!(sent, n + 2 < COMMITS_IN_FLIGHT_MAX as i64);
    }
}
