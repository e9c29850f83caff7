//! A disk in memory that loses what was not synced, and fails where it is told to.
//!
//! What a loss of power leaves of the changes that were not synced: any of the sectors of a write,
//! any of the names that were made, changed or removed, in any combination. Harder than most file
//! systems, which order more than they promise.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ottla_env::Random;

use super::files::{LogDirectory, LogFile};

/// What reaches a disk whole or not at all.
const SECTOR_BYTES: usize = 512;

/// What happens at the chosen operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The power fails: this and every later operation has no effect.
    Crash,
    /// This operation fails, later ones work. A write leaves half of its bytes.
    Once(io::ErrorKind),
}

/// What of the changes that were not synced is there when the power is back. Changes are numbered:
/// those of names first, then the writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// None of them.
    All,
    /// All of them: a process was killed, and no power lost.
    Nothing,
    /// Only this one.
    AllBut(usize),
    /// All but this one.
    Only(usize),
    /// Each name and each sector by lot, writes also torn within a sector; the seed.
    Lot(u64),
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

/// One directory of a disk; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryDirectory {
    disk: Arc<Mutex<State>>,
    /// What its files' names begin with on the disk.
    prefix: &'static str,
}

#[derive(Debug)]
struct MemoryFile {
    directory: MemoryDirectory,
    file: usize,
}

impl MemoryDirectory {
    pub(crate) fn with_fault(at: u64, fault: Fault) -> Self {
        let directory = Self::default();
        directory.fail_at(at, fault);
        directory
    }

    /// Another directory of the same disk, which fails with it.
    pub(crate) fn directory(&self, prefix: &'static str) -> Self {
        Self { disk: self.disk.clone(), prefix }
    }

    /// Lets the operation of this number fail.
    pub(crate) fn fail_at(&self, at: u64, fault: Fault) {
        self.lock().fault = Some((at, fault));
    }

    /// Changing operations so far.
    pub(crate) fn operations(&self) -> u64 {
        self.lock().operations
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// The disk after a loss of power, by lot.
    pub(crate) fn after_power_loss(&self, seed: u64) -> Self {
        self.after(Loss::Lot(seed))
    }

    /// Every loss that takes all, nothing, one or all but one of the changes, and `lots` by lot.
    pub(crate) fn losses(&self, lots: u64) -> Vec<Loss> {
        let unsynced = {
            let state = self.lock();
            let writes = state.files.iter().map(|file| file.unsynced.len()).sum::<usize>();
            state.unsynced_names().len() + writes
        };
        let mut losses = vec![Loss::All];
        if unsynced > 0 {
            losses.push(Loss::Nothing);
            losses.extend((0..unsynced).map(Loss::AllBut));
            losses.extend((0..unsynced).map(Loss::Only));
            losses.extend((0..lots).map(Loss::Lot));
        }
        losses
    }

    /// The disk after a loss of power.
    pub(crate) fn after(&self, loss: Loss) -> Self {
        let random = match loss {
            Loss::Lot(seed) => Some(Random::seeded(seed)),
            _ => None,
        };
        let mut number = 0;
        let mut arrived = || {
            let this = number;
            number += 1;
            match loss {
                Loss::All => false,
                Loss::Nothing => true,
                Loss::AllBut(kept) => this == kept,
                Loss::Only(lost) => this != lost,
                Loss::Lot(_) => random.as_ref().is_some_and(|random| random.chance(0.6)),
            }
        };
        let state = self.lock();
        let mut names = state.durable_names.clone();
        for name in state.unsynced_names() {
            if arrived() {
                match state.names.get(name) {
                    Some(file) => names.insert(name.clone(), *file),
                    None => names.remove(name),
                };
            }
        }
        let mut files = Vec::with_capacity(state.files.len());
        for file in &state.files {
            let mut bytes = file.durable.clone();
            for change in &file.unsynced {
                if arrived() {
                    let torn = random.as_ref().filter(|random| random.chance(0.5));
                    change.apply(&mut bytes, torn);
                }
            }
            files.push(Content { now: bytes.clone(), durable: bytes, unsynced: Vec::new() });
        }
        let state = State { durable_names: names.clone(), names, files, ..State::default() };
        Self { disk: Arc::new(Mutex::new(state)), prefix: self.prefix }
    }

    /// Changes bytes of a file behind everyone's back.
    pub(crate) fn edit(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.lock();
        let file = state.names[&self.full(name)];
        let content = &mut state.files[file];
        edit(&mut content.now);
        content.durable = content.now.clone();
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
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

impl State {
    fn unsynced_names(&self) -> Vec<&String> {
        let mut names: Vec<_> = self.names.keys().chain(self.durable_names.keys()).collect();
        names.sort_unstable();
        names.dedup();
        names.retain(|name| self.names.get(*name) != self.durable_names.get(*name));
        names
    }
}

impl Change {
    /// Does the change; when it is torn, some of the sectors of a write, the last one in part.
    fn apply(&self, bytes: &mut Vec<u8>, torn: Option<&Random>) {
        let (at, data) = match self {
            Self::Write(at, data) => (*at, data),
            Self::Truncate(length) => return bytes.truncate(*length),
        };
        let length = torn.map_or(data.len(), |random| random.below(data.len() as u64 + 1) as usize);
        if bytes.len() < at + length {
            bytes.resize(at + length, 0);
        }
        let mut from = at;
        while from < at + length {
            let to = (from / SECTOR_BYTES + 1) * SECTOR_BYTES;
            let to = to.min(at + length);
            if torn.is_none_or(|random| random.chance(0.8)) {
                bytes[from..to].copy_from_slice(&data[from - at..to - at]);
            }
            from = to;
        }
    }
}

impl LogDirectory for MemoryDirectory {
    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.lock();
        let names = state.names.keys().filter_map(|name| name.strip_prefix(self.prefix));
        Ok(names.map(str::to_owned).collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let state = self.lock();
        let file = state.names.get(&self.full(name)).ok_or(io::ErrorKind::NotFound)?;
        Ok(state.files[*file].now.clone())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let mut state = self.step().map_err(|(error, _)| error)?;
        let name = self.full(name);
        if state.names.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = state.files.len();
        state.files.push(Content::default());
        state.names.insert(name, file);
        Ok(self.file(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let file = *self.lock().names.get(&self.full(name)).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.step().map_err(|(error, _)| error)?;
        let file = state.names.remove(&self.full(from)).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(self.full(to), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let name = self.full(name);
        if !self.lock().names.contains_key(&name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut state = self.step().map_err(|(error, _)| error)?;
        state.names.remove(&name);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.step().map_err(|(error, _)| error)?;
        let State { names, durable_names, .. } = &mut *state;
        let ours = |name: &String| name.starts_with(self.prefix);
        durable_names.retain(|name, _| !ours(name));
        let now = names.iter().filter(|(name, _)| ours(name));
        durable_names.extend(now.map(|(name, file)| (name.clone(), *file)));
        Ok(())
    }

    fn describe(&self, name: &str) -> String {
        format!("memory/{}{name}", self.prefix)
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
