//! A server process: started with its output in a log file, ended with the value.

use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it prints is appended to `log`.
    pub fn start(name: &str, command: Command, log: &Path) -> Result<Self> {
        let out: File = OpenOptions::new().create(true).append(true).open(log)?;
        Self::start_into(name, command, out, log)
    }

    /// The same with its output going somewhere else.
    pub fn start_into(
        name: &str,
        mut command: Command,
        output: impl Into<OwnedFd>,
        log: &Path,
    ) -> Result<Self> {
        let output = output.into();
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("start {name}: {command:?}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> Result<u32> {
        self.child.id().with_context(|| format!("{} has ended", self.name))
    }

    /// What it printed.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Fails when it has ended by itself.
    pub fn check_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                bail!("{} ended by itself: {status}; see {}", self.name, self.log.display())
            }
        }
    }

    /// `kill -9`, and waits for its end.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.with_context(|| format!("kill {}", self.name))
    }

    /// Sends a signal by name (`TERM`, `STOP`, …).
    pub async fn signal(&self, signal: &str) -> Result<()> {
        let id = self.id()?.to_string();
        let status = Command::new("kill").args([&format!("-{signal}"), &id]).status().await?;
        anyhow::ensure!(status.success(), "kill -{signal} {id}: {status}");
        Ok(())
    }

    /// Waits for its end by itself.
    pub async fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        timeout(within, self.child.wait())
            .await
            .with_context(|| format!("{} still runs after {within:?}", self.name))?
            .with_context(|| format!("wait for {}", self.name))
    }

    /// Processor time of the process so far, user and system, in seconds.
    pub fn cpu_seconds(&self) -> Result<f64> {
        /// Clock ticks per second of `/proc/<pid>/stat` on every Linux that Rust supports.
        const TICKS: f64 = 100.0;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id()?))?;
        // The second field is the command in parentheses and may hold anything.
        let (_, fields) = stat.rsplit_once(')').context("unexpected /proc stat")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |index: usize| -> Result<f64> {
            Ok(fields.get(index).context("short /proc stat")?.parse()?)
        };
        Ok((ticks(11)? + ticks(12)?) / TICKS)
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// The largest resident memory that it ever had, in bytes.
    pub fn peak_resident_bytes(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &'static str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()?))?;
        let line = status.lines().find(|line| line.starts_with(name)).context(name)?;
        let kib: u64 = line.split_whitespace().nth(1).context(name)?.parse()?;
        Ok(kib * 1024)
    }
}

/// Runs a program to its end and returns what it printed; fails with its error output.
pub async fn run(mut command: Command, within: Duration) -> Result<String> {
    command.kill_on_drop(true).stdin(Stdio::null());
    let shown = format!("{command:?}");
    let output = timeout(within, command.output())
        .await
        .with_context(|| format!("still runs after {within:?}: {shown}"))?
        .with_context(|| format!("start {shown}"))?;
    if !output.status.success() {
        bail!("{}: {shown}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
