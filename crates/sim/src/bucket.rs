//! The bucket, and the sweep's way to it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use ottla_env::Random;
use ottla_object_io::{ObjectEntry, Payload, PutDone, ReadCause, Store, StoreError};

use crate::faults::Faults;
use crate::world::{end_of_step, lock};

/// Deleted objects that stale listings still show.
const GHOSTS_MAX: usize = 8;

/// What the bucket holds.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    pub objects: BTreeMap<String, (Bytes, i64)>,
    /// Keys that were written or deleted since the checker looked.
    pub touched: BTreeSet<String>,
    ghosts: Vec<ObjectEntry>,
    pub now_ms: i64,
    pub faults: Faults,
}

impl Bucket {
    pub(crate) fn new(now_ms: i64, faults: Faults) -> Self {
        Self { now_ms, faults, ..Self::default() }
    }

    pub(crate) fn put(&mut self, key: &str, bytes: Bytes) {
        self.touched.insert(key.to_owned());
        self.objects.insert(key.to_owned(), (bytes, self.now_ms));
    }

    pub(crate) fn delete(&mut self, key: &str) {
        if let Some((bytes, modified_ms)) = self.objects.remove(key) {
            self.touched.insert(key.to_owned());
            let ghost = ObjectEntry { key: key.to_owned(), size: bytes.len() as u64, modified_ms };
            self.ghosts.push(ghost);
            let surplus = self.ghosts.len().saturating_sub(GHOSTS_MAX);
            self.ghosts.drain(..surplus);
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Bytes> {
        self.objects.get(key).map(|(bytes, _)| bytes)
    }

    fn list(&self, prefix: &str, random: &Random) -> Vec<ObjectEntry> {
        let folder = format!("{prefix}/");
        let there =
            self.objects.range(folder.clone()..).take_while(|(k, _)| k.starts_with(&folder));
        let there = there.map(|(key, (bytes, modified_ms))| ObjectEntry {
            key: key.clone(),
            size: bytes.len() as u64,
            modified_ms: *modified_ms,
        });
        let stale = self.faults.stale_listing;
        let mut shown: Vec<ObjectEntry> = there.filter(|_| !random.chance(stale)).collect();
        let gone = self.ghosts.iter().filter(|ghost| ghost.key.starts_with(&folder));
        shown.extend(gone.filter(|_| random.chance(stale)).cloned());
        shown
    }
}

/// The bucket as the sweep sees it: every request may end a step.
#[derive(Debug)]
pub(crate) struct SweepStore {
    pub bucket: Arc<Mutex<Bucket>>,
    pub random: Random,
}

fn not_here<T>(key: &str) -> Result<T, StoreError> {
    let reason = "the sweep lists and deletes".to_owned();
    Err(StoreError::Internal { key: key.to_owned(), reason })
}

#[async_trait]
impl Store for SweepStore {
    async fn put(&self, key: &str, _: Payload) -> Result<PutDone, StoreError> {
        not_here(key)
    }

    async fn put_if_absent(&self, key: &str, _: Bytes) -> Result<bool, StoreError> {
        not_here(key)
    }

    async fn get_range(&self, key: &str, _: Range<u64>, _: ReadCause) -> Result<Bytes, StoreError> {
        not_here(key)
    }

    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        not_here(key)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectEntry>, StoreError> {
        let shown = lock(&self.bucket).list(prefix, &self.random);
        if !shown.is_empty() && self.random.chance(0.2) {
            end_of_step().await;
        }
        Ok(shown)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        end_of_step().await;
        let share = lock(&self.bucket).faults.delete_failed;
        if self.random.chance(share) {
            let reason = "503 (fault)".to_owned();
            return Err(StoreError::Unavailable { key: key.to_owned(), reason });
        }
        lock(&self.bucket).delete(key);
        if self.random.chance(share) {
            let reason = "reset (fault)".to_owned();
            return Err(StoreError::OutcomeUnknown { key: key.to_owned(), reason });
        }
        Ok(())
    }

    async fn prepare(&self, _: &[String]) -> Result<(), StoreError> {
        Ok(())
    }

    fn charges_for_requests(&self) -> bool {
        false
    }
}
