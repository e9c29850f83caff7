//! Starts after an end that was not clean, and after damage on the disk: every way to the state gives
//! the same state, a torn tail costs nothing that was acknowledged, and damage is refused with words.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kafka_protocol::messages::{InitProducerIdRequest, ProducerId};
use ottla_env::delay;
use ottla_tests::history::Kind;
use ottla_tests::killed::{
    Killed, PARTITIONS, TOPIC, copy, files_below, overwrite, read_all, segments, snapshots,
    some_load,
};
use ottla_tests::load::Load;
use ottla_tests::ottla::Ottla;
use ottla_tests::raw::{RawClient, version};
use ottla_tests::topic::Sequenced;
use ottla_tests::{Scratch, topic};

#[tokio::test]
async fn every_way_to_the_state_gives_the_same_state() -> Result<()> {
    let scratch = Scratch::new("restart-ways")?;
    let mut killed = Killed::after_load(Ottla::new(&scratch, "ottla")?).await?;
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
            overwrite(file, length / 2, &[0x5a; 16])?;
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
    let mut killed = Killed::after_load(Ottla::new(&scratch, "ottla")?).await?;
    let segment = segments(&killed.controller())?.pop().context("no segment")?;
    for torn in [&[0x17_u8][..], &[0; 40], &[0xff; 300]] {
        OpenOptions::new().append(true).open(&segment)?.write_all(torn)?;
        killed.check().await.with_context(|| format!("{} torn bytes", torn.len()))?;
    }
    scratch.done();
    Ok(())
}

/// One history three ways: the first snapshot lets nothing of the log go yet.
#[tokio::test]
async fn log_alone_checkpoint_and_snapshot_make_the_same_state() -> Result<()> {
    let scratch = Scratch::new("restart-snapshot")?;
    let server = Ottla::new(&scratch, "ottla")?.env("OTTLA__CONTROLLER__LOG_FILE_SIZE", "64KiB");
    let mut killed = with_snapshots(server, 1).await?;
    let kept = scratch.path().join("kept");
    copy(&killed.controller(), &kept)?;
    ensure!(snapshots(&kept)?.len() == 1, "{:?}", snapshots(&kept)?);
    let first = fs::metadata(kept.join("raft").join(format!("{:016x}.log", 0)));
    ensure!(first.is_ok(), "the first file of the log is gone already");
    let mut seen = Vec::new();
    for (way, missing) in [
        ("all of it", &[][..]),
        ("checkpoint and log", &["snapshots"]),
        ("snapshot and log", &["checkpoint"]),
        ("log only", &["snapshots", "checkpoint"]),
    ] {
        copy(&kept, &killed.controller())?;
        for folder in missing {
            fs::remove_dir_all(killed.controller().join(folder))?;
        }
        seen.push((way, killed.check().await.context(way)?));
    }
    let (_, first) = &seen[0];
    ensure!(seen.iter().all(|(_, state)| state == first), "{seen:?}");
    scratch.done();
    Ok(())
}

/// After two snapshots the log begins behind the first entry; after damage to the newest it still
/// goes back far enough.
#[tokio::test]
async fn a_purged_log_goes_on_from_the_newest_snapshot_or_the_one_before() -> Result<()> {
    let scratch = Scratch::new("restart-purged")?;
    let server = Ottla::new(&scratch, "ottla")?.env("OTTLA__CONTROLLER__LOG_FILE_SIZE", "64KiB");
    let mut killed = with_snapshots(server, 3).await?;
    let kept = scratch.path().join("kept");
    copy(&killed.controller(), &kept)?;
    let sizes = |folder: &str| -> Result<u64> {
        let mut files = Vec::new();
        files_below(&kept.join(folder), &mut files)?;
        files.iter().map(|file| Ok(fs::metadata(file)?.len())).sum()
    };
    println!(
        "log {} bytes, checkpoint {} bytes, snapshots {} bytes",
        sizes("raft")?,
        sizes("checkpoint")?,
        sizes("snapshots")?
    );
    // Three files and what the last commits overshoot them by.
    ensure!(sizes("raft")? < 5 * 64 * 1024, "the log takes {} bytes", sizes("raft")?);
    let with_checkpoint = killed.check().await.context("checkpoint and log")?;
    for damage in ["none", "newest cut", "newest flipped", "newest gone"] {
        copy(&kept, &killed.controller())?;
        fs::remove_dir_all(killed.controller().join("checkpoint"))?;
        let newest = snapshots(&killed.controller())?.pop().context("no snapshot")?;
        let length = fs::metadata(&newest)?.len();
        match damage {
            "newest cut" => OpenOptions::new().write(true).open(&newest)?.set_len(length / 2)?,
            "newest flipped" => ottla_tests::killed::flip(&newest, length / 3, 5)?,
            "newest gone" => fs::remove_file(&newest)?,
            _ => {}
        }
        let seen = killed.check().await.context(damage)?;
        ensure!(seen == with_checkpoint, "{damage}: {seen:?} instead of {with_checkpoint:?}");
    }
    scratch.done();
    Ok(())
}

/// Load until so many snapshots were written and the log was let go up to the one before, and some
/// more; then a kill.
async fn with_snapshots(server: Ottla, count: usize) -> Result<Killed> {
    let mut server = server;
    server.start().await?;
    let bootstrap = server.bootstrap();
    topic::create(&bootstrap, TOPIC, PARTITIONS).await?;
    let controller = server.data().join("controller");
    let mut seed = 1;
    let written = |controller: &Path| -> Result<bool> {
        let now = snapshots(controller)?;
        let first_is_there = controller.join("raft").join(format!("{:016x}.log", 0)).exists();
        Ok(match count {
            1 => now.len() == 1,
            _ => now.len() == 2 && !first_is_there,
        })
    };
    while !written(&controller)? {
        ensure!(seed < 60, "no snapshot was written, or the log not let go");
        some_load(&bootstrap, seed).await?;
        seed += 1;
    }
    let log = read_all(&bootstrap).await?;
    server.kill().await?;
    Ok(Killed { server, log })
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
