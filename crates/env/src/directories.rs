//! Directories that are there after a loss of power.
//!
//! A directory is a name in its parent, and the name is on disk when the parent was synced. A
//! process that was killed between making and syncing leaves a directory that the next one finds and
//! cannot tell from an old one. So whoever relies on a directory syncs what holds its name, whether
//! it made the directory or found it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::files::open_patiently;

/// Makes a directory with its missing ancestors, and makes the names of all of them durable: every
/// directory above it is synced, up to the root of its file system. Blocks.
///
/// # Errors
/// What the system said. A directory above it that may not be read is no error: this process could
/// not have made anything in it.
pub fn make_durable_directory(path: &Path) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    fs::create_dir_all(&path)?;
    let device = fs::metadata(&path)?.dev();
    for parent in path.ancestors().skip(1) {
        // What is mounted has no name in a parent of its own file system.
        if fs::metadata(parent)?.dev() != device {
            break;
        }
        match sync_directory(parent) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
            done => done?,
        }
    }
    Ok(())
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
