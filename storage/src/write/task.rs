//! The one task that seals, hands over and answers.
//!
//! It owns everything behind the intake: the seal decision, the running uploads, the steps with
//! their committer, the calls on their way. It sleeps until one of them has something for it. Because
//! a single task seals and hands over, the order of objects is the order of its steps.

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

use super::commit::{CommitTimes, Message, MessageId};
use super::intake::Gate;
use super::options::{WriteOptions, WriteParts};
use super::pace::Pace;
use super::seal::{Decision, Facts, SealOptions, SealReason, Sealer};
use super::steps::{Heard, Steps, Told};
use super::upload::{Observed, Upload, Uploader, Verified};
use super::writer::{Life, Shared};
use crate::limits::{COMMIT_PAUSE_FIRST, COMMIT_PAUSE_MAX, COMMIT_TIME_MAX, OBJECTS_UNDECIDED_MAX};

/// A call's answer, with the message it belongs to.
type Answered = (MessageId, Result<Vec<ObjectOutcome>, CallError>);

/// The task's counters.
struct Counted {
    buffer: Histogram,
    order: Histogram,
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
    sealer: Sealer,
    steps: Steps,
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
            order: produce.stage_seconds.with(["order"]),
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
            pace: Mutex::new(Pace::new(options.uploads_max)),
            observed: Observed::new(&metrics),
        };
        let seal = SealOptions {
            size_max: options.size_max,
            rate: options.put_rate,
            burst: options.put_burst,
            interval_min: options.seal_interval_min,
        };
        let steps = Steps::new(author, shared.intake.clone(), shared.failed.clone());
        Self {
            shared,
            control,
            random,
            counted,
            metrics,
            life,
            uploader: Arc::new(uploader),
            sealer: Sealer::new(seal, Instant::now()),
            steps,
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
                () = self.shared.budget.waited_for() => {}
                () = sleep_until(wake_at), if wake_at.is_some() => {}
            }
        }
        let heard = self.steps.end(Instant::now());
        self.note(heard, Instant::now());
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
        let intake = self.shared.intake.lock();
        Facts {
            slot_free: running < self.uploader.slots()
                && self.steps.undecided() < OBJECTS_UNDECIDED_MAX,
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
        let Some((seq, buffer)) = self.steps.seal() else { return };
        self.metrics.produce.flushes.with([reason.label()]).inc();
        let oldest = buffer.oldest.unwrap_or(now);
        self.counted.buffer.time(now.saturating_duration_since(oldest));
        let bytes = buffer.bytes;
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
        self.steps.uploaded(seq, verified);
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
        let now = Instant::now();
        if self.paused_until.is_some_and(|until| now < until) {
            return;
        }
        self.paused_until = None;
        while let Some((id, message)) = self.steps.next_message(now) {
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
        let heard = self.steps.answered(id, result, now);
        if heard.failed {
            let pause = COMMIT_PAUSE_FIRST * 2u32.saturating_pow(self.failures);
            self.failures = self.failures.saturating_add(1);
            self.paused_until = Some(now + self.random.jitter(pause.min(COMMIT_PAUSE_MAX)));
        } else {
            self.failures = 0;
        }
        let verified: Vec<Instant> = heard.times.iter().map(|times| times.verified).collect();
        self.note(heard, now);
        self.counted.answer.time(now.elapsed());
        for verified in verified {
            self.metrics.produce.overhead_seconds.time(verified.elapsed());
        }
    }

    /// Counts what came of a step, and ends with the broker epoch.
    fn note(&mut self, heard: Heard, now: Instant) {
        for CommitTimes { verified, handed_over } in heard.times {
            self.counted.order.time(handed_over.saturating_duration_since(verified));
            self.counted.commit.time(now.saturating_duration_since(handed_over));
        }
        self.counted.abandoned.add(heard.abandoned);
        let Told { stored, refused, not_stored, undecided, fenced } = heard.told;
        self.counted.stored.add(stored);
        self.counted.refused.add(refused);
        self.counted.not_stored.add(not_stored);
        self.counted.undecided.add(undecided);
        self.counted.fenced.add(fenced);
        self.shared.buffered.sub(heard.let_go as i64);
        let Some(gate) = heard.over else { return };
        self.uploads.abort_all();
        if gate == Gate::Fenced {
            tracing::warn!("this broker's registration is over; nothing more is written under it");
            self.life.send_replace(Life::Fenced);
        }
    }

    fn tell_when_drained(&self) {
        if self.steps.undecided() > 0 {
            return;
        }
        let drained = {
            let intake = self.shared.intake.lock();
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
