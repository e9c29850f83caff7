//! The reading half: takes requests off the socket, starts them in the order they may start.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use futures_util::future::BoxFuture;
use kafka_protocol::messages::ApiKey;
use ottla_env::net::OwnedReadHalf;
use ottla_storage::write::Reservation;
use ottla_wire::frame::{FrameHead, FrameReader};
use ottla_wire::limits::ELEMENT_BYTES;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout};

use super::receive::{self, while_wanted};
use super::unwritten::{ReadyAnswer, Unwritten};
use super::{End, Outgoing, Ready};
use crate::context::{ConnectionInfo, Context};
use crate::dispatch::{self, Received, Reply, Started};
use crate::limits;

/// Reads and starts requests until the connection ends; returns why.
pub(super) async fn requests(
    context: &Arc<Context>,
    input: OwnedReadHalf,
    info: &mut ConnectionInfo,
    outgoing: mpsc::Sender<Outgoing>,
) -> End {
    let mut half = ReadingHalf {
        context,
        frames: FrameReader::new(input),
        client: info.address.ip(),
        info,
        outgoing,
        in_flight: Arc::new(Semaphore::new(limits::IN_FLIGHT_MAX)),
        fetches: Arc::new(Semaphore::new(limits::FETCHES_IN_FLIGHT_MAX)),
        unwritten: Unwritten::new(),
        undecided: watch::Sender::new(0),
        waiting: Arc::new(AtomicU32::new(0)),
    };
    loop {
        let head = tokio::select! {
            biased;
            () = context.until_draining() => return End::Drained,
            head = timeout(context.options.edge.idle_max, half.frames.head()) => head,
        };
        let head = match head {
            // Whoever waits for an answer, or takes one slowly, is not idle.
            Err(_) if half.in_flight.available_permits() < limits::IN_FLIGHT_MAX => continue,
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

struct ReadingHalf<'a> {
    context: &'a Arc<Context>,
    frames: FrameReader<OwnedReadHalf>,
    client: IpAddr,
    info: &'a mut ConnectionInfo,
    outgoing: mpsc::Sender<Outgoing>,
    in_flight: Arc<Semaphore>,
    fetches: Arc<Semaphore>,
    unwritten: Unwritten,
    /// Produce requests that were buffered and not decided.
    undecided: watch::Sender<usize>,
    /// The same number, where the write path looks whether waiting longer gains anything.
    waiting: Arc<AtomicU32>,
}

impl ReadingHalf<'_> {
    /// Reads the frame that `head` begins, and starts its request.
    async fn take(&mut self, head: FrameHead) -> Result<(), End> {
        let in_flight = while_wanted(&self.frames, acquire(&self.in_flight)).await??;
        while_wanted(&self.frames, self.unwritten.has_room()).await?;
        let (frame, held) =
            receive::frame(self.context, &mut self.frames, self.client, head).await?;
        let arrival = Instant::now();
        self.context.metrics.kafka.received_bytes.add(frame.len() as u64 + 4);

        let received = Received::parse(frame, arrival, self.info)?;
        let decoded = decoded(held.as_ref(), received.elements);
        let mut fetch_slot = None;
        if received.api.key != ApiKey::Produce {
            while_wanted(&self.frames, self.all_decided()).await?;
            if received.api.key == ApiKey::Fetch {
                fetch_slot = Some(while_wanted(&self.frames, acquire(&self.fetches)).await??);
                // The answer of the fetch before may be ready by now.
                while_wanted(&self.frames, self.unwritten.has_room()).await?;
            }
        }
        let api = received.api.name;
        let started = match (received.api.key, held) {
            (ApiKey::Produce, Some(reservation)) => {
                let waiting = self.waiting.clone();
                dispatch::produce(self.context, self.info, received, reservation, waiting).await?
            }
            (key, _held) if dispatch::ends_with_its_client(key) => {
                let other = dispatch::other(self.context, self.info, received);
                while_wanted(&self.frames, other).await??
            }
            (_, _held) => dispatch::other(self.context, self.info, received).await?,
        };
        let ready: BoxFuture<'static, Result<Reply, End>> = match started {
            Started::Answered(reply) => Box::pin(std::future::ready(Ok(reply))),
            Started::Fetching(reply) => Box::pin(async move {
                let _slot = fetch_slot;
                reply.await
            }),
            Started::Appending(reply) => {
                let until_decided = Undecided::new(&self.undecided);
                Box::pin(async move {
                    let _until_decided = until_decided;
                    reply.await
                })
            }
            Started::AppendingSilently(outcome) => {
                let until_decided = Undecided::new(&self.undecided);
                let outcome = Box::pin(async move {
                    let _until_decided = (until_decided, decoded, in_flight);
                    outcome.await.map_err(End::from)
                });
                return self.hand_over(Outgoing::Silent(outcome)).await;
            }
        };
        let ready = self.when_ready(ready, decoded);
        let ready = async move { Ok(Ready { answer: ready.await?, api, arrival, in_flight }) };
        self.hand_over(Outgoing::Answer(Box::pin(ready))).await
    }

    /// Counts an answer from the moment when there is one.
    fn when_ready(
        &self,
        reply: BoxFuture<'static, Result<Reply, End>>,
        decoded: Option<Reservation>,
    ) -> impl Future<Output = Result<ReadyAnswer, End>> + 'static {
        let (context, unwritten) = (self.context.clone(), self.unwritten.clone());
        let client = self.client;
        async move {
            let reply = reply.await?;
            drop(decoded);
            Ok(unwritten.ready(&context.answers, client, reply))
        }
    }

    async fn hand_over(&self, outgoing: Outgoing) -> Result<(), End> {
        self.outgoing.send(outgoing).await.map_err(|_| End::Closed)
    }

    /// Waits until no Produce of this connection is undecided.
    async fn all_decided(&self) {
        // Fails only when the sender is gone, and the sender is ours.
        let _ = self.undecided.subscribe().wait_for(|count| *count == 0).await;
    }
}

/// Counts what a large request takes in memory besides its bytes, until it is answered.
fn decoded(held: Option<&Reservation>, elements: usize) -> Option<Reservation> {
    let is_large = elements > limits::FEW_ELEMENTS;
    held.filter(|_| is_large).map(|held| held.charge(elements * ELEMENT_BYTES))
}

/// The semaphores are never closed.
async fn acquire(semaphore: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, End> {
    semaphore.clone().acquire_owned().await.map_err(|_| End::Closed)
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
