//! Many extents that go at once: what each object loses, added up, so that an object is changed
//! once however many of the extents it held; and what the state holds less by value.

use std::collections::BTreeMap;

use ottla_format::state::{CHUNK_LENGTH, ExtentEntry};
use ottla_model::ObjectId;

use super::objects::chunk_of;
use super::partition::inline_bytes;

/// What the objects of one chunk lose: extents and bytes, by slot.
type Losses = Box<[(u32, u64); CHUNK_LENGTH]>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Releases {
    losses: BTreeMap<u64, Losses>,
    inline_bytes: u64,
}

impl Releases {
    /// These extents go. Neighbours of a partition mostly lie in neighbouring objects, so the chunk
    /// is looked up once for a run of them.
    pub(super) fn add(&mut self, extents: &[ExtentEntry]) {
        let chunk = |extent: &ExtentEntry| extent.object().map(chunk_of);
        for run in extents.chunk_by(|a, b| chunk(a) == chunk(b)) {
            let Some(number) = run.first().and_then(chunk) else {
                self.inline_bytes += inline_bytes(run);
                continue;
            };
            let losses = self.losses.entry(number);
            let losses = losses.or_insert_with(|| Box::new([(0, 0); CHUNK_LENGTH]));
            for extent in run {
                let Some(object) = extent.object() else { continue };
                let (extents, bytes) = &mut losses[(object.0 % CHUNK_LENGTH as u64) as usize];
                *extents += 1;
                *bytes += extent.length();
            }
        }
    }

    /// Bytes that the extents held by value.
    pub(super) fn inline_bytes(&self) -> u64 {
        self.inline_bytes
    }

    /// Each object with the extents and bytes it loses, in order of number.
    pub(super) fn objects(&self) -> impl Iterator<Item = (ObjectId, u32, u64)> {
        self.losses.iter().flat_map(|(chunk, losses)| {
            let first = chunk * CHUNK_LENGTH as u64;
            let numbered = (first..).map(ObjectId).zip(losses.iter());
            numbered
                .filter(|(_, (extents, _))| *extents > 0)
                .map(|(id, (n, bytes))| (id, *n, *bytes))
        })
    }
}

#[cfg(test)]
mod tests {
    use ottla_format::state::ExtentLocation;
    use ottla_model::{BytePosition, ExtentFlags, Offset, TimestampMs};

    use super::*;

    fn extent(object: u64, length: u32) -> ExtentEntry {
        let (object, position) = (ObjectId(object), BytePosition(0));
        ExtentEntry {
            base_offset: Offset(0),
            last_offset_delta: 0,
            max_timestamp: TimestampMs(0),
            flags: ExtentFlags::NONE,
            location: ExtentLocation::Object { object, position, length },
        }
    }

    #[test]
    fn losses_add_up_by_object_across_chunks() {
        let mut releases = Releases::default();
        let inline = ExtentLocation::Inline(vec![0; 100].into());
        let inline = ExtentEntry { location: inline, ..extent(3, 0) };
        let known = [extent(3, 10), inline.clone(), extent(3, 5), extent(255, 1), extent(256, 2)];
        releases.add(&known);
        releases.add(&[inline]);
        releases.add(&[extent(700, 9), extent(3, 1)]);
        let all: Vec<_> = releases.objects().collect();
        let expected = [(3, 3, 16), (255, 1, 1), (256, 1, 2), (700, 1, 9)];
        assert_eq!(all, expected.map(|(id, n, bytes)| (ObjectId(id), n, bytes)));
        assert_eq!(releases.inline_bytes(), 200);
    }
}
