//! What the log holds, in memory: the name and place of every entry that was not purged, and the
//! newest entries themselves. Plain values; the log's handle keeps it behind a lock.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use ottla_format::command::{Command, CommandBody};
use ottla_format::raft_entry::{Entry, LogId, Payload};
use ottla_format::raft_log::LogPosition;

use super::recovery::{Located, Recovered};

/// An entry as it goes into and comes out of the log. The decoded command travels along when it is
/// at hand, so that it is not decoded again to be applied.
#[derive(Clone, Debug)]
pub struct LogEntry {
    /// The entry.
    pub entry: Entry,
    /// Its command, decoded.
    pub command: Option<Arc<Command>>,
}

/// Where an entry can be read.
#[derive(Clone, Debug)]
pub enum Place {
    /// Here.
    Memory(Arc<LogEntry>),
    /// In the frame at this position, of this length.
    Disk(LogPosition, u32),
}

#[derive(Debug)]
struct Slot {
    id: LogId,
    /// Tells an entry from a later one of the same index.
    serial: u64,
    written: Option<(LogPosition, u32)>,
    /// Always present until written.
    cached: Option<Arc<LogEntry>>,
}

/// See the module.
#[derive(Debug)]
pub struct Index {
    slots: VecDeque<Slot>,
    purged: Option<LogId>,
    next_serial: u64,
    cached_bytes: usize,
    cache_bytes_max: usize,
    /// All slots before this one (counted from the first ever appended, as an index) hold no
    /// cached entry.
    first_cached: u64,
}

impl Index {
    /// The index of a log that was just read.
    pub fn new(recovered: &Recovered, cache_bytes_max: usize) -> Self {
        let slot = |entry: &Located| Slot {
            id: entry.id,
            serial: 0,
            written: Some((entry.position, entry.length)),
            cached: None,
        };
        let slots: VecDeque<Slot> = recovered.entries.iter().map(slot).collect();
        let first_cached = slots.back().map_or(0, |slot| slot.id.index + 1);
        Self {
            slots,
            purged: recovered.purged,
            next_serial: 1,
            cached_bytes: 0,
            cache_bytes_max,
            first_cached,
        }
    }

    /// The last purged entry.
    pub fn purged(&self) -> Option<LogId> {
        self.purged
    }

    /// The last entry, or the last purged one when there is none.
    pub fn last(&self) -> Option<LogId> {
        self.slots.back().map(|slot| slot.id).or(self.purged)
    }

    /// Number of entries.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// The name of the entry at `index`.
    #[cfg(test)]
    pub fn id(&self, index: u64) -> Option<LogId> {
        let first = self.slots.front()?.id.index;
        self.slots.get(usize::try_from(index.checked_sub(first)?).ok()?).map(|slot| slot.id)
    }

    /// Adds an entry behind the last. Returns its serial, or what is wrong with its id.
    pub fn push(&mut self, entry: Arc<LogEntry>) -> Result<u64, String> {
        let id = entry.entry.id;
        let last = self.last();
        if last.is_some_and(|last| last.index + 1 != id.index || last > id) {
            let last = last.map_or(String::new(), |last| last.to_string());
            return Err(format!("entry {id} cannot follow entry {last}"));
        }
        let serial = self.next_serial;
        self.next_serial += 1;
        self.cached_bytes += cost(&entry);
        self.slots.push_back(Slot { id, serial, written: None, cached: Some(entry) });
        Ok(serial)
    }

    /// Notes where an entry was written. Ignored when it is gone by now.
    pub fn written(&mut self, index: u64, serial: u64, position: LogPosition, length: u32) {
        if let Some(slot) = self.slot_mut(index)
            && slot.serial == serial
        {
            slot.written = Some((position, length));
        }
    }

    /// Drops cached entries beyond the bound, oldest first, as far as they are on disk.
    pub fn shrink_cache(&mut self) {
        while self.cached_bytes > self.cache_bytes_max {
            let first = self.slots.front().map_or(0, |slot| slot.id.index);
            let at = self.first_cached.max(first);
            let Some(slot) = self.slot_mut(at) else { break };
            if slot.written.is_none() {
                break;
            }
            let freed = slot.cached.take().map_or(0, |entry| cost(&entry));
            self.cached_bytes -= freed;
            self.first_cached = at + 1;
        }
    }

    /// Drops the entries after `after`.
    pub fn truncate_after(&mut self, after: Option<LogId>) {
        let keep_below = after.map_or(0, |after| after.index + 1);
        while self.slots.back().is_some_and(|slot| slot.id.index >= keep_below) {
            self.forget_cached_of(self.slots.len() - 1);
            self.slots.pop_back();
        }
        self.first_cached = self.first_cached.min(keep_below);
    }

    /// Drops the entries up to `upto`.
    pub fn purge(&mut self, upto: LogId) {
        while self.slots.front().is_some_and(|slot| slot.id.index <= upto.index) {
            self.forget_cached_of(0);
            self.slots.pop_front();
        }
        self.purged = self.purged.max(Some(upto));
    }

    /// Where the entries of a range are; what the log does not hold is left out at both ends.
    pub fn places(&self, range: Range<u64>) -> Vec<Place> {
        let first = self.slots.front().map_or(0, |slot| slot.id.index);
        let from = range.start.saturating_sub(first).min(self.slots.len() as u64) as usize;
        let to = range.end.saturating_sub(first).min(self.slots.len() as u64) as usize;
        let place = |slot: &Slot| match (&slot.cached, slot.written) {
            (Some(entry), _) => Some(Place::Memory(entry.clone())),
            (None, Some((position, length))) => Some(Place::Disk(position, length)),
            (None, None) => None,
        };
        self.slots.range(from..to.max(from)).filter_map(place).collect()
    }

    fn forget_cached_of(&mut self, at: usize) {
        if let Some(entry) = self.slots.get_mut(at).and_then(|slot| slot.cached.take()) {
            self.cached_bytes -= cost(&entry);
        }
    }

    fn slot_mut(&mut self, index: u64) -> Option<&mut Slot> {
        let first = self.slots.front()?.id.index;
        self.slots.get_mut(usize::try_from(index.checked_sub(first)?).ok()?)
    }
}

/// What a cached entry counts for: its command, encoded and, when it is at hand, decoded, and a flat
/// share.
fn cost(entry: &LogEntry) -> usize {
    let encoded = match &entry.entry.payload {
        Payload::Command(bytes) => bytes.len(),
        _ => 0,
    };
    128 + encoded + entry.command.as_ref().map_or(0, |command| decoded_bytes(command, encoded))
}

/// What a decoded command takes. A batch of a commit takes ten times what it takes encoded, and
/// commits are nearly all of a log.
fn decoded_bytes(command: &Command, encoded: usize) -> usize {
    let content = match &command.body {
        CommandBody::CommitObjects(commit) => {
            let batches = commit.objects.iter().map(|object| size_of_val(&object.batches[..]));
            size_of_val(&commit.objects[..]) + batches.sum::<usize>()
        }
        _ => encoded,
    };
    size_of::<Command>() + content
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ottla_format::command::{CommitBatch, CommitObject, CommitObjects};
    use ottla_model::{
        Attempt, BrokerAuthor, BrokerEpoch, BrokerId, BytePosition, ObjectSeq, PartitionId,
        PartitionIndex, TimestampMs, TopicId,
    };

    use super::*;

    fn entry(term: u64, index: u64) -> Arc<LogEntry> {
        let payload = Payload::Command(Bytes::from(vec![0; 100]));
        let id = LogId { term, node: 1, index };
        Arc::new(LogEntry { entry: Entry { id, payload }, command: None })
    }

    fn in_memory(index: &Index) -> Vec<bool> {
        index.places(0..100).iter().map(|place| matches!(place, Place::Memory(_))).collect()
    }

    #[test]
    fn the_cache_drops_the_oldest_written_entries_only() {
        let mut index = Index::new(&Recovered::default(), 500);
        let serials: Vec<u64> = (0..4).map(|i| index.push(entry(1, i)).unwrap()).collect();
        index.shrink_cache();
        assert_eq!(in_memory(&index), [true; 4]);
        index.written(0, serials[0], 44, 50);
        index.written(1, serials[1], 94, 50);
        index.shrink_cache();
        assert_eq!(in_memory(&index), [false, false, true, true]);
    }

    #[test]
    fn a_decoded_commit_counts_with_all_its_batches() {
        let batch = CommitBatch {
            partition: PartitionId { topic: TopicId(1), index: PartitionIndex(0) },
            position: BytePosition(64),
            length: 100,
            last_offset_delta: 0,
            max_timestamp: TimestampMs(0),
            producer: None,
        };
        let object = CommitObject {
            seq: ObjectSeq(0),
            attempt: Attempt(0),
            size: 0,
            batches: vec![batch; 50],
        };
        let author = BrokerAuthor { broker: BrokerId(1), epoch: BrokerEpoch(1) };
        let commit = CommitObjects { author, frontier: ObjectSeq(0), objects: vec![object] };
        let body = CommandBody::CommitObjects(commit);
        let command = Some(Arc::new(Command { time: TimestampMs(0), body }));
        let with_command = LogEntry { command, ..(*entry(1, 0)).clone() };
        let more = cost(&with_command) - cost(&entry(1, 0));
        assert!(more >= 50 * size_of::<CommitBatch>(), "{more} bytes");
    }

    #[test]
    fn a_late_write_of_a_replaced_entry_is_ignored() {
        let mut index = Index::new(&Recovered::default(), 0);
        let old = index.push(entry(1, 0)).unwrap();
        index.truncate_after(None);
        index.push(entry(2, 0)).unwrap();
        index.written(0, old, 44, 50);
        index.shrink_cache();
        assert_eq!(in_memory(&index), [true]);
    }

    #[test]
    fn entries_must_follow_each_other() {
        let mut index = Index::new(&Recovered::default(), 0);
        index.push(entry(2, 5)).unwrap();
        assert!(index.push(entry(2, 7)).is_err());
        assert!(index.push(entry(1, 6)).is_err());
        index.purge(LogId { term: 3, node: 1, index: 9 });
        assert_eq!(index.last().unwrap().index, 9);
        assert!(index.push(entry(3, 10)).is_ok());
        assert_eq!(index.places(0..100).len(), 1);
    }
}
