//! The one task that seals, hands over and answers.
//!
//! It owns everything behind the intake: the seal decision, the running uploads, the committer, the
//! calls on their way. It sleeps until one of them has something for it. Because a single task seals
//! and hands over, the order of objects is the order of its steps.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use ottla_control_api::{CallError, ControlPlane};
use ottla_env::Random;
use ottla_format::command::ObjectOutcome;
use ottla_model::ObjectSeq;
use ottla_telemetry::Metrics;
use ottla_telemetry::metrics::{Counter, Histogram};
use tokio::sync::{oneshot, watch};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use super::answer::AppendOutcome;
use super::buffer::Entry;
use super::commit::{Abandoned, Committer, Decided, Message, MessageId, Progress};
use super::intake::{Gate, take_not_admitted};
use super::options::{WriteOptions, WriteParts};
use super::seal::{Decision, Facts, SealOptions, SealReason, Sealer};
use super::upload::{Observed, Pace, Upload, Uploader, Verified};
use super::writer::{Life, Shared};
use crate::limits::{COMMIT_PAUSE_FIRST, COMMIT_PAUSE_MAX, COMMIT_TIME_MAX, OBJECTS_UNDECIDED_MAX};

/// A call's answer, with the message it belongs to.
type Answered = (MessageId, Result<Vec<ObjectOutcome>, CallError>);

/// What the task counts.
struct Counted {
    buffer: Histogram,
    commit: Histogram,
    answer: Histogram,
    abandoned: Counter,
    stored: Counter,
    refused: Counter,
    not_stored: Counter,
    undecided: Counter,
    fenced: Counter,
}

/// See the module's essay.
pub(super) struct Task {
    shared: Arc<Shared>,
    control: Arc<dyn ControlPlane>,
    random: Random,
    metrics: Arc<Metrics>,
    counted: Counted,
    life: watch::Sender<Life>,
    uploader: Arc<Uploader>,
    uploads_max: usize,
    sealer: Sealer,
    committer: Committer,
    uploads: JoinSet<(ObjectSeq, Option<Verified>)>,
    /// The running uploads with their bytes.
    uploading: BTreeMap<Id, (ObjectSeq, usize)>,
    calls: FuturesUnordered<BoxFuture<'static, Answered>>,
    failures: u32,
    paused_until: Option<Instant>,
}

impl Task {
    pub(super) fn new(
        shared: Arc<Shared>,
        parts: WriteParts,
        options: &WriteOptions,
        life: watch::Sender<Life>,
    ) -> Self {
        let WriteParts { cluster, author, nonce, store, control, written, random, metrics } = parts;
        let produce = &metrics.produce;
        let counted = Counted {
            buffer: produce.stage_seconds.with(["buffer"]),
            commit: produce.stage_seconds.with(["commit"]),
            answer: produce.stage_seconds.with(["answer"]),
            abandoned: produce.objects_abandoned.clone(),
            stored: produce.batches.with(["stored"]),
            refused: produce.batches.with(["refused"]),
            not_stored: produce.batches.with(["not_stored"]),
            undecided: produce.batches.with(["undecided"]),
            fenced: produce.batches.with(["fenced"]),
        };
        let uploader = Uploader {
            store,
            cluster,
            author,
            nonce,
            written,
            random: random.clone(),
            time_max: options.upload_time_max,
            pace: Mutex::new(Pace::new()),
            observed: Observed::new(&metrics),
        };
        let seal = SealOptions {
            size_max: options.size_max,
            rate: options.put_rate,
            burst: options.put_burst,
            interval_min: options.seal_interval_min,
        };
        Self {
            shared,
            control,
            random,
            counted,
            metrics,
            life,
            uploader: Arc::new(uploader),
            uploads_max: options.uploads_max.max(1),
            sealer: Sealer::new(seal, Instant::now()),
            committer: Committer::new(author),
            uploads: JoinSet::new(),
            uploading: BTreeMap::new(),
            calls: FuturesUnordered::new(),
            failures: 0,
            paused_until: None,
        }
    }

    pub(super) async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        loop {
            let wake_at = self.seal_what_is_due();
            self.hand_over();
            self.tell_when_drained();
            let wake_at = [wake_at, self.paused_until].into_iter().flatten().min();
            tokio::select! {
                biased;
                // Also when the sender was dropped.
                _ = &mut stopped => break,
                Some((id, result)) = self.calls.next() => self.answered(id, result),
                Some(ended) = self.uploads.join_next_with_id() => self.upload_ended(ended),
                () = self.shared.notice.notified() => {}
                () = sleep_until(wake_at), if wake_at.is_some() => {}
            }
        }
        let undecided = self.committer.end();
        self.end(Gate::Closed, undecided, Instant::now());
        self.release_uploads().await;
        self.life.send_replace(Life::Ended);
    }

    /// Seals as long as something is due. When to look again, if nothing happens before.
    fn seal_what_is_due(&mut self) -> Option<Instant> {
        loop {
            let now = Instant::now();
            match self.sealer.decide(&self.facts(), now) {
                Decision::Seal(reason) => self.seal(reason, now),
                Decision::WaitUntil(at) => return Some(at),
                Decision::Wait => return None,
            }
        }
    }

    fn facts(&self) -> Facts {
        let running = self.uploading.len();
        let budget_waiters = self.shared.budget.has_waiters();
        let intake = self.shared.intake();
        Facts {
            slot_free: running < self.uploads_max && self.committer.len() < OBJECTS_UNDECIDED_MAX,
            uploading: running > 0,
            full_waiting: intake.full_waiting(),
            open_bytes: intake.open_bytes(),
            deadline: intake.deadline(),
            pipelines_full: intake.pipelines_full(),
            budget_waiters,
            draining: intake.draining,
        }
    }

    fn seal(&mut self, reason: SealReason, now: Instant) {
        self.sealer.sealed(now);
        let Some(buffer) = self.shared.intake().take_oldest() else { return };
        self.metrics.produce.flushes.with([reason.label()]).inc();
        let oldest = buffer.oldest.unwrap_or(now);
        self.counted.buffer.time(now.saturating_duration_since(oldest));
        let bytes = buffer.bytes;
        let seq = self.committer.sealed(buffer.entries);
        let upload = Upload { seq, bodies: buffer.bodies, oldest };
        let uploader = self.uploader.clone();
        let task = self.uploads.spawn(async move { (seq, uploader.upload(upload).await) });
        self.uploading.insert(task.id(), (seq, bytes));
    }

    fn upload_ended(
        &mut self,
        ended: Result<(Id, (ObjectSeq, Option<Verified>)), tokio::task::JoinError>,
    ) {
        let (id, verified) = match ended {
            Ok((id, (seq, verified))) => {
                if verified.is_none() {
                    tracing::warn!(%seq, "giving up the upload of an object");
                }
                (id, verified)
            }
            Err(error) => {
                // Otherwise it was ended, with everything it was for.
                if error.is_panic() {
                    tracing::error!(%error, "an upload failed inside the process");
                }
                (error.id(), None)
            }
        };
        let Some((seq, bytes)) = self.uploading.remove(&id) else { return };
        self.shared.buffered.sub(bytes as i64);
        self.committer.uploaded(seq, verified);
    }

    /// Ends the uploads that are running, and what they count as buffered.
    async fn release_uploads(&mut self) {
        self.uploads.shutdown().await;
        let bytes: usize = self.uploading.values().map(|(_, bytes)| bytes).sum();
        self.uploading.clear();
        self.shared.buffered.sub(bytes as i64);
    }

    /// Hands over what can be committed or abandoned, in order.
    fn hand_over(&mut self) {
        if self.paused_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.paused_until = None;
        while let Some((id, message)) = self.committer.next_message() {
            // Handed over in this very call; the future is only the answer.
            let call: BoxFuture<'static, Result<Vec<ObjectOutcome>, CallError>> = match message {
                Message::Commit(request) => self.control.commit_objects(request),
                Message::Abandon(request) => {
                    let answer = self.control.abandon_object(request);
                    Box::pin(async move { Ok(vec![answer.await?]) })
                }
            };
            self.calls.push(Box::pin(async move {
                let answer = tokio::time::timeout(COMMIT_TIME_MAX, call).await;
                let in_time = answer.unwrap_or_else(|_| {
                    Err(CallError::OutcomeUnknown(format!("nothing within {COMMIT_TIME_MAX:?}")))
                });
                (id, in_time)
            }));
        }
    }

    fn answered(&mut self, id: MessageId, result: Result<Vec<ObjectOutcome>, CallError>) {
        let now = Instant::now();
        let progress = self.committer.answered(id, result);
        let Progress { decided, fenced, closed, failed } = progress;
        if failed {
            let pause = COMMIT_PAUSE_FIRST * 2u32.saturating_pow(self.failures);
            self.failures = self.failures.saturating_add(1);
            self.paused_until = Some(now + self.random.jitter(pause.min(COMMIT_PAUSE_MAX)));
        } else {
            self.failures = 0;
        }
        for object in &decided {
            if let Some(verified_at) = object.verified_at {
                self.counted.commit.time(now.saturating_duration_since(verified_at));
            }
        }
        if fenced {
            tracing::warn!("this broker's registration is over; nothing more is written under it");
            self.end(Gate::Fenced, decided, now);
            self.life.send_replace(Life::Fenced);
        } else if closed {
            self.end(Gate::Closed, decided, now);
        } else {
            self.tell(decided, now);
        }
        while let Some(object) = self.committer.take_abandoned() {
            self.fail(object, now);
        }
        self.counted.answer.time(now.elapsed());
    }

    /// Answers the batches of an abandoned object, and of everything that follows them.
    fn fail(&mut self, object: Abandoned, now: Instant) {
        self.counted.abandoned.inc();
        let Abandoned { seq, mut entries } = object;
        let mut successors;
        {
            // Held to the end: nothing is let in between the note and the walk.
            let mut intake = self.shared.intake();
            let unanswered = entries.iter().filter(|entry| entry.answer.is_some());
            let streams = unanswered.filter_map(|entry| Some((entry.partition, entry.producer?)));
            self.shared.failed.lock().record(streams, now);
            let above = self.committer.uncommitted_above(seq);
            successors = take_not_admitted(&mut self.shared.failed.lock(), above, now);
            successors.extend(intake.take_successors_of_failed(now));
        }
        tracing::warn!(
            %seq, batches = entries.len(), successors = successors.len(),
            "an object was abandoned; its batches are answered as not stored"
        );
        entries.iter_mut().for_each(|entry| self.settle(entry, AppendOutcome::NotStored));
        for answer in successors {
            self.counted.not_stored.inc();
            answer.give(AppendOutcome::NotStored);
        }
    }

    /// Answers batches, in order. What is not certainly stored is noted as failed before anybody is
    /// told, so that no successor slips in between.
    fn tell(&self, decided: Vec<Decided>, now: Instant) {
        let outcomes = decided.iter().flat_map(|object| &object.outcomes);
        let lost = outcomes.filter(|(entry, outcome)| {
            let known = matches!(outcome, AppendOutcome::Stored { .. } | AppendOutcome::Refused(_));
            !known && entry.answer.is_some()
        });
        let streams = lost.filter_map(|(entry, _)| Some((entry.partition, entry.producer?)));
        let mut streams = streams.peekable();
        if streams.peek().is_some() {
            self.shared.failed.lock().record(streams, now);
        }
        for (mut entry, outcome) in decided.into_iter().flat_map(|object| object.outcomes) {
            self.settle(&mut entry, outcome);
        }
    }

    fn settle(&self, entry: &mut Entry, outcome: AppendOutcome) {
        if entry.answer.is_none() {
            return;
        }
        let counter = match outcome {
            AppendOutcome::Stored { .. } => &self.counted.stored,
            AppendOutcome::Refused(_) => &self.counted.refused,
            AppendOutcome::NotStored => &self.counted.not_stored,
            AppendOutcome::Undecided => &self.counted.undecided,
            AppendOutcome::Fenced => &self.counted.fenced,
        };
        counter.inc();
        entry.settle(outcome);
    }

    /// Lets nothing in any more and answers, after `decided`, what is in buffers: it was never part
    /// of a commit.
    fn end(&mut self, gate: Gate, mut decided: Vec<Decided>, now: Instant) {
        let outcome = match gate {
            Gate::Fenced => AppendOutcome::Fenced,
            Gate::Open | Gate::Closed => AppendOutcome::NotStored,
        };
        for buffer in self.shared.intake().shut(gate) {
            self.shared.buffered.sub(buffer.bytes as i64);
            let outcomes = buffer.entries.into_iter().map(|entry| (entry, outcome)).collect();
            decided.push(Decided { verified_at: None, outcomes });
        }
        self.tell(decided, now);
        self.uploads.abort_all();
    }

    fn tell_when_drained(&self) {
        if self.committer.len() > 0 {
            return;
        }
        let drained = {
            let intake = self.shared.intake();
            intake.draining && intake.is_empty()
        };
        if drained {
            self.life.send_if_modified(|life| {
                let first = *life == Life::Running;
                if first {
                    *life = Life::Drained;
                }
                first
            });
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}
