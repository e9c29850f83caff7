//! The cluster's feature level in the life of a controller.

use std::path::Path;

use ottla_format::command::CommandBody;
use ottla_format::feature_level::{FeatureLevel, NEWEST};

use super::world::{options, start};
use crate::service::StartError;

const BEYOND: FeatureLevel = FeatureLevel(NEWEST.0 + 1);

/// Starts with a wish for a level; answers the level that the cluster has then.
async fn started(folder: &Path, wish: Option<FeatureLevel>) -> Result<FeatureLevel, StartError> {
    let mut options = options(folder);
    options.raise_feature_level_to = wish;
    let controller = start(options).await?;
    let level = controller.state().feature_level();
    controller.stop().await;
    Ok(level)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_cluster_has_the_newest_level_and_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(started(folder.path(), None).await.unwrap(), NEWEST);
    assert_eq!(started(folder.path(), None).await.unwrap(), NEWEST);
    // A wish that was fulfilled long ago, and one for less.
    assert_eq!(started(folder.path(), Some(NEWEST)).await.unwrap(), NEWEST);
    assert_eq!(started(folder.path(), Some(FeatureLevel::NONE)).await.unwrap(), NEWEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_level_that_this_version_does_not_know_is_not_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let error = started(folder.path(), Some(BEYOND)).await.unwrap_err();
    assert!(matches!(error, StartError::UnknownFeatureLevel { level } if level == BEYOND));
    assert_eq!(started(folder.path(), None).await.unwrap(), NEWEST);
}

/// As if a node of a newer version had led: this one meets the raise, stops, and does not start again.
#[tokio::test(flavor = "multi_thread")]
async fn a_raise_beyond_what_this_version_knows_ends_the_node_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let controller = start(options(folder.path())).await.unwrap();
    let raise = CommandBody::RaiseFeatureLevel { to: BEYOND };
    let answer = controller.propose_unchecked(raise).await;
    assert!(answer.is_err(), "{answer:?}");
    let reason = controller.failed().await;
    let line = format!("feature level {BEYOND}, and this is ottla ");
    assert!(reason.contains(&line), "{reason}");
    controller.stop().await;

    let error = started(folder.path(), None).await.unwrap_err().to_string();
    assert!(error.contains(&line) && error.contains("(written by ottla "), "{error}");
}
