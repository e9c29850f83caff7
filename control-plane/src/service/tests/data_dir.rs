//! One process per directory, one directory per node.

use ottla_format::node_identity::NodeIdentity;
use ottla_model::BrokerId;

use super::world::{options, start};
use crate::service::StartError;

/// Raft must not take a node that has lost its promises for the one that made them.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_wiped_disk_has_another_raft_id() {
    let folder = tempfile::tempdir().unwrap();
    let mut ids = Vec::new();
    for wiped in [false, false, true] {
        if wiped {
            std::fs::remove_dir_all(folder.path().join("controller")).unwrap();
        }
        let controller = start(options(folder.path())).await.unwrap();
        let membership = controller.membership();
        controller.stop().await;
        let identity = std::fs::read(folder.path().join("controller/identity")).unwrap();
        let identity = NodeIdentity::decode(&identity).unwrap();
        assert_eq!(identity.node, BrokerId(1));
        assert!(membership.members.keys().eq([&identity.raft_id]));
        ids.push(identity.raft_id);
    }
    assert_eq!(ids[0], ids[1], "a restart");
    assert_ne!(ids[1], ids[2], "a wiped disk");
}

/// An address can change, and others connect to what the membership says.
#[tokio::test(flavor = "multi_thread")]
async fn the_membership_has_the_address_that_others_connect_to() {
    let folder = tempfile::tempdir().unwrap();
    for address in ["node-1.example:9093", "node-1.example:9093", "moved.example:9093"] {
        let mut options = options(folder.path());
        options.address = address.to_owned();
        let controller = start(options).await.unwrap();
        let membership = controller.membership();
        controller.stop().await;
        assert!(membership.members.values().eq([address]), "{membership:?}");
        assert_eq!(membership.voters.len(), 1, "{membership:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_refused_with_the_first_ones_pid() {
    let folder = tempfile::tempdir().unwrap();
    let controller = start(options(folder.path())).await.unwrap();
    let error = start(options(folder.path())).await.unwrap_err();
    assert!(
        matches!(error, StartError::Locked { pid: Some(pid), .. } if pid == std::process::id())
    );
    assert!(error.to_string().contains(&format!("process {}", std::process::id())));
    controller.stop().await;
    start(options(folder.path())).await.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_nodes_directory_and_a_lost_or_damaged_identity_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    start(options(folder.path())).await.unwrap().stop().await;
    let mut other = options(folder.path());
    other.node_id = BrokerId(2);
    let error = start(other).await.unwrap_err();
    assert!(matches!(error, StartError::OtherNode { found: BrokerId(1), .. }), "{error}");
    let identity = folder.path().join("controller/identity");
    let bytes = std::fs::read(&identity).unwrap();
    for (version, why) in [(9, "format version 9"), (1, "version 1, which was never released")] {
        let mut other = bytes.clone();
        other[4] = version;
        let crc = crc32c::crc32c(&other[..36]);
        other[36..].copy_from_slice(&crc.to_le_bytes());
        std::fs::write(&identity, other).unwrap();
        let error = start(options(folder.path())).await.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    std::fs::remove_file(&identity).unwrap();
    assert!(matches!(start(options(folder.path())).await, Err(StartError::IdentityMissing { .. })));
}

/// A first start that was cut off anywhere leaves something that the next start completes. (From
/// the first byte of the log on, `power_loss_tests` cuts everywhere.)
#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_was_cut_off_is_completed_by_the_next() {
    let whole = tempfile::tempdir().unwrap();
    start(options(whole.path())).await.unwrap().stop().await;
    let identity = std::fs::read(whole.path().join("controller/identity")).unwrap();
    let half = &identity[..identity.len() / 2];
    // What is done in order; each case is all of it up to there. A name with `/` is a directory.
    let steps: &[(&str, &[u8])] = &[
        ("controller/", b""),
        ("controller/lock", b""),
        ("controller/lock", b"4194305\n"),
        ("controller/identity.new", b""),
        ("controller/identity.new", half),
        ("controller/identity.new", &identity),
        ("controller/identity", &identity),
        ("controller/snapshots/", b""),
        ("controller/raft/", b""),
        ("controller/checkpoint/", b""),
        ("controller/checkpoint/conf", b""),
        ("controller/checkpoint/db", b""),
    ];
    for cut in 0..=steps.len() {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in &steps[..cut] {
            let path = folder.path().join(name);
            if name.ends_with('/') {
                std::fs::create_dir(path).unwrap();
            } else {
                std::fs::write(path, content).unwrap();
            }
        }
        let controller = start(options(folder.path())).await;
        let controller = controller.unwrap_or_else(|error| panic!("after {cut} steps: {error}"));
        let cluster = controller.cluster_id();
        controller.stop().await;
        let again = start(options(folder.path())).await.unwrap();
        assert_eq!(again.cluster_id(), cluster, "after {cut} steps");
        again.stop().await;
    }
}
