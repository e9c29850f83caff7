//! One pass over condemned objects, and one over the bucket's listing.

use std::collections::BTreeSet;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use ottla_control_api::{CondemnedObject, ObjectStanding, SweepMark};
use ottla_model::{AppliedIndex, ObjectId, ObjectName};
use ottla_object_io::{StoreError, keys, leave_height};

use super::plan::{Seen, deletes_max};
use super::{SweepError, SweepOptions, SweepParts};
use crate::limits::{SWEEP_BATCH, SWEEP_DELETES_AT_ONCE, SWEEP_NAMES_AT_ONCE, SWEEP_ORPHANS_MAX};

/// Makes passes. See the module's essay.
#[derive(Debug)]
pub struct Sweeper {
    parts: SweepParts,
    options: SweepOptions,
}

/// What a pass over condemned objects did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CondemnedPass {
    /// Deleted and forgotten.
    pub deleted: u64,
    /// Could not be deleted.
    pub failed: u64,
    /// What the control plane said about orphans to be expected.
    pub mark: SweepMark,
    /// How far the state was.
    pub applied: AppliedIndex,
}

/// What a pass over the bucket's listing did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrphanPass {
    /// How many objects the listing showed.
    pub listed: u64,
    /// Not looked at because they were too young.
    pub young: u64,
    /// Nobody's, or nobody's who is known.
    pub foreign: u64,
    /// How many were found.
    pub orphans: u64,
    /// How many of them were deleted.
    pub deleted: u64,
    /// How many of them could not be deleted.
    pub failed: u64,
    /// None was deleted because they are too large a part of the bucket.
    pub refused: bool,
}

impl OrphanPass {
    /// Whether there was nothing to delete, and will not be as long as nothing happens.
    pub(super) fn nothing_left(&self) -> bool {
        self.young == 0 && self.orphans == 0
    }
}

impl Sweeper {
    /// A sweeper; nothing runs until a pass is asked for.
    pub fn new(parts: SweepParts, options: SweepOptions) -> Self {
        Self { parts, options }
    }

    /// Deletes and forgets condemned objects that are due, as many as one pass may.
    ///
    /// # Errors
    /// When the control plane does not answer. An object that was deleted and not forgotten is
    /// deleted again.
    pub async fn sweep_condemned(&self) -> Result<CondemnedPass, SweepError> {
        let metrics = &self.parts.metrics.sweep;
        let mut pass = CondemnedPass::default();
        let mut failed: BTreeSet<ObjectId> = BTreeSet::new();
        let mut left = None;
        loop {
            // Objects that failed come first again; the others are behind them.
            let max = SWEEP_BATCH + failed.len();
            let page = self.parts.control.condemned(max).await?;
            metrics.condemned.set(i64::try_from(page.condemned).unwrap_or(i64::MAX));
            (pass.mark, pass.applied) = (page.mark, page.applied);
            let left =
                left.get_or_insert_with(|| deletes_max(page.objects, self.options.share_percent));
            let due: Vec<CondemnedObject> = page
                .due
                .into_iter()
                .filter(|object| !failed.contains(&object.id))
                .take(usize::try_from(*left).unwrap_or(usize::MAX))
                .collect();
            if due.is_empty() || failed.len() > SWEEP_BATCH {
                return Ok(pass);
            }
            let names: Vec<ObjectName> = due.iter().map(|object| object.name).collect();
            let results = self.delete(&names).await;
            let mut gone = Vec::with_capacity(due.len());
            for (object, deleted) in due.iter().zip(results) {
                if deleted {
                    gone.push(object.id);
                } else {
                    failed.insert(object.id);
                }
            }
            pass.failed = failed.len() as u64;
            let deleted = gone.len() as u64;
            *left = left.saturating_sub(due.len() as u64);
            if !gone.is_empty() {
                self.parts.control.forget_objects(gone).await?;
                pass.deleted += deleted;
                metrics.objects.with(["condemned"]).add(deleted);
                metrics.condemned.sub(i64::try_from(deleted).unwrap_or(i64::MAX));
            }
        }
    }

    /// Leaves the state's height in the bucket, in place of the one before.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn leave_height(
        &self,
        height: AppliedIndex,
        before: Option<AppliedIndex>,
    ) -> Result<(), StoreError> {
        let SweepParts { cluster, store, .. } = &self.parts;
        leave_height(&**store, *cluster, height, before.as_slice()).await
    }

    /// Lists the bucket and deletes the orphans in it, as many as one pass may.
    ///
    /// # Errors
    /// When the listing is not complete or the control plane does not answer. Nothing was deleted.
    pub async fn sweep_orphans(&self) -> Result<OrphanPass, SweepError> {
        let SweepParts { cluster, store, clock, metrics, .. } = &self.parts;
        let mut seen = Seen::default();
        let mut pass = OrphanPass::default();
        let mut orphans = Vec::new();
        for folder in keys::object_folders(*cluster) {
            let entries = store.list(&folder).await?;
            seen.look_at(*cluster, &entries, clock.now(), self.options.orphan_age);
            if seen.names.len() >= SWEEP_NAMES_AT_ONCE {
                self.judge(std::mem::take(&mut seen.names), &mut pass, &mut orphans).await?;
            }
        }
        self.judge(seen.names, &mut pass, &mut orphans).await?;
        pass.listed = seen.listed;
        pass.young = seen.young;
        pass.foreign += seen.foreign;
        metrics.sweep.orphans.set(i64::try_from(pass.orphans).unwrap_or(i64::MAX));
        metrics.sweep.foreign.set(i64::try_from(pass.foreign).unwrap_or(i64::MAX));

        if pass.orphans > deletes_max(pass.listed, self.options.share_percent) {
            pass.refused = true;
            metrics.sweep.refused.inc();
            tracing::error!(
                orphans = pass.orphans,
                objects = pass.listed,
                share_percent = self.options.share_percent,
                "so many objects of the bucket are not part of this cluster's state that none of \
                 them is deleted: look whether bucket and data directory belong together; if they \
                 do, raise sweep.share_percent"
            );
            return Ok(pass);
        }
        for batch in orphans.chunks(SWEEP_BATCH) {
            let deleted = self.delete(batch).await.into_iter().filter(|deleted| *deleted).count();
            pass.deleted += deleted as u64;
            pass.failed += (batch.len() - deleted) as u64;
            metrics.sweep.objects.with(["orphan"]).add(deleted as u64);
            metrics.sweep.orphans.sub(deleted as i64);
        }
        Ok(pass)
    }

    /// Asks about names and keeps the orphans among them.
    async fn judge(
        &self,
        names: Vec<ObjectName>,
        pass: &mut OrphanPass,
        orphans: &mut Vec<ObjectName>,
    ) -> Result<(), SweepError> {
        for names in names.chunks(SWEEP_NAMES_AT_ONCE) {
            let standings = self.parts.control.standings(names.to_vec()).await?;
            for (name, standing) in names.iter().zip(standings) {
                match standing {
                    ObjectStanding::Orphan => {
                        pass.orphans += 1;
                        if orphans.len() < SWEEP_ORPHANS_MAX {
                            orphans.push(*name);
                        }
                    }
                    ObjectStanding::Foreign => pass.foreign += 1,
                    ObjectStanding::Committed | ObjectStanding::Undecided => {}
                }
            }
        }
        Ok(())
    }

    /// Deletes objects, some at a time; which of them are gone, in their order.
    async fn delete(&self, names: &[ObjectName]) -> Vec<bool> {
        let deletes: Vec<BoxFuture<'_, bool>> =
            names.iter().map(|name| self.delete_one(*name).boxed()).collect();
        stream::iter(deletes).buffered(SWEEP_DELETES_AT_ONCE).collect().await
    }

    async fn delete_one(&self, name: ObjectName) -> bool {
        let SweepParts { cluster, store, metrics, .. } = &self.parts;
        let Err(error) = store.delete(&keys::object(*cluster, &name)).await else { return true };
        metrics.sweep.failures.inc();
        tracing::warn!(
            object = %name, %error, "an object was not deleted; a later pass tries it again"
        );
        false
    }
}
