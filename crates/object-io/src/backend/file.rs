//! Objects in a directory.
//!
//! Objects are written and read here ([`write`](self::write), [`read`](self::read)), with as few
//! system calls, copies and hand-overs between threads as they need. Everything rare is left to
//! `object_store`'s local client, whose way of writing is the same: `<key>#<n>`, renamed to `<key>`,
//! file and directory synced. So a write costs two syncs, in a directory that exists; making a
//! missing directory costs two more. That is why the folders of the keys are made ahead
//! ([`make_folders`]). A process that is killed in between leaves its `<key>#<n>` behind, which no
//! listing shows: [`open`] removes them. Another process that is writing one of them at that moment
//! (several brokers may share a directory) sees its write fail and tries again under another key.

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
use ottla_env::DiskTurns;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use super::Native;
use super::native::checked_path;
use crate::limits::{
    DIRECT_BYTES_MIN, FILE_READ_PATIENCE, FILE_READS_MAX, FILE_WRITES_MAX, WHOLE_OBJECT_BYTES_MAX,
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
    /// Large writes, each with a buffer.
    large_writes: Arc<Semaphore>,
    /// Large reads.
    large_reads: Arc<Semaphore>,
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

/// Waits for the turn of so many bytes, if they are large. What blocks keeps it, also when nobody
/// waits for that any more.
async fn turn(turns: &Arc<Semaphore>, length: u64) -> Option<OwnedSemaphorePermit> {
    // Never closed.
    if length >= DIRECT_BYTES_MIN { turns.clone().acquire_owned().await.ok() } else { None }
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(
    key: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    match spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(classify(key, &error)),
        Err(error) => Err(StoreError::Internal { key: key.to_owned(), reason: error.to_string() }),
    }
}

fn classify(key: &str, error: &io::Error) -> StoreError {
    let (key, reason) = (key.to_owned(), error.to_string());
    match error.kind() {
        io::ErrorKind::NotFound => StoreError::NotFound { key },
        io::ErrorKind::PermissionDenied => StoreError::Denied { key, reason },
        _ => StoreError::OutcomeUnknown { key, reason },
    }
}

#[async_trait]
impl Store for Directory {
    async fn put(&self, key: &str, payload: Payload) -> Result<PutDone, StoreError> {
        let path = self.path(key)?;
        let permit = turn(&self.large_writes, payload.length).await;
        let turns = self.turns.clone();
        let written = blocking(key, move || {
            let _until_written = permit;
            write::write(&path, &payload, &turns)
        });
        match written.await {
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
        self.rest.put_if_absent(key, body).await
    }

    async fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
        _cause: ReadCause,
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
        let permit = turn(&self.large_reads, length).await;
        let turns = self.turns.clone();
        let read = blocking(key, move || {
            let _until_read = permit;
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
        self.rest.get(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectEntry>, StoreError> {
        self.rest.list(prefix).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.rest.delete(key).await
    }

    async fn prepare(&self, folders: &[String]) -> Result<(), StoreError> {
        let (root, folders) = (self.root.clone(), folders.to_vec());
        blocking("folders", move || make_folders(&root, &folders)).await
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
        make_synced(root).map_err(unusable)?;
    }
    let root = root.canonicalize().map_err(unusable)?;
    let removed = if as_it_is { 0 } else { remove_staged(&root).map_err(unusable)? };
    if removed > 0 {
        tracing::info!(removed, root = %root.display(), "removed unfinished uploads of an earlier run");
    }
    let client = LocalFileSystem::new_with_prefix(&root)
        .map_err(|e| OpenError::Directory { path: root.clone(), reason: e.to_string() })?
        .with_fsync(true);
    let rest = Native::new(Arc::new(client), "file", false);
    let large_writes = Arc::new(Semaphore::new(FILE_WRITES_MAX));
    let large_reads = Arc::new(Semaphore::new(FILE_READS_MAX));
    Ok(Directory { rest, root, turns, large_writes, large_reads })
}

/// Makes folders below `root` and syncs the directories they are entered in, each once.
fn make_folders(root: &Path, folders: &[String]) -> io::Result<()> {
    let mut changed: Vec<PathBuf> = Vec::new();
    for folder in folders {
        let path = root.join(folder);
        if path.is_dir() {
            continue;
        }
        if let Some(parent) = path.parent() {
            if !parent.is_dir() {
                make_synced(parent)?;
            }
            if changed.last().is_none_or(|last| last != parent) {
                changed.push(parent.to_owned());
            }
        }
        fs::create_dir_all(&path)?;
    }
    changed.sort();
    changed.dedup();
    changed.iter().try_for_each(|parent| sync(parent))
}

/// Makes a directory and its missing ancestors, and syncs every directory that got an entry.
fn make_synced(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_synced(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        done => done?,
    }
    sync(parent)
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
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

/// Removes `<key>#<n>` files; returns how many.
fn remove_staged(root: &Path) -> io::Result<usize> {
    let mut removed = 0;
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                directories.push(entry.path());
            } else if is_staged(&entry.file_name().to_string_lossy()) {
                fs::remove_file(entry.path())?;
                removed += 1;
            }
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
