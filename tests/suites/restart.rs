//! Starts after an end that was not clean, and after damage on the disk: every way to the state gives
//! the same state, a torn tail costs nothing that was acknowledged, and damage is refused with words.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kafka_protocol::messages::{InitProducerIdRequest, ProducerId};
use ottla_env::delay;
use ottla_tests::history::Kind;
use ottla_tests::load::Load;
use ottla_tests::ottla::Ottla;
use ottla_tests::raw::{RawClient, version};
use ottla_tests::topic::{Content, Sequenced};
use ottla_tests::{Scratch, topic};

const TOPIC: &str = "restarted";
const PARTITIONS: i32 = 3;
/// Longer than the time after which the checkpoint is written behind (3 s).
const CHECKPOINT_WRITTEN: Duration = Duration::from_secs(5);

/// A server that had some load, was killed, and is not running; and what was in it.
struct Killed {
    server: Ottla,
    log: BTreeMap<i32, Content>,
}

async fn read_all(bootstrap: &str) -> Result<BTreeMap<i32, Content>> {
    let mut log = BTreeMap::new();
    for partition in 0..PARTITIONS {
        log.insert(partition, topic::read(bootstrap, TOPIC, partition).await?);
    }
    Ok(log)
}

async fn some_load(bootstrap: &str, seed: u64) -> Result<()> {
    let load = Load::start(bootstrap, TOPIC, &[Kind::Idempotent; PARTITIONS as usize], seed);
    delay(Duration::from_secs(1)).await;
    ensure!(!load.stop().await?.is_empty());
    Ok(())
}

/// Load, a checkpoint, more load that only the log holds, kill.
async fn killed(scratch: &Scratch) -> Result<Killed> {
    let mut server = Ottla::start_new(scratch).await?;
    let bootstrap = server.bootstrap();
    topic::create(&bootstrap, TOPIC, PARTITIONS).await?;
    some_load(&bootstrap, 1).await?;
    delay(CHECKPOINT_WRITTEN).await;
    some_load(&bootstrap, 2).await?;
    let log = read_all(&bootstrap).await?;
    ensure!(log.values().all(|content| content.end > 100), "too little load to show anything");
    server.kill().await?;
    Ok(Killed { server, log })
}

impl Killed {
    fn controller(&self) -> PathBuf {
        self.server.data().join("controller")
    }

    /// Starts, compares everything that clients can see, kills; answers applied index and digest as
    /// the control plane had them before the broker registered.
    async fn check(&mut self) -> Result<(String, String)> {
        let before = self.server.output().len();
        self.server.start().await?;
        let log = read_all(&self.server.bootstrap()).await?;
        ensure!(log == self.log, "other records than before the kill");
        self.server.kill().await?;
        let output = self.server.output().split_off(before);
        let line = output
            .lines()
            .find(|line| line.contains("the control plane is ready"))
            .context("no line about the control plane")?;
        let field = |name: &str| {
            let (_, rest) =
                line.split_once(&format!("{name}=")).with_context(|| line.to_owned())?;
            anyhow::Ok(rest.split_whitespace().next().unwrap_or_default().to_owned())
        };
        Ok((field("applied")?, field("digest")?))
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
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

/// Overwrites `bytes` at `position` (from the end when negative).
fn overwrite(path: &Path, position: i64, bytes: &[u8]) -> Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let from =
        if position < 0 { SeekFrom::End(position) } else { SeekFrom::Start(position as u64) };
    file.seek(from)?;
    Ok(file.write_all(bytes)?)
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
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

fn last_segment(controller: &Path) -> Result<PathBuf> {
    let mut segments: Vec<PathBuf> = fs::read_dir(controller.join("raft"))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    segments.sort();
    segments.pop().context("no segment of the Raft log")
}

#[tokio::test]
async fn every_way_to_the_state_gives_the_same_state() -> Result<()> {
    let scratch = Scratch::new("restart-ways")?;
    let mut killed = killed(&scratch).await?;
    let kept = scratch.path().join("kept");
    copy(&killed.controller(), &kept)?;
    let checkpoint = killed.controller().join("checkpoint");
    let with_checkpoint = killed.check().await.context("checkpoint and log")?;

    copy(&kept, &killed.controller())?;
    fs::remove_dir_all(&checkpoint)?;
    let log_only = killed.check().await.context("log only")?;
    ensure!(log_only == with_checkpoint, "{log_only:?} instead of {with_checkpoint:?}");

    copy(&kept, &killed.controller())?;
    let mut files = Vec::new();
    files_below(&checkpoint, &mut files)?;
    ensure!(!files.is_empty(), "no checkpoint was written");
    for file in &files {
        let length = fs::metadata(file)?.len();
        if length > 64 {
            overwrite(file, length as i64 / 2, &[0x5a; 16])?;
        }
    }
    let damaged = killed.check().await.context("damaged checkpoint")?;
    ensure!(damaged == with_checkpoint, "{damaged:?} instead of {with_checkpoint:?}");

    copy(&kept, &killed.controller())?;
    for file in &files {
        fs::write(file, b"")?;
    }
    let emptied = killed.check().await.context("emptied checkpoint")?;
    ensure!(emptied == with_checkpoint, "{emptied:?} instead of {with_checkpoint:?}");
    scratch.done();
    Ok(())
}

#[tokio::test]
async fn bytes_of_an_unfinished_write_at_the_end_of_the_log_are_dropped() -> Result<()> {
    let scratch = Scratch::new("restart-torn")?;
    let mut killed = killed(&scratch).await?;
    let segment = last_segment(&killed.controller())?;
    for torn in [&[0x17_u8][..], &[0; 40], &[0xff; 300]] {
        OpenOptions::new().append(true).open(&segment)?.write_all(torn)?;
        killed.check().await.with_context(|| format!("{} torn bytes", torn.len()))?;
    }
    scratch.done();
    Ok(())
}

#[tokio::test]
async fn a_flipped_bit_in_the_middle_of_the_log_is_refused() -> Result<()> {
    let scratch = Scratch::new("restart-flip")?;
    let mut killed = killed(&scratch).await?;
    let segment = last_segment(&killed.controller())?;
    let middle = fs::metadata(&segment)?.len() / 2;
    let kept = fs::read(&segment)?;
    let byte = kept.get(middle as usize).context("the segment is empty")?;
    overwrite(&segment, middle as i64, &[byte ^ 0x10])?;
    let (status, output) = killed.server.start_refused().await?;
    ensure!(!status.success(), "it started");
    let name = segment.file_name().unwrap_or_default().to_string_lossy();
    ensure!(output.contains(name.as_ref()), "the file is not named:\n{output}");
    fs::write(&segment, kept)?;
    killed.check().await.context("after the bit was put right")?;
    scratch.done();
    Ok(())
}

#[tokio::test]
async fn a_retried_batch_is_answered_with_its_first_offset_after_a_restart() -> Result<()> {
    let scratch = Scratch::new("restart-idempotent")?;
    let mut server = Ottla::start_new(&scratch).await?;
    let bootstrap = server.bootstrap();
    topic::create(&bootstrap, TOPIC, PARTITIONS).await?;
    let mut client = RawClient::connect(&bootstrap).await?;
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    let identity = client.call(version::INIT_PRODUCER_ID, &request).await?;
    let mut requests = Vec::new();
    for sequence in 0..5 {
        let from = Sequenced {
            producer_id: identity.producer_id.0,
            epoch: identity.producer_epoch,
            sequence,
        };
        let batch = topic::batch(&[format!("value {sequence}")], 0, Some(from))?;
        requests.push(topic::produce_request(TOPIC, 0, batch));
    }
    for restart in 0..3 {
        for (offset, request) in (0..).zip(&requests) {
            let answer = client.call(version::PRODUCE, request).await?;
            let partition = &answer.responses[0].partition_responses[0];
            ensure!(
                partition.error_code == 0 && partition.base_offset == offset,
                "after {restart} restarts: {partition:?} instead of offset {offset}"
            );
        }
        server.kill().await?;
        server.start().await?;
        client = RawClient::connect(&bootstrap).await?;
    }
    ensure!(topic::read(&bootstrap, TOPIC, 0).await?.end == 5);
    scratch.done();
    Ok(())
}

#[tokio::test]
async fn a_signal_drains_and_nothing_is_lost() -> Result<()> {
    let scratch = Scratch::new("restart-drain")?;
    let mut server = Ottla::start_new(&scratch).await?;
    let bootstrap = server.bootstrap();
    topic::create(&bootstrap, TOPIC, PARTITIONS).await?;
    let load = Load::start(&bootstrap, TOPIC, &[Kind::Idempotent; PARTITIONS as usize], 5);
    for _ in 0..3 {
        delay(Duration::from_millis(500)).await;
        server.stop().await?;
        server.start().await?;
    }
    let history = load.stop().await?;
    let found = ottla_tests::history::anomalies(&history, &read_all(&bootstrap).await?);
    ensure!(found.is_empty(), "{} anomalies, first: {:?}", found.len(), found.first());
    scratch.done();
    Ok(())
}

#[tokio::test]
async fn a_second_process_on_one_data_folder_is_refused() -> Result<()> {
    let scratch = Scratch::new("restart-lock")?;
    let mut first = Ottla::start_new(&scratch).await?;
    // Its own ports, the same folder.
    let mut second = Ottla::new(&scratch, "ottla")?;
    let (status, output) = second.start_refused().await?;
    ensure!(!status.success(), "it started");
    let owner = first.process()?.id()?.to_string();
    ensure!(output.contains(&owner), "the owner's pid {owner} is not named:\n{output}");
    scratch.done();
    Ok(())
}
