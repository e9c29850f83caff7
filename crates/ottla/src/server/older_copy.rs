//! Noticing that the data directory is an older copy of what it once was.
//!
//! Files that are whole cannot show it, but the bucket can: its highest *height* is an entry that
//! the log once held. A log that ends below it was replaced by a copy from before; what was
//! acknowledged since is in the bucket, and this state would take it for uploads that nobody needs.
//! So the start is refused before anything is written, until whoever runs the cluster puts the
//! newest files back or gives up, by its number, what is missing.

use anyhow::{Context as _, Result, anyhow, bail};
use ottla_control_plane::service::{Controller, OpenedController};
use ottla_model::{AppliedIndex, ClusterId};
use ottla_object_io::{Store, heights, leave_height};

/// What is to be done about the data directory's age.
#[derive(Debug)]
pub struct Age {
    /// The heights that the bucket has.
    heights: Vec<AppliedIndex>,
    /// It is an older copy, and what is missing is given up.
    is_loss_accepted: bool,
}

impl Age {
    /// Compares the files with the bucket. `accepted` is the height up to which a loss is accepted.
    ///
    /// # Errors
    /// The line for the operator, when the files are an older copy.
    pub async fn of(
        opened: &OpenedController,
        store: &dyn Store,
        accepted: Option<AppliedIndex>,
    ) -> Result<Self> {
        let heights = heights(store, opened.cluster_id())
            .await
            .context("cannot see how far the cluster was, in the object store")?;
        let (last, highest) = (opened.last_entry(), heights.last().copied());
        let missing = highest.filter(|highest| *highest > last);
        // A number that was accepted once says nothing about a log that has passed it.
        let is_loss_accepted = missing.is_some() && missing == accepted;
        if let Some(highest) = missing
            && !is_loss_accepted
        {
            let (last, highest) = (last.0, highest.0);
            bail!(
                "the data directory is an older copy: its log ends at entry {last}, and the object \
                 store has seen entry {highest}. Put the newest files back; or give up everything \
                 that was acknowledged since this copy, with controller.accept_loss_up_to = \
                 {highest}"
            );
        }
        Ok(Self { heights, is_loss_accepted })
    }

    /// Gives up what has to be given up, and leaves a height of this start's own: a copy that was
    /// taken before it is known as older from now on. For before the broker registers.
    ///
    /// # Errors
    /// When the control plane or the store does not answer. May be repeated by the next start.
    pub async fn settle(self, controller: &Controller, store: &dyn Store) -> Result<()> {
        if self.is_loss_accepted {
            tracing::warn!(
                up_to = self.heights.last().map(|height| height.0),
                "what came after this copy of the data directory is given up"
            );
            let accepted = controller.accept_loss().await;
            accepted.map_err(|error| anyhow!("cannot give up what is missing: {error}"))?;
        }
        leave(store, controller.cluster_id(), controller.digest().0, &self.heights).await
    }
}

async fn leave(
    store: &dyn Store,
    cluster: ClusterId,
    height: AppliedIndex,
    others: &[AppliedIndex],
) -> Result<()> {
    let mut left = leave_height(store, cluster, height, others).await;
    for _ in 1..super::limits::HEIGHT_ATTEMPTS_MAX {
        if left.is_ok() {
            break;
        }
        left = leave_height(store, cluster, height, others).await;
    }
    left.context("cannot note in the object store how far the cluster is")
}
