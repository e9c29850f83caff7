//! What the writer does between its waits, as plain steps: seal, note an upload, hand over, hear an
//! answer, end. No time of its own, no I/O, no task: [`task`](super::task) drives them with real
//! ones, and the simulation with its own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ottla_control_api::CallError;
use ottla_format::command::ObjectOutcome;
use ottla_model::{BrokerAuthor, ObjectSeq};
use tokio::time::Instant;

use super::answer::{Answer, AppendOutcome};
use super::buffer::{Buffer, Entry};
use super::commit::{Abandoned, CommitTimes, Committer, Decided, Message, MessageId, Progress};
use super::failed::SharedFailed;
use super::intake::{Gate, Intake, take_not_admitted};
use super::upload::Verified;

/// The intake behind the lock that producers meet on.
#[derive(Clone, Debug)]
pub(crate) struct SharedIntake(Arc<Mutex<Intake>>);

impl SharedIntake {
    pub(crate) fn new(intake: Intake) -> Self {
        Self(Arc::new(Mutex::new(intake)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Intake> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many batches were told what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub stored: u64,
    pub refused: u64,
    pub not_stored: u64,
    pub undecided: u64,
    pub fenced: u64,
}

/// What came of an answer.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// The broker epoch is over, or the control plane is gone: nothing is let in any more.
    pub over: Option<Gate>,
    /// The call failed: pause before the next one.
    pub failed: bool,
    /// Of the objects that are decided now and were to be committed.
    pub times: Vec<CommitTimes>,
    /// Objects that are abandoned now.
    pub abandoned: u64,
    /// Bytes that were in buffers and are not any more.
    pub let_go: usize,
    pub told: Told,
}

/// See the module's essay.
#[derive(Debug)]
pub(crate) struct Steps {
    pub intake: SharedIntake,
    failed: SharedFailed,
    committer: Committer,
}

impl Steps {
    /// The steps of one broker epoch, with nothing sealed yet.
    pub(crate) fn new(author: BrokerAuthor, intake: SharedIntake, failed: SharedFailed) -> Self {
        Self { intake, failed, committer: Committer::new(author) }
    }

    /// How many objects are not decided, or decided above one that is not.
    pub(crate) fn undecided(&self) -> usize {
        self.committer.len()
    }

    /// The oldest buffer becomes an object: its sequence, and the buffer without its entries.
    pub(crate) fn seal(&mut self) -> Option<(ObjectSeq, Buffer)> {
        let mut buffer = self.intake.lock().take_oldest()?;
        let seq = self.committer.sealed(std::mem::take(&mut buffer.entries));
        Some((seq, buffer))
    }

    /// An upload ended: verified, or given up.
    pub(crate) fn uploaded(&mut self, seq: ObjectSeq, verified: Option<Verified>) {
        self.committer.uploaded(seq, verified);
    }

    /// The next message to hand over, if one may be sent now.
    pub(crate) fn next_message(&mut self, now: Instant) -> Option<(MessageId, Message)> {
        self.committer.next_message(now)
    }

    /// A message was answered: tells whoever waited for it, and whoever it takes with it.
    pub(crate) fn answered(
        &mut self,
        id: MessageId,
        result: Result<Vec<ObjectOutcome>, CallError>,
        now: Instant,
    ) -> Heard {
        let mut heard = self.hear(id, result, now);
        while let Some(object) = self.take_abandoned() {
            self.fail(object, now, &mut heard);
        }
        heard
    }

    /// The first part of [`Steps::answered`].
    pub(crate) fn hear(
        &mut self,
        id: MessageId,
        result: Result<Vec<ObjectOutcome>, CallError>,
        now: Instant,
    ) -> Heard {
        let Progress { decided, fenced, closed, failed } = self.committer.answered(id, result);
        let times = decided.iter().filter_map(|object| object.times).collect();
        let over = if fenced { Some(Gate::Fenced) } else { closed.then_some(Gate::Closed) };
        let mut heard = Heard { over, failed, times, ..Heard::default() };
        match over {
            Some(gate) => self.shut(gate, decided, now, &mut heard),
            None => self.tell(decided, now, &mut heard.told),
        }
        heard
    }

    /// The next object that is abandoned, in seal order.
    pub(crate) fn take_abandoned(&mut self) -> Option<Abandoned> {
        self.committer.take_abandoned()
    }

    /// Answers the batches of an abandoned object, and of everything that follows them.
    fn fail(&mut self, object: Abandoned, now: Instant, heard: &mut Heard) {
        heard.abandoned += 1;
        let Abandoned { seq, mut entries } = object;
        let mut successors: Vec<Answer>;
        {
            // Held to the end: nothing is let in between the note and the walk.
            let mut intake = self.intake.lock();
            let unanswered = entries.iter().filter(|entry| entry.answer.is_some());
            let streams = unanswered.filter_map(|entry| Some((entry.partition, entry.producer?)));
            self.failed.lock().record(streams, now);
            let above = self.committer.uncommitted_above(seq);
            successors = take_not_admitted(&mut self.failed.lock(), above, now);
            successors.extend(intake.take_successors_of_failed(now));
        }
        tracing::warn!(
            %seq, batches = entries.len(), successors = successors.len(),
            "an object was abandoned; its batches are answered as not stored"
        );
        for entry in &mut entries {
            settle(entry, AppendOutcome::NotStored, &mut heard.told);
        }
        for answer in successors {
            heard.told.not_stored += 1;
            answer.give(AppendOutcome::NotStored);
        }
    }

    /// Answers batches, in order. A batch that is not certainly stored is noted as failed before
    /// anybody is told, so that no successor slips in between.
    fn tell(&self, decided: Vec<Decided>, now: Instant, told: &mut Told) {
        let outcomes = decided.iter().flat_map(|object| &object.outcomes);
        let lost = outcomes.filter(|(entry, outcome)| {
            let known = matches!(outcome, AppendOutcome::Stored { .. } | AppendOutcome::Refused(_));
            !known && entry.answer.is_some()
        });
        let streams = lost.filter_map(|(entry, _)| Some((entry.partition, entry.producer?)));
        let mut streams = streams.peekable();
        if streams.peek().is_some() {
            self.failed.lock().record(streams, now);
        }
        for (mut entry, outcome) in decided.into_iter().flat_map(|object| object.outcomes) {
            settle(&mut entry, outcome, told);
        }
    }

    /// Lets nothing in any more and answers, after `decided`, what is in buffers: it was never part
    /// of a commit.
    fn shut(&self, gate: Gate, mut decided: Vec<Decided>, now: Instant, heard: &mut Heard) {
        let outcome = match gate {
            Gate::Fenced => AppendOutcome::Fenced,
            Gate::Open | Gate::Closed => AppendOutcome::NotStored,
        };
        for buffer in self.intake.lock().shut(gate) {
            heard.let_go += buffer.bytes;
            let outcomes = buffer.entries.into_iter().map(|entry| (entry, outcome)).collect();
            decided.push(Decided { times: None, outcomes });
        }
        self.tell(decided, now, &mut heard.told);
    }

    /// The writer ends: answers everything that is not decided.
    pub(crate) fn end(&mut self, now: Instant) -> Heard {
        let mut heard = Heard { over: Some(Gate::Closed), ..Heard::default() };
        let undecided = self.committer.end();
        self.shut(Gate::Closed, undecided, now, &mut heard);
        heard
    }
}

fn settle(entry: &mut Entry, outcome: AppendOutcome, told: &mut Told) {
    if entry.answer.is_none() {
        return;
    }
    let count = match outcome {
        AppendOutcome::Stored { .. } => &mut told.stored,
        AppendOutcome::Refused(_) => &mut told.refused,
        AppendOutcome::NotStored => &mut told.not_stored,
        AppendOutcome::Undecided => &mut told.undecided,
        AppendOutcome::Fenced => &mut told.fenced,
    };
    *count += 1;
    entry.settle(outcome);
}
