//! The file system as the Raft log uses it: one flat directory of files. The log opens nothing
//! except through these traits, so that a test or a simulation can take their place, lose what was
//! not synced, and fail at any call.
//!
//! All calls block. They are made from the log's writer or from a blocking task, never from an
//! asynchronous one. A call that opens something waits for a free file descriptor
//! ([`open_patiently`]): load at the edge must not end a node.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_env::{DiskTurns, make_durable_directory, open_patiently};

/// A directory.
pub trait LogDirectory: Debug + Send + Sync + 'static {
    /// Names of its files, in any order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// A file's whole content.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// Makes a file that must not exist yet. Its name is durable after the next [`Self::sync`].
    fn create(&self, name: &str) -> io::Result<Arc<dyn LogFile>>;

    /// Opens a file that exists, for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>>;

    /// Gives a file another name, in place of a file that has it. Durable after [`Self::sync`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Durable after [`Self::sync`].
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all names durable.
    fn sync(&self) -> io::Result<()>;

    /// How a person finds a file, for messages.
    fn describe(&self, name: &str) -> String;
}

/// An open file.
pub trait LogFile: Debug + Send + Sync + 'static {
    /// Writes all of `bytes` at `offset`, growing the file when needed.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Fills `buffer` from `offset`.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Cuts the file to `length` bytes.
    fn truncate(&self, length: u64) -> io::Result<()>;

    /// Makes content and length durable (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
}

/// A real directory.
#[derive(Debug)]
pub struct DiskDirectory {
    path: PathBuf,
    /// Open for as long as this lives: a sync needs no file descriptor of its own.
    handle: File,
    turns: DiskTurns,
    lock: DirectoryLock,
}

/// The lock of the data directory that a directory lies in: held for as long as anything may be
/// written there. `None`: nobody else knows of the directory.
pub type DirectoryLock = Option<Arc<File>>;

impl DiskDirectory {
    /// Opens a directory, which is made when it is missing. Its name is durable when this returns,
    /// also when an earlier start made it and was cut off.
    pub fn open(path: &Path) -> io::Result<Self> {
        make_durable_directory(path)?;
        let handle = open_patiently(|| File::open(path))?;
        Ok(Self { path: path.to_owned(), handle, turns: DiskTurns::default(), lock: None })
    }

    /// Lets the syncs of its files go before large reads of the same disk.
    pub fn sharing(self, turns: DiskTurns) -> Self {
        Self { turns, ..self }
    }

    /// Holds a lock for as long as the directory or one of its files is in use.
    pub fn locked_by(self, lock: DirectoryLock) -> Self {
        Self { lock, ..self }
    }

    fn open_file(&self, options: &OpenOptions, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let path = self.path.join(name);
        let file = open_patiently(|| options.open(&path))?;
        Ok(Arc::new(DiskFile { file, turns: self.turns.clone(), _lock: self.lock.clone() }))
    }
}

impl LogDirectory for DiskDirectory {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in open_patiently(|| fs::read_dir(&self.path))? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        open_patiently(|| File::open(self.path.join(name)))?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        self.open_file(OpenOptions::new().read(true).write(true).create_new(true), name)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        self.open_file(OpenOptions::new().read(true).write(true), name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn describe(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }
}

#[derive(Debug)]
struct DiskFile {
    file: File,
    turns: DiskTurns,
    _lock: DirectoryLock,
}

impl LogFile for DiskFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        let _first = self.turns.sync();
        self.file.sync_data()
    }
}
