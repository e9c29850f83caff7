//! A directory in memory that loses what was not synced, and fails where it is told to.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ottla_env::Random;

use super::files::{LogDirectory, LogFile};

/// What happens at the chosen operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The power fails: this and every later operation has no effect.
    Crash,
    /// This operation fails, later ones work. A write leaves half of its bytes.
    Once(io::ErrorKind),
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    files: Vec<Content>,
    operations: u64,
    fault: Option<(u64, Fault)>,
    crashed: bool,
    syncs: u64,
}

#[derive(Clone, Debug, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryDirectory(Arc<Mutex<State>>);

#[derive(Debug)]
struct MemoryFile {
    directory: MemoryDirectory,
    file: usize,
}

impl MemoryDirectory {
    pub(crate) fn with_fault(at: u64, fault: Fault) -> Self {
        let directory = Self::default();
        directory.lock().fault = Some((at, fault));
        directory
    }

    /// Changing operations so far.
    pub(crate) fn operations(&self) -> u64 {
        self.lock().operations
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// The directory after a loss of power: each unsynced write arrived whole, in part, or not at
    /// all, in any combination; each unsynced name change happened or not.
    pub(crate) fn after_power_loss(&self, seed: u64) -> Self {
        let random = Random::seeded(seed);
        let state = self.lock();
        let mut names = state.durable_names.clone();
        for name in state.names.keys().chain(state.durable_names.keys()) {
            if state.names.get(name) != state.durable_names.get(name) && random.chance(0.5) {
                match state.names.get(name) {
                    Some(file) => names.insert(name.clone(), *file),
                    None => names.remove(name),
                };
            }
        }
        let files = state.files.iter().map(|file| {
            let mut bytes = file.durable.clone();
            for change in &file.unsynced {
                if random.chance(0.6) {
                    let torn = random.chance(0.5);
                    change.apply(&mut bytes, torn.then_some(&random));
                }
            }
            Content { now: bytes.clone(), durable: bytes, unsynced: Vec::new() }
        });
        let files = files.collect();
        let state = State { durable_names: names.clone(), names, files, ..State::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Changes bytes of a file behind everyone's back.
    pub(crate) fn edit(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.lock();
        let file = state.names[name];
        let content = &mut state.files[file];
        edit(&mut content.now);
        content.durable = content.now.clone();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a changing operation. `Err` with `true`: half of it may still be done.
    fn step(&self) -> Result<MutexGuard<'_, State>, (io::Error, bool)> {
        let mut state = self.lock();
        if state.crashed {
            return Err((io::Error::other("the power failed"), false));
        }
        let operation = state.operations;
        state.operations += 1;
        match state.fault {
            Some((at, Fault::Crash)) if at == operation => {
                state.crashed = true;
                Err((io::Error::other("the power failed"), true))
            }
            Some((at, Fault::Once(kind))) if at == operation => Err((io::Error::from(kind), true)),
            _ => Ok(state),
        }
    }

    fn file(&self, file: usize) -> Arc<dyn LogFile> {
        Arc::new(MemoryFile { directory: self.clone(), file })
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>, torn: Option<&Random>) {
        match self {
            Self::Write(at, data) => {
                let length =
                    torn.map_or(data.len(), |random| random.below(data.len() as u64) as usize);
                if bytes.len() < at + length {
                    bytes.resize(at + length, 0);
                }
                bytes[*at..at + length].copy_from_slice(&data[..length]);
            }
            Self::Truncate(length) => bytes.truncate(*length),
        }
    }
}

impl LogDirectory for MemoryDirectory {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let state = self.lock();
        let file = state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(state.files[*file].now.clone())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let mut state = self.step().map_err(|(error, _)| error)?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = state.files.len();
        state.files.push(Content::default());
        state.names.insert(name.to_owned(), file);
        Ok(self.file(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let file = *self.lock().names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.step().map_err(|(error, _)| error)?;
        let file = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        if !self.lock().names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut state = self.step().map_err(|(error, _)| error)?;
        state.names.remove(name);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.step().map_err(|(error, _)| error)?;
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn describe(&self, name: &str) -> String {
        format!("memory/{name}")
    }
}

impl LogFile for MemoryFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let half = Change::Write(offset as usize, bytes[..bytes.len() / 2].to_vec());
        let (mut state, change, result) = match self.directory.step() {
            Ok(state) => (state, Change::Write(offset as usize, bytes.to_vec()), Ok(())),
            Err((error, true)) => (self.directory.lock(), half, Err(error)),
            Err((error, false)) => return Err(error),
        };
        let content = &mut state.files[self.file];
        change.apply(&mut content.now, None);
        content.unsynced.push(change);
        result
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.directory.lock();
        let from = offset as usize;
        let bytes = state.files[self.file].now.get(from..from + buffer.len());
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut state = self.directory.step().map_err(|(error, _)| error)?;
        let change = Change::Truncate(length as usize);
        let content = &mut state.files[self.file];
        change.apply(&mut content.now, None);
        content.unsynced.push(change);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        // A sync that fails has written some of the pages and forgotten that the rest is dirty.
        let mut state = self.directory.step().map_err(|(error, _)| error)?;
        state.syncs += 1;
        let content = &mut state.files[self.file];
        content.durable = content.now.clone();
        content.unsynced.clear();
        Ok(())
    }
}
