//! The log's handle.
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

use super::files::LogDirectory;
use super::index::{Index, LogEntry, Place};
use super::journal::{Write, read_frame};
use super::open::{OpenedLog, open};
use super::recovery::{AppliedElsewhere, SegmentSpan};
use super::writer::{LogWriter, Writer};
use super::{LogIdentity, LogOptions, OpenLogError, segment_name};
use crate::limits::{LOG_BATCH_REQUESTS, LOG_QUEUE};

/// Called once: the write is durable, or the log has failed.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// The Raft log of one node; cheap to clone.
#[derive(Clone, Debug)]
pub struct RaftLog {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Request>,
}

/// What the handles share with the writer.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) directory: Arc<dyn LogDirectory>,
    book: Mutex<Book>,
    /// How many segments were filled since the start: a signal that a snapshot is worth it.
    pub(super) segments_filled: watch::Sender<u64>,
}

/// Everything readers see, behind one lock that is never held across I/O.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) index: Index,
    pub(super) segments: Vec<SegmentSpan>,
    vote: Option<VoteRecord>,
    pub(super) committed: Option<LogId>,
    /// Why nothing is written any more.
    pub(super) failed: Option<(io::ErrorKind, String)>,
}

/// Something for the writer to do.
pub(super) struct Request {
    pub(super) write: Write,
    pub(super) done: Option<Done>,
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
        Self::resume(directory, opened, metrics, &VitalTasks::default())
    }

    /// Starts the writer of a log that was opened.
    ///
    /// # Errors
    /// When the system gives it no thread.
    pub fn resume(
        directory: Arc<dyn LogDirectory>,
        opened: OpenedLog,
        metrics: Arc<Metrics>,
        vital: &VitalTasks,
    ) -> Result<(Self, LogWriter), OpenLogError> {
        let OpenedLog { journal, index, vote, committed } = opened;
        let book =
            Book { index, segments: journal.segments().to_vec(), vote, committed, failed: None };
        let shared = Arc::new(Shared {
            directory,
            book: Mutex::new(book),
            segments_filled: watch::Sender::new(0),
        });
        let (queue, requests) = mpsc::channel(LOG_QUEUE);
        let writer = Writer::new(shared.clone(), journal, metrics);
        let writer = writer.start(requests, vital).map_err(|source| OpenLogError::Io {
            action: "start the writer of",
            file: shared.directory.describe(""),
            source,
        })?;
        Ok((Self { shared, queue }, writer))
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

    /// Reads entries. Missing entries are left out at both ends of the range.
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
            // The caller may have gone.
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
    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    pub(super) fn check(&self) -> io::Result<()> {
        match &self.failed {
            Some((kind, message)) => Err(io::Error::new(*kind, message.clone())),
            None => Ok(()),
        }
    }
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
