//! One process per directory, one directory per node.

use super::world::{options, start};
use crate::service::StartError;

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
    other.node_id = 2;
    assert!(matches!(start(other).await, Err(StartError::OtherNode { found: 1, .. })));
    let identity = folder.path().join("controller/identity");
    let bytes = std::fs::read(&identity).unwrap();
    let mut newer = bytes.clone();
    newer[4] = 9;
    let crc = crc32c::crc32c(&newer[..32]);
    newer[32..].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&identity, newer).unwrap();
    let error = start(options(folder.path())).await.unwrap_err().to_string();
    assert!(error.contains("format version 9"), "{error}");
    std::fs::remove_file(&identity).unwrap();
    assert!(matches!(start(options(folder.path())).await, Err(StartError::IdentityMissing { .. })));
}
