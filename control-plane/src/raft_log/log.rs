//! The log's handle and its writer task.
//!
//! Changes are made twice: at once in the index, so that whoever appended an entry can read it,
//! and then, in the same order, by the writer on disk. There is one appender (openraft's core,
//! which calls through a `&mut`), so the two orders agree.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ottla_env::VitalTasks;
use ottla_format::raft_entry::LogId;
use ottla_format::raft_log::LogPosition;
use ottla_format::vote::VoteRecord;
use ottla_telemetry::Metrics;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::files::LogDirectory;
use super::index::{Index, LogEntry, Place};
use super::journal::{Journal, Write, Written, read_frame};
use super::open::{OpenedLog, open};
use super::recovery::{AppliedElsewhere, SegmentSpan};
use super::{LogIdentity, LogOptions, OpenLogError, segment_name};
use crate::limits::{LOG_BATCH_REQUESTS, LOG_IDLE, LOG_QUEUE};

/// Called once: the write is durable, or the log has failed.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// The Raft log of one node; cheap to clone.
#[derive(Clone, Debug)]
pub struct RaftLog {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Request>,
}

#[derive(Debug)]
struct Shared {
    directory: Arc<dyn LogDirectory>,
    book: Mutex<Book>,
    /// How many segments were filled since the start: a signal that a snapshot is worth it.
    segments_filled: watch::Sender<u64>,
}

/// Everything readers see, behind one lock that is never held across I/O.
#[derive(Debug)]
struct Book {
    index: Index,
    segments: Vec<SegmentSpan>,
    vote: Option<VoteRecord>,
    committed: Option<LogId>,
    /// Why nothing is written any more.
    failed: Option<(io::ErrorKind, String)>,
}

struct Request {
    write: Write,
    done: Option<Done>,
}

/// Why the writer woke up.
enum Wake {
    Requests,
    Idle,
    Closed,
}

/// The task that writes the log. It ends when it is told to, or when every handle is gone.
#[derive(Debug)]
pub struct LogWriter {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl LogWriter {
    /// Writes what was handed over, makes it durable, and ends. Later requests are refused.
    pub async fn stop(self) {
        // Either the task still listens, or it has ended by itself.
        let _ = self.stop.send(());
        // A panic of the writer has already failed every request in flight.
        let _ = self.task.await;
    }
}

impl RaftLog {
    /// Reads the log in `directory`, cuts off a torn tail, and starts its writer.
    ///
    /// # Errors
    /// When the log is damaged, not this node's, or newer than this version: nothing was changed.
    pub fn start(
        directory: Arc<dyn LogDirectory>,
        identity: LogIdentity,
        options: LogOptions,
        elsewhere: AppliedElsewhere,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, LogWriter), OpenLogError> {
        let opened = open(directory.clone(), identity, options, elsewhere)?;
        Ok(Self::resume(directory, opened, metrics, &VitalTasks::default()))
    }

    /// Starts the writer of a log that was opened.
    pub fn resume(
        directory: Arc<dyn LogDirectory>,
        opened: OpenedLog,
        metrics: Arc<Metrics>,
        vital: &VitalTasks,
    ) -> (Self, LogWriter) {
        let OpenedLog { journal, index, vote, committed } = opened;
        let book =
            Book { index, segments: journal.segments().to_vec(), vote, committed, failed: None };
        let shared = Arc::new(Shared {
            directory,
            book: Mutex::new(book),
            segments_filled: watch::Sender::new(0),
        });
        let (queue, requests) = mpsc::channel(LOG_QUEUE);
        let writer = Writer { shared: shared.clone(), journal: Some(journal), metrics };
        let (stop, stopped) = oneshot::channel();
        let task = vital.spawn("the log's writer", writer.run(requests, stopped));
        (Self { shared, queue }, LogWriter { stop, task })
    }

    /// The last purged entry, and the last entry (the last purged one when there is none).
    pub fn ends(&self) -> (Option<LogId>, Option<LogId>) {
        let book = self.shared.book();
        (book.index.purged(), book.index.last())
    }

    /// Why nothing is written any more, in words for a person.
    pub fn failure(&self) -> Option<String> {
        self.shared.book().failed.as_ref().map(|(_, message)| message.clone())
    }

    /// Counts the segments that were filled since the start.
    pub fn segments_filled(&self) -> watch::Receiver<u64> {
        self.shared.segments_filled.subscribe()
    }

    /// Adds entries, which can be read as soon as this returns; `done` says when they are durable.
    /// Waits only for room in the writer's queue.
    pub async fn append(&self, entries: Vec<LogEntry>, done: Done) -> io::Result<()> {
        let entries = {
            let mut book = self.shared.book();
            book.check()?;
            let mut numbered = Vec::with_capacity(entries.len());
            for entry in entries {
                let entry = Arc::new(entry);
                let serial = book.index.push(entry.clone()).map_err(io::Error::other)?;
                numbered.push((serial, entry));
            }
            numbered
        };
        self.hand_over(Write::Append(entries), Some(done)).await
    }

    /// Makes the entries after `after` void; durable when this returns.
    pub async fn truncate_after(&self, after: Option<LogId>) -> io::Result<()> {
        self.shared.book().index.truncate_after(after);
        self.durably(Write::Truncate(after)).await
    }

    /// Frees the entries up to `upto`, which a snapshot that was read back must hold; durable when
    /// this returns.
    pub async fn purge(&self, upto: LogId) -> io::Result<()> {
        self.shared.book().index.purge(upto);
        self.durably(Write::Purge(upto)).await
    }

    /// The vote that was saved last.
    pub fn vote(&self) -> Option<VoteRecord> {
        self.shared.book().vote
    }

    /// Saves a vote; durable when this returns.
    pub async fn save_vote(&self, vote: VoteRecord) -> io::Result<()> {
        self.durably(Write::Vote(vote)).await?;
        self.shared.book().vote = Some(vote);
        Ok(())
    }

    /// Notes what is committed. Written along with later frames, or when the log falls idle: after
    /// a crash an older value may be read, which is safe.
    pub fn note_committed(&self, committed: Option<LogId>) {
        let mut book = self.shared.book();
        book.committed = book.committed.max(committed);
    }

    /// What was noted as committed.
    pub fn committed(&self) -> Option<LogId> {
        self.shared.book().committed
    }

    /// Waits until everything appended so far is durable.
    pub async fn barrier(&self) -> io::Result<()> {
        self.durably(Write::Barrier).await
    }

    /// Reads entries. What the log does not hold is left out at both ends of the range.
    ///
    /// # Errors
    /// When bytes on disk cannot be read or are damaged.
    pub async fn read(&self, range: Range<u64>) -> io::Result<Vec<Arc<LogEntry>>> {
        let (places, segments) = {
            let book = self.shared.book();
            (book.index.places(range), book.segments.clone())
        };
        if places.iter().all(|place| matches!(place, Place::Memory(_))) {
            let memory = |place| match place {
                Place::Memory(entry) => Some(entry),
                Place::Disk(..) => None,
            };
            return Ok(places.into_iter().filter_map(memory).collect());
        }
        let directory = self.shared.directory.clone();
        let task = move || read_places(directory.as_ref(), &segments, places);
        tokio::task::spawn_blocking(task).await.map_err(io::Error::other)?
    }

    async fn durably(&self, write: Write) -> io::Result<()> {
        let (done, durable) = oneshot::channel();
        let done: Done = Box::new(move |result| {
            // Whoever asked may have gone.
            let _ = done.send(result);
        });
        self.hand_over(write, Some(done)).await?;
        durable.await.unwrap_or_else(|_| Err(stopped()))
    }

    async fn hand_over(&self, write: Write, done: Option<Done>) -> io::Result<()> {
        self.shared.book().check()?;
        self.queue.send(Request { write, done }).await.map_err(|_| stopped())
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn check(&self) -> io::Result<()> {
        match &self.failed {
            Some((kind, message)) => Err(io::Error::new(*kind, message.clone())),
            None => Ok(()),
        }
    }
}

struct Writer {
    shared: Arc<Shared>,
    /// Away while a blocking step uses it; gone for good when one panicked.
    journal: Option<Journal>,
    metrics: Arc<Metrics>,
}

impl Writer {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>, stopped: oneshot::Receiver<()>) {
        let mut stopped = Some(stopped);
        let mut batch = Vec::with_capacity(LOG_BATCH_REQUESTS);
        loop {
            let closed = match self.next(&mut requests, &mut stopped, &mut batch).await {
                Wake::Requests => false,
                Wake::Idle => {
                    let marked = self.blocking(Journal::write_marker).await;
                    // A failure is remembered; nobody waits for a marker.
                    let _ = self.publish(marked.map(|()| Written::default()));
                    continue;
                }
                Wake::Closed => true,
            };
            let (writes, dones): (Vec<_>, Vec<_>) =
                batch.drain(..).map(|request| (request.write, request.done)).unzip();
            let result = self.blocking(move |journal| journal.write(&writes)).await;
            let result = self.publish(result);
            for done in dones.into_iter().flatten() {
                done(result.as_ref().copied().map_err(copy_error));
            }
            if closed {
                return;
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
        let marker_due = self.journal.as_ref().is_some_and(|journal| journal.marker_due(committed));
        let idle = async {
            if marker_due && !failed {
                tokio::time::sleep_until(tokio::time::Instant::now() + LOG_IDLE).await;
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

    /// Runs a step of the journal on a thread where it may block.
    async fn blocking<T: Send + 'static>(
        &mut self,
        step: impl FnOnce(&mut Journal) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let committed = {
            let book = self.shared.book();
            book.check()?;
            book.committed
        };
        let mut journal = self.journal.take().ok_or_else(stopped)?;
        let task = tokio::task::spawn_blocking(move || {
            journal.note_committed(committed);
            let result = step(&mut journal);
            (journal, result)
        });
        let (journal, result) = match task.await {
            Ok(done) => done,
            // Only a runtime that ends cancels it, and takes this task with it. The disk is well.
            Err(error) if error.is_cancelled() => std::future::pending().await,
            Err(error) => return Err(io::Error::other(error)),
        };
        self.journal = Some(journal);
        result
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
        if let Some(journal) = &self.journal
            && book.segments != journal.segments()
        {
            book.segments = journal.segments().to_vec();
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

fn stopped() -> io::Error {
    io::Error::other("the Raft log is closed")
}

/// Reads the entries of `places`, neighbours on disk with one call.
pub(super) fn read_places(
    directory: &dyn LogDirectory,
    segments: &[SegmentSpan],
    places: Vec<Place>,
) -> io::Result<Vec<Arc<LogEntry>>> {
    let mut entries = Vec::with_capacity(places.len());
    let mut places = places.into_iter().peekable();
    while let Some(place) = places.next() {
        let (position, length) = match place {
            Place::Memory(entry) => {
                entries.push(entry);
                continue;
            }
            Place::Disk(position, length) => (position, length),
        };
        let segment = segment_of(segments, position)?;
        let mut run = vec![(position, length)];
        while let Some(Place::Disk(position, length)) = places.peek()
            && *position < segment.end
            && run.len() < LOG_BATCH_REQUESTS
        {
            run.push((*position, *length));
            places.next();
        }
        let (last, last_length) = run.last().copied().unwrap_or((position, length));
        let mut buffer = vec![0; (last - position) as usize + last_length as usize];
        let file = directory.open(&segment_name(segment.start))?;
        file.read_at(&mut buffer, position - segment.start)?;
        let buffer = Bytes::from(buffer);
        for (at, _) in run {
            entries.push(Arc::new(read_frame(&buffer, (at - position) as usize, at)?));
        }
    }
    Ok(entries)
}

fn segment_of(segments: &[SegmentSpan], position: LogPosition) -> io::Result<SegmentSpan> {
    let after = segments.partition_point(|span| span.start <= position);
    after
        .checked_sub(1)
        .and_then(|at| segments.get(at))
        .copied()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the entry was purged"))
}
