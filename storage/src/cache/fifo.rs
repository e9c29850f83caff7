//! A map that knows how many bytes its values hold and which came first.

use std::collections::BTreeMap;

#[derive(Debug)]
pub(crate) struct Fifo<K, V> {
    entries: BTreeMap<K, Entry<V>>,
    order: BTreeMap<u64, K>,
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    bytes: usize,
    order: u64,
}

impl<K: Ord + Copy, V> Fifo<K, V> {
    pub(crate) fn new() -> Self {
        Self { entries: BTreeMap::new(), order: BTreeMap::new(), next: 0, bytes: 0 }
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

    /// Adds a value as the newest, instead of one that was there.
    pub(crate) fn push(&mut self, key: K, value: V, bytes: usize) {
        self.remove(&key);
        let order = self.next;
        self.next += 1;
        self.entries.insert(key, Entry { value, bytes, order });
        self.order.insert(order, key);
        self.bytes += bytes;
    }

    /// Drops the oldest.
    pub(crate) fn pop(&mut self) {
        if let Some((_, key)) = self.order.pop_first()
            && let Some(entry) = self.entries.remove(&key)
        {
            self.bytes -= entry.bytes;
        }
    }

    pub(crate) fn remove(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.order);
            self.bytes -= entry.bytes;
        }
    }
}
