//! Every way to the state gives one digest.

use ottla_env::Random;
use ottla_model::Offset;
use ottla_telemetry::Metrics;

use super::world::{Life, PARTITION, fill, kill, last_segment, life, options, restarted, start};
use crate::raft_log::LogOptions;
use crate::service::OpenedController;

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "asks as the read path does")]
async fn every_way_of_replay_gives_the_same_digest() {
    for snapshot in [false, true] {
        let Life { folder: _folder, killed, digest, end } = life(snapshot).await;
        // Log only, or snapshot and log: the checkpoint had no time to be written, or is deleted.
        std::fs::remove_dir_all(killed.join("controller/checkpoint")).unwrap();
        let (controller, after) = restarted(&killed).await;
        assert_eq!(after, digest);
        // A clean stop writes the checkpoint: the next start goes by it.
        controller.stop().await;
        let (controller, after) = restarted(&killed).await;
        assert_eq!(after, digest);
        fill(&controller, 9, 5).await;
        let more = controller.digest().1;
        let again = kill(controller, &killed).await;
        // Checkpoint and log.
        let (controller, after) = restarted(&again).await;
        assert_eq!(after, more);
        let bounds = controller.api().partition_bounds(PARTITION).await.unwrap().unwrap();
        assert_eq!(bounds.high_watermark, Offset(end + 50));
        controller.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_was_only_opened_has_changed_nothing() {
    let Life { folder: _folder, killed, digest, .. } = life(true).await;
    let log = || std::fs::read(last_segment(&killed)).unwrap();
    let before = log();
    let mut last = None;
    for _ in 0..2 {
        let random = Random::system();
        let opening = OpenedController::open(options(&killed), &random, Metrics::new());
        let opened = opening.await.unwrap();
        assert!(*last.get_or_insert(opened.last_entry()) == opened.last_entry());
        let second = start(options(&killed)).await.unwrap_err().to_string();
        assert!(second.contains("is in use"), "{second}");
        opened.close().await;
        assert_eq!(log(), before);
    }
    let (controller, after) = restarted(&killed).await;
    assert_eq!(after, digest);
    assert!(controller.digest().0 > last.unwrap());
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_lets_the_log_go_and_a_restart_needs_both() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    options.log = LogOptions { segment_bytes: 2_000, ..LogOptions::default() };
    options.snapshot_entries = 20;
    let controller = start(options.clone()).await.unwrap();
    fill(&controller, 1, 100).await;
    controller.snapshot().await.unwrap();
    let first = folder.path().join(format!("controller/raft/{:016x}.log", 0));
    let mut nonce = 2;
    while first.exists() {
        fill(&controller, nonce, 10).await;
        controller.snapshot().await.unwrap();
        nonce += 1;
    }
    let digest = controller.digest().1;
    controller.stop().await;
    std::fs::remove_dir_all(folder.path().join("controller/checkpoint")).unwrap();
    // Damage to the newest snapshot costs nothing: the log goes back to the one before.
    let mut snapshots: Vec<_> = std::fs::read_dir(folder.path().join("controller/snapshots"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    snapshots.sort();
    let newest = snapshots.pop().unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    let controller = start(options.clone()).await.unwrap();
    assert_eq!(controller.digest().1, digest);
    controller.stop().await;
    assert!(!newest.exists() && newest.with_extension("damaged").exists());
    std::fs::remove_dir_all(folder.path().join("controller/checkpoint")).unwrap();
    let controller = start(options.clone()).await.unwrap();
    assert_eq!(controller.digest().1, digest);
    controller.stop().await;
    // Without its snapshots the log's rest is worth nothing, and the node says so.
    std::fs::remove_dir_all(folder.path().join("controller/snapshots")).unwrap();
    std::fs::remove_dir_all(folder.path().join("controller/checkpoint")).unwrap();
    let error = start(options).await.unwrap_err().to_string();
    assert!(error.contains("the log begins after entry"), "{error}");
}
