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
//! is not counted. While others wait for memory, a pause may be short only: frames that were begun and
//! not sent hold up all that come after them. A client that leaves while it waits is noticed.

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use ottla_env::net::{self, OwnedReadHalf};
use ottla_storage::write::{Budget, BudgetError, Reservation};
use ottla_wire::frame::{FrameError, FrameHead, FrameReader, Patience};

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
        fill(budget, frames, head, upto, &mut patience).await?;
    }
    Ok((frames.take(head), Some(unfinished.finish())))
}

/// Reads on until `upto` bytes of a frame are here. Looks in every pause whether others wait for what
/// the frame holds.
async fn fill(
    budget: &Budget,
    frames: &mut FrameReader<OwnedReadHalf>,
    head: FrameHead,
    upto: usize,
    patience: &mut Patience,
) -> Result<(), FrameError> {
    patience.stall = limits::FRAME_STALL_PRESSED;
    let (mut pauses, mut received) = (0, frames.received(head));
    loop {
        match frames.fill(head, upto, patience).await {
            Err(FrameError::Stalled(_)) if !budget.has_waiters() => {}
            done => return done,
        }
        pauses = if frames.received(head) > received { 1 } else { pauses + 1 };
        received = frames.received(head);
        let paused = limits::FRAME_STALL_PRESSED * pauses;
        if paused >= limits::FRAME_STALL_MAX {
            return Err(FrameError::Stalled(paused));
        }
    }
}

fn too_long(error: BudgetError) -> End {
    tracing::debug!(%error, "refused a frame");
    Closes("a request is longer than half of the memory for such requests").into()
}

/// Waits for something that may take long, unless the client has left and sent nothing behind it:
/// clients commit offsets or leave a group and close the connection without waiting, and such a
/// request is done although others before it are of no use to anybody any more.
pub(super) async fn while_wanted<T>(
    frames: &FrameReader<OwnedReadHalf>,
    waited: impl Future<Output = T>,
) -> Result<T, End> {
    let input = frames.get_ref();
    let gone = async {
        net::closed_by_peer(input).await;
        if frames.has_read_on() || net::has_unread(input).await {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        value = waited => Ok(value),
        () = gone => Err(End::Closed),
    }
}

/// Waits for memory, unless the client leaves.
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

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use ottla_env::net::{TcpStream, connect, listen};
    use ottla_telemetry::Metrics;
    use tokio::io::AsyncWriteExt;
    use tokio::time::Instant;

    use super::*;
    use crate::context::answers_budget;

    const FRAME_BYTES: usize = 1 << 20;

    /// A frame of [`FRAME_BYTES`] on its way, of which `sent` bytes come; and who sends it.
    async fn frame(
        budget: &Budget,
        client: u8,
        sent: usize,
    ) -> (TcpStream, impl Future<Output = Result<(Bytes, Option<Reservation>), End>> + use<>) {
        let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let mut sender = connect(listener.local_addr().unwrap()).await.unwrap();
        let (input, _) = listener.accept().await.unwrap().0.into_split();
        let mut bytes = (FRAME_BYTES as u32).to_be_bytes().to_vec();
        bytes.resize(4 + sent, 0);
        let budget = budget.clone();
        let received = async move {
            let mut frames = FrameReader::new(input);
            let head = frames.head().await.unwrap().unwrap();
            let client = IpAddr::V4(Ipv4Addr::new(127, 0, 0, client));
            let patience =
                Patience { stall: limits::FRAME_STALL_MAX, left: limits::FRAME_TIME_MAX };
            large_frame(&budget, &mut frames, client, head, patience).await
        };
        let received = tokio::spawn(received);
        sender.write_all(&bytes).await.unwrap();
        (sender, async move { received.await.unwrap() })
    }

    #[tokio::test]
    async fn a_frame_that_stalls_is_ended_soon_when_others_wait_for_its_memory() {
        // Together, unfinished frames may hold as much as one of them has.
        let budget = answers_budget(2 * FRAME_BYTES, &Metrics::new());
        let (_stalls, stalled) = frame(&budget, 1, FRAME_BYTES - 1).await;
        while budget.used() < FRAME_BYTES / 2 {
            tokio::task::yield_now().await;
        }
        let begin = Instant::now();
        let (_sender, whole) = frame(&budget, 2, FRAME_BYTES).await;
        let (whole, _held) = whole.await.unwrap();
        assert_eq!(whole.len(), FRAME_BYTES);
        assert!(begin.elapsed() < limits::FRAME_STALL_MAX, "{:?}", begin.elapsed());
        let end = stalled.await.unwrap_err();
        assert!(matches!(end, End::Frame(FrameError::Stalled(_))), "{end}");
    }
}
