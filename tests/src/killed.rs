//! A server that had some load and was killed, and what must be there when it starts again.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ottla_env::delay;

use crate::history::Kind;
use crate::load::Load;
use crate::ottla::Ottla;
use crate::topic::{self, Content};

/// The topic under load.
pub const TOPIC: &str = "restarted";
/// Its partitions.
pub const PARTITIONS: i32 = 3;
/// Longer than the time after which the checkpoint is written behind (3 s).
const CHECKPOINT_WRITTEN: Duration = Duration::from_secs(5);
/// Longer than the time after which an idle log says what of it is synced (100 ms).
const LOG_MARKED: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub struct Killed {
    /// The server; not running.
    pub server: Ottla,
    /// What it held.
    pub log: BTreeMap<i32, Content>,
}

/// The state as a start found it: applied index and digest, before the broker registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSeen {
    /// The last applied entry.
    pub applied: String,
    /// The digest there.
    pub digest: String,
}

/// Everything that clients can read.
pub async fn read_all(bootstrap: &str) -> Result<BTreeMap<i32, Content>> {
    let mut log = BTreeMap::new();
    for partition in 0..PARTITIONS {
        log.insert(partition, topic::read(bootstrap, TOPIC, partition).await?);
    }
    Ok(log)
}

/// A second of load.
pub async fn some_load(bootstrap: &str, seed: u64) -> Result<()> {
    let load = Load::start(bootstrap, TOPIC, &[Kind::Idempotent; PARTITIONS as usize], seed);
    delay(Duration::from_secs(1)).await;
    ensure!(!load.stop().await?.is_empty());
    Ok(())
}

impl Killed {
    /// Load, a checkpoint, more load that only the log holds, kill.
    pub async fn after_load(server: Ottla) -> Result<Self> {
        let mut server = server;
        server.start().await?;
        let bootstrap = server.bootstrap();
        topic::create(&bootstrap, TOPIC, PARTITIONS).await?;
        some_load(&bootstrap, 1).await?;
        delay(CHECKPOINT_WRITTEN).await;
        some_load(&bootstrap, 2).await?;
        let log = read_all(&bootstrap).await?;
        ensure!(log.values().all(|content| content.end > 100), "too little load to show anything");
        delay(LOG_MARKED).await;
        server.kill().await?;
        Ok(Self { server, log })
    }

    /// Where the control plane's files are.
    pub fn controller(&self) -> PathBuf {
        self.server.data().join("controller")
    }

    /// Puts a copy of the control plane's files back, and the bucket to the time before later
    /// starts left their heights in it: for another way from the same place.
    pub fn put_back(&self, kept: &Path) -> Result<()> {
        copy(kept, &self.controller())?;
        let mut files = Vec::new();
        files_below(&self.server.data().join("objects"), &mut files)?;
        let is_height = |file: &&PathBuf| file.iter().any(|part| part == "height");
        files.iter().filter(is_height).try_for_each(|file| Ok(fs::remove_file(file)?))
    }

    /// Starts, compares everything that clients can see, kills.
    pub async fn check(&mut self) -> Result<StateSeen> {
        let before = self.server.output().len();
        self.server.start().await?;
        let log = read_all(&self.server.bootstrap()).await?;
        ensure!(log == self.log, "other records than before the kill");
        self.server.kill().await?;
        seen(&self.server.output().split_off(before))
    }

    /// Starts and kills.
    pub async fn state(&mut self) -> Result<StateSeen> {
        let before = self.server.output().len();
        self.server.start().await?;
        self.server.kill().await?;
        seen(&self.server.output().split_off(before))
    }

    /// Starts, which must end with status 1, one line that says all of `words`, and no change to
    /// the log.
    pub async fn refused(&mut self, words: &[&str]) -> Result<()> {
        let before = segments(&self.controller())?;
        let contents: Vec<_> = before.iter().map(fs::read).collect::<Result<_, _>>()?;
        let (status, output) = self.server.start_refused().await?;
        ensure!(status.code() == Some(1), "it ended with {status}");
        let line = output.lines().find(|line| line.starts_with("ottla: "));
        let line = line.with_context(|| format!("no line for the operator:\n{output}"))?;
        for word in words {
            ensure!(line.contains(word), "no '{word}' in: {line}");
        }
        let after = segments(&self.controller())?;
        ensure!(before == after, "other files than before");
        for (path, content) in after.iter().zip(contents) {
            ensure!(fs::read(path)? == content, "{} was changed", path.display());
        }
        Ok(())
    }
}

fn seen(output: &str) -> Result<StateSeen> {
    let line = output
        .lines()
        .find(|line| line.contains("the control plane is ready"))
        .context("no line about the control plane")?;
    let field = |name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=")).with_context(|| line.to_owned())?;
        anyhow::Ok(rest.split_whitespace().next().unwrap_or_default().to_owned())
    };
    Ok(StateSeen { applied: field("applied")?, digest: field("digest")? })
}

/// Copies a folder to the place of another.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

/// Overwrites `bytes` at `position`.
pub fn overwrite(path: &Path, position: u64, bytes: &[u8]) -> Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.seek(SeekFrom::Start(position))?;
    Ok(file.write_all(bytes)?)
}

/// Flips one bit of a file.
pub fn flip(path: &Path, byte: u64, bit: u64) -> Result<()> {
    let content = fs::read(path)?;
    let old = content.get(usize::try_from(byte)?).context("behind the end")?;
    overwrite(path, byte, &[old ^ (1 << bit)])
}

/// All files below a folder.
pub fn files_below(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files_below(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

/// The files of the Raft log, in order.
pub fn segments(controller: &Path) -> Result<Vec<PathBuf>> {
    with_ending(&controller.join("raft"), "log")
}

/// The snapshots, in order.
pub fn snapshots(controller: &Path) -> Result<Vec<PathBuf>> {
    with_ending(&controller.join("snapshots"), "snap")
}

fn with_ending(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == ending))
        .collect();
    found.sort();
    Ok(found)
}
