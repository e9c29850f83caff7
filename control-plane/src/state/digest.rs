//! The state digest: a sum of hashes, so that it can be adjusted entry by entry in any order.
//!
//! It is over content. An entry is hashed in the lowest version of its encoding that can express it,
//! whatever version the record has in which it is stored (see `ottla_format::state::StoredValue`). So
//! nodes of two versions of Ottla have equal digests of equal states, also when one of them loaded the
//! state from what an older one wrote.

use ottla_format::state::StateKey;
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// Fixed for ever: digests are compared between nodes and with what snapshots recorded.
const SEED: u64 = 0x6f74_746c_615f_3031;

/// The sum (mod 2^128) of the hashes of all entries.
#[derive(Debug, Default)]
pub(super) struct Digest {
    sum: u128,
    /// Reused, so that a change allocates nothing.
    scratch: Vec<u8>,
}

impl Clone for Digest {
    fn clone(&self) -> Self {
        Self { sum: self.sum, scratch: Vec::new() }
    }
}

impl Digest {
    pub(super) fn sum(&self) -> u128 {
        self.sum
    }

    /// Takes over a sum that was computed from all entries.
    pub(super) fn set(&mut self, sum: u128) {
        self.sum = sum;
    }

    /// Enters an entry. For extents and objects, `key` carries the entry's own number where a
    /// record's key has the chunk's.
    /// Answers its hash, for whoever will take out many entries at once.
    pub(super) fn add(&mut self, key: &StateKey, put_value: impl FnOnce(&mut Vec<u8>)) -> u128 {
        let hash = self.scratch_hash(key, put_value);
        self.sum = self.sum.wrapping_add(hash);
        hash
    }

    /// Puts in entries by the sum of the hashes that [`Digest::add`] answered for them.
    pub(super) fn put_in(&mut self, hashes: u128) {
        self.sum = self.sum.wrapping_add(hashes);
    }

    /// Takes out entries by the sum of the hashes that [`Digest::add`] answered for them.
    pub(super) fn take_out(&mut self, hashes: u128) {
        self.sum = self.sum.wrapping_sub(hashes);
    }

    /// Takes out an entry, given as it was when it was entered.
    pub(super) fn remove(&mut self, key: &StateKey, put_value: impl FnOnce(&mut Vec<u8>)) {
        self.sum = self.sum.wrapping_sub(self.scratch_hash(key, put_value));
    }

    /// The hash that an entry has in the digest; the sum stays as it is.
    pub(super) fn hash(&mut self, key: &StateKey, put_value: impl FnOnce(&mut Vec<u8>)) -> u128 {
        self.scratch_hash(key, put_value)
    }

    fn scratch_hash(&mut self, key: &StateKey, put_value: impl FnOnce(&mut Vec<u8>)) -> u128 {
        self.scratch.clear();
        key.put(&mut self.scratch);
        // Where the key ends, so that no two pairs of key and value are the same bytes.
        let key_length = self.scratch.len() as u32;
        put_value(&mut self.scratch);
        self.scratch.extend_from_slice(&key_length.to_le_bytes());
        xxh3_128_with_seed(&self.scratch, SEED)
    }
}

#[cfg(test)]
mod tests {
    use ottla_format::codec::{Reader, Result, put_varint};
    use ottla_format::state::{StoredValue, put_chunk, put_value};
    use ottla_model::{Offset, PartitionId, PartitionIndex, TopicId};

    use super::*;

    /// An entry of chunks, to which version 2 added something.
    struct Entry {
        at: u64,
        /// Absent in version 1.
        more: u64,
    }

    impl StoredValue for Entry {
        fn version(&self) -> u8 {
            if self.more == 0 { 1 } else { 2 }
        }

        fn put_body(&self, version: u8, out: &mut Vec<u8>) {
            put_varint(out, self.at);
            if version >= 2 {
                put_varint(out, self.more);
            }
        }

        fn read_body(version: u8, r: &mut Reader<'_>) -> Result<Self> {
            let at = r.varint("at")?;
            Ok(Self { at, more: if version >= 2 { r.varint("more")? } else { 0 } })
        }
    }

    /// The versions of these chunks when they are stored, and the digest of the state that is loaded
    /// from them.
    fn stored_and_loaded(chunks: &[&[(u64, u64)]]) -> (Vec<u8>, u128) {
        let topic = TopicId(1);
        let partition = PartitionId { topic, index: PartitionIndex(0) };
        let (mut versions, mut digest) = (Vec::new(), Digest::default());
        for chunk in chunks {
            let entries: Vec<Entry> = chunk.iter().map(|&(at, more)| Entry { at, more }).collect();
            let mut stored = Vec::new();
            put_chunk(&mut stored, &entries, |entry| entry, |_, _| {});
            let mut r = Reader::new(&stored);
            let version = r.u8("version").unwrap();
            versions.push(version);
            for _ in 0..r.count(1, "count").unwrap() {
                let entry = Entry::read_body(version, &mut r).unwrap();
                let key = StateKey::Extents(partition, Offset(entry.at as i64));
                digest.add(&key, |out| put_value(out, &entry));
            }
        }
        (versions, digest.sum())
    }

    #[test]
    fn equal_states_have_equal_digests_in_whatever_versions_they_are_stored() {
        let (old, of_old) = stored_and_loaded(&[&[(1, 0), (2, 0)], &[(3, 7)]]);
        let (new, of_new) = stored_and_loaded(&[&[(1, 0), (2, 0), (3, 7)]]);
        assert_eq!((old.as_slice(), new.as_slice()), (&[1, 2][..], &[2][..]));
        assert_eq!(of_old, of_new);
        assert_ne!(of_old, stored_and_loaded(&[&[(1, 0), (2, 7), (3, 0)]]).1);
    }
}
