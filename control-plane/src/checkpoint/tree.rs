//! The sled tree.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ottla_format::checkpoint::{CHECKPOINT_HEAD_KEY, CheckpointHead};
use ottla_format::software::Software;
use ottla_format::state::StateRecord;
use ottla_model::ClusterId;

use super::{CheckpointError, Loaded};
use crate::limits::{CHECKPOINT_CACHE_BYTES, CHECKPOINT_CLOSE_MS_MAX};
use crate::state::changed::RecordChange;
use crate::state::dirty::DirtyKeys;
use crate::state::{State, StateIdentity, StateLoader};

/// An open tree.
#[derive(Debug)]
pub(super) struct Tree(sled::Db);

/// Calls into sled; a panic of it is an error like any other. Its unfinished work is thrown away
/// after any error, so that nothing half-changed is seen again.
fn guarded<T>(call: impl FnOnce() -> Result<T, CheckpointError>) -> Result<T, CheckpointError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(CheckpointError::Panicked(text.unwrap_or("it panicked").to_owned()))
    })
}

/// Waits for the threads of a tree that this process has closed to let go of its file. When they
/// do not in time, sled's own answer to the lock is the error. (A second process is kept away by
/// the lock of the data directory.)
fn wait_until_closed(file: &Path) {
    let Ok(file) = File::open(file) else { return };
    if file.try_lock().is_ok() {
        return;
    }
    let (unlocked, wait) = mpsc::channel();
    let waiter = thread::Builder::new().name("checkpoint-lock".to_owned()).spawn(move || {
        let locked = file.lock();
        // The lock ends with the file, before anyone is told.
        drop(file);
        // Nobody listens when the time is over.
        let _ = unlocked.send(locked.is_ok());
    });
    if waiter.is_ok() {
        let _ = wait.recv_timeout(Duration::from_millis(CHECKPOINT_CLOSE_MS_MAX));
    }
}

impl Tree {
    pub(super) fn open(path: &Path) -> Result<Self, CheckpointError> {
        wait_until_closed(&path.join("db"));
        guarded(|| {
            let config = sled::Config::new()
                .path(path)
                .cache_capacity(CHECKPOINT_CACHE_BYTES)
                // Flushed after each write instead: between writes there is nothing to flush.
                .flush_every_ms(None);
            Ok(Self(config.open()?))
        })
    }

    /// The state it holds; `None` when it is empty.
    pub(super) fn load(&self, cluster: ClusterId) -> Result<Option<Loaded>, CheckpointError> {
        guarded(|| self.load_unguarded(cluster))
    }

    fn load_unguarded(&self, cluster: ClusterId) -> Result<Option<Loaded>, CheckpointError> {
        let Some(head) = self.0.get(CHECKPOINT_HEAD_KEY)? else {
            return if self.0.is_empty() { Ok(None) } else { Err(CheckpointError::NoHead) };
        };
        let head = CheckpointHead::decode(&head)?;
        if head.cluster != cluster {
            return Err(CheckpointError::ForeignCluster(head.cluster));
        }
        let CheckpointHead { applied, digest, meta, .. } = head;
        let mut loader = StateLoader::new(StateIdentity { cluster, applied, digest });
        for entry in &*self.0 {
            let (key, value) = entry?;
            if *key != CHECKPOINT_HEAD_KEY {
                loader.load(StateRecord::decode(&key, &value)?)?;
            }
        }
        let mut state = loader.finish()?;
        state.loaded_from_checkpoint();
        Ok(Some(Loaded { state, meta }))
    }

    /// What its files take.
    pub(super) fn bytes_on_disk(&self) -> Result<u64, CheckpointError> {
        guarded(|| Ok(self.0.size_on_disk()?))
    }

    pub(super) fn write(
        &self,
        copy: &State,
        dirty: &DirtyKeys,
        meta: &[u8],
    ) -> Result<(), CheckpointError> {
        guarded(|| {
            let mut batch = sled::Batch::default();
            let mut failed = None;
            copy.changed_records(dirty, &mut |change| match change {
                RecordChange::Put((key, value)) => batch.insert(key, value),
                RecordChange::Remove(key) => batch.remove(key),
                RecordChange::RemovePrefix(prefix) => {
                    for key in self.0.scan_prefix(prefix).keys() {
                        match key {
                            Ok(key) => batch.remove(key),
                            Err(error) => failed = Some(error),
                        }
                    }
                }
            });
            if let Some(error) = failed {
                return Err(error.into());
            }
            let StateIdentity { cluster, applied, digest } = copy.identity();
            let (feature_level, software) = (copy.feature_level(), Software::THIS);
            let meta = meta.to_vec();
            let head = CheckpointHead { feature_level, software, cluster, applied, digest, meta };
            batch.insert(CHECKPOINT_HEAD_KEY.as_slice(), head.encode());
            self.0.apply_batch(batch)?;
            self.0.flush()?;
            Ok(())
        })
    }
}
