//! Making sure, before anything is served, that the object store is this cluster's.

use anyhow::{Context as _, Result, bail};
use ottla_control_api::view::WatchEvent;
use ottla_control_plane::service::Controller;
use ottla_env::Random;
use ottla_object_io::{Store, StoreErrorKind, claim_bucket, keys};

/// Claims the store for the controller's cluster. Refuses a store that belongs to another cluster,
/// and one that is new although the cluster has records: they are in some other place, and a node
/// that served from this one would answer every fetch of them with an error.
pub async fn claim(
    store: &dyn Store,
    url: &str,
    controller: &Controller,
    random: &Random,
) -> Result<()> {
    let partitions = partitions_with_records(controller).await;
    if partitions > 0 && !has_marker(store).await? {
        bail!(
            "the object store {url} is new, but cluster {} has records in {partitions} partitions: \
             set object_store.url (--object-store) to the store that holds them, or choose an \
             empty --data-dir",
            controller.cluster_id()
        );
    }
    claim_bucket(store, controller.cluster_id(), random).await.with_context(|| url.to_owned())
}

async fn partitions_with_records(controller: &Controller) -> usize {
    match controller.api().watch().recv().await {
        Some(WatchEvent::Reset(view)) => {
            let has_records = |bounds: ottla_control_api::PartitionBounds| {
                bounds.high_watermark > bounds.log_start
            };
            view.partitions.iter().filter(|partition| has_records(partition.bounds)).count()
        }
        // A watch begins with a reset; anything else is the end of the control plane.
        _ => 0,
    }
}

async fn has_marker(store: &dyn Store) -> Result<bool> {
    match store.get(keys::MARKER).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == StoreErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).context("cannot read the object store's marker"),
    }
}
