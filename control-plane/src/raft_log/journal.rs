//! The log's files as its one writer sees them: frames go to the end of the last segment, and a
//! sync makes them durable. Everything here blocks.
//!
//! # Order and durability
//!
//! A batch of requests is encoded in the order it was handed over, written with one call, and
//! synced once; then its places are known and it may be acknowledged. A vote in between splits the
//! batch: what came before it is durable before the vote is written, and the vote before what
//! comes after. Segments that a purge freed are removed last, the oldest first and each durably,
//! so that those that are left always follow each other without a gap.
//!
//! A segment is written by one version of Ottla: after an upgrade the first write begins another, so
//! that the header tells who wrote what a later reader does not know.
//!
//! A new segment is begun only when the one before it was synced, and it is used only when its
//! header and its name are durable.
//!
//! # Errors
//!
//! The first error ends the journal: after a failed sync nobody knows which pages reached the
//! disk, and after a short write the end of the file is unknown. Only reading the log again, at the
//! next start, tells.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_format::raft_entry::LogId;
use ottla_format::raft_log::{FRAME_BODY_BYTES_MAX, Frame, LogPosition, SegmentHeader};
use ottla_format::software::Software;
use ottla_format::vote::VoteRecord;
use tokio::time::Instant;

use super::files::{LogDirectory, LogFile};
use super::index::LogEntry;
use super::recovery::{Recovered, SegmentSpan};
use super::{LogIdentity, VOTE_FILE, VOTE_FILE_NEW, segment_name};

/// Every proposal fits a frame, with its log id.
const _: () = assert!(crate::limits::COMMAND_BYTES_MAX + 1024 < FRAME_BODY_BYTES_MAX);

/// Something to write.
#[derive(Debug)]
pub enum Write {
    /// Entries with their serials.
    Append(Vec<(u64, Arc<LogEntry>)>),
    /// Entries after this one are void.
    Truncate(Option<LogId>),
    /// Entries up to this one are in a snapshot that was read back.
    Purge(LogId),
    /// A vote.
    Vote(VoteRecord),
    /// Nothing; durable when everything before it is.
    Barrier,
}

/// Where an entry was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Index of the entry.
    pub index: u64,
    /// Its serial.
    pub serial: u64,
    /// Its frame.
    pub position: LogPosition,
    /// Length of its frame.
    pub length: u32,
}

/// What a batch did.
#[derive(Debug, Default)]
pub struct Written {
    /// Where its entries are.
    pub placed: Vec<Placed>,
    /// Time of the syncs of the log.
    pub sync_time: Duration,
    /// Whether a segment was filled.
    pub rolled: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Journal {
    directory: Arc<dyn LogDirectory>,
    identity: LogIdentity,
    segment_bytes: u64,
    /// The segments; the last one is written to.
    segments: Vec<SegmentSpan>,
    active: Option<Arc<dyn LogFile>>,
    /// Encoded and not yet written.
    buffer: Vec<u8>,
    /// Written and not yet synced, or in the buffer.
    unsynced: bool,
    /// Everything below is durable.
    synced: LogPosition,
    /// No frame says yet that everything up to `synced` is durable.
    marker_due: bool,
    purged: Option<LogId>,
    committed: Option<LogId>,
    committed_written: Option<LogId>,
}

impl Journal {
    /// Goes on behind what was read, whose torn tail was cut off and which was synced.
    pub fn resume(
        directory: Arc<dyn LogDirectory>,
        identity: LogIdentity,
        segment_bytes: u64,
        recovered: &Recovered,
    ) -> io::Result<Self> {
        let last = recovered.segments.last();
        let active = last.map(|span| directory.open(&segment_name(span.start))).transpose()?;
        Ok(Self {
            directory,
            identity,
            segment_bytes,
            active,
            buffer: Vec::new(),
            unsynced: false,
            synced: last.map_or(0, |span| span.end),
            marker_due: last.is_some(),
            purged: recovered.purged,
            committed: recovered.committed,
            committed_written: recovered.committed,
            segments: recovered.segments.clone(),
        })
    }

    /// The segments.
    pub fn segments(&self) -> &[SegmentSpan] {
        &self.segments
    }

    /// Whether [`Self::write_marker`] would write something new.
    /// `committed` is what the next call of [`Self::note_committed`] will say.
    pub fn marker_due(&self, committed: Option<LogId>) -> bool {
        self.active.is_some() && (self.marker_due || committed > self.committed_written)
    }

    /// Notes that everything up to `committed` is committed; written along with the next frame.
    pub fn note_committed(&mut self, committed: Option<LogId>) {
        self.committed = self.committed.max(committed);
    }

    /// Writes a batch, in order, and makes it durable.
    pub fn write(&mut self, batch: &[Write]) -> io::Result<Written> {
        let mut written = Written::default();
        let mut purged = false;
        for write in batch {
            match write {
                Write::Append(entries) => {
                    for (serial, entry) in entries {
                        written.rolled |= self.make_room(&mut written.sync_time)?;
                        let placed = self.append(*serial, entry);
                        written.placed.push(placed);
                    }
                }
                Write::Truncate(after) => {
                    written.rolled |= self.make_room(&mut written.sync_time)?;
                    self.put(&Frame::Truncated(*after));
                }
                Write::Purge(upto) => {
                    written.rolled |= self.make_room(&mut written.sync_time)?;
                    self.purged = self.purged.max(Some(*upto));
                    self.put(&Frame::Purged(*upto));
                    purged = true;
                }
                Write::Vote(vote) => {
                    self.sync(&mut written.sync_time)?;
                    self.write_vote(vote)?;
                }
                Write::Barrier => {}
            }
        }
        self.sync(&mut written.sync_time)?;
        if purged {
            self.remove_purged()?;
        }
        Ok(written)
    }

    /// Writes, without a sync, how far the log is durable and committed.
    pub fn write_marker(&mut self) -> io::Result<()> {
        if self.marker_due(self.committed) {
            self.put_committed();
            self.put(&Frame::Synced);
            self.flush()?;
            self.marker_due = false;
        }
        Ok(())
    }

    fn append(&mut self, serial: u64, entry: &LogEntry) -> Placed {
        let (position, length) = self.put(&Frame::Entry(entry.entry.clone()));
        let index = entry.entry.id.index;
        if let Some(span) = self.segments.last_mut() {
            span.highest_index = span.highest_index.max(Some(index));
        }
        Placed { index, serial, position, length }
    }

    /// Encodes a frame behind the last.
    fn put(&mut self, frame: &Frame) -> (LogPosition, u32) {
        let before = self.buffer.len();
        let position = self.segments.last().map_or(0, |span| span.end);
        frame.encode(position, self.synced, &mut self.buffer);
        let length = (self.buffer.len() - before) as u32;
        if let Some(span) = self.segments.last_mut() {
            span.end += u64::from(length);
        }
        self.unsynced = true;
        (position, length)
    }

    fn put_committed(&mut self) {
        if self.committed > self.committed_written
            && let Some(committed) = self.committed
        {
            self.put(&Frame::Committed(committed));
            self.committed_written = self.committed;
        }
    }

    /// Hands the buffer to the operating system.
    fn flush(&mut self) -> io::Result<()> {
        if let (Some(file), Some(span)) = (&self.active, self.segments.last())
            && !self.buffer.is_empty()
        {
            let offset = span.end - span.start - self.buffer.len() as u64;
            file.write_at(&self.buffer, offset)?;
        }
        self.buffer.clear();
        Ok(())
    }

    /// Makes everything durable that was put so far.
    fn sync(&mut self, time: &mut Duration) -> io::Result<()> {
        if !self.unsynced {
            return Ok(());
        }
        self.put_committed();
        self.flush()?;
        if let (Some(file), Some(span)) = (&self.active, self.segments.last()) {
            let began = Instant::now();
            file.sync()?;
            *time += began.elapsed();
            self.synced = span.end;
            self.unsynced = false;
            self.marker_due = true;
        }
        Ok(())
    }

    /// Begins a segment when there is none, when the last one is full, or when another version of Ottla
    /// wrote it; `true` when there was one before.
    fn make_room(&mut self, time: &mut Duration) -> io::Result<bool> {
        let start = match self.segments.last() {
            Some(span)
                if span.end - span.start < self.segment_bytes
                    && span.software == Software::THIS =>
            {
                return Ok(false);
            }
            Some(_) => {
                self.sync(time)?;
                self.segments.last().map_or(0, |span| span.end)
            }
            None => 0,
        };
        let LogIdentity { cluster, node } = self.identity;
        let file = self.directory.create(&segment_name(start))?;
        let software = Software::THIS;
        let header = SegmentHeader { software, cluster, node, start }.encode();
        self.buffer.extend_from_slice(&header);
        let end = start + header.len() as u64;
        self.segments.push(SegmentSpan { start, end, highest_index: None, software });
        self.active = Some(file);
        // The facts of older segments that this one must state once they are gone.
        if let Some(purged) = self.purged {
            self.put(&Frame::Purged(purged));
        }
        if let Some(committed) = self.committed_written {
            self.put(&Frame::Committed(committed));
        }
        self.unsynced = true;
        self.sync(time)?;
        self.directory.sync()?;
        Ok(start > 0)
    }

    fn write_vote(&self, vote: &VoteRecord) -> io::Result<()> {
        match self.directory.remove(VOTE_FILE_NEW) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.directory.create(VOTE_FILE_NEW)?;
        file.write_at(&vote.encode(), 0)?;
        file.sync()?;
        self.directory.rename(VOTE_FILE_NEW, VOTE_FILE)?;
        self.directory.sync()
    }

    fn remove_purged(&mut self) -> io::Result<()> {
        let Some(purged) = self.purged else { return Ok(()) };
        while self.segments.len() > 1 && self.segments[0].highest_index <= Some(purged.index) {
            self.directory.remove(&segment_name(self.segments[0].start))?;
            self.directory.sync()?;
            self.segments.remove(0);
        }
        Ok(())
    }
}

/// The bytes of one frame's file range, read and checked.
pub fn read_frame(bytes: &Bytes, at: usize, position: LogPosition) -> io::Result<LogEntry> {
    let rest = bytes.get(at..).unwrap_or_default();
    match Frame::decode(rest, position) {
        Ok((_, Frame::Entry(entry), _)) => Ok(LogEntry { entry, command: None }),
        Ok((_, other, _)) => {
            Err(io::Error::other(format!("an entry was expected at {position}, not {other:?}")))
        }
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}
