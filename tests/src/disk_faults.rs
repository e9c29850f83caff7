//! A disk that fails on command: `tests/tools/disk-faults`, compiled and preloaded into a server.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::Scratch;
use crate::ottla::Ottla;
use crate::process::run;

/// What goes wrong with the files of the control plane.
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
}

/// The switch.
#[derive(Debug)]
pub struct DiskFaults {
    command: PathBuf,
}

impl DiskFaults {
    /// Compiles the library and makes it stand below `controller/` in a server's data folder.
    pub async fn below_controller(scratch: &Scratch, server: Ottla) -> Result<(Self, Ottla)> {
        let source = crate::root().join("tests/tools/disk-faults/disk_faults.c");
        let library = scratch.path().join("disk_faults.so");
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl");
        run(compiler, Duration::from_secs(60)).await.context("a C compiler is needed")?;
        let command = scratch.path().join("disk_fault");
        let below = server.data().join("controller");
        let text = |path: &PathBuf| path.display().to_string();
        let server = server
            .env("LD_PRELOAD", &text(&library))
            .env("OTTLA_DISK_FAULTS_BELOW", &text(&below))
            .env("OTTLA_DISK_FAULTS_COMMAND", &text(&command));
        Ok((Self { command }, server))
    }

    /// From now on, until it is mended.
    pub fn begin(&self, fault: DiskFault) -> Result<()> {
        let word = match fault {
            DiskFault::Full => "full",
            DiskFault::ReadOnly => "readonly",
            DiskFault::SyncOnce => "sync-once",
            DiskFault::WriteOnce => "write-once",
        };
        // As a whole: the library must never read half a word.
        let new = self.command.with_extension("new");
        fs::write(&new, word)?;
        Ok(fs::rename(new, &self.command)?)
    }

    /// The disk is well again.
    pub fn mend(&self) -> Result<()> {
        Ok(fs::remove_file(&self.command)?)
    }
}
