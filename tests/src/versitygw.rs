//! An S3 server over a folder: versitygw.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use ottla_env::delay;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::Instant;

use crate::process::Process;
use crate::{Scratch, ports, tool};

const READY_WITHIN: Duration = Duration::from_secs(10);
const READY_POLL: Duration = Duration::from_millis(20);

/// The access key of the server's root user.
pub const ACCESS_KEY: &str = "test";
/// Its secret.
pub const SECRET_KEY: &str = "testtest";
/// The bucket that exists when the server is up.
pub const BUCKET: &str = "ottla";

/// A running S3 server.
#[derive(Debug)]
pub struct Versitygw {
    folder: PathBuf,
    log: PathBuf,
    port: u16,
    process: Process,
}

impl Versitygw {
    /// Starts one with an empty bucket.
    pub async fn start_new(scratch: &Scratch) -> Result<Self> {
        let folder = scratch.path().join("s3");
        // A bucket is a folder of its folder.
        fs::create_dir_all(folder.join(BUCKET))?;
        let log = scratch.path().join("versitygw.log");
        let port = ports::free()?;
        let process = start(&folder, &log, port).await?;
        Ok(Self { folder, log, port, process })
    }

    /// `kill -9`, and starts it again on the same port.
    pub async fn restart(&mut self) -> Result<()> {
        if self.process.id().is_ok() {
            self.process.kill().await?;
        }
        self.process = start(&self.folder, &self.log, self.port).await?;
        Ok(())
    }

    /// `kill -9`; [`Versitygw::restart`] brings it back.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill().await
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Its address as S3 clients are given it.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

async fn start(folder: &Path, log: &Path, port: u16) -> Result<Process> {
    let mut command = Command::new(tool("bin/versitygw")?);
    command.args(["--port", &format!("127.0.0.1:{port}"), "--quiet", "posix"]).arg(folder);
    command.env("ROOT_ACCESS_KEY", ACCESS_KEY).env("ROOT_SECRET_KEY", SECRET_KEY);
    let mut process = Process::start("versitygw", command, log)?;
    let begin = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        process.check_running()?;
        ensure!(begin.elapsed() < READY_WITHIN, "versitygw does not listen");
        delay(READY_POLL).await;
    }
    Ok(process)
}
