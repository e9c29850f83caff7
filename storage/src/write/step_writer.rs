//! A writer without a task: the same intake, committer and answers as the product's, driven step by
//! step from outside. Uploads and calls are the driver's; so is time.

use std::fmt;
use std::time::Duration;

use ottla_control_api::CallError;
use ottla_format::command::ObjectOutcome;
use ottla_format::object::ObjectHeader;
use ottla_model::{Attempt, BrokerAuthor, ClusterId, ObjectOrigin, ObjectSeq, ProcessNonce};
use ottla_object_io::Payload;
use tokio::time::Instant;

use super::answer::{Answer, AppendOutcome, AppendTicket};
use super::failed::SharedFailed;
use super::intake::{AppendRequest, Gate, Intake};
use super::layout::lay_out;
use super::steps::{Heard, SharedIntake, Steps};
use super::upload::Verified;

pub use super::commit::{Message, MessageId};
pub use super::layout::Layout;

/// A buffer that became an object, to be uploaded.
#[derive(Clone, Debug)]
pub struct SealedObject {
    /// Its place in the seal order.
    pub seq: ObjectSeq,
    /// Its bytes.
    pub payload: Payload,
    /// Where its batches lie, for the commit.
    pub layout: Layout,
}

/// What came of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The broker epoch is over: the writer takes nothing in any more.
    pub fenced: bool,
    /// Objects that are abandoned now.
    pub abandoned: u64,
}

/// See the module.
pub struct StepWriter {
    steps: Steps,
    failed: SharedFailed,
    size_max: usize,
    cluster: ClusterId,
    author: BrokerAuthor,
    nonce: ProcessNonce,
}

impl fmt::Debug for StepWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the writer of {:?}", self.author)
    }
}

impl StepWriter {
    /// The first writer of a process. Buffers of `size_max` bytes are full.
    pub fn first(
        cluster: ClusterId,
        author: BrokerAuthor,
        nonce: ProcessNonce,
        size_max: usize,
    ) -> Self {
        Self::new(cluster, author, nonce, size_max, SharedFailed::default())
    }

    fn new(
        cluster: ClusterId,
        author: BrokerAuthor,
        nonce: ProcessNonce,
        size_max: usize,
        failed: SharedFailed,
    ) -> Self {
        let intake = Intake::new(size_max, Duration::ZERO, failed.clone());
        let steps = Steps::new(author, SharedIntake::new(intake), failed.clone());
        Self { steps, failed, size_max, cluster, author, nonce }
    }

    /// Ends this writer; the one of the next broker epoch of the same process, as
    /// [`Writer::succeed`](super::Writer::succeed) makes it.
    pub fn succeed(mut self, author: BrokerAuthor, now: Instant) -> Self {
        self.steps.end(now);
        Self::new(self.cluster, author, self.nonce, self.size_max, self.failed)
    }

    /// As [`Writer::append`](super::Writer::append), but the ticket waits for its answer for ever.
    pub fn append(&mut self, request: AppendRequest, now: Instant) -> AppendTicket {
        let batches = request.batches.len();
        let ticket = AppendTicket::new(batches, request.arrival, request.timeout, None);
        let ticket = ticket.without_deadline();
        let answers: Vec<Answer> = (0..batches).map(|index| ticket.answer(index)).collect();
        let appended = self.steps.intake.lock().append(request, answers.into_iter(), now);
        for (answer, outcome) in appended.refused {
            answer.give(outcome);
        }
        ticket
    }

    /// Seals the oldest buffer, if there is one.
    pub fn seal(&mut self) -> Option<SealedObject> {
        let (seq, buffer) = self.steps.seal()?;
        let origin = ObjectOrigin::Wal { author: self.author, nonce: self.nonce, seq };
        let laid = lay_out(&ObjectHeader { cluster: self.cluster, origin }, &buffer.bodies);
        Some(SealedObject { seq, payload: laid.payload, layout: laid.layout })
    }

    /// The upload of an object ended: verified, or given up.
    pub fn uploaded(&mut self, object: &SealedObject, verified: Option<Attempt>, now: Instant) {
        let verified = verified.map(|attempt| Verified {
            attempt,
            size: object.payload.length,
            layout: object.layout.clone(),
            at: now,
        });
        self.steps.uploaded(object.seq, verified);
    }

    /// The next message to hand over, if one may be sent now.
    pub fn next_message(&mut self, now: Instant) -> Option<(MessageId, Message)> {
        self.steps.next_message(now)
    }

    /// A message was answered.
    pub fn answered(
        &mut self,
        id: MessageId,
        result: Result<Vec<ObjectOutcome>, CallError>,
        now: Instant,
    ) -> Step {
        step(&self.steps.answered(id, result, now))
    }

    /// As [`StepWriter::answered`], with a defect: the batches of an abandoned object are answered,
    /// but those that follow them are not taken out.
    pub fn answered_leaving_successors(
        &mut self,
        id: MessageId,
        result: Result<Vec<ObjectOutcome>, CallError>,
        now: Instant,
    ) -> Step {
        let mut heard = self.steps.hear(id, result, now);
        while let Some(mut object) = self.steps.take_abandoned() {
            heard.abandoned += 1;
            object.entries.iter_mut().for_each(|entry| entry.settle(AppendOutcome::NotStored));
        }
        step(&heard)
    }

    /// How many objects are not decided.
    pub fn undecided(&self) -> usize {
        self.steps.undecided()
    }

    /// Whether batches wait to be sealed.
    pub fn has_buffered(&self) -> bool {
        !self.steps.intake.lock().is_empty()
    }
}

fn step(heard: &Heard) -> Step {
    Step { fenced: heard.over == Some(Gate::Fenced), abandoned: heard.abandoned }
}
