//! The writer: the handle that connections hold.

use std::sync::Arc;
use std::time::Duration;

use ottla_telemetry::metrics::{Counter, Gauge, Histogram};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::answer::{Answer, AppendTicket, answer_after};
use super::budget::{Budget, BudgetMetrics};
use super::failed::SharedFailed;
use super::intake::{AppendRequest, Intake};
use super::options::{WriteOptions, WriteParts};
use super::steps::SharedIntake;
use super::task::Task;
use crate::limits::BATCH_OVERHEAD_BYTES;

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

/// What handle and task share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) intake: SharedIntake,
    pub(super) failed: SharedFailed,
    /// Stores a permit: the task looks at the intake at least once after the last notice.
    pub(super) notice: Notify,
    pub(super) budget: Budget,
    linger: Duration,
    life: watch::Receiver<Life>,
    bytes: Counter,
    records: Counter,
    pub(super) buffered: Gauge,
    acknowledged: Histogram,
}

/// What others wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
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
        let metrics = BudgetMetrics {
            held: parts.metrics.memory.bytes.with(["produce"]),
            held_max: parts.metrics.memory.bytes_max.with(["produce"]),
            waited: parts.metrics.produce.backpressure.clone(),
        };
        let budget = Budget::new(options.budget_bytes, metrics);
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
            intake: SharedIntake::new(Intake::new(
                options.size_max,
                options.linger,
                failed.clone(),
            )),
            failed,
            notice: Notify::new(),
            budget,
            linger: options.linger,
            life,
            bytes: produce.bytes.clone(),
            records: produce.records.clone(),
            buffered: produce.buffer_bytes.clone(),
            acknowledged: produce.ack_seconds.clone(),
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

    /// How long a batch waits for company when its topic does not say.
    pub fn linger(&self) -> Duration {
        self.0.linger
    }

    /// Takes a request's batches in; never waits. The order of calls is the order of batches, for
    /// each partition and producer. The batches must be validated, none longer than 4 GiB.
    pub fn append(&self, request: AppendRequest) -> AppendTicket {
        let batches = request.batches.len();
        let overhead = request
            .reservation
            .as_ref()
            .map(|reservation| reservation.charge(batches * BATCH_OVERHEAD_BYTES));
        let lingers = request.batches.iter().map(|batch| batch.linger.unwrap_or(self.0.linger));
        let answer_after = answer_after(request.timeout, lingers.max().unwrap_or_default());
        let ticket = AppendTicket::new(batches, request.arrival, answer_after, overhead)
            .timed_by(self.0.acknowledged.clone());
        let answers: Vec<Answer> = (0..batches).map(|index| ticket.answer(index)).collect();
        let now = Instant::now();
        let appended = self.0.intake.lock().append(request, answers.into_iter(), now);
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
        self.0.intake.lock().draining = true;
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
