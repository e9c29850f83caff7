//! A disk that fails on command: `tests/tools/disk-faults`, compiled and preloaded into a server.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::Scratch;
use crate::ottla::Ottla;
use crate::process::run;

/// What goes wrong with the files below a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// No room is left.
    Full,
    /// Nothing can be changed.
    ReadOnly,
    /// One sync fails, and later ones succeed.
    SyncOnce,
    /// One write fails, and later ones succeed.
    WriteOnce,
    /// Nothing can be opened: the process has no file descriptor left.
    NoFiles,
    /// No call returns.
    Freeze,
}

/// What the server did with a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectoryCall {
    /// It was made.
    Made(PathBuf),
    /// The names in it were made durable.
    Synced(PathBuf),
}

/// The switch.
#[derive(Debug)]
pub struct DiskFaults {
    command: PathBuf,
    trace: PathBuf,
}

impl DiskFaults {
    /// The library stands below the control plane's files.
    pub async fn below_controller(scratch: &Scratch, server: Ottla) -> Result<(Self, Ottla)> {
        Self::below(scratch, server, "controller").await
    }

    /// The library stands below the objects.
    pub async fn below_objects(scratch: &Scratch, server: Ottla) -> Result<(Self, Ottla)> {
        Self::below(scratch, server, "objects").await
    }

    /// Compiles the library and makes it stand below a folder of a server's data folder.
    async fn below(scratch: &Scratch, server: Ottla, folder: &str) -> Result<(Self, Ottla)> {
        let source = crate::root().join("tests/tools/disk-faults/disk_faults.c");
        let library = scratch.path().join("disk_faults.so");
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl");
        run(compiler, Duration::from_secs(60)).await.context("a C compiler is needed")?;
        let command = scratch.path().join("disk_fault");
        let trace = scratch.path().join("disk_trace");
        let below = server.data().join(folder);
        let text = |path: &PathBuf| path.display().to_string();
        let server = server
            .env("LD_PRELOAD", &text(&library))
            .env("OTTLA_DISK_FAULTS_BELOW", &text(&below))
            .env("OTTLA_DISK_FAULTS_COMMAND", &text(&command))
            .env("OTTLA_DISK_FAULTS_TRACE", &text(&trace));
        Ok((Self { command, trace }, server))
    }

    /// From now on, until it is mended.
    pub fn begin(&self, fault: DiskFault) -> Result<()> {
        let word = match fault {
            DiskFault::Full => "full",
            DiskFault::ReadOnly => "readonly",
            DiskFault::SyncOnce => "sync-once",
            DiskFault::WriteOnce => "write-once",
            DiskFault::NoFiles => "no-files",
            DiskFault::Freeze => "freeze",
        };
        // As a whole: the library must never read half a word.
        let new = self.command.with_extension("new");
        fs::write(&new, word)?;
        Ok(fs::rename(new, &self.command)?)
    }

    /// The directories that were made and synced since the last call, in order.
    pub fn take_trace(&self) -> Result<Vec<DirectoryCall>> {
        let text = fs::read_to_string(&self.trace)?;
        fs::remove_file(&self.trace)?;
        let call = |line: &str| match line.split_once(' ') {
            Some(("mkdir", path)) => Some(DirectoryCall::Made(path.into())),
            Some(("sync", path)) => Some(DirectoryCall::Synced(path.into())),
            _ => None,
        };
        text.lines().map(|line| call(line).context("a strange line")).collect()
    }

    /// The disk is well again.
    pub fn mend(&self) -> Result<()> {
        Ok(fs::remove_file(&self.command)?)
    }
}
