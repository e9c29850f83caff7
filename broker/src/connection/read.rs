//! The reading half: takes requests off the socket, starts them in the order they may start.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use kafka_protocol::messages::ApiKey;
use ottla_storage::write::Reservation;
use ottla_wire::frame::{FrameHead, FrameReader};
use tokio::io::AsyncRead;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout};

use super::{Answer, End, Outgoing};
use crate::api::Closes;
use crate::context::{ConnectionInfo, Context};
use crate::dispatch::{self, Malformed, Received, Started};
use crate::limits;

/// Reads and starts requests until the connection ends; returns why.
pub(super) async fn requests(
    context: &Arc<Context>,
    input: impl AsyncRead + Unpin,
    info: ConnectionInfo,
    outgoing: mpsc::Sender<Outgoing>,
) -> End {
    let mut half = ReadingHalf {
        context,
        frames: FrameReader::new(input),
        info,
        outgoing,
        in_flight: Arc::new(Semaphore::new(limits::IN_FLIGHT_MAX)),
        fetches: Arc::new(Semaphore::new(limits::FETCHES_IN_FLIGHT_MAX as usize)),
        undecided: watch::Sender::new(0),
        waiting: Arc::new(AtomicU32::new(0)),
    };
    loop {
        let head = tokio::select! {
            biased;
            () = context.until_draining() => return End::Drained,
            head = timeout(limits::IDLE_MAX, half.frames.head()) => head,
        };
        let head = match head {
            Err(_) => return End::Idle,
            Ok(Err(error)) => return error.into(),
            Ok(Ok(None)) => return End::Closed,
            Ok(Ok(Some(head))) => head,
        };
        if let Err(end) = half.take(head).await {
            return end;
        }
    }
}

struct ReadingHalf<'a, R> {
    context: &'a Arc<Context>,
    frames: FrameReader<R>,
    info: ConnectionInfo,
    outgoing: mpsc::Sender<Outgoing>,
    in_flight: Arc<Semaphore>,
    fetches: Arc<Semaphore>,
    /// Produce requests that were buffered and not decided.
    undecided: watch::Sender<usize>,
    /// The same number, where the write path looks whether waiting longer gains anything.
    waiting: Arc<AtomicU32>,
}

/// What a frame holds while it is read and handled.
enum Held {
    Produce(Reservation),
    Other(#[expect(dead_code, reason = "held for its drop")] Option<OwnedSemaphorePermit>),
}

impl<R: AsyncRead + Unpin> ReadingHalf<'_, R> {
    /// Reads the frame that `head` begins, and starts its request.
    async fn take(&mut self, head: FrameHead) -> Result<(), End> {
        let in_flight = acquire(&self.in_flight, 1).await?;
        let held = self.reserve(head).await?;
        let frame = self.frames.body(head, limits::FRAME_STALL_MAX).await?;
        let arrival = Instant::now();
        self.context.metrics.kafka.received_bytes.add(frame.len() as u64 + 4);

        let received = Received::parse(frame, arrival, &mut self.info)?;
        let fetch_slot = match received.api.key {
            ApiKey::Produce => None,
            key => {
                self.all_decided().await;
                match key {
                    ApiKey::Fetch => Some(acquire(&self.fetches, 1).await?),
                    _ => None,
                }
            }
        };
        let api = received.api.name;
        let started = match held {
            Held::Produce(reservation) => {
                let waiting = self.waiting.clone();
                dispatch::produce(self.context, &self.info, received, reservation, waiting)?
            }
            Held::Other(_) => dispatch::other(self.context, &mut self.info, received).await?,
        };
        let outgoing = match started {
            Started::Answered(frame) => Outgoing::Answer(Answer {
                frame: Box::pin(std::future::ready(Ok(frame))),
                api,
                arrival,
                in_flight,
            }),
            Started::Fetching(frame) => {
                let frame = Box::pin(async move {
                    let _slot = fetch_slot;
                    frame.await
                });
                Outgoing::Answer(Answer { frame, api, arrival, in_flight })
            }
            Started::Appending(frame) => {
                let decided = Undecided::new(&self.undecided);
                let frame = Box::pin(async move {
                    let _until_decided = decided;
                    frame.await
                });
                Outgoing::Answer(Answer { frame, api, arrival, in_flight })
            }
            Started::AppendingSilently(outcome) => {
                let decided = Undecided::new(&self.undecided);
                let outcome = Box::pin(async move {
                    let _until_decided = decided;
                    outcome.await
                });
                Outgoing::Silent(outcome, in_flight)
            }
        };
        self.outgoing.send(outgoing).await.map_err(|_| End::Closed)
    }

    /// Waits for the memory that a frame may take.
    async fn reserve(&self, head: FrameHead) -> Result<Held, End> {
        if head.api_key == ApiKey::Produce as i16 {
            let budget = self.context.writer().budget().clone();
            return match budget.reserve(self.info.address.ip(), head.length).await {
                Ok(reservation) => Ok(Held::Produce(reservation)),
                Err(error) => {
                    tracing::debug!(%error, "refused a produce frame");
                    Err(Closes("a Produce request is longer than the whole byte budget").into())
                }
            };
        }
        if head.length > limits::OTHER_FRAME_BYTES_MAX {
            return Err(Malformed::TooLong { api_key: head.api_key, length: head.length }.into());
        }
        if head.length <= limits::SMALL_FRAME_BYTES {
            return Ok(Held::Other(None));
        }
        let bytes = head.length as u32;
        Ok(Held::Other(Some(acquire(&self.context.other_frames, bytes).await?)))
    }

    /// Waits until no Produce of this connection is undecided.
    async fn all_decided(&self) {
        // Fails only when the sender is gone, and the sender is ours.
        let _ = self.undecided.subscribe().wait_for(|count| *count == 0).await;
    }
}

/// The semaphores are never closed.
async fn acquire(semaphore: &Arc<Semaphore>, n: u32) -> Result<OwnedSemaphorePermit, End> {
    semaphore.clone().acquire_many_owned(n).await.map_err(|_| End::Closed)
}

/// Counts a Produce as undecided until it is dropped.
struct Undecided(watch::Sender<usize>);

impl Undecided {
    fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Undecided {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}
