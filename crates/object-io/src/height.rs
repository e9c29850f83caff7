//! Heights: how far the cluster's state was, as its bucket remembers it.
//!
//! A state whose files were replaced by an older copy cannot know it: they are whole. The bucket
//! can. While a cluster works it leaves small objects in its bucket whose names are applied indexes;
//! a start that finds one above the end of its log has an older copy before it, and the bucket may
//! hold acknowledged records that this copy knows nothing of.
//!
//! A height is created once and never rewritten; the highest counts. Who leaves one deletes the
//! lower ones; one that outlives a crash changes nothing.

use bytes::Bytes;
use ottla_model::{AppliedIndex, ClusterId};

use crate::{Store, StoreError, keys};

/// For people who look into the bucket; nothing reads it.
const BODY: &[u8] = b"ottla height 1\n";

/// The heights that are in the bucket, in ascending order.
pub async fn heights(
    store: &dyn Store,
    cluster: ClusterId,
) -> Result<Vec<AppliedIndex>, StoreError> {
    let entries = store.list(&keys::height_folder(cluster)).await?;
    let mut heights: Vec<AppliedIndex> =
        entries.iter().filter_map(|entry| keys::height_at(cluster, &entry.key)).collect();
    heights.sort_unstable();
    Ok(heights)
}

/// Leaves a height and deletes the others that are named. May be repeated.
pub async fn leave_height(
    store: &dyn Store,
    cluster: ClusterId,
    height: AppliedIndex,
    others: &[AppliedIndex],
) -> Result<(), StoreError> {
    // That it was there already is as good.
    store.put_if_absent(&keys::height(cluster, height), Bytes::from_static(BODY)).await?;
    for other in others.iter().filter(|other| **other != height) {
        store.delete(&keys::height(cluster, *other)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId(7);

    #[tokio::test]
    async fn the_heights_that_were_left_are_found_in_order_and_others_go() {
        let store = crate::memory();
        let at = |heights: &[u64]| heights.iter().copied().map(AppliedIndex).collect::<Vec<_>>();
        assert_eq!(heights(&*store, CLUSTER).await.unwrap(), []);
        for height in [9, 10_000_000_000, 100, 100] {
            leave_height(&*store, CLUSTER, AppliedIndex(height), &[]).await.unwrap();
        }
        let found = heights(&*store, CLUSTER).await.unwrap();
        assert_eq!(found, at(&[9, 100, 10_000_000_000]));
        assert_eq!(heights(&*store, ClusterId(8)).await.unwrap(), [], "another cluster's");
        leave_height(&*store, CLUSTER, AppliedIndex(100), &found).await.unwrap();
        assert_eq!(heights(&*store, CLUSTER).await.unwrap(), at(&[100]));
    }
}
