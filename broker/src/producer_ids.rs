//! Producer ids: taken from the control plane in blocks, handed out one by one.

use std::ops::Range;

use ottla_control_api::{CallError, OpError};
use ottla_format::command::AllocateProducerIds;
use ottla_model::ProducerId;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::calls::retrying;
use crate::context::Context;
use crate::limits;

/// Why there is no id.
#[derive(Debug, thiserror::Error)]
pub enum ProducerIdError {
    /// This broker's registration is over; it gets a new one in a moment.
    #[error("this broker's registration is over")]
    Fenced,
    /// No answer from the control plane.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// The ids that this broker may still give. Ids of a block that a crash leaves over are never used.
#[derive(Debug, Default)]
pub struct ProducerIds {
    /// Held while a block is fetched: everyone who waits needs that same block. Nobody waits longer than
    /// one fetch of it may take.
    left: Mutex<Range<i64>>,
}

impl ProducerIds {
    /// An id that nobody else has or will get.
    pub async fn next(&self, context: &Context) -> Result<ProducerId, ProducerIdError> {
        let Ok(mut left) = timeout(limits::CHANGE_WAIT_MAX, self.left.lock()).await else {
            let away = "another request waits for producer ids, without an answer";
            return Err(CallError::Unavailable(away.to_owned()).into());
        };
        if let Some(id) = left.next() {
            return Ok(ProducerId(id));
        }
        let deadline = Instant::now() + limits::CHANGE_WAIT_MAX;
        let allocate = || {
            let author = context.author.author();
            let count = limits::PRODUCER_ID_BLOCK;
            context.control.allocate_producer_ids(AllocateProducerIds { author, count })
        };
        let first = retrying(context, deadline, allocate).await.map_err(|error| match error {
            OpError::Refused(_) => ProducerIdError::Fenced,
            OpError::Call(error) => ProducerIdError::Call(error),
        })?;
        *left = first.0.saturating_add(1)..first.0.saturating_add(limits::PRODUCER_ID_BLOCK.into());
        Ok(first)
    }
}
