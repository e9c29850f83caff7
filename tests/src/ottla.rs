//! The binary under test.

use std::io::PipeReader;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ottla_env::delay;
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use crate::process::Process;
use crate::scrape::Scrape;
use crate::{Scratch, http, ports, root};

/// A start that takes longer than this has failed.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// Time between two looks at `/readyz`.
const READY_POLL: Duration = Duration::from_millis(5);
/// A clean stop that takes longer than this has failed.
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// A command that takes longer than this has failed.
const RUN_WITHIN: Duration = Duration::from_secs(60);

/// One `ottla server` with its data folder and ports, running or not.
#[derive(Debug)]
pub struct Ottla {
    data: PathBuf,
    log: PathBuf,
    kafka: u16,
    rpc: u16,
    admin: u16,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    open_files_max: Option<u32>,
    process: Option<Process>,
}

impl Ottla {
    /// A server that is not started yet, with its data in `name` of the scratch folder.
    pub fn new(scratch: &Scratch, name: &str) -> Result<Self> {
        Ok(Self {
            data: scratch.path().join(name),
            log: scratch.path().join(format!("{}.log", name.replace('/', "-"))),
            kafka: ports::free()?,
            rpc: ports::free()?,
            admin: ports::free()?,
            arguments: Vec::new(),
            environment: Vec::new(),
            open_files_max: None,
            process: None,
        })
    }

    /// A server with default settings, ready.
    pub async fn start_new(scratch: &Scratch) -> Result<Self> {
        let mut server = Self::new(scratch, "ottla")?;
        server.start().await?;
        Ok(server)
    }

    /// Adds a flag and its value.
    pub fn flag(mut self, flag: &str, value: &str) -> Self {
        self.arguments.extend([flag.to_owned(), value.to_owned()]);
        self
    }

    /// Adds an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Lets the process have no more open files than this.
    pub fn open_files_max(mut self, files: u32) -> Self {
        self.open_files_max = Some(files);
        self
    }

    fn command_of(&self, name: &str) -> Result<Command> {
        let binary = match std::env::var_os("OTTLA_BIN") {
            Some(path) => PathBuf::from(path),
            None => root().join("target/release/ottla"),
        };
        ensure!(binary.exists(), "{} is missing: run make build", binary.display());
        let mut command = match self.open_files_max {
            None => Command::new(binary),
            Some(files) => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(format!("ulimit -n {files} && exec \"$0\" \"$@\"")).arg(binary);
                shell
            }
        };
        command.arg(name).arg("--data-dir").arg(&self.data);
        for (flag, port) in [
            ("--kafka-listen", self.kafka),
            ("--rpc-listen", self.rpc),
            ("--admin-listen", self.admin),
        ] {
            command.arg(flag).arg(format!("127.0.0.1:{port}"));
        }
        command.args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    /// Starts the process and waits until `/readyz` says yes; answers how long that took.
    pub async fn start(&mut self) -> Result<Duration> {
        self.start_within(READY_WITHIN).await
    }

    /// The same for a start that may take longer. One that ended by itself is not running
    /// afterwards and can be started again.
    pub async fn start_within(&mut self, within: Duration) -> Result<Duration> {
        let begin = Instant::now();
        self.spawn()?;
        while !self.is_ready().await {
            if let Err(ended) = self.process()?.check_running() {
                self.process = None;
                return Err(ended);
            }
            ensure!(begin.elapsed() < within, "not ready after {within:?}");
            delay(READY_POLL).await;
        }
        Ok(begin.elapsed())
    }

    /// Starts the process and waits for its end: for starts that must be refused. Answers its exit
    /// status and what it printed during this start.
    pub async fn start_refused(&mut self) -> Result<(ExitStatus, String)> {
        let before = std::fs::metadata(&self.log).map_or(0, |log| log.len()) as usize;
        self.spawn()?;
        let status = self.process()?.wait(READY_WITHIN).await?;
        let output = self.output().split_off(before);
        self.process = None;
        Ok((status, output))
    }

    /// Starts the process and waits for nothing.
    pub fn spawn(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "it runs already");
        self.process = Some(Process::start("ottla", self.command_of("server")?, &self.log)?);
        Ok(())
    }

    /// Starts the process with its output into a pipe that nobody reads, and waits until it is
    /// ready. Answers the pipe's other end, which keeps it open.
    pub async fn start_unread(&mut self) -> Result<PipeReader> {
        ensure!(self.process.is_none(), "it runs already");
        let (unread, output) = std::io::pipe()?;
        let process = Process::start_into("ottla", self.command_of("server")?, output, &self.log)?;
        self.process = Some(process);
        let begin = Instant::now();
        while !self.is_ready().await {
            self.process()?.check_running()?;
            ensure!(begin.elapsed() < READY_WITHIN, "not ready after {READY_WITHIN:?}");
            delay(READY_POLL).await;
        }
        Ok(unread)
    }

    async fn is_ready(&self) -> bool {
        matches!(http::get(self.admin, "/readyz").await, Ok((200, _)))
    }

    /// `kill -9`.
    pub async fn kill(&mut self) -> Result<()> {
        self.process()?.kill().await?;
        self.process = None;
        Ok(())
    }

    /// SIGTERM, and waits for a clean end; answers how long that took.
    pub async fn stop(&mut self) -> Result<Duration> {
        let begin = Instant::now();
        let process = self.process()?;
        process.signal("TERM").await?;
        let status = process.wait(STOP_WITHIN).await?;
        self.process = None;
        ensure!(status.success(), "SIGTERM ended it with {status}");
        Ok(begin.elapsed())
    }

    /// Waits for an end that it comes to by itself; answers how it ended.
    pub async fn ends(&mut self) -> Result<ExitStatus> {
        let status = self.process()?.wait(READY_WITHIN).await?;
        self.process = None;
        Ok(status)
    }

    /// SIGTERM, and waits so long for its end; answers how it ended.
    pub async fn terminate(&mut self, within: Duration) -> Result<ExitStatus> {
        let process = self.process()?;
        process.signal("TERM").await?;
        let status = process.wait(within).await?;
        self.process = None;
        Ok(status)
    }

    /// Runs another command of the binary with the settings of this server, which must not be
    /// running; answers exit status, standard output and standard error.
    pub async fn run(&self, command: &str) -> Result<(ExitStatus, String, String)> {
        ensure!(self.process.is_none(), "it runs");
        let mut command = self.command_of(command)?;
        command.kill_on_drop(true).stdin(Stdio::null());
        let output = timeout(RUN_WITHIN, command.output()).await.context("it hangs")??;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status, text(&output.stdout), text(&output.stderr)))
    }

    /// Whether a process was started and its end not yet seen.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// The running process.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("ottla is not running")
    }

    /// Everything it printed in all its runs.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Its data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// What clients are given to connect to.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.kafka)
    }

    /// The port of the admin listener.
    pub fn admin_port(&self) -> u16 {
        self.admin
    }

    /// The values of all metrics now.
    pub async fn scrape(&self) -> Result<Scrape> {
        Scrape::take(self.admin).await
    }

    /// The sum of a metric over its labels; `None` when there is no such metric.
    pub async fn metric(&self, name: &str) -> Result<Option<f64>> {
        let (status, body) = http::get(self.admin, "/metrics").await?;
        ensure!(status == 200, "/metrics answered {status}");
        let mut sum = None;
        for line in body.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            if series.split('{').next() == Some(name) {
                *sum.get_or_insert(0.0) += value.parse::<f64>()?;
            }
        }
        Ok(sum)
    }
}
