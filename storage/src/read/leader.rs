//! Questions to the leader of the control plane: a partition's offsets and extents as they are now.
//!
//! The only place of the read path that asks. Each question has a deadline, and each answer's
//! offsets pass through the view, so that no later answer of this broker shows older ones (I-FWD,
//! see [`crate::view`]). A lint keeps callers from asking the control plane themselves.

use ottla_control_api::{CallError, ExtentPage, FindExtents, PartitionBounds, TimestampQuery};
use ottla_model::{Offset, PartitionId};
use tokio::time::timeout;

use super::{ReadError, Reader};
use crate::limits::FETCH_QUESTION_TIME_MAX;

/// Extents as the leader has them.
pub(super) struct Answered {
    /// What a client may be shown: not older than anything that this broker has shown.
    pub shown: PartitionBounds,
    /// The offsets that the extents belong to.
    pub bounds: PartitionBounds,
    /// The leader's page; its extents end at `bounds`.
    pub page: ExtentPage,
}

impl Reader {
    /// A partition's offsets: those of the leader, or later ones where the view has passed its answer.
    pub async fn bounds(&self, partition: PartitionId) -> Result<PartitionBounds, ReadError> {
        #[expect(clippy::disallowed_methods, reason = "the answer passes through the view")]
        let asked = self.control.partition_bounds(partition);
        let bounds = in_time(asked).await?.ok_or(ReadError::UnknownPartition)?;
        Ok(self.view.learn(partition, bounds))
    }

    /// Extents from an offset on.
    pub(super) async fn find_extents(
        &self,
        partition: PartitionId,
        from: Offset,
        max_bytes: u64,
    ) -> Result<Answered, ReadError> {
        #[expect(clippy::disallowed_methods, reason = "the answer passes through the view")]
        let asked = self.control.find_extents(FindExtents { partition, from, max_bytes });
        let page = in_time(asked).await?;
        self.learn(partition, page)
    }

    /// The first extent that can hold what a look-up by timestamp asks for.
    pub(super) async fn find_timestamp(
        &self,
        partition: PartitionId,
        query: TimestampQuery,
    ) -> Result<Answered, ReadError> {
        #[expect(clippy::disallowed_methods, reason = "the answer passes through the view")]
        let asked = self.control.find_timestamp(partition, query);
        let page = in_time(asked).await?;
        self.learn(partition, page)
    }

    fn learn(&self, partition: PartitionId, page: ExtentPage) -> Result<Answered, ReadError> {
        let bounds = page.bounds.ok_or(ReadError::UnknownPartition)?;
        Ok(Answered { shown: self.view.learn(partition, bounds), bounds, page })
    }
}

/// No answer in time is an error that can be retried.
async fn in_time<T>(asked: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
    let answer = timeout(FETCH_QUESTION_TIME_MAX, asked).await;
    answer.unwrap_or_else(|_| Err(CallError::OutcomeUnknown("no answer in time".to_owned())))
}
