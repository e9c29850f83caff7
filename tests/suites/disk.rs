//! The control plane on bad disks (F24 to F29) and in strange data directories: it stops with one
//! clear line, acknowledges nothing that is not durable, and never cuts off what it acknowledged.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ottla_env::{Random, delay};
use ottla_tests::disk_faults::{DirectoryCall, DiskFault, DiskFaults};
use ottla_tests::history::{Kind, anomalies};
use ottla_tests::killed::{
    Killed, PARTITIONS, TOPIC, copy, files_below, flip, overwrite, read_all, segments, snapshots,
};
use ottla_tests::load::Load;
use ottla_tests::ottla::Ottla;
use ottla_tests::{Scratch, topic};

/// Length of a frame of the log without a body, as of `docs/formats/raft-log.md`.
const FRAME_HEADER: usize = 32;

/// Load, a fault of the disk in the middle of it, the process's end by itself, a start on a disk
/// that is well again: every acknowledged record is there.
async fn fails_under_load(name: &str, fault: DiskFault, words: &[&str]) -> Result<()> {
    let scratch = Scratch::new(name)?;
    let (disk, mut server) =
        DiskFaults::below_controller(&scratch, Ottla::new(&scratch, "ottla")?).await?;
    server.start().await?;
    let bootstrap = server.bootstrap();
    topic::create(&bootstrap, TOPIC, PARTITIONS).await?;
    let kinds = [Kind::Idempotent, Kind::Once, Kind::Retrying];
    let load = Load::start(&bootstrap, TOPIC, &kinds, 24);
    delay(Duration::from_secs(1)).await;
    disk.begin(fault)?;
    let status = server.ends().await.context("it did not end by itself")?;
    ensure!(status.code() == Some(1), "it ended with {status}");
    let output = server.output();
    let line = output.lines().rfind(|line| line.starts_with("ottla: "));
    let line = line.context("no line for the operator")?;
    for word in words {
        ensure!(line.contains(word), "no '{word}' in: {line}");
    }
    ensure!(!output.contains("panicked"), "it panicked");
    disk.mend()?;
    server.start().await.context("on a disk that is well again")?;
    delay(Duration::from_millis(500)).await;
    let history = load.stop().await?;
    let found = anomalies(&history, &read_all(&bootstrap).await?);
    ensure!(found.is_empty(), "{} anomalies, first: {:?}", found.len(), found.first());
    scratch.done();
    Ok(())
}

#[tokio::test]
async fn f24_a_full_disk_ends_the_process_and_loses_nothing() -> Result<()> {
    fails_under_load("disk-full", DiskFault::Full, &["raft", "is full", "free space"]).await
}

#[tokio::test]
async fn f24_a_disk_that_turns_read_only_ends_the_process_and_loses_nothing() -> Result<()> {
    fails_under_load("disk-readonly", DiskFault::ReadOnly, &["raft", "restart"]).await
}

#[tokio::test]
async fn f24_one_failed_write_ends_the_process_and_loses_nothing() -> Result<()> {
    fails_under_load("disk-write", DiskFault::WriteOnce, &["raft", "restart"]).await
}

#[tokio::test]
async fn f25_one_failed_sync_ends_the_process_and_is_never_tried_again() -> Result<()> {
    fails_under_load("disk-sync", DiskFault::SyncOnce, &["raft", "unknown", "restart"]).await
}

#[tokio::test]
async fn f24_a_start_on_a_full_or_read_only_disk_is_refused_in_one_line() -> Result<()> {
    let scratch = Scratch::new("disk-start")?;
    let (disk, mut server) =
        DiskFaults::below_controller(&scratch, Ottla::new(&scratch, "ottla")?).await?;
    for (fault, word) in
        [(DiskFault::Full, "No space left"), (DiskFault::ReadOnly, "Read-only file system")]
    {
        disk.begin(fault)?;
        let (status, output) = server.start_refused().await?;
        let lines: Vec<_> = output.lines().filter(|line| line.starts_with("ottla: ")).collect();
        ensure!(status.code() == Some(1) && lines.len() == 1, "{status}: {lines:?}");
        let says = lines[0].contains(word) && lines[0].contains("controller");
        ensure!(says && lines[0].contains("--data-dir"), "{}", lines[0]);
    }
    disk.mend()?;
    server.start().await.context("on a disk that is well again")?;
    scratch.done();
    Ok(())
}

/// Out of descriptors, the log's writer waits for one, also where it begins a new file.
#[tokio::test]
async fn f62_a_log_that_can_open_no_file_waits_and_goes_on() -> Result<()> {
    let scratch = Scratch::new("disk-no-files")?;
    let server = Ottla::new(&scratch, "ottla")?.env("OTTLA__CONTROLLER__LOG_FILE_SIZE", "64KiB");
    let (disk, mut server) = DiskFaults::below_controller(&scratch, server).await?;
    server.start().await?;
    let bootstrap = server.bootstrap();
    topic::create(&bootstrap, TOPIC, PARTITIONS).await?;
    let load = Load::start(&bootstrap, TOPIC, &[Kind::Idempotent; PARTITIONS as usize], 62);
    let newest =
        |server: &Ottla| segments(&server.data().join("controller")).map(|all| all.last().cloned());
    for _ in 0..3 {
        disk.begin(DiskFault::NoFiles)?;
        // Long enough to fill a file under this load, short enough for clients to wait.
        delay(Duration::from_secs(2)).await;
        let before = newest(&server)?;
        disk.mend()?;
        while newest(&server)? == before {
            server.process()?.check_running()?;
            delay(Duration::from_millis(50)).await;
        }
    }
    let history = load.stop().await?;
    let found = anomalies(&history, &read_all(&bootstrap).await?);
    ensure!(found.is_empty(), "{} anomalies, first: {:?}", found.len(), found.first());
    server.stop().await?;
    scratch.done();
    Ok(())
}

/// The name of every folder is durable when clients can connect: of those that this start made, and
/// of those that it found, which an earlier one may have made and not synced. The checkpoint does
/// not count, it can be lost.
#[tokio::test]
async fn f28_the_names_of_all_folders_are_synced_by_every_start() -> Result<()> {
    let scratch = Scratch::new("disk-folders")?;
    let server = Ottla::new(&scratch, "a/nested/new/folder")?;
    let (disk, mut server) = DiskFaults::below_controller(&scratch, server).await?;
    for start in ["first", "second"] {
        server.start().await?;
        let calls = disk.take_trace()?;
        server.kill().await?;
        let mut folders = Vec::new();
        folders_below(scratch.path(), &mut folders)?;
        ensure!(folders.len() > 256, "only {} folders", folders.len());
        for folder in folders {
            let made = calls.iter().rposition(|call| *call == DirectoryCall::Made(folder.clone()));
            let holder = folder.parent().context("no parent")?.to_owned();
            let synced =
                calls.iter().rposition(|call| *call == DirectoryCall::Synced(holder.clone()));
            ensure!(
                synced.is_some() && synced >= made,
                "{start} start: {} may not outlast a loss of power",
                folder.display()
            );
        }
    }
    scratch.done();
    Ok(())
}

fn folders_below(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("checkpoint") {
            folders_below(&path, found)?;
            found.push(path);
        }
    }
    Ok(())
}

/// Where the last frame that is known to be on disk ends in the last segment: what its last
/// marker says.
fn known_synced(segment: &Path) -> Result<u64> {
    let bytes = fs::read(segment)?;
    let marker = bytes.len().checked_sub(FRAME_HEADER).context("too short")?;
    let field = |from: usize| -> Result<u64> {
        Ok(u64::from_le_bytes(bytes.get(from..from + 8).context("too short")?.try_into()?))
    };
    let start =
        u64::from_str_radix(&segment.file_stem().unwrap_or_default().to_string_lossy(), 16)?;
    ensure!(field(marker + 16)? == start + marker as u64, "the log does not end with a marker");
    Ok(field(marker + 24)? - start)
}

#[tokio::test]
async fn f26_flipped_bits_anywhere_below_the_synced_position_are_refused() -> Result<()> {
    let scratch = Scratch::new("disk-flip")?;
    let mut killed = Killed::after_load(Ottla::new(&scratch, "ottla")?).await?;
    let segment = segments(&killed.controller())?.pop().context("no segment")?;
    let name = segment.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let whole = fs::read(&segment)?;
    let synced = known_synced(&segment)?;
    let random = Random::seeded(26);
    let mut places = vec![synced - 1, synced - 5, synced - FRAME_HEADER as u64, 0, 4, 8, 20, 40];
    places.extend((0..30).map(|_| random.below(synced)));
    for byte in places {
        flip(&segment, byte, random.below(8))?;
        killed.refused(&[&name, "damaged at byte", "copy of this disk"]).await?;
        fs::write(&segment, &whole)?;
    }
    killed.check().await.context("after the bits were put right")?;
    scratch.done();
    Ok(())
}

#[tokio::test]
async fn f26_a_piece_missing_in_the_middle_or_at_the_end_is_refused() -> Result<()> {
    let scratch = Scratch::new("disk-cut")?;
    let mut killed = Killed::after_load(Ottla::new(&scratch, "ottla")?).await?;
    // A stop leaves a checkpoint that knows the end of the log.
    killed.server.start().await?;
    killed.server.stop().await?;
    let segment = segments(&killed.controller())?.pop().context("no segment")?;
    let name = segment.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let whole = fs::read(&segment)?;
    let random = Random::seeded(27);
    for round in 0..12 {
        // The last few bytes say only what is committed.
        let at = random.below(whole.len() as u64 - 100) as usize;
        let mut damaged = whole.clone();
        match round % 3 {
            0 => damaged.truncate(at),
            1 => drop(damaged.drain(at..(at + 100).min(whole.len()))),
            _ => damaged[at..].iter_mut().take(4096).for_each(|byte| *byte = 0),
        }
        fs::write(&segment, damaged)?;
        killed.refused(&[&name]).await.with_context(|| format!("round {round}, byte {at}"))?;
        fs::write(&segment, &whole)?;
    }
    fs::remove_file(&segment)?;
    killed.refused(&["raft"]).await.context("without the file")?;
    fs::write(&segment, &whole)?;
    let vote = killed.controller().join("raft/vote");
    let kept = fs::read(&vote)?;
    flip(&vote, 20, 3)?;
    killed.refused(&["vote", "damaged"]).await?;
    fs::remove_file(&vote)?;
    killed.refused(&["vote", "missing"]).await?;
    fs::write(&vote, kept)?;
    killed.check().await.context("after all was put right")?;
    scratch.done();
    Ok(())
}

#[tokio::test]
async fn f27_a_state_without_any_whole_snapshot_is_refused_and_leftovers_are_removed() -> Result<()>
{
    let scratch = Scratch::new("disk-snapshot")?;
    let mut server =
        Ottla::new(&scratch, "ottla")?.env("OTTLA__CONTROLLER__LOG_FILE_SIZE", "64KiB");
    server.start().await?;
    let bootstrap = server.bootstrap();
    topic::create(&bootstrap, TOPIC, PARTITIONS).await?;
    let controller = server.data().join("controller");
    let first = controller.join("raft").join(format!("{:016x}.log", 0));
    let load = Load::start(&bootstrap, TOPIC, &[Kind::Idempotent; PARTITIONS as usize], 27);
    while first.exists() {
        delay(Duration::from_millis(200)).await;
    }
    load.stop().await?;
    let log = read_all(&bootstrap).await?;
    server.kill().await?;
    let mut killed = Killed { server, log };
    let kept = scratch.path().join("kept");
    copy(&controller, &kept)?;
    fs::write(controller.join("snapshots/snapshot-00000000000000099999.tmp"), b"half")?;
    killed.check().await.context("a half-written snapshot")?;
    ensure!(!controller.join("snapshots/snapshot-00000000000000099999.tmp").exists());

    killed.put_back(&kept)?;
    fs::remove_dir_all(controller.join("checkpoint"))?;
    for (at, snapshot) in snapshots(&controller)?.iter().enumerate() {
        let length = fs::metadata(snapshot)?.len();
        match at {
            0 => OpenOptions::new().write(true).open(snapshot)?.set_len(length - 1)?,
            _ => flip(snapshot, length / 2, 1)?,
        }
    }
    let newest = snapshots(&controller)?.pop().context("no snapshot")?;
    let name = newest.file_name().unwrap_or_default().to_string_lossy().into_owned();
    killed.refused(&["the log begins after entry", &name, "copy of this disk"]).await?;
    killed.put_back(&kept)?;
    killed.check().await.context("after all was put right")?;
    scratch.done();
    Ok(())
}

#[tokio::test]
async fn f29_a_checkpoint_corrupted_in_a_hundred_ways_changes_nothing() -> Result<()> {
    let scratch = Scratch::new("disk-checkpoint")?;
    let mut killed = Killed::after_load(Ottla::new(&scratch, "ottla")?).await?;
    let kept = scratch.path().join("kept");
    copy(&killed.controller(), &kept)?;
    let right = killed.check().await?;
    let random = Random::seeded(29);
    for round in 0..100 {
        killed.put_back(&kept)?;
        let mut files = Vec::new();
        files_below(&killed.controller().join("checkpoint"), &mut files)?;
        files.sort();
        files.retain(|file| fs::metadata(file).is_ok_and(|file| file.len() > 0));
        let file = &files[random.below(files.len() as u64) as usize];
        let length = fs::metadata(file)?.len();
        match round % 4 {
            0 => OpenOptions::new().write(true).open(file)?.set_len(random.below(length))?,
            1 => flip(file, random.below(length), random.below(8))?,
            2 => {
                let garbage: Vec<u8> = (0..512).map(|_| random.below(256) as u8).collect();
                overwrite(file, random.below(length), &garbage)?;
            }
            _ => fs::remove_file(file)?,
        }
        let seen = killed.state().await.with_context(|| format!("round {round}: {file:?}"))?;
        ensure!(seen == right, "round {round}, {file:?}: {seen:?} instead of {right:?}");
    }
    killed.put_back(&kept)?;
    killed.check().await?;
    scratch.done();
    Ok(())
}

#[tokio::test]
async fn strange_data_directories_are_refused_and_left_as_they_are() -> Result<()> {
    let scratch = Scratch::new("disk-strange")?;
    let mut killed = Killed::after_load(Ottla::new(&scratch, "ottla")?).await?;
    let mut other = Ottla::new(&scratch, "other")?;
    other.start().await?;
    other.kill().await?;
    let (ours, theirs) = (killed.controller(), other.data().join("controller"));
    let identity = ours.join("identity");
    let kept = fs::read(&identity)?;

    fs::copy(theirs.join("identity"), &identity)?;
    killed.refused(&["belongs to", "cluster"]).await.context("the identity of another")?;
    fs::write(&identity, b"not ours at all, whatever it is; 36 ")?;
    killed.refused(&["identity"]).await.context("a foreign file")?;
    // The next version, with this one's checksum: damage and newer versions are told apart.
    let mut newer = kept.clone();
    newer[4] += 1;
    let version = format!("version {}", newer[4]);
    fs::write(&identity, &newer)?;
    killed.refused(&["identity", "checksum"]).await.context("a damaged version")?;
    let covered = newer.len() - 4;
    let crc = crc32c::crc32c(&newer[..covered]).to_le_bytes();
    newer[covered..].copy_from_slice(&crc);
    fs::write(&identity, &newer)?;
    killed.refused(&["identity", &version]).await.context("a newer version")?;
    fs::remove_file(&identity)?;
    killed.refused(&["identity", "missing"]).await.context("no identity")?;
    fs::write(&identity, &kept)?;

    let mut elsewhere = Ottla::new(&scratch, "ottla")?.flag("--node-id", "7");
    let (status, output) = elsewhere.start_refused().await?;
    ensure!(status.code() == Some(1), "it ended with {status}");
    ensure!(output.contains("belongs to node 1"), "{output}");
    killed.check().await.context("after all was put right")?;
    scratch.done();
    Ok(())
}
