//! The content of a log's bytes, as a plain function over them.
//!
//! Segments are read in order. A frame is taken or the reading stops: there is no skipping. Where
//! it stops, one question decides: were these bytes known to be on disk? They were, if
//!
//! - the segment is not the last one: a segment is synced before the next is begun, or
//! - any intact frame behind says so in its `synced` field, or
//! - the frame itself is whole, and only this version does not know what it says, or
//! - the entries that are lost were applied in the checkpoint or a snapshot of this node.
//!
//! Then it is damage, and the log is refused as it is. Otherwise the rest is a torn tail: written
//! when the power failed, promised to nobody, and cut off.
//!
//! Frames are replayed as they were written: an entry must follow the one before it, a truncation
//! voids the entries after it, a purge makes everything up to it unneeded. After a purge whole
//! segments go, the oldest first, so the first segment that is left may begin anywhere; that no
//! entry is missing is checked at the end, against the last purge.

use std::collections::VecDeque;

use ottla_format::codec::DecodeError;
use ottla_format::raft_entry::LogId;
use ottla_format::raft_log::{
    FRAME_HEADER_BYTES, Frame, FrameHeader, LogPosition, SEGMENT_HEADER_BYTES, SegmentHeader,
};

use ottla_format::software::Software;

use super::LogIdentity;
use crate::limits::LOG_POSITION_MAX;

/// How far the state is known to have been applied from other files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppliedElsewhere {
    /// The last entry in the newest snapshot.
    pub snapshot: Option<u64>,
    /// The last entry in the checkpoint.
    pub checkpoint: Option<u64>,
    /// Everything up to here came in a snapshot of another node. The log need not hold it, and
    /// when it does not, its end says nothing.
    pub installed: Option<u64>,
}

/// An entry's place on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// Its name.
    pub id: LogId,
    /// Where its frame begins.
    pub position: LogPosition,
    /// Length of the frame.
    pub length: u32,
}

/// A segment's place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSpan {
    /// Position of its first byte.
    pub start: LogPosition,
    /// Position behind its last good byte.
    pub end: LogPosition,
    /// The highest index of an entry in it, void ones included.
    pub highest_index: Option<u64>,
    /// The version of Ottla that writes it.
    pub software: Software,
}

/// What a log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The entries, without gaps.
    pub entries: VecDeque<Located>,
    /// Everything up to here is in a snapshot.
    pub purged: Option<LogId>,
    /// Everything up to here was committed.
    pub committed: Option<LogId>,
    /// The segments, in order.
    pub segments: Vec<SegmentSpan>,
    /// Bytes behind the end of the last segment that must be cut off.
    pub torn_bytes: u64,
    /// The last segment was torn within its header: it goes as a whole and is not in `segments`.
    pub torn_segment: Option<LogPosition>,
}

/// Why bytes are not a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// See [`super::OpenLogError::Damaged`].
    Damaged {
        /// Start of the segment.
        segment: LogPosition,
        /// Byte in the segment.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// See [`super::OpenLogError::Foreign`].
    Foreign {
        /// Start of the segment.
        segment: LogPosition,
        /// What its header says.
        header: SegmentHeader,
    },
    /// See [`super::OpenLogError::Newer`].
    Newer {
        /// Start of the segment.
        segment: LogPosition,
        /// Which version.
        source: DecodeError,
    },
}

fn damaged(segment: LogPosition, offset: usize, reason: String) -> Refusal {
    Refusal::Damaged { segment, offset: offset as u64, reason }
}

/// Reads segments one after the other.
#[derive(Debug)]
pub struct Recovery {
    identity: LogIdentity,
    log: Recovered,
    /// The index the next entry must have; unknown before the first.
    next: Option<u64>,
    /// What stopped the reading in the last segment.
    stopped: Option<(LogPosition, u64, String)>,
}

impl Recovery {
    /// Begins with an empty log.
    pub fn new(identity: LogIdentity) -> Self {
        Self { identity, log: Recovered::default(), next: None, stopped: None }
    }

    /// Reads the segment whose name says that it begins at `start`.
    pub fn segment(&mut self, start: LogPosition, bytes: &[u8], last: bool) -> Result<(), Refusal> {
        self.check_place(start, bytes.len())?;
        let header = SegmentHeader::decode(bytes);
        if let Err(error) = &header
            && !error.is_of_another_version()
            && last
            && !synced_behind(bytes, 0, start)
        {
            self.log.torn_segment = Some(start);
            self.stopped = Some((start, 0, error.to_string()));
            return Ok(());
        }
        let software = self.check_header(start, header)?;
        self.frames(start, bytes, software, last)
    }

    /// Segments follow each other without a gap.
    fn check_place(&self, start: LogPosition, length: usize) -> Result<(), Refusal> {
        let end = start.checked_add(length as u64);
        if end.is_none_or(|end| end > LOG_POSITION_MAX) {
            let reason = format!("no log is so long that a file begins at {start}");
            return Err(damaged(start, 0, reason));
        }
        match self.log.segments.last() {
            Some(before) if before.end != start => {
                let reason = format!(
                    "it should begin where the segment before it ends, at log position {}, but begins \
                     at {start}",
                    before.end
                );
                Err(damaged(start, 0, reason))
            }
            _ => Ok(()),
        }
    }

    fn check_header(
        &self,
        start: LogPosition,
        header: Result<SegmentHeader, DecodeError>,
    ) -> Result<Software, Refusal> {
        let LogIdentity { cluster, node } = self.identity;
        match header {
            Ok(header) if header.start != start => {
                let reason = format!("its header says that it begins at {}", header.start);
                Err(damaged(start, 0, reason))
            }
            Ok(header) if header.cluster != cluster || header.node != node => {
                Err(Refusal::Foreign { segment: start, header })
            }
            Ok(header) => Ok(header.software),
            Err(source) if source.is_of_another_version() => {
                Err(Refusal::Newer { segment: start, source })
            }
            Err(error) => Err(damaged(start, 0, error.to_string())),
        }
    }

    /// Replays the frames behind the header, up to the end or to where the last segment is torn.
    fn frames(
        &mut self,
        start: LogPosition,
        bytes: &[u8],
        software: Software,
        last: bool,
    ) -> Result<(), Refusal> {
        let newer = |error: DecodeError| Refusal::Newer {
            segment: start,
            source: error.written_by(software),
        };
        let mut span = SegmentSpan { start, end: start, highest_index: None, software };
        let mut at = SEGMENT_HEADER_BYTES;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let position = start + at as u64;
            match Frame::decode(rest, position) {
                Ok((header, frame, length)) => {
                    if header.synced > position {
                        let reason = "a frame claims that it was synced before it was written";
                        return Err(damaged(start, at, reason.to_owned()));
                    }
                    if let Frame::Entry(entry) = &frame {
                        entry.check_known().map_err(newer)?;
                        span.highest_index = span.highest_index.max(Some(entry.id.index));
                    }
                    self.replay(frame, position, length)
                        .map_err(|reason| damaged(start, at, reason))?;
                    at += length;
                }
                Err(error) => {
                    if error.is_of_another_version() {
                        return Err(newer(error));
                    }
                    if Frame::is_whole(rest, position) {
                        return Err(damaged(start, at, error.to_string()));
                    }
                    if !last || synced_behind(bytes, at, position) {
                        return Err(damaged(start, at, error.to_string()));
                    }
                    self.log.torn_bytes = rest.len() as u64;
                    self.stopped = Some((start, at as u64, error.to_string()));
                    break;
                }
            }
        }
        span.end = start + at as u64;
        self.log.segments.push(span);
        Ok(())
    }

    fn replay(&mut self, frame: Frame, position: LogPosition, length: usize) -> Result<(), String> {
        match frame {
            Frame::Entry(entry) => {
                let id = entry.id;
                if self.next.is_some_and(|next| next != id.index) {
                    return Err(format!("entry {} does not follow the one before it", id.index));
                }
                if self.log.entries.back().is_some_and(|before| before.id >= id) {
                    return Err(format!("entry {id} goes back to an older leader"));
                }
                self.next = Some(id.index + 1);
                self.log.entries.push_back(Located { id, position, length: length as u32 });
            }
            Frame::Truncated(after) => {
                let first_void = match after {
                    Some(after) => after.index + 1,
                    None => self.log.purged.map_or(0, |purged| purged.index + 1),
                };
                while self.log.entries.back().is_some_and(|entry| entry.id.index >= first_void) {
                    self.log.entries.pop_back();
                }
                self.next = Some(first_void);
            }
            Frame::Committed(id) => self.log.committed = self.log.committed.max(Some(id)),
            Frame::Purged(id) => {
                self.log.purged = self.log.purged.max(Some(id));
                while self.log.entries.front().is_some_and(|entry| entry.id.index <= id.index) {
                    self.log.entries.pop_front();
                }
                if self.next.is_some_and(|next| next <= id.index) {
                    self.next = Some(id.index + 1);
                }
            }
            Frame::Synced => {}
        }
        Ok(())
    }

    /// The whole, checked against what is known from elsewhere.
    pub fn finish(self, elsewhere: AppliedElsewhere) -> Result<Recovered, Refusal> {
        let mut log = self.log;
        let first_needed = log.purged.map_or(0, |purged| purged.index + 1);
        if let Some(first) = log.entries.front()
            && first.id.index != first_needed
        {
            return Err(Refusal::Damaged {
                segment: log.segments.first().map_or(0, |segment| segment.start),
                offset: 0,
                reason: format!(
                    "the log begins with entry {}, and entry {first_needed} is needed: older \
                     segments are missing",
                    first.id.index
                ),
            });
        }
        let last = log.entries.back().map(|entry| entry.id).or(log.purged);
        // A majority of others can commit an entry before this node has it on disk.
        log.committed = log.committed.min(last);
        let last = last.map(|id| id.index);
        let applied = elsewhere.snapshot.max(elsewhere.checkpoint);
        if let Some((segment, offset, reason)) = self.stopped
            && applied > last.max(elsewhere.installed)
        {
            let reason = format!("{reason}, and the state had applied up to entry {applied:?}");
            return Err(Refusal::Damaged { segment, offset, reason });
        }
        if elsewhere.checkpoint > last.max(elsewhere.snapshot) {
            let end = log.segments.last();
            return Err(Refusal::Damaged {
                segment: end.map_or(0, |segment| segment.start),
                offset: end.map_or(0, |segment| segment.end - segment.start),
                reason: format!(
                    "the log ends with entry {}, and the checkpoint has applied up to entry {}",
                    last.map_or("none".to_owned(), |index| index.to_string()),
                    elsewhere.checkpoint.unwrap_or_default()
                ),
            });
        }
        Ok(log)
    }
}

/// Whether an intact frame behind byte `at` knows that the byte at `position` was on disk.
fn synced_behind(bytes: &[u8], at: usize, position: LogPosition) -> bool {
    let mut from = at;
    while let Some(rest) = bytes.get(from..) {
        // Positions in the file and in the log differ by a constant.
        let Some((skipped, header)) = FrameHeader::find(rest, position + (from - at) as u64) else {
            return false;
        };
        if header.synced > position {
            return true;
        }
        from += skipped + FRAME_HEADER_BYTES;
    }
    false
}
