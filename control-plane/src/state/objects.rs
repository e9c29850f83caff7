//! Committed objects, by number.
//!
//! Numbers are given out in commit order, so new objects are always at the end; forgotten ones
//! leave holes, which cost nothing. Objects lie in chunks of 256 numbers that copies share. An
//! index tells which are condemned and since when; no record holds it, it is made when they load.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use ottla_control_api::view::ObjectRef;
use ottla_format::state::{CHUNK_LENGTH, ObjectEntry, ObjectStatus, StateKey};
use ottla_model::{ObjectId, TimestampMs};

use super::books::Books;
use super::chunk::writable;
use super::promise::promise;
use super::release::Releases;

/// A chunk's objects, ascending by slot (number modulo 256).
type Chunk = Vec<(u8, ObjectEntry)>;

/// See the module. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    by_chunk: OrdMap<u64, Arc<Chunk>>,
    condemned: OrdSet<(TimestampMs, ObjectId)>,
}

pub(super) fn chunk_of(object: ObjectId) -> u64 {
    object.0 / CHUNK_LENGTH as u64
}

fn slot_of(object: ObjectId) -> u8 {
    (object.0 % CHUNK_LENGTH as u64) as u8
}

impl Objects {
    /// One of them.
    pub fn get(&self, object: ObjectId) -> Option<&ObjectEntry> {
        let chunk = self.by_chunk.get(&chunk_of(object))?;
        let at = chunk.binary_search_by_key(&slot_of(object), |(slot, _)| *slot).ok()?;
        chunk.get(at).map(|(_, entry)| entry)
    }

    /// All of them, in order of number.
    pub fn iter(&self) -> impl Iterator<Item = (ObjectId, &ObjectEntry)> {
        self.by_chunk.iter().flat_map(|(number, chunk)| {
            chunk.iter().map(move |(slot, entry)| {
                (ObjectId(number * CHUNK_LENGTH as u64 + u64::from(*slot)), entry)
            })
        })
    }

    /// What brokers are told of an object.
    pub fn reference(&self, object: ObjectId) -> Option<Arc<ObjectRef>> {
        let entry = self.get(object)?;
        Some(Arc::new(ObjectRef { id: object, name: entry.name, size: entry.size }))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_chunk.values().map(|chunk| chunk.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_chunk.is_empty()
    }

    /// Objects without a reference, in the order in which they lost it.
    pub fn condemned(&self) -> &OrdSet<(TimestampMs, ObjectId)> {
        &self.condemned
    }

    pub(super) fn chunks(&self) -> impl Iterator<Item = (u64, &[(u8, ObjectEntry)])> {
        self.by_chunk.iter().map(|(number, chunk)| (*number, chunk.as_slice()))
    }

    pub(super) fn chunk(&self, number: u64) -> Option<&[(u8, ObjectEntry)]> {
        self.by_chunk.get(&number).map(|chunk| chunk.as_slice())
    }

    pub(super) fn load_chunk(&mut self, number: u64, chunk: Chunk) {
        for (slot, entry) in &chunk {
            let object =
                number.saturating_mul(CHUNK_LENGTH as u64).saturating_add(u64::from(*slot));
            note_condemned(&mut self.condemned, ObjectId(object), entry);
        }
        self.by_chunk.insert(number, Arc::new(chunk));
    }

    /// Puts in a new object; its number is the highest so far.
    pub(super) fn insert(&mut self, object: ObjectId, entry: ObjectEntry, books: &mut Books) {
        let last = self.by_chunk.get_max().and_then(|(_, chunk)| chunk.last());
        let is_highest = match self.by_chunk.get_max() {
            None => true,
            Some((number, chunk)) => {
                let last = chunk.last().map(|(slot, _)| *slot);
                (*number, last) < (chunk_of(object), Some(slot_of(object)))
            }
        };
        promise("I-ONE", is_highest, || format!("object {object} comes behind {last:?}"));
        promise_counted(object, &entry);
        note_condemned(&mut self.condemned, object, &entry);
        let chunk = self.by_chunk.entry(chunk_of(object)).or_default();
        writable(chunk).push((slot_of(object), entry));
        books.tally.objects += 1;
        enter(object, &entry, books);
    }

    /// Extents are gone. An object is condemned with its last one.
    pub(super) fn release(&mut self, releases: &Releases, books: &mut Books) {
        let at = books.counters.time;
        books.tally.inline_bytes -= releases.inline_bytes();
        for (object, extents, bytes) in releases.objects() {
            self.change(object, books, |entry| {
                let held = (entry.references, entry.live_bytes);
                promise("I-LIVE", held.0 >= extents && held.1 >= bytes, || {
                    format!(
                        "object {object} loses {extents} extents, {bytes} bytes, and has {held:?}"
                    )
                });
                entry.references -= extents;
                entry.live_bytes -= bytes;
                if entry.references == 0 && entry.status == ObjectStatus::Live {
                    entry.status = ObjectStatus::Condemned { at };
                }
            });
        }
    }

    pub(super) fn change(
        &mut self,
        object: ObjectId,
        books: &mut Books,
        by: impl FnOnce(&mut ObjectEntry),
    ) {
        let Some(chunk) = self.by_chunk.get_mut(&chunk_of(object)) else { return };
        let slot = slot_of(object);
        let Ok(at) = chunk.binary_search_by_key(&slot, |(slot, _)| *slot) else { return };
        if let Some((_, entry)) = Arc::make_mut(chunk).get_mut(at) {
            books.digest.remove(&StateKey::Objects(object.0), |out| entry.put(out));
            by(entry);
            promise_counted(object, entry);
            note_condemned(&mut self.condemned, object, entry);
            enter(object, entry, books);
        }
    }

    /// Forgets objects that were deleted from the bucket. Only condemned ones: a live object can
    /// never be forgotten, whoever asks (I-LIVE).
    pub(super) fn forget(&mut self, objects: &[ObjectId], books: &mut Books) {
        for object in objects {
            let Some(entry) = self.get(*object).copied() else { continue };
            let ObjectStatus::Condemned { at } = entry.status else { continue };
            self.condemned.remove(&(at, *object));
            books.digest.remove(&StateKey::Objects(object.0), |out| entry.put(out));
            books.dirty.object(*object);
            books.tally.objects -= 1;
            let number = chunk_of(*object);
            if let Some(chunk) = self.by_chunk.get_mut(&number) {
                let chunk = Arc::make_mut(chunk);
                chunk.retain(|(slot, _)| *slot != slot_of(*object));
                if chunk.is_empty() {
                    self.by_chunk.remove(&number);
                }
            }
        }
    }
}

/// I-LIVE: an object without extents is condemned, one with extents is not, and they lie within it.
fn promise_counted(object: ObjectId, entry: &ObjectEntry) {
    let is_live = entry.status == ObjectStatus::Live;
    let is_right = (entry.references > 0) == is_live && entry.live_bytes <= entry.size;
    promise("I-LIVE", is_right, || format!("object {object} is {entry:?}"));
}

fn note_condemned(
    condemned: &mut OrdSet<(TimestampMs, ObjectId)>,
    object: ObjectId,
    entry: &ObjectEntry,
) {
    if let ObjectStatus::Condemned { at } = entry.status {
        condemned.insert((at, object));
    }
}

fn enter(object: ObjectId, entry: &ObjectEntry, books: &mut Books) {
    books.digest.add(&StateKey::Objects(object.0), |out| entry.put(out));
    books.dirty.object(object);
}
