//! Directories that are there after a loss of power.
//!
//! A directory is a name in its parent, and the name is on disk when the parent was synced. A
//! process that was killed between making and syncing leaves a directory that the next one finds and
//! cannot tell from an old one. So a process that relies on a directory syncs the one that holds
//! its name, whether it made the directory or found it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Once;

use crate::files::open_patiently;

/// Makes a directory with its missing ancestors, and makes the names of all of them durable: every
/// directory above it is synced, up to the root of its file system. Blocks.
///
/// A directory that this process may not open is skipped when the name in it was there before, and
/// the log says so once. The ones above it are synced all the same.
///
/// # Errors
/// The system's error; also when the name of a directory that this call made cannot be synced.
pub fn make_durable_directory(path: &Path) -> io::Result<()> {
    make_durable(path, sync_directory)
}

fn make_durable(path: &Path, sync: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
    fs::create_dir_all(&path)?;
    let device = fs::metadata(&path)?.dev();
    for (child, parent) in path.ancestors().zip(path.ancestors().skip(1)) {
        // A mounted directory has no name in a parent of its own file system.
        if fs::metadata(parent)?.dev() != device {
            break;
        }
        match sync(parent) {
            Err(error)
                if error.kind() == io::ErrorKind::PermissionDenied && !missing.contains(&child) =>
            {
                report_skipped(parent, &error);
            }
            done => done?,
        }
    }
    Ok(())
}

/// Once per process: the same directories are found at every call.
fn report_skipped(directory: &Path, error: &io::Error) {
    static REPORTED: Once = Once::new();
    REPORTED.call_once(|| {
        tracing::info!(
            directory = %directory.display(),
            %error,
            "a directory above the data cannot be opened and is not synced; its entries are older \
             than this process"
        );
    });
}

/// Makes directories below `root`, which is durable already, and the names of all of them durable.
/// Each directory that holds such a name is synced once, however many it holds. Blocks.
///
/// # Errors
/// What the system said.
pub fn make_durable_below(root: &Path, relative: &[String]) -> io::Result<()> {
    let mut holders: Vec<PathBuf> = Vec::new();
    for path in relative {
        let path = root.join(path);
        fs::create_dir_all(&path)?;
        let holds = path.ancestors().skip(1).take_while(|holder| holder.starts_with(root));
        holders.extend(holds.map(Path::to_owned));
    }
    holders.sort();
    holders.dedup();
    holders.iter().try_for_each(|holder| sync_directory(holder))
}

/// Makes the names in a directory durable. Blocks.
///
/// # Errors
/// What the system said. A failed sync must not be tried again: the next one may succeed without
/// what the first one lost.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    open_patiently(|| File::open(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::process;

    use super::*;

    /// An empty directory of a test's own.
    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("ottla-env-{name}-{}", process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Makes a directory while `closed` cannot be opened; the directories that were synced.
    fn made_below(closed: &Path, path: &Path) -> (io::Result<()>, Vec<PathBuf>) {
        let synced = RefCell::new(Vec::new());
        let done = make_durable(path, |directory| {
            if directory == closed {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            synced.borrow_mut().push(directory.to_owned());
            Ok(())
        });
        (done, synced.into_inner())
    }

    #[test]
    fn a_directory_that_cannot_be_opened_is_skipped_and_the_ones_above_are_synced() {
        let root = scratch("skipped");
        let closed = root.join("closed");
        let old = closed.join("old");
        fs::create_dir_all(&old).unwrap();
        let (done, synced) = made_below(&closed, &old.join("new"));
        done.unwrap();
        assert_eq!(synced[..2], [old, root.clone()]);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_name_that_was_made_now_and_cannot_be_synced_is_an_error() {
        let root = scratch("new");
        let closed = root.join("closed");
        fs::create_dir_all(&closed).unwrap();
        let (done, _) = made_below(&closed, &closed.join("new"));
        assert_eq!(done.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        fs::remove_dir_all(root).unwrap();
    }
}
