//! Starts after an end that was not clean, and after damage on the disk: every way to the state gives
//! the same state, a torn tail costs nothing that was acknowledged, damage is refused with words, and
//! so is an older copy (F55).

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kafka_protocol::messages::{InitProducerIdRequest, ProducerId};
use ottla_env::{Random, delay};
use ottla_tests::history::Kind;
use ottla_tests::killed::{
    Killed, PARTITIONS, TOPIC, copy, files_below, overwrite, read_all, segments, snapshots,
    some_load,
};
use ottla_tests::load::Load;
use ottla_tests::member::{Member, coordinator};
use ottla_tests::ottla::Ottla;
use ottla_tests::raw::{RawClient, version};
use ottla_tests::topic::Sequenced;
use ottla_tests::{Scratch, topic};
use tokio::time::Instant;

#[tokio::test]
async fn every_way_to_the_state_gives_the_same_state() -> Result<()> {
    let scratch = Scratch::new("restart-ways")?;
    let mut killed = Killed::after_load(Ottla::new(&scratch, "ottla")?).await?;
    let kept = scratch.path().join("kept");
    copy(&killed.controller(), &kept)?;
    let checkpoint = killed.controller().join("checkpoint");
    let with_checkpoint = killed.check().await.context("checkpoint and log")?;

    killed.put_back(&kept)?;
    fs::remove_dir_all(&checkpoint)?;
    let log_only = killed.check().await.context("log only")?;
    ensure!(log_only == with_checkpoint, "{log_only:?} instead of {with_checkpoint:?}");

    killed.put_back(&kept)?;
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

    killed.put_back(&kept)?;
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
        killed.put_back(&kept)?;
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
        killed.put_back(&kept)?;
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

/// Everything that the sweep can do is done at once, and nothing is too young for it.
fn eager_sweep(server: Ottla) -> Ottla {
    server
        .env("OTTLA__SWEEP__INTERVAL", "100ms")
        .env("OTTLA__SWEEP__ORPHAN_AGE", "0ms")
        .env("OTTLA__SWEEP__SHARE_PERCENT", "100")
}

/// A new producer writes a record; its id.
async fn produce_with_a_new_id(bootstrap: &str) -> Result<i64> {
    let mut client = RawClient::connect(bootstrap).await?;
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    let identity = client.call(version::INIT_PRODUCER_ID, &request).await?;
    ensure!(identity.error_code == 0, "{identity:?}");
    let (producer_id, epoch) = (identity.producer_id.0, identity.producer_epoch);
    let from = Sequenced { producer_id, epoch, sequence: 0 };
    let batch = topic::batch(&[format!("of {producer_id}")], 0, Some(from))?;
    let answer = client.call(version::PRODUCE, &topic::produce_request(TOPIC, 0, batch)).await?;
    let partition = &answer.responses[0].partition_responses[0];
    ensure!(partition.error_code == 0, "{partition:?}");
    Ok(producer_id)
}

fn record_objects(server: &Ottla) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    files_below(&server.data().join("objects"), &mut files)?;
    files.retain(|file| file.iter().any(|part| part == "wal"));
    Ok(files)
}

/// Waits until a height is in the bucket that covers everything up to now. It creates a topic, behind
/// what was applied before: ticks alone leave no height.
async fn height_follows(server: &Ottla) -> Result<()> {
    let applied = server.metric("ottla_raft_applied_index").await?.context("no applied index")?;
    let applied = applied as u64;
    let name = format!("height-{:016x}", Random::system().u64());
    topic::create(&server.bootstrap(), &name, 1).await?;
    let is_later = |file: &PathBuf| {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_height = file.iter().any(|part| part == "height");
        is_height && name.parse::<u64>().is_ok_and(|height| height > applied)
    };
    loop {
        let mut files = Vec::new();
        files_below(&server.data().join("objects"), &mut files)?;
        if files.iter().any(is_later) {
            return Ok(());
        }
        delay(Duration::from_millis(50)).await;
    }
}

/// The files at `kept` are put back into a stopped server's place: it does not start, and says how
/// it would; then it does, deletes nothing, and gives no producer id again.
async fn an_older_copy(mut server: Ottla, kept: &Path, lost_ids: &[i64]) -> Result<()> {
    let objects = record_objects(&server)?;
    copy(kept, &server.data().join("controller"))?;
    let mut killed = Killed { server, log: BTreeMap::new() };
    for _ in 0..2 {
        killed.refused(&["older copy", "accept_loss_up_to = "]).await?;
    }
    let (status, _, complaints) = killed.server.run("fsck").await?;
    ensure!(!status.success() && complaints.contains("older copy"), "{complaints}");
    server = killed.server;

    let height = complaints.rsplit("accept_loss_up_to = ").next().unwrap_or_default().trim();
    ensure!(height.parse::<u64>().is_ok(), "no number in: {complaints}");
    server = server.env("OTTLA__CONTROLLER__ACCEPT_LOSS_UP_TO", height);
    server.start().await?;
    let id = produce_with_a_new_id(&server.bootstrap()).await?;
    ensure!(lost_ids.iter().all(|lost| id > lost + 1_000_000), "{id} after {lost_ids:?}");
    while server.metric("ottla_sweep_foreign_objects").await? < Some(lost_ids.len() as f64) {
        delay(Duration::from_millis(50)).await;
    }
    // The setting may stay: it concerns that one copy.
    for _ in 0..2 {
        server.stop().await?;
        server.start().await?;
        height_follows(&server).await?;
    }
    let gone: Vec<_> = objects.iter().filter(|object| !object.exists()).collect();
    ensure!(gone.is_empty(), "{} of {} objects were deleted", gone.len(), objects.len());
    let end = topic::read(&server.bootstrap(), TOPIC, 0).await?.end;
    ensure!(end == 2, "{end} records instead of the first and the last");
    server.stop().await?;
    Ok(())
}

/// Nobody asks about the group any more: its members must time out all the same, and its offsets
/// expire.
#[tokio::test]
async fn a_group_whose_members_died_with_the_server_is_forgotten() -> Result<()> {
    const SESSION: Duration = Duration::from_secs(6);
    let scratch = Scratch::new("restart-group")?;
    let server = Ottla::new(&scratch, "ottla")?;
    let mut server = server.env("OTTLA__KAFKA__OFFSETS_RETENTION", "1s");
    server.start().await?;
    topic::create(&server.bootstrap(), TOPIC, PARTITIONS).await?;
    let mut client = RawClient::connect(&server.bootstrap()).await?;
    coordinator(&mut client, "dead").await?;
    let member = Member::join_for(&mut client, "dead", SESSION).await?;
    member.commit(&mut client, TOPIC, 7).await?;
    server.kill().await?;
    server.start().await?;
    let groups = async || -> Result<f64> {
        Ok(server.scrape().await?.sum("ottla_state_entries", &[("kind", "group")]))
    };
    ensure!(groups().await? == 1.0, "the group was lost");
    let begin = Instant::now();
    while groups().await? > 0.0 {
        ensure!(begin.elapsed() < Duration::from_secs(60), "the group is still there");
        delay(Duration::from_millis(100)).await;
    }
    ensure!(begin.elapsed() > SESSION / 2, "its members had no session");
    server.stop().await?;
    scratch.done();
    Ok(())
}

#[tokio::test]
async fn f55_an_older_copy_is_refused_until_its_loss_is_accepted() -> Result<()> {
    let scratch = Scratch::new("restart-older")?;
    let mut server = eager_sweep(Ottla::new(&scratch, "ottla")?);
    server.start().await?;
    topic::create(&server.bootstrap(), TOPIC, PARTITIONS).await?;
    produce_with_a_new_id(&server.bootstrap()).await?;
    server.stop().await?;
    let kept = scratch.path().join("kept");
    copy(&server.data().join("controller"), &kept)?;

    server.start().await?;
    let lost = produce_with_a_new_id(&server.bootstrap()).await?;
    server.kill().await?;
    an_older_copy(server, &kept, &[lost]).await?;
    scratch.done();
    Ok(())
}

/// A copy as a snapshot of the volume makes it: the run that it knows went on afterwards.
#[tokio::test]
async fn f55_a_copy_of_a_running_node_is_refused_until_its_loss_is_accepted() -> Result<()> {
    let scratch = Scratch::new("restart-volume")?;
    let mut server = eager_sweep(Ottla::new(&scratch, "ottla")?);
    server.start().await?;
    topic::create(&server.bootstrap(), TOPIC, PARTITIONS).await?;
    produce_with_a_new_id(&server.bootstrap()).await?;
    height_follows(&server).await?;
    server.process()?.signal("STOP").await?;
    let kept = scratch.path().join("kept");
    copy(&server.data().join("controller"), &kept)?;
    server.process()?.signal("CONT").await?;

    let mut lost = Vec::new();
    for _ in 0..5 {
        lost.push(produce_with_a_new_id(&server.bootstrap()).await?);
    }
    height_follows(&server).await?;
    server.kill().await?;
    an_older_copy(server, &kept, &lost).await?;
    scratch.done();
    Ok(())
}
