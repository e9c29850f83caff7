//! Objects in a directory.
//!
//! `object_store`'s local client writes `<key>#<n>`, renames it to `<key>`, and, told to, syncs
//! the file before and the directory after the rename. So a write costs two syncs, in a directory
//! that exists; making a missing directory costs two more. That is why the folders of the keys are
//! made ahead ([`make_folders`]). A process that is killed in between leaves its `<key>#<n>`
//! behind, which no listing shows: [`open`] removes them. Another process that is writing one of
//! them at that moment (several brokers may share a directory) sees its write fail and tries again
//! under another key.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::local::LocalFileSystem;

use super::Native;
use crate::OpenError;

/// Opens the directory, making it if it does not exist.
pub(super) fn open(root: &Path) -> Result<Native, OpenError> {
    let unusable = |source: io::Error| OpenError::Directory {
        path: root.to_owned(),
        reason: source.to_string(),
    };
    make_synced(root).map_err(unusable)?;
    let root = root.canonicalize().map_err(unusable)?;
    let removed = remove_staged(&root).map_err(unusable)?;
    if removed > 0 {
        tracing::info!(removed, root = %root.display(), "removed unfinished uploads of an earlier run");
    }
    let client = LocalFileSystem::new_with_prefix(&root)
        .map_err(|e| OpenError::Directory { path: root.clone(), reason: e.to_string() })?
        .with_fsync(true);
    Ok(Native::new(Arc::new(client), "file", false).with_root(root))
}

/// Makes folders below `root` and syncs the directories they are entered in, each once.
pub(super) fn make_folders(root: &Path, folders: &[String]) -> io::Result<()> {
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

    #[tokio::test]
    async fn leftovers_of_a_killed_upload_are_removed_and_objects_stay() {
        let root = tempfile::tempdir().unwrap();
        let store = open(root.path()).unwrap();
        store.put("c/wal/00/a", Payload::from(Bytes::from_static(b"x"))).await.unwrap();
        let left = root.path().join("c/wal/00/b#1");
        fs::write(&left, b"torn").unwrap();
        fs::write(root.path().join("c#x"), b"not ours").unwrap();

        let store = open(root.path()).unwrap();
        assert!(!left.exists());
        assert!(root.path().join("c#x").exists());
        assert_eq!(store.get("c/wal/00/a").await.unwrap(), Bytes::from_static(b"x"));
    }

    #[tokio::test]
    async fn folders_are_made_ahead() {
        let root = tempfile::tempdir().unwrap();
        let store = open(&root.path().join("new/objects")).unwrap();
        let folders = ["c/wal/00".to_owned(), "c/wal/01".to_owned()];
        store.prepare(&folders).await.unwrap();
        store.prepare(&folders).await.unwrap();
        assert!(root.path().join("new/objects/c/wal/01").is_dir());
    }

    #[test]
    fn a_root_that_is_a_file_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs::write(&path, b"").unwrap();
        assert!(matches!(open(&path), Err(OpenError::Directory { .. })));
    }
}
