//! The state digest: a sum of hashes, so that it can be adjusted entry by entry in any order.

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
