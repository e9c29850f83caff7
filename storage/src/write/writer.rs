//! The writer: a cheap handle, and the one task that seals, hands over and answers.
//!
//! The task owns everything behind the intake: the seal decision, the running uploads, the
//! committer, the calls on their way. It sleeps until one of them has something for it. Because a
//! single task seals and hands over, the order of objects is the order of its steps.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use ottla_control_api::{CallError, ControlPlane};
use ottla_env::Random;
use ottla_format::command::ObjectOutcome;
use ottla_model::{BrokerAuthor, ClusterId, ObjectSeq, ProcessNonce};
use ottla_object_io::Store;
use ottla_telemetry::Metrics;
use ottla_telemetry::metrics::{Counter, Gauge, Histogram};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{Id, JoinHandle, JoinSet};
use tokio::time::Instant;

use super::WrittenObjects;
use super::answer::{Answer, AppendOutcome, AppendTicket};
use super::budget::Budget;
use super::buffer::Entry;
use super::commit::{Abandoned, Committer, Decided, Message, MessageId, Progress};
use super::failed::SharedFailed;
use super::intake::{AppendRequest, Gate, Intake, take_not_admitted};
use super::seal::{Decision, Facts, SealOptions, SealReason, Sealer};
use super::upload::{Observed, Pace, Upload, Uploader, Verified};
use crate::limits::{
    BATCH_OVERHEAD_BYTES, BUDGET_BYTES_DEFAULT, COMMIT_PAUSE_FIRST, COMMIT_PAUSE_MAX,
    COMMIT_TIME_MAX, LINGER_DEFAULT, OBJECT_BYTES_DEFAULT, OBJECTS_UNDECIDED_MAX,
    PUT_BURST_CHARGED, PUT_BURST_FREE, PUT_RATE_CHARGED, PUT_RATE_FREE, SEAL_INTERVAL_MIN,
    UPLOAD_TIME_DEFAULT, UPLOADS_DEFAULT,
};

/// Settings of a writer.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// How long a batch waits at most for its buffer to be sealed, unless its topic says otherwise.
    pub linger: Duration,
    /// A buffer of this many bytes is full.
    pub size_max: usize,
    /// Objects per second that the request budget pays for.
    pub put_rate: f64,
    /// Objects that the request budget can save up.
    pub put_burst: f64,
    /// Early seals are at least this far apart.
    pub seal_interval_min: Duration,
    /// Objects uploaded at the same time.
    pub uploads_max: usize,
    /// How long an upload may take, counted from the arrival of its oldest request.
    pub upload_time_max: Duration,
    /// Bytes accepted but not acknowledged.
    pub budget_bytes: usize,
}

impl WriteOptions {
    /// The defaults for a store that does or does not charge for requests.
    pub fn for_store(store: &dyn Store) -> Self {
        let charges = store.charges_for_requests();
        let (put_rate, put_burst) = if charges {
            (PUT_RATE_CHARGED, PUT_BURST_CHARGED)
        } else {
            (PUT_RATE_FREE, PUT_BURST_FREE)
        };
        Self {
            linger: LINGER_DEFAULT,
            size_max: OBJECT_BYTES_DEFAULT,
            put_rate,
            put_burst,
            seal_interval_min: SEAL_INTERVAL_MIN,
            uploads_max: UPLOADS_DEFAULT,
            upload_time_max: UPLOAD_TIME_DEFAULT,
            budget_bytes: BUDGET_BYTES_DEFAULT,
        }
    }
}

/// What a writer works with.
#[derive(Clone)]
pub struct WriteParts {
    /// The cluster it writes for.
    pub cluster: ClusterId,
    /// The registration it writes under.
    pub author: BrokerAuthor,
    /// The process start that registered.
    pub nonce: ProcessNonce,
    /// Where objects go. Its [`Store::put`] is one attempt.
    pub store: Arc<dyn Store>,
    /// Who commits them.
    pub control: Arc<dyn ControlPlane>,
    /// Who gets what was just written.
    pub written: Arc<dyn WrittenObjects>,
    /// Jitter.
    pub random: Random,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl std::fmt::Debug for WriteParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteParts").field("author", &self.author).finish_non_exhaustive()
    }
}

/// Takes batches in and says what became of them. One writer per broker epoch: when a broker has
/// registered again, the old one is [succeeded](Writer::succeed) by another. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Writer(Arc<Shared>);

/// The writer's task. Ends when it is stopped or dropped; what is undecided then is answered so.
#[derive(Debug)]
pub struct WriterTask {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    intake: Mutex<Intake>,
    failed: SharedFailed,
    /// Stores a permit: the task looks at the intake at least once after the last notice.
    notice: Notify,
    budget: Budget,
    life: watch::Receiver<Life>,
    bytes: Counter,
    records: Counter,
    buffered: Gauge,
}

/// What others wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Running,
    /// It drains, and everything is decided.
    Drained,
    /// Its broker epoch is over.
    Fenced,
    /// The task has ended.
    Ended,
}

impl Writer {
    /// Starts the first writer of a process, and its task.
    pub fn start(parts: WriteParts, options: WriteOptions) -> (Self, WriterTask) {
        let budget = Budget::new(options.budget_bytes, &parts.metrics);
        Self::start_with(parts, &options, budget, SharedFailed::default())
    }

    /// Ends this writer and starts the one of the next broker epoch, which `parts` name. Both share
    /// the byte budget, and what failed in the old one keeps its successors out of the new one.
    /// Batches that reach the old one from now on are turned away.
    pub async fn succeed(
        &self,
        task: WriterTask,
        parts: WriteParts,
        options: &WriteOptions,
    ) -> (Self, WriterTask) {
        task.stop().await;
        Self::start_with(parts, options, self.0.budget.clone(), self.0.failed.clone())
    }

    fn start_with(
        parts: WriteParts,
        options: &WriteOptions,
        budget: Budget,
        failed: SharedFailed,
    ) -> (Self, WriterTask) {
        let (life_sender, life) = watch::channel(Life::Running);
        let produce = &parts.metrics.produce;
        let shared = Arc::new(Shared {
            intake: Mutex::new(Intake::new(options.size_max, options.linger, failed.clone())),
            failed,
            notice: Notify::new(),
            budget,
            life,
            bytes: produce.bytes.clone(),
            records: produce.records.clone(),
            buffered: produce.buffer_bytes.clone(),
        });
        let (stop, stopped) = oneshot::channel();
        let task = Task::new(shared.clone(), parts, options, life_sender);
        let ended = tokio::spawn(task.run(stopped));
        (Self(shared), WriterTask { stop, ended })
    }

    /// The byte budget that Produce frames wait for before they are read.
    pub fn budget(&self) -> &Budget {
        &self.0.budget
    }

    /// Takes a request's batches in; never waits. The order of calls is the order of batches, for
    /// each partition and producer. The batches must be validated, none longer than 4 GiB.
    pub fn append(&self, request: AppendRequest) -> AppendTicket {
        let batches = request.batches.len();
        let overhead = request
            .reservation
            .as_ref()
            .map(|reservation| reservation.charge(batches * BATCH_OVERHEAD_BYTES));
        let ticket = AppendTicket::new(batches, request.arrival, request.timeout, overhead);
        let answers: Vec<Answer> = (0..batches).map(|index| ticket.answer(index)).collect();
        let now = Instant::now();
        let appended = self.0.intake().append(request, answers.into_iter(), now);
        self.0.bytes.add(appended.bytes as u64);
        self.0.records.add(appended.records);
        self.0.buffered.add(appended.bytes as i64);
        if appended.wake {
            self.0.notice.notify_one();
        }
        for (answer, outcome) in appended.refused {
            answer.give(outcome);
        }
        ticket
    }

    /// Seals what is there, from now on at once, and waits until everything is decided, or the
    /// writer has ended. With store or control plane away that can take long: callers bound it.
    pub async fn drain(&self) {
        self.0.intake().draining = true;
        self.0.notice.notify_one();
        // An error means that the task has ended: nothing is left to wait for.
        let _ = self.0.life.clone().wait_for(|life| *life != Life::Running).await;
    }

    /// Waits until the control plane says that this writer's broker epoch is over. `false`: the
    /// writer ended without that.
    pub async fn fenced(&self) -> bool {
        let mut life = self.0.life.clone();
        let over = |life: &Life| matches!(life, Life::Fenced | Life::Ended);
        life.wait_for(over).await.is_ok_and(|life| *life == Life::Fenced)
    }
}

impl WriterTask {
    /// Ends the task, at once. Call [`Writer::drain`] before, to have everything decided.
    pub async fn stop(self) {
        // An error means that it has ended already.
        let _ = self.stop.send(());
        if let Err(error) = self.ended.await {
            tracing::error!(%error, "the writer's task failed");
        }
    }
}

impl Shared {
    fn intake(&self) -> MutexGuard<'_, Intake> {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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

struct Task {
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
    fn new(
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

    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
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
            Ok((id, (_, verified))) => (id, verified),
            Err(error) => {
                if error.is_panic() {
                    tracing::error!(%error, "an upload failed inside the process");
                }
                (error.id(), None)
            }
        };
        let Some((seq, bytes)) = self.uploading.remove(&id) else { return };
        self.shared.buffered.sub(bytes as i64);
        if verified.is_none() {
            tracing::warn!(%seq, bytes, "giving up the upload of an object");
        }
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
