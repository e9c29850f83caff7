//! Objects in a directory.
//!
//! Objects are written and read here ([`write`](self::write), [`read`](self::read)), with as few
//! system calls, copies and hand-overs between threads as they need. Everything rare is left to
//! `object_store`'s local client, whose way of writing is the same: `<key>#<n>`, renamed to `<key>`,
//! file and directory synced. So a write costs two syncs, in a directory that exists; making a
//! missing directory costs two more. That is why the folders of the keys are made ahead
//! ([`Store::prepare`]). A process that is killed in between leaves its `<key>#<n>` behind, which no
//! listing shows: [`open`] removes them. Another process that is writing one of them at that moment
//! (several brokers may share a directory) sees its write fail and tries again under another key.
//!
//! Every operation passes a [`Gate`], also those of `object_store`'s client: a mount that hangs costs
//! a bounded number of threads. Writes, reads near the end of a partition, other reads and the rest
//! have a gate each, so that none of them starves the others while only some files hang.

mod gate;
mod read;
mod write;

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::local::LocalFileSystem;
use ottla_env::{
    DiskTurns, is_out_of_files, make_durable_below, make_durable_directory, sync_directory,
};

use self::gate::Gate;
use super::Native;
use super::native::checked_path;
use crate::limits::{
    DIRECT_BYTES_MIN, FILE_LARGE_READS_MAX, FILE_LARGE_WRITES_MAX, FILE_OTHER_CALLS_MAX,
    FILE_OTHER_READS_MAX, FILE_READ_PATIENCE, FILE_TAIL_READS_MAX, FILE_WRITES_MAX,
    WHOLE_OBJECT_BYTES_MAX,
};
use crate::{ObjectEntry, OpenError, Payload, PutDone, ReadCause, Store, StoreError};

/// What addresses, positions and lengths of direct reads and writes are multiples of: the largest
/// sector in use.
const SECTOR_BYTES: usize = 4096;

/// A directory as a store.
pub(crate) struct Directory {
    rest: Native,
    root: PathBuf,
    /// Shared with whatever else syncs files on this disk.
    turns: DiskTurns,
    writes: Gate,
    /// Reads near the end of a partition, which clients wait for.
    tail_reads: Gate,
    /// All other reads of parts.
    other_reads: Gate,
    /// What is rare: listings, deletes, whole objects.
    other_calls: Gate,
}

impl Directory {
    /// The path of a key that was found valid: its characters mean nothing to a file system.
    fn path(&self, key: &str) -> Result<PathBuf, StoreError> {
        checked_path(key)?;
        Ok(self.root.join(key))
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("root", &self.root).finish_non_exhaustive()
    }
}

fn classify(key: &str, error: &io::Error) -> StoreError {
    let (key, reason) = (key.to_owned(), error.to_string());
    match error.kind() {
        io::ErrorKind::NotFound => StoreError::NotFound { key },
        io::ErrorKind::PermissionDenied => StoreError::Denied { key, reason },
        // It came before anything was done.
        _ if is_out_of_files(error) => StoreError::Unavailable { key, reason },
        _ => StoreError::OutcomeUnknown { key, reason },
    }
}

#[async_trait]
impl Store for Directory {
    async fn put(&self, key: &str, payload: Payload) -> Result<PutDone, StoreError> {
        let path = self.path(key)?;
        let turns = self.turns.clone();
        let length = payload.length;
        let written = move || write::write(&path, &payload, &turns);
        match self.writes.run(key, length, written).await {
            Ok(bytes) => Ok(PutDone { bytes }),
            // The file that was being written: somebody removed it.
            Err(StoreError::NotFound { key }) => {
                let reason = "it was removed while it was written".to_owned();
                Err(StoreError::OutcomeUnknown { key, reason })
            }
            Err(error) => Err(error),
        }
    }

    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<bool, StoreError> {
        let (rest, owned) = (self.rest.clone(), key.to_owned());
        let call = async move { rest.put_if_absent(&owned, body).await };
        self.other_calls.run_to_end(key, call).await
    }

    async fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
        cause: ReadCause,
    ) -> Result<Bytes, StoreError> {
        let path = self.path(key)?;
        let length = range.end.saturating_sub(range.start);
        if length == 0 {
            return Ok(Bytes::new());
        }
        if length > WHOLE_OBJECT_BYTES_MAX {
            let reason = format!("{length} bytes are too many to read at once");
            return Err(StoreError::Invalid { key: key.to_owned(), reason });
        }
        let gate = match cause {
            ReadCause::Tail => &self.tail_reads,
            ReadCause::CatchUp | ReadCause::Timestamp | ReadCause::Inspect => &self.other_reads,
        };
        let turns = self.turns.clone();
        let read = gate.run(key, length, move || {
            if length >= DIRECT_BYTES_MIN {
                turns.give_way(FILE_READ_PATIENCE);
            }
            read::read(&path, range)
        });
        let bytes = read.await?;
        if bytes.len() as u64 != length {
            let reason = format!("{} of {length} bytes came", bytes.len());
            return Err(StoreError::Unavailable { key: key.to_owned(), reason });
        }
        Ok(bytes)
    }

    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        let (rest, owned) = (self.rest.clone(), key.to_owned());
        self.other_calls.run_to_end(key, async move { rest.get(&owned).await }).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectEntry>, StoreError> {
        let (rest, owned) = (self.rest.clone(), prefix.to_owned());
        self.other_calls.run_to_end(prefix, async move { rest.list(&owned).await }).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let (rest, owned) = (self.rest.clone(), key.to_owned());
        self.other_calls.run_to_end(key, async move { rest.delete(&owned).await }).await
    }

    async fn prepare(&self, folders: &[String]) -> Result<(), StoreError> {
        let (root, folders) = (self.root.clone(), folders.to_vec());
        // Names that an earlier start made and did not sync are made durable, too.
        let make = move || make_durable_below(&root, &folders);
        self.other_calls.run("folders", 0, make).await
    }

    fn charges_for_requests(&self) -> bool {
        false
    }
}

/// Opens the directory, making it if it does not exist, and removes unfinished writes; `as_it_is`:
/// neither.
pub(super) fn open(root: &Path, as_it_is: bool, turns: DiskTurns) -> Result<Directory, OpenError> {
    let unusable = |source: io::Error| OpenError::Directory {
        path: root.to_owned(),
        reason: source.to_string(),
    };
    if !as_it_is {
        make_durable_directory(root).map_err(unusable)?;
    }
    let root = root.canonicalize().map_err(unusable)?;
    let removed = if as_it_is { 0 } else { tidy(&root).map_err(unusable)? };
    if removed > 0 {
        tracing::info!(removed, root = %root.display(), "removed unfinished uploads of an earlier run");
    }
    let client = LocalFileSystem::new_with_prefix(&root)
        .map_err(|e| OpenError::Directory { path: root.clone(), reason: e.to_string() })?
        .with_fsync(true);
    let rest = Native::new(Arc::new(client), "file", false);
    Ok(Directory {
        rest,
        root,
        turns,
        writes: Gate::new(FILE_WRITES_MAX, FILE_LARGE_WRITES_MAX),
        tail_reads: Gate::new(FILE_TAIL_READS_MAX, FILE_LARGE_READS_MAX),
        other_reads: Gate::new(FILE_OTHER_READS_MAX, FILE_LARGE_READS_MAX),
        other_calls: Gate::new(FILE_OTHER_CALLS_MAX, FILE_OTHER_CALLS_MAX),
    })
}

/// Lets reads and writes of a file go past the page cache, or not.
#[cfg(target_os = "linux")]
fn set_direct(file: &File, direct: bool) -> io::Result<()> {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, direct);
    Ok(fcntl_setfl(file, flags)?)
}

#[cfg(not(target_os = "linux"))]
fn set_direct(_: &File, direct: bool) -> io::Result<()> {
    if direct { Err(io::ErrorKind::Unsupported.into()) } else { Ok(()) }
}

/// Removes `<key>#<n>` files; returns how many. Makes the names of all folders durable meanwhile: an
/// earlier start may have made some and not have come to that.
fn tidy(root: &Path) -> io::Result<usize> {
    let mut removed = 0;
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        let before = directories.len();
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                directories.push(entry.path());
            } else if is_staged(&entry.file_name().to_string_lossy()) {
                fs::remove_file(entry.path())?;
                removed += 1;
            }
        }
        if directories.len() > before {
            sync_directory(&directory)?;
        }
    }
    Ok(removed)
}

fn is_staged(name: &str) -> bool {
    name.rsplit_once('#')
        .is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{Payload, Store};

    fn turns() -> DiskTurns {
        DiskTurns::default()
    }

    #[tokio::test]
    async fn leftovers_of_a_killed_upload_are_removed_and_objects_stay() {
        let root = tempfile::tempdir().unwrap();
        let store = open(root.path(), false, turns()).unwrap();
        store.put("c/wal/00/a", Payload::from(Bytes::from_static(b"x"))).await.unwrap();
        let left = root.path().join("c/wal/00/b#1");
        fs::write(&left, b"torn").unwrap();
        fs::write(root.path().join("c#x"), b"not ours").unwrap();

        open(root.path(), true, turns()).unwrap();
        assert!(left.exists(), "as it is");
        let store = open(root.path(), false, turns()).unwrap();
        assert!(!left.exists());
        assert!(root.path().join("c#x").exists());
        assert_eq!(store.get("c/wal/00/a").await.unwrap(), Bytes::from_static(b"x"));
    }

    #[tokio::test]
    async fn folders_are_made_ahead() {
        let root = tempfile::tempdir().unwrap();
        let store = open(&root.path().join("new/objects"), false, turns()).unwrap();
        let folders = ["c/wal/00".to_owned(), "c/wal/01".to_owned()];
        store.prepare(&folders).await.unwrap();
        store.prepare(&folders).await.unwrap();
        assert!(root.path().join("new/objects/c/wal/01").is_dir());
    }

    #[test]
    fn a_directory_that_is_to_be_looked_at_is_not_made() {
        let root = tempfile::tempdir().unwrap();
        let missing = root.path().join("objects");
        let refused = open(&missing, true, turns()).unwrap_err().to_string();
        assert!(refused.contains("No such file or directory"), "{refused}");
        assert!(!missing.exists());
    }

    #[test]
    fn a_root_that_is_a_file_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs::write(&path, b"").unwrap();
        assert!(matches!(open(&path, false, turns()), Err(OpenError::Directory { .. })));
    }
}
