//! Receiving a frame: its bytes, and the memory that they may take.
//!
//! A request that fits the read-ahead is read first, and holds nothing of a budget. A small Produce
//! then waits for its length, whole; any other small request waits for nothing, unless it has
//! thousands of elements, so that heartbeats, fetches and metadata go on when the write path is full. A
//! large frame takes its bytes from the budget step by step, each step as long as what has come: what a
//! client claims costs it as many bytes as it costs us. Why frames that wait for each other's memory get
//! done all the same stands with [`Budget`].
//!
//! # Who holds which budget, and for how long
//!
//! Produce has the write path's. Fetch, JoinGroup and SyncGroup have `requests`, which they hold until
//! they are decoded: what waits for records or for other members is counted elsewhere. All others have
//! `calls`, which they hold until the control plane or the store has answered, or its deadline has
//! passed, and until there is memory for their answer. So a control plane that hangs does not keep a
//! consumer from fetching or joining.
//!
//! A request may take a hundred times its frame once it is decoded. Of `calls`, that part is reserved
//! from `decoded_calls` before it is decoded, and held as long. The others are decoded at once, and
//! charged to the budget of their frame.
//!
//! # A sender that pauses
//!
//! A frame must be whole within the connection's idle time, and a small one has no other deadline. A
//! large one holds memory. While others wait for it, pauses may be short only and the whole must not
//! take long; the time that we make the sender wait is not counted. A client that leaves while it
//! waits for memory is noticed.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use ottla_env::net::{self, OwnedReadHalf};
use ottla_storage::write::{Budget, BudgetError, Reservation};
use ottla_wire::frame::{FrameError, FrameHead, FrameReader};
use tokio::time::{Instant, timeout};

use super::End;
use crate::api::Closes;
use crate::context::Context;
use crate::dispatch::{Malformed, Received, RequestMemory};
use crate::limits;

/// Reads the frame that `head` begins. A Produce and a large frame of any kind hold their bytes in
/// a budget.
pub(super) async fn frame(
    context: &Context,
    frames: &mut FrameReader<OwnedReadHalf>,
    client: IpAddr,
    head: FrameHead,
) -> Result<(Bytes, Option<Reservation>), End> {
    let produce = head.api_key == ApiKey::Produce as i16;
    if !produce && head.length > limits::OTHER_FRAME_BYTES_MAX {
        return Err(Malformed::TooLong { api_key: head.api_key, length: head.length }.into());
    }
    let idle_max = context.options.edge.idle_max;
    let small = frames.fill(head, limits::SMALL_FRAME_BYTES);
    timeout(idle_max, small).await.map_err(|_| FrameError::Stalled(idle_max))??;
    let budget = budget_of(context, head.api_key);
    if head.length > limits::SMALL_FRAME_BYTES {
        return large_frame(&budget, frames, client, head, idle_max).await;
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

/// The memory of a request. A small frame holds none, unless it has very many elements. Waits for the
/// part that the decoded request takes, when the request is a call.
pub(super) async fn memory(
    context: &Context,
    frames: &FrameReader<OwnedReadHalf>,
    client: IpAddr,
    frame: Option<Reservation>,
    received: &Received,
) -> Result<RequestMemory, End> {
    let bytes = received.decoded_bytes();
    let is_little = frame.is_none() && received.elements <= limits::SMALL_FRAME_ELEMENTS;
    if is_little || bytes == 0 {
        return Ok(RequestMemory { frame, decoded: None });
    }
    let budget = match received.api.key {
        ApiKey::Produce | ApiKey::Fetch | ApiKey::JoinGroup | ApiKey::SyncGroup => match frame {
            Some(frame) => return Ok(RequestMemory::beside(frame, received)),
            None => budget_of(context, received.api.key as i16),
        },
        _ => context.decoded_calls.clone(),
    };
    let granted = budget.reserve(client, bytes);
    let decoded = while_connected(frames.get_ref(), granted).await?.map_err(too_long)?;
    Ok(RequestMemory { frame, decoded: Some(decoded) })
}

fn budget_of(context: &Context, api_key: i16) -> Budget {
    match ApiKey::try_from(api_key) {
        Ok(ApiKey::Produce) => context.writer().budget().clone(),
        Ok(ApiKey::Fetch | ApiKey::JoinGroup | ApiKey::SyncGroup) => context.requests.clone(),
        _ => context.calls.clone(),
    }
}

async fn large_frame(
    budget: &Budget,
    frames: &mut FrameReader<OwnedReadHalf>,
    client: IpAddr,
    head: FrameHead,
    idle_max: Duration,
) -> Result<(Bytes, Option<Reservation>), End> {
    let mut unfinished = budget.begin(client, head.length).map_err(too_long)?;
    let mut sender = Sender { idle_max, pause: Duration::ZERO, reading: Duration::ZERO };
    let mut granted = 0;
    while granted < head.length {
        let received = frames.received(head);
        let upto = head.length.min(received + received.max(limits::FRAME_STEP_BYTES));
        while_connected(frames.get_ref(), unfinished.grow(upto - granted)).await?;
        granted = upto;
        fill(budget, frames, head, upto, &mut sender).await?;
    }
    Ok((frames.take(head), Some(unfinished.finish())))
}

/// Reads on until `upto` bytes of a frame are here. Looks now and then whether others wait for what
/// the frame holds.
async fn fill(
    budget: &Budget,
    frames: &mut FrameReader<OwnedReadHalf>,
    head: FrameHead,
    upto: usize,
    sender: &mut Sender,
) -> Result<(), FrameError> {
    loop {
        let (began, before) = (Instant::now(), frames.received(head));
        let filled = timeout(limits::FRAME_STALL_PRESSED, frames.fill(head, upto)).await;
        sender.note(began.elapsed(), frames.received(head) > before);
        match filled {
            Ok(done) => return done,
            Err(_) => sender.check(budget.has_waiters())?,
        }
    }
}

/// How the sender of a large frame has kept us waiting.
struct Sender {
    idle_max: Duration,
    /// Since its last byte.
    pause: Duration,
    /// For the whole frame so far.
    reading: Duration,
}

impl Sender {
    fn note(&mut self, waited: Duration, has_sent: bool) {
        self.pause = if has_sent { Duration::ZERO } else { self.pause + waited };
        self.reading += waited;
    }

    /// Whether it may go on; `pressed`: others wait for its memory.
    fn check(&self, pressed: bool) -> Result<(), FrameError> {
        let (pause_max, reading_max) = match pressed {
            true => (limits::FRAME_STALL_PRESSED, limits::FRAME_TIME_PRESSED),
            false => (self.idle_max, self.idle_max),
        };
        if self.pause >= pause_max {
            return Err(FrameError::Stalled(self.pause));
        }
        if self.reading >= reading_max { Err(FrameError::TooSlow) } else { Ok(()) }
    }
}

fn too_long(error: BudgetError) -> End {
    tracing::debug!(%error, "refused a frame");
    Closes("a request is longer than half of the memory for such requests").into()
}

/// Waits for memory, unless the client leaves and does not get it soon.
async fn while_connected<T>(
    input: &OwnedReadHalf,
    waited: impl Future<Output = T>,
) -> Result<T, End> {
    tokio::select! {
        biased;
        value = waited => Ok(value),
        () = left_for_long(input) => Err(End::Closed),
    }
}

/// Waits until the client has closed its side, and then for as long as its requests may wait for
/// others.
pub(super) async fn left_for_long(input: &OwnedReadHalf) {
    net::closed_by_peer(input).await;
    ottla_env::delay(limits::HALF_CLOSED_WAIT_MAX).await;
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
            large_frame(&budget, &mut frames, client, head, limits::IDLE_MAX_DEFAULT).await
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
        assert!(begin.elapsed() < 3 * limits::FRAME_STALL_PRESSED, "{:?}", begin.elapsed());
        let end = stalled.await.unwrap_err();
        assert!(matches!(end, End::Frame(FrameError::Stalled(_))), "{end}");
    }

    const fn sender(pause: u64, reading: u64) -> Sender {
        let (pause, reading) = (Duration::from_secs(pause), Duration::from_secs(reading));
        Sender { idle_max: limits::IDLE_MAX_DEFAULT, pause, reading }
    }

    #[test]
    fn a_pause_ends_a_frame_only_when_its_memory_is_wanted_or_the_connection_is_idle() {
        assert!(sender(12, 12).check(false).is_ok());
        assert!(matches!(sender(12, 12).check(true), Err(FrameError::Stalled(_))));
        assert!(sender(1, 12).check(true).is_ok());
        assert!(sender(0, 100).check(false).is_ok());
        assert!(matches!(sender(0, 100).check(true), Err(FrameError::TooSlow)));
        assert!(matches!(sender(600, 600).check(false), Err(FrameError::Stalled(_))));
        // Byte by byte for as long as a connection may be idle.
        assert!(matches!(sender(1, 600).check(false), Err(FrameError::TooSlow)));
    }

    #[test]
    fn a_byte_ends_a_pause_and_not_the_time_of_the_whole() {
        let mut trickle = sender(0, 0);
        (0..30).for_each(|_| trickle.note(limits::FRAME_STALL_PRESSED, true));
        assert!(matches!(trickle.check(true), Err(FrameError::TooSlow)));
        trickle.note(limits::FRAME_STALL_PRESSED, false);
        assert!(matches!(trickle.check(true), Err(FrameError::Stalled(_))));
    }
}
