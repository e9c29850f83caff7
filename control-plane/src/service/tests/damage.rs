//! What a start makes of damaged files: it rebuilds what it can, and refuses what would lose
//! acknowledged entries. And what a node makes of a state that breaks a promise.

use std::time::Duration;

use ottla_format::raft_entry::{Entry, LogId, Payload};
use ottla_format::raft_log::{Frame, SEGMENT_HEADER_BYTES, SegmentHeader};

use tokio::time::timeout;

use super::world::{
    Life, PARTITION, commit, copy_tree, fill, last_segment, life, options, register, restarted,
    start,
};
use crate::service::StartError;

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupted_checkpoint_is_rebuilt() {
    let folder = tempfile::tempdir().unwrap();
    let controller = start(options(folder.path())).await.unwrap();
    fill(&controller, 1, 30).await;
    let digest = controller.digest().1;
    controller.stop().await;
    let checkpoint = folder.path().join("controller/checkpoint");
    for entry in std::fs::read_dir(&checkpoint).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let mut bytes = std::fs::read(&path).unwrap();
            let step = (bytes.len() / 50).max(1);
            for at in (0..bytes.len()).step_by(step) {
                bytes[at] ^= 0x55;
            }
            std::fs::write(&path, bytes).unwrap();
        }
    }
    let (controller, after) = restarted(folder.path()).await;
    assert_eq!(after, digest);
    controller.stop().await;
}

/// What follows the last frame of a segment when a further entry is written.
fn next_frame(segment: &[u8]) -> Vec<u8> {
    let start = SegmentHeader::decode(segment).unwrap().start;
    let (mut at, mut last, mut synced) = (SEGMENT_HEADER_BYTES, None, 0);
    while at < segment.len() {
        let (header, frame, length) = Frame::decode(&segment[at..], start + at as u64).unwrap();
        if let Frame::Entry(entry) = frame {
            last = Some(entry.id);
        }
        synced = header.synced;
        at += length;
    }
    let last = last.unwrap();
    let id = LogId { index: last.index + 1, ..last };
    let mut out = Vec::new();
    Frame::Entry(Entry { id, payload: Payload::Blank }).encode(start + at as u64, synced, &mut out);
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_torn_at_any_byte_is_dropped_and_all_that_was_acknowledged_is_there() {
    let Life { folder: _folder, killed, digest, .. } = life(false).await;
    std::fs::remove_dir_all(killed.join("controller/checkpoint")).unwrap();
    let segment = last_segment(&killed);
    let whole = std::fs::read(&segment).unwrap();
    let next = next_frame(&whole);
    let garbage: Vec<u8> = (0..5_000u32).map(|at| at as u8).collect();
    let tails = (0..=next.len()).map(|cut| &next[..cut]).chain([garbage.as_slice()]);
    for (at, tail) in tails.enumerate() {
        std::fs::write(&segment, [whole.as_slice(), tail].concat()).unwrap();
        let copy = killed.with_extension(format!("torn{at}"));
        copy_tree(&killed, &copy);
        let (controller, after) = restarted(&copy).await;
        assert_eq!(after, digest, "a tail of {} bytes", tail.len());
        controller.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_the_middle_of_the_log_is_refused() {
    let Life { folder: _folder, killed, .. } = life(false).await;
    std::fs::remove_dir_all(killed.join("controller/checkpoint")).unwrap();
    let first = killed.join("controller/raft").join(format!("{:016x}.log", 0));
    let mut bytes = std::fs::read(&first).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&first, bytes).unwrap();
    let error = start(options(&killed)).await.unwrap_err();
    assert!(matches!(error, StartError::Log(_)));
    let error = error.to_string();
    assert!(error.contains("0000000000000000.log is damaged at byte"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_cut_below_the_checkpoint_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let controller = start(options(folder.path())).await.unwrap();
    fill(&controller, 1, 30).await;
    controller.stop().await;
    let segment = last_segment(folder.path());
    let bytes = std::fs::read(&segment).unwrap();
    std::fs::write(&segment, &bytes[..bytes.len() / 2]).unwrap();
    let error = start(options(folder.path())).await.unwrap_err().to_string();
    assert!(error.contains("damaged"), "{error}");
}

/// What was acknowledged after the snapshot would be gone, and nobody told.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_log_is_refused_although_a_snapshot_is_there() {
    for vote_is_left in [false, true] {
        let Life { folder: _folder, killed, .. } = life(true).await;
        // A checkpoint is ahead of the snapshot, and refuses by itself.
        std::fs::remove_dir_all(killed.join("controller/checkpoint")).unwrap();
        let raft = killed.join("controller/raft");
        let vote = std::fs::read(raft.join("vote")).unwrap();
        std::fs::remove_dir_all(&raft).unwrap();
        if vote_is_left {
            std::fs::create_dir(&raft).unwrap();
            std::fs::write(raft.join("vote"), vote).unwrap();
        }
        let error = start(options(&killed)).await.unwrap_err().to_string();
        assert!(error.contains("missing"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_promise_of_the_state_ends_the_node_without_another_answer() {
    let folder = tempfile::tempdir().unwrap();
    let controller = start(options(folder.path())).await.unwrap();
    fill(&controller, 1, 30).await;
    let (api, digest) = (controller.api(), controller.digest());
    let author = register(&api, 2).await.author;
    controller.break_a_promise(PARTITION);
    let commit = tokio::spawn(async move { api.commit_objects(commit(author, 0, 0)).await });
    let reason =
        timeout(Duration::from_secs(5), controller.failed()).await.expect("noticed at once");
    assert!(reason.starts_with("the state machine failed"), "{reason}");
    timeout(Duration::from_secs(5), controller.stop()).await.expect("stops");
    assert!(!matches!(commit.await, Ok(Ok(_))), "an answer from a broken state");

    // The state in memory was wrong, and no checkpoint was made of it: the log has the right one.
    let controller = start(options(folder.path())).await.unwrap();
    assert!(controller.digest().0 >= digest.0);
    assert_eq!(controller.state().check(), Ok(()));
    let log_end = controller.state().bounds(PARTITION).unwrap().high_watermark;
    assert_eq!(log_end.0, 310, "30 objects and the one of the commit, each of ten records");
    controller.stop().await;
}
