//! Receiving a frame: its bytes, and the memory that they may take.
//!
//! What fits the read-ahead is read first, and holds nothing of a budget. A small Produce then waits
//! for its length, whole; any other small request waits for nothing, so that heartbeats, fetches and
//! metadata go on when the write path is full. A large frame takes its bytes from the budget step by
//! step, each step as long as what has come: what a client claims costs it as many bytes as it costs
//! us. Produce and all others have budgets of their own. Why frames that wait for each other's
//! memory get done all the same stands with [`Budget`].
//!
//! The sender has two deadlines, for a pause and for the whole frame; the time that we make it wait
//! is not counted. A client that leaves while it waits is noticed.

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use ottla_env::net::{self, OwnedReadHalf};
use ottla_storage::write::{Budget, BudgetError, Reservation};
use ottla_wire::frame::{FrameHead, FrameReader, Patience};

use super::End;
use crate::api::Closes;
use crate::context::Context;
use crate::dispatch::Malformed;
use crate::limits;

/// Reads the frame that `head` begins. A Produce and a large frame of any kind hold their bytes in
/// a budget.
pub(super) async fn frame(
    context: &Context,
    frames: &mut FrameReader<OwnedReadHalf>,
    client: std::net::IpAddr,
    head: FrameHead,
) -> Result<(Bytes, Option<Reservation>), End> {
    let produce = head.api_key == ApiKey::Produce as i16;
    if !produce && head.length > limits::OTHER_FRAME_BYTES_MAX {
        return Err(Malformed::TooLong { api_key: head.api_key, length: head.length }.into());
    }
    let mut patience = Patience { stall: limits::FRAME_STALL_MAX, left: limits::FRAME_TIME_MAX };
    frames.fill(head, limits::SMALL_FRAME_BYTES, &mut patience).await?;
    let budget: Budget =
        if produce { context.writer().budget().clone() } else { context.requests.clone() };
    if head.length > limits::SMALL_FRAME_BYTES {
        return large_frame(&budget, frames, client, head, patience).await;
    }
    let frame = frames.take(head);
    let held = match produce {
        true => {
            let granted = budget.reserve(client, head.length);
            Some(while_connected(frames.get_ref(), granted).await?.map_err(too_long)?)
        }
        false => None,
    };
    Ok((frame, held))
}

async fn large_frame(
    budget: &Budget,
    frames: &mut FrameReader<OwnedReadHalf>,
    client: std::net::IpAddr,
    head: FrameHead,
    mut patience: Patience,
) -> Result<(Bytes, Option<Reservation>), End> {
    let mut unfinished = budget.begin(client, head.length).map_err(too_long)?;
    let mut granted = 0;
    while granted < head.length {
        let received = frames.received(head);
        let upto = head.length.min(received + received.max(limits::FRAME_STEP_BYTES));
        while_connected(frames.get_ref(), unfinished.grow(upto - granted)).await?;
        granted = upto;
        frames.fill(head, upto, &mut patience).await?;
    }
    Ok((frames.take(head), Some(unfinished.finish())))
}

fn too_long(error: BudgetError) -> End {
    tracing::debug!(%error, "refused a frame");
    Closes("a request is longer than half of the memory for such requests").into()
}

/// Waits for something that may take long, unless the client leaves.
pub(super) async fn while_connected<T>(
    input: &OwnedReadHalf,
    waited: impl Future<Output = T>,
) -> Result<T, End> {
    tokio::select! {
        biased;
        value = waited => Ok(value),
        () = net::closed_by_peer(input) => Err(End::Closed),
    }
}
