//! The thread that writes the log.
//!
//! It has a thread of its own, because everything waits for it: on the runtime's blocking threads
//! it would stand behind whatever else blocks there, such as an object store whose mount hangs. The
//! thread runs a small runtime of its own to wait for requests with; journal calls block it, and
//! nothing else lives there.

use std::io;
use std::sync::Arc;

use ottla_env::VitalTasks;
use ottla_telemetry::Metrics;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::journal::{Journal, Written};
use super::log::{Request, Shared};
use crate::limits::{LOG_BATCH_REQUESTS, LOG_IDLE};

/// The writer's thread. It ends when it is told to, or when every handle of the log is gone.
#[derive(Debug)]
pub struct LogWriter {
    stop: oneshot::Sender<()>,
    /// Dropped when the thread has written its last.
    ended: oneshot::Receiver<()>,
}

impl LogWriter {
    /// Writes what was handed over, makes it durable, and ends. Later requests are refused.
    pub async fn stop(self) {
        // Either the thread still listens, or it has ended by itself.
        let _ = self.stop.send(());
        // Nothing is sent: the other end is dropped, also when the writer panics.
        let _ = self.ended.await;
    }
}

/// Why the writer woke up.
enum Wake {
    Requests,
    Idle,
    Closed,
}

/// What runs on the thread.
pub(super) struct Writer {
    shared: Arc<Shared>,
    journal: Journal,
    metrics: Arc<Metrics>,
    /// Something was asked for. A log that was only opened is not changed, however long it is open.
    in_use: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, journal: Journal, metrics: Arc<Metrics>) -> Self {
        Self { shared, journal, metrics, in_use: false }
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread, or no timer.
    pub(super) fn start(
        self,
        requests: mpsc::Receiver<Request>,
        vital: &VitalTasks,
    ) -> io::Result<LogWriter> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let (stop, stopped) = oneshot::channel();
        let (at_end, ended) = oneshot::channel();
        vital.spawn_thread("the log's writer", "raft-log", move || {
            let _at_end: oneshot::Sender<()> = at_end;
            runtime.block_on(self.run(requests, stopped));
        })?;
        Ok(LogWriter { stop, ended })
    }

    async fn run(mut self, mut requests: mpsc::Receiver<Request>, stopped: oneshot::Receiver<()>) {
        let mut stopped = Some(stopped);
        let mut batch = Vec::with_capacity(LOG_BATCH_REQUESTS);
        loop {
            match self.next(&mut requests, &mut stopped, &mut batch).await {
                Wake::Requests => {
                    self.in_use = true;
                    self.write(&mut batch);
                }
                Wake::Idle => {
                    let marked = self.with_journal(Journal::write_marker);
                    // A failure is remembered; nobody waits for a marker.
                    let _ = self.publish(marked.map(|()| Written::default()));
                }
                Wake::Closed => return self.write(&mut batch),
            }
        }
    }

    /// Waits for requests, but not for ever while something is left to be said when idle.
    async fn next(
        &self,
        requests: &mut mpsc::Receiver<Request>,
        stopped: &mut Option<oneshot::Receiver<()>>,
        batch: &mut Vec<Request>,
    ) -> Wake {
        let (committed, failed) = {
            let book = self.shared.book();
            (book.committed, book.failed.is_some())
        };
        let marker_due = self.in_use && self.journal.marker_due(committed);
        let idle = async {
            if marker_due && !failed {
                sleep_until(Instant::now() + LOG_IDLE).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        let told_to_stop = async {
            match stopped.as_mut() {
                Some(told) => told.await.is_ok(),
                None => std::future::pending().await,
            }
        };
        let received = tokio::select! {
            biased;
            told = told_to_stop => {
                // Not told, but nobody is left who could: the log goes on while it has handles.
                *stopped = None;
                if told {
                    requests.close();
                }
                requests.recv_many(batch, LOG_BATCH_REQUESTS).await
            }
            received = requests.recv_many(batch, LOG_BATCH_REQUESTS) => received,
            () = idle => return Wake::Idle,
        };
        if received == 0 { Wake::Closed } else { Wake::Requests }
    }

    /// Makes a batch durable and tells those who wait for it.
    fn write(&mut self, batch: &mut Vec<Request>) {
        let (writes, dones): (Vec<_>, Vec<_>) =
            batch.drain(..).map(|request| (request.write, request.done)).unzip();
        let result = self.with_journal(|journal| journal.write(&writes));
        let result = self.publish(result);
        for done in dones.into_iter().flatten() {
            done(result.as_ref().copied().map_err(copy_error));
        }
    }

    /// Runs a step of the journal, unless one has failed before.
    fn with_journal<T>(
        &mut self,
        step: impl FnOnce(&mut Journal) -> io::Result<T>,
    ) -> io::Result<T> {
        let committed = {
            let book = self.shared.book();
            book.check()?;
            book.committed
        };
        self.journal.note_committed(committed);
        step(&mut self.journal)
    }

    /// Tells readers what was written, or everyone from now on why nothing is written any more.
    fn publish(&self, result: io::Result<Written>) -> io::Result<()> {
        let written = match result {
            Ok(written) => written,
            Err(error) => return Err(self.fail(&error)),
        };
        let mut book = self.shared.book();
        for placed in &written.placed {
            book.index.written(placed.index, placed.serial, placed.position, placed.length);
        }
        book.index.shrink_cache();
        if book.segments != self.journal.segments() {
            book.segments = self.journal.segments().to_vec();
        }
        let bytes: u64 = book.segments.iter().map(|span| span.end - span.start).sum();
        drop(book);
        let raft = &self.metrics.raft;
        raft.log_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        if !written.placed.is_empty() {
            raft.fsync_seconds.time(written.sync_time);
            raft.sync_entries.observe(written.placed.len() as f64);
        }
        if written.rolled {
            self.shared.segments_filled.send_modify(|filled| *filled += 1);
        }
        Ok(())
    }

    /// Remembers the first error, in words for a person, and returns them.
    fn fail(&self, error: &io::Error) -> io::Error {
        let mut book = self.shared.book();
        if let Err(before) = book.check() {
            return before;
        }
        let place = self.shared.directory.describe("");
        let message = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => format!(
                "the disk of the Raft log in {place} is full ({error}): free space and restart this \
                 node"
            ),
            _ => format!(
                "writing the Raft log in {place} failed ({error}): what reached the disk is unknown until it \
                 is read again, so this node stops writing; restart it"
            ),
        };
        tracing::error!("{message}");
        book.failed = Some((error.kind(), message.clone()));
        io::Error::new(error.kind(), message)
    }
}

fn copy_error(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}
