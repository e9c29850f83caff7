//! The committer: what happens to an object between its seal and the answers of its batches.
//!
//! Plain data and step functions; no time of its own, no I/O. The caller feeds it events (sealed,
//! verified, given up, answered) and asks it for the next message.
//!
//! # Rules
//!
//! 1. **Seal order.** Messages are handed over in sequence, several on their way at a time, many
//!    objects in one. An object that is still uploading holds up all above it.
//! 2. **Commit or abandon, never both.** An object whose commit was handed over is never abandoned.
//!    One whose upload was given up is abandoned, and so is one of which nothing is left to commit.
//! 3. **Abandon first.** While a lower object's abandon is on its way, no commit is handed over:
//!    only its outcome says which batches above it have to be left out. What a commit names is
//!    fixed when it is first handed over; a repeated commit is the same commit.
//! 4. **Failures in order.** That an object was abandoned counts only when all lower ones are
//!    decided ([`Committer::take_abandoned`]): answers can arrive in any order, but the first
//!    failed sequence of a producer is the one in the lowest object.
//! 5. **Until known.** A message without an answer goes back to be sent. One that was answered "not
//!    yet" waits for those below it that are on their way: they were lost, or will be applied.
//! 6. **Frontier.** An object leaves the queue when it and all lower ones are decided; each message
//!    says how far that is.
//! 7. **Fenced.** When the broker epoch is over, what was never handed over is certainly not
//!    stored. A commit that was handed over may have been applied before the fence, even when the
//!    answer is "fenced": a call can arrive twice, and the answer be that to the second time. It is
//!    answered "undecided". A call in flight keeps its chance of an answer.

use std::collections::{BTreeMap, VecDeque};

use ottla_control_api::{CallError, CallErrorKind};
use ottla_format::command::{
    AbandonObject, BatchOutcome, CommitBatch, CommitObject, CommitObjects, ObjectOutcome,
};
use ottla_model::{BrokerAuthor, ObjectSeq};
use tokio::time::Instant;

use super::answer::AppendOutcome;
use super::buffer::Entry;
use super::upload::Verified;
use crate::limits::{COMMIT_BATCHES_MAX, COMMIT_OBJECTS_MAX, COMMITS_IN_FLIGHT_MAX};

/// A message on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageId(u64);

/// What to hand over to the control plane.
#[derive(Clone, Debug)]
pub enum Message {
    /// Commit these objects.
    Commit(CommitObjects),
    /// Decide that this object is never committed, unless it is.
    Abandon(AbandonObject),
}

/// Answers that were decided, to be given by the caller; and what else an answer brought.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Outcomes, in commit order.
    pub decided: Vec<Decided>,
    /// The broker epoch is over.
    pub fenced: bool,
    /// The control plane is gone for good.
    pub closed: bool,
    /// The call failed: pause before the next one.
    pub failed: bool,
}

/// When an object passed the steps of its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommitTimes {
    /// Its upload was verified.
    pub verified: Instant,
    /// Its commit was handed over first: when all below it were uploaded or given up.
    pub handed_over: Instant,
}

/// A decided object.
#[derive(Debug)]
pub(crate) struct Decided {
    /// `None`: no commit of it was handed over.
    pub times: Option<CommitTimes>,
    /// Its batches with what became of them.
    pub outcomes: Vec<(Entry, AppendOutcome)>,
}

/// An object of which the control plane said that it will never be committed.
#[derive(Debug)]
pub(crate) struct Abandoned {
    pub seq: ObjectSeq,
    /// Its batches in arrival order. Batches without an answer were left out before.
    pub entries: Vec<Entry>,
}

#[derive(Debug)]
struct Object {
    seq: ObjectSeq,
    entries: Vec<Entry>,
    stage: Stage,
    way: Way,
    /// When a commit of it was handed over first.
    commit_sent: Option<Instant>,
    /// A commit of it may have been applied: handed over, and neither answered clearly nor known
    /// to have been lost on its way.
    commit_unknown: bool,
}

#[derive(Debug)]
enum Stage {
    Uploading,
    Uploaded(Verified),
    GivenUp,
    /// Known to be abandoned; a lower one is not decided.
    Abandoned,
    Decided,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Can be handed over.
    Here,
    /// Was answered "not yet": can be handed over when nothing below is on its way.
    Held,
    /// On its way.
    Sent,
}

/// How the epoch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Epoch {
    Alive,
    Fenced,
    Closed,
}

/// See the module's essay.
#[derive(Debug)]
pub(crate) struct Committer {
    author: BrokerAuthor,
    epoch: Epoch,
    /// In sequence. The first one is the frontier.
    objects: VecDeque<Object>,
    next_seq: ObjectSeq,
    on_the_way: BTreeMap<MessageId, Vec<ObjectSeq>>,
    next_message: u64,
}

impl Committer {
    /// Nothing sealed yet.
    pub(crate) fn new(author: BrokerAuthor) -> Self {
        Self {
            author,
            epoch: Epoch::Alive,
            objects: VecDeque::new(),
            next_seq: ObjectSeq(0),
            on_the_way: BTreeMap::new(),
            next_message: 0,
        }
    }

    /// How many objects are not decided, or decided above one that is not.
    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }

    /// The sequence below which every outcome is known.
    pub(crate) fn frontier(&self) -> ObjectSeq {
        self.objects.front().map_or(self.next_seq, |object| object.seq)
    }

    /// A buffer was sealed: gives it its sequence.
    pub(crate) fn sealed(&mut self, entries: Vec<Entry>) -> ObjectSeq {
        let seq = self.next_seq;
        self.next_seq = seq.next();
        self.objects.push_back(Object {
            seq,
            entries,
            stage: Stage::Uploading,
            way: Way::Here,
            commit_sent: None,
            commit_unknown: false,
        });
        seq
    }

    /// An upload ended: verified, or given up.
    pub(crate) fn uploaded(&mut self, seq: ObjectSeq, verified: Option<Verified>) {
        if let Some(object) = self.object(seq)
            && matches!(object.stage, Stage::Uploading)
        {
            object.stage = verified.map_or(Stage::GivenUp, Stage::Uploaded);
        }
    }

    /// The entries of undecided objects above `seq` whose commit was never handed over, in order.
    pub(crate) fn uncommitted_above(&mut self, seq: ObjectSeq) -> impl Iterator<Item = &mut Entry> {
        self.objects
            .iter_mut()
            .filter(move |object| {
                object.seq > seq && object.commit_sent.is_none() && !object.is_decided()
            })
            .flat_map(|object| &mut object.entries)
    }

    /// The next message to hand over, if one may be sent now; it counts as handed over at `now`.
    pub(crate) fn next_message(&mut self, now: Instant) -> Option<(MessageId, Message)> {
        if self.epoch != Epoch::Alive || self.on_the_way.len() >= COMMITS_IN_FLIGHT_MAX {
            return None;
        }
        let (mut lower_sent, mut lower_abandon) = (false, false);
        let mut commits: Vec<CommitObject> = Vec::new();
        let mut batches = 0;
        for object in &mut self.objects {
            if object.is_decided() {
                continue;
            }
            if matches!(object.stage, Stage::Abandoned) {
                lower_abandon = true;
                continue;
            }
            let to_abandon = object.is_to_abandon();
            if object.way == Way::Sent {
                if !commits.is_empty() {
                    break;
                }
                lower_sent = true;
                lower_abandon |= to_abandon;
                continue;
            }
            if object.way == Way::Held && lower_sent {
                break;
            }
            if to_abandon {
                if !commits.is_empty() {
                    break;
                }
                object.way = Way::Sent;
                let seq = object.seq;
                let (author, frontier) = (self.author, self.frontier());
                let message = Message::Abandon(AbandonObject { author, frontier, seq });
                return Some((self.put_on_the_way(vec![seq]), message));
            }
            if lower_abandon || commits.len() >= COMMIT_OBJECTS_MAX {
                break;
            }
            let Some(commit) = object.commit() else { break };
            batches += commit.batches.len();
            if !commits.is_empty() && batches > COMMIT_BATCHES_MAX {
                break;
            }
            commits.push(commit);
            object.way = Way::Sent;
            object.commit_sent.get_or_insert(now);
        }
        if commits.is_empty() {
            return None;
        }
        let id = self.put_on_the_way(commits.iter().map(|commit| commit.seq).collect());
        let (author, frontier) = (self.author, self.frontier());
        let in_order = commits.is_sorted_by(|a, b| a.seq < b.seq);
        let all_above = commits.first().is_some_and(|commit| commit.seq >= frontier);
        assert!(in_order && all_above, "I-ORDER: a commit above frontier {frontier}: {commits:?}");
        Some((id, Message::Commit(CommitObjects { author, frontier, objects: commits })))
    }

    fn put_on_the_way(&mut self, seqs: Vec<ObjectSeq>) -> MessageId {
        let id = MessageId(self.next_message);
        self.next_message += 1;
        self.on_the_way.insert(id, seqs);
        id
    }

    /// A message was answered, with one outcome per object.
    pub(crate) fn answered(
        &mut self,
        id: MessageId,
        result: Result<Vec<ObjectOutcome>, CallError>,
    ) -> Progress {
        let mut progress = Progress::default();
        let seqs = self.on_the_way.remove(&id).unwrap_or_default();
        let result = result.and_then(|outcomes| {
            if outcomes.len() == seqs.len() {
                return Ok(outcomes);
            }
            let (n, m) = (outcomes.len(), seqs.len());
            Err(CallError::Internal(format!("{n} outcomes for {m} objects")))
        });
        match result {
            Ok(outcomes) => {
                for (seq, outcome) in seqs.into_iter().zip(outcomes) {
                    self.apply(seq, outcome, &mut progress);
                }
            }
            Err(error) => self.unanswered(&seqs, &error, &mut progress),
        }
        if self.epoch != Epoch::Alive {
            self.end_what_is_here(&mut progress);
        }
        self.forget_decided();
        progress
    }

    /// The lowest abandoned object, once everything below it is decided. To be asked after every
    /// answer until there is none, each one's failure being noted and its successors taken out
    /// before the next is taken.
    pub(crate) fn take_abandoned(&mut self) -> Option<Abandoned> {
        let front = self.objects.front_mut()?;
        if !matches!(front.stage, Stage::Abandoned) {
            return None;
        }
        let seq = front.seq;
        let (entries, _) = front.decide();
        self.forget_decided();
        Some(Abandoned { seq, entries })
    }

    /// The writer ends: answers everything that is not decided.
    pub(crate) fn end(&mut self) -> Vec<Decided> {
        self.epoch = Epoch::Closed;
        let undecided = self.objects.iter_mut().filter(|object| !object.is_decided());
        let ended = undecided.map(|object| object.decide_all(AppendOutcome::Undecided)).collect();
        self.objects.clear();
        ended
    }

    fn forget_decided(&mut self) {
        while self.objects.front().is_some_and(Object::is_decided) {
            self.objects.pop_front();
        }
    }

    fn apply(&mut self, seq: ObjectSeq, outcome: ObjectOutcome, progress: &mut Progress) {
        let epoch_over = self.epoch != Epoch::Alive;
        let Some(object) = self.object(seq) else { return };
        object.way = Way::Here;
        match outcome {
            ObjectOutcome::Committed(outcomes) => {
                progress.decided.push(object.committed(&outcomes));
            }
            ObjectOutcome::Abandoned => object.stage = Stage::Abandoned,
            ObjectOutcome::NotYet { .. } => object.way = Way::Held,
            ObjectOutcome::BelowFrontier => {
                tracing::error!(%seq, "the outcome of an undecided object is already forgotten");
                progress.decided.push(object.decide_all(AppendOutcome::Undecided));
            }
            ObjectOutcome::Fenced => {
                object.commit_unknown |= object.commit_sent.is_some();
                progress.fenced |= !epoch_over;
                if !epoch_over {
                    self.epoch = Epoch::Fenced;
                }
            }
        }
    }

    fn unanswered(&mut self, seqs: &[ObjectSeq], error: &CallError, progress: &mut Progress) {
        tracing::warn!(%error, "a commit was not answered; it is sent again");
        progress.failed = true;
        let kind = error.kind();
        for seq in seqs {
            let Some(object) = self.object(*seq) else { continue };
            object.way = Way::Here;
            let nothing_happened = kind == CallErrorKind::Retry;
            object.commit_unknown |= object.commit_sent.is_some() && !nothing_happened;
        }
        if kind == CallErrorKind::ShuttingDown {
            progress.closed |= self.epoch != Epoch::Closed;
            self.epoch = Epoch::Closed;
        }
    }

    /// Answers whatever will not be handed over any more.
    fn end_what_is_here(&mut self, progress: &mut Progress) {
        let fenced = self.epoch == Epoch::Fenced;
        for object in &mut self.objects {
            let known = matches!(object.stage, Stage::Abandoned | Stage::Decided);
            if known || object.way == Way::Sent {
                continue;
            }
            let outcome = if fenced && !object.commit_unknown {
                AppendOutcome::Fenced
            } else {
                AppendOutcome::Undecided
            };
            progress.decided.push(object.decide_all(outcome));
        }
    }

    fn object(&mut self, seq: ObjectSeq) -> Option<&mut Object> {
        let first = self.objects.front()?.seq.0;
        let index = usize::try_from(seq.0.checked_sub(first)?).ok()?;
        let object = self.objects.get_mut(index)?;
        assert_eq!(object.seq, seq, "I-ORDER: sequences follow each other");
        Some(object)
    }
}

impl Object {
    fn is_decided(&self) -> bool {
        matches!(self.stage, Stage::Decided)
    }

    fn is_to_abandon(&self) -> bool {
        match self.stage {
            Stage::GivenUp => true,
            Stage::Uploaded(_) => {
                self.commit_sent.is_none()
                    && self.entries.iter().all(|entry| entry.answer.is_none())
            }
            Stage::Uploading | Stage::Abandoned | Stage::Decided => false,
        }
    }

    /// Its commit: every batch that was not left out. `None`: not uploaded yet.
    fn commit(&self) -> Option<CommitObject> {
        let Stage::Uploaded(Verified { attempt, size, layout, .. }) = &self.stage else {
            return None;
        };
        let batches = layout.order.iter().filter_map(|(index, position)| {
            let entry = self.entries.get(*index as usize)?;
            entry.answer.as_ref()?;
            Some(CommitBatch {
                partition: entry.partition,
                position: *position,
                length: entry.length,
                last_offset_delta: entry.last_offset_delta,
                max_timestamp: entry.max_timestamp,
                producer: entry.producer,
            })
        });
        let (seq, attempt, size) = (self.seq, *attempt, *size);
        Some(CommitObject { seq, attempt, size, batches: batches.collect() })
    }

    fn decide(&mut self) -> (Vec<Entry>, Option<Verified>) {
        self.way = Way::Here;
        let verified = match std::mem::replace(&mut self.stage, Stage::Decided) {
            Stage::Uploaded(verified) => Some(verified),
            Stage::Uploading | Stage::GivenUp | Stage::Abandoned | Stage::Decided => None,
        };
        (std::mem::take(&mut self.entries), verified)
    }

    fn times(&self, verified: Option<&Verified>) -> Option<CommitTimes> {
        Some(CommitTimes { verified: verified?.at, handed_over: self.commit_sent? })
    }

    fn decide_all(&mut self, outcome: AppendOutcome) -> Decided {
        let (entries, verified) = self.decide();
        let outcomes = entries.into_iter().map(|entry| (entry, outcome)).collect();
        Decided { times: self.times(verified.as_ref()), outcomes }
    }

    /// Matches the outcomes with the batches that the commit named, in its order.
    fn committed(&mut self, outcomes: &[BatchOutcome]) -> Decided {
        let (entries, verified) = self.decide();
        let times = self.times(verified.as_ref());
        let mut slots: Vec<Option<Entry>> = entries.into_iter().map(Some).collect();
        let order = verified.map(|verified| verified.layout.order).unwrap_or_default();
        let named: Vec<Entry> = order
            .iter()
            .filter_map(|(index, _)| slots.get_mut(*index as usize)?.take())
            .filter(|entry| entry.answer.is_some())
            .collect();
        let fits = named.len() == outcomes.len();
        if !fits {
            tracing::error!(
                seq = %self.seq, batches = named.len(), outcomes = outcomes.len(),
                "a commit was answered with another number of outcomes than it has batches"
            );
        }
        let known = outcomes.iter().map(|outcome| fits.then_some(*outcome));
        let outcomes = named
            .into_iter()
            .zip(known.chain(std::iter::repeat(None)))
            .map(|(entry, outcome)| (entry, outcome.map_or(AppendOutcome::Undecided, told)))
            .collect();
        Decided { times, outcomes }
    }
}

/// What a producer is told. A duplicate is a success: the batch is stored, at that offset.
fn told(outcome: BatchOutcome) -> AppendOutcome {
    match outcome {
        BatchOutcome::Appended { base_offset, append_time, log_start }
        | BatchOutcome::Duplicate { base_offset, append_time, log_start } => {
            AppendOutcome::Stored { base_offset, append_time, log_start }
        }
        BatchOutcome::Refused(refusal) => AppendOutcome::Refused(refusal),
    }
}

#[cfg(test)]
#[path = "commit_tests.rs"]
mod tests;
