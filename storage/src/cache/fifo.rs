//! A map that knows how many bytes its values hold and which is to be dropped first.

use std::collections::BTreeMap;

#[derive(Debug)]
pub(crate) struct Fifo<K, V> {
    entries: BTreeMap<K, Entry<V>>,
    /// The first is dropped first.
    order: BTreeMap<u64, K>,
    next: u64,
    next_retired: u64,
    bytes: usize,
}

/// The order of the first value. Retired values come before it.
const FIRST: u64 = 1 << 63;

#[derive(Debug)]
struct Entry<V> {
    value: V,
    bytes: usize,
    order: u64,
}

impl<K: Ord + Copy, V> Fifo<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            order: BTreeMap::new(),
            next: FIRST,
            next_retired: 0,
            bytes: 0,
        }
    }

    /// What all values hold.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// The value of the last key that is not above `key`.
    pub(crate) fn last_up_to(&self, key: &K) -> Option<(&K, &V)> {
        self.entries.range(..=key).next_back().map(|(key, entry)| (key, &entry.value))
    }

    /// Adds a value as the newest, instead of one that was there.
    pub(crate) fn push(&mut self, key: K, value: V, bytes: usize) {
        self.remove(&key);
        let order = self.next;
        self.next += 1;
        self.entries.insert(key, Entry { value, bytes, order });
        self.order.insert(order, key);
        self.bytes += bytes;
    }

    /// Makes a value the next to be dropped, behind those that were retired before it.
    pub(crate) fn retire(&mut self, key: &K) {
        if let Some(entry) = self.entries.get_mut(key)
            && entry.order >= FIRST
        {
            self.order.remove(&entry.order);
            entry.order = self.next_retired;
            self.next_retired += 1;
            self.order.insert(entry.order, *key);
        }
    }

    /// Drops a retired value, or else the oldest; answers its key.
    pub(crate) fn pop(&mut self) -> Option<K> {
        let (_, key) = self.order.pop_first()?;
        if let Some(entry) = self.entries.remove(&key) {
            self.bytes -= entry.bytes;
        }
        Some(key)
    }

    pub(crate) fn remove(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.order);
            self.bytes -= entry.bytes;
        }
    }
}
