//! Inputs that lie in files.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// The files of a target's corpus.
pub(crate) fn corpus(target: &str) -> io::Result<Vec<Vec<u8>>> {
    let folder = own_folder().join("corpus").join(target);
    if folder.exists() { files(&folder, "") } else { Ok(Vec::new()) }
}

/// What each version of a format wrote.
pub(crate) fn golden(format: &str) -> io::Result<Vec<Vec<u8>>> {
    files(&own_folder().join("../format/golden"), &format!("{format}_v"))
}

fn own_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of a folder whose names begin so, in the order of their names.
fn files(folder: &Path, prefix: &str) -> io::Result<Vec<Vec<u8>>> {
    let paths: io::Result<Vec<PathBuf>> =
        folder.read_dir()?.map(|entry| Ok(entry?.path())).collect();
    let named = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
    };
    let mut paths: Vec<PathBuf> = paths?.into_iter().filter(named).collect();
    paths.sort();
    paths.iter().map(fs::read).collect()
}
