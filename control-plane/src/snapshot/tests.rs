use std::sync::Arc;

use ottla_format::command::{Command, CommandBody, CreateTopic};
use ottla_format::feature_level::{FeatureLevel, NEWEST};
use ottla_model::{AppliedIndex, ClusterId, SOFTWARE_VERSION, TimestampMs, TopicId, TopicName};

use super::*;
use crate::raft_log::DiskDirectory;
use crate::raft_log::memory_files::{Fault, MemoryDirectory};

const CLUSTER: ClusterId = ClusterId(0xc1);

/// A state with this many topics, each a command.
fn state(topics: u64) -> State {
    let mut state = State::new(CLUSTER);
    for at in 1..=topics {
        let body = CommandBody::CreateTopic(CreateTopic {
            id: TopicId(u128::from(at)),
            name: TopicName::new(&format!("topic-{at}")).unwrap(),
            partitions: 3,
            replication_factor: 1,
            configs: Default::default(),
        });
        state.apply(AppliedIndex(at), &Command { time: TimestampMs(at as i64), body });
    }
    state
}

fn on_disk() -> (tempfile::TempDir, Snapshots) {
    let folder = tempfile::tempdir().unwrap();
    let directory = Arc::new(DiskDirectory::open(folder.path()).unwrap());
    (folder, Snapshots::new(directory, CLUSTER))
}

fn names(folder: &tempfile::TempDir) -> Vec<String> {
    let files = std::fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<_> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_snapshot_comes_back_with_state_digest_and_meta() {
    let (_folder, snapshots) = on_disk();
    // More than one block of records.
    let written = state(6_000);
    let info = snapshots.write(&written, b"where the log stood").unwrap();
    assert_eq!(info.identity, written.identity());
    assert!(info.length > 2 * ottla_format::snapshot::SNAPSHOT_BLOCK_BYTES as u64);
    let (found, state) = snapshots.open().unwrap().newest.unwrap();
    assert_eq!(found, info);
    assert_eq!(found.meta, b"where the log stood");
    assert_eq!(state.identity(), written.identity());
    state.check().unwrap();
}

#[test]
fn an_empty_directory_has_no_snapshot() {
    let (_folder, snapshots) = on_disk();
    assert!(snapshots.open().unwrap().newest.is_none());
}

#[test]
fn the_newest_two_are_kept_and_leftovers_removed() {
    let (folder, snapshots) = on_disk();
    std::fs::write(folder.path().join("snapshot-00000000000000000009.tmp"), b"half").unwrap();
    std::fs::write(folder.path().join("notes.txt"), b"not ours").unwrap();
    for topics in [1, 2, 3] {
        snapshots.write(&state(topics), b"").unwrap();
    }
    let kept =
        ["notes.txt", "snapshot-00000000000000000002.snap", "snapshot-00000000000000000003.snap"];
    assert_eq!(names(&folder), kept);
}

#[test]
fn a_damaged_snapshot_is_named_and_the_one_before_it_is_used() {
    let (folder, snapshots) = on_disk();
    snapshots.write(&state(1), b"").unwrap();
    let newest = folder.path().join(snapshots.write(&state(2), b"").unwrap().name);
    let whole = std::fs::read(&newest).unwrap();
    let mut damages: Vec<Vec<u8>> = (0..whole.len()).map(|cut| whole[..cut].to_vec()).collect();
    for byte in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[byte] ^= 0x10;
        damages.push(flipped);
    }
    for damaged in damages {
        std::fs::write(&newest, damaged).unwrap();
        // A flip in the cluster id is found by the header's checksum: never a foreign cluster.
        let opened = snapshots.open().unwrap();
        assert_eq!(opened.damaged.len(), 1);
        assert_eq!(opened.newest.unwrap().0.identity.applied, AppliedIndex(1));
    }
}

#[test]
fn the_snapshot_of_another_cluster_is_refused() {
    let (folder, snapshots) = on_disk();
    snapshots.write(&state(1), b"").unwrap();
    let directory = Arc::new(DiskDirectory::open(folder.path()).unwrap());
    let error = Snapshots::new(directory, ClusterId(0xc2)).open().unwrap_err();
    assert!(matches!(error, SnapshotError::ForeignCluster { found: CLUSTER, .. }));
}

/// Power fails at every single operation of a second write: the first snapshot or the second is
/// there and whole, and what was reported as written is there.
#[test]
fn power_loss_at_any_moment_leaves_a_whole_snapshot() {
    let undisturbed = MemoryDirectory::default();
    let snapshots =
        |directory: &MemoryDirectory| Snapshots::new(Arc::new(directory.clone()), CLUSTER);
    snapshots(&undisturbed).write(&state(1), b"").unwrap();
    let first = undisturbed.operations();
    snapshots(&undisturbed).write(&state(2), b"").unwrap();

    for at in first..=undisturbed.operations() {
        for seed in 0..20 {
            let directory = MemoryDirectory::with_fault(at, Fault::Crash);
            snapshots(&directory).write(&state(1), b"").unwrap();
            let written = snapshots(&directory).write(&state(2), b"").is_ok();
            let opened = snapshots(&directory.after_power_loss(seed)).open().unwrap();
            assert!(opened.damaged.is_empty(), "crash at {at}: {:?}", opened.damaged);
            let applied = opened.newest.unwrap().0.identity.applied;
            assert!(applied == AppliedIndex(2) || !written, "reported and lost, crash at {at}");
        }
    }
}

/// The files that a later version of Ottla leaves in a cluster whose level was raised.
#[test]
fn a_snapshot_of_a_level_that_is_not_known_is_refused_and_stays() {
    let (folder, snapshots) = on_disk();
    let mut newer = state(3);
    let level = FeatureLevel(NEWEST.0 + 1);
    let body = CommandBody::RaiseFeatureLevel { to: level };
    newer.apply(AppliedIndex(4), &Command { time: TimestampMs(4), body });
    let name = snapshot_name(AppliedIndex(4));
    file::write(&*snapshots.directory, &name, &newer, b"meta").unwrap();
    let error = snapshots.open().unwrap_err();
    assert!(matches!(error, SnapshotError::OtherVersion { .. }), "{error}");
    let line = error.to_string();
    assert!(line.contains(&format!("feature level {level}")), "{line}");
    assert!(line.ends_with(&format!("(written by ottla {SOFTWARE_VERSION})")), "{line}");
    assert_eq!(names(&folder), [name]);
}
