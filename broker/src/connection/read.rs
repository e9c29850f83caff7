//! The reading half: takes requests off the socket, starts them in the order they may start.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use futures_util::future::BoxFuture;
use kafka_protocol::messages::ApiKey;
use ottla_env::net::{self, OwnedReadHalf};
use ottla_storage::write::Reservation;
use ottla_wire::frame::{FrameHead, FrameReader};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout};

use super::long_polls::LongPolls;
use super::receive::{self, left_for_long};
use super::unwritten::{ReadyAnswer, Unwritten};
use super::{End, Outgoing, Ready};
use crate::context::{ConnectionInfo, Context};
use crate::dispatch::{self, AnswerMemory, Received, Reply, RequestMemory, Started};
use crate::limits;

/// Reads and starts requests until the connection ends; returns why. The writing half then has all
/// that was started.
pub(super) async fn requests(
    context: &Arc<Context>,
    input: OwnedReadHalf,
    info: &mut ConnectionInfo,
    outgoing: mpsc::Sender<Outgoing>,
    long_polls: LongPolls,
) -> End {
    let client = info.share();
    let mut half = ReadingHalf {
        context,
        frames: FrameReader::new(input),
        client,
        answers: AnswerMemory::new(context.answers.clone(), client, long_polls.clone()),
        info,
        outgoing,
        long_polls,
        in_flight: Arc::new(Semaphore::new(limits::IN_FLIGHT_MAX)),
        fetches: Arc::new(Semaphore::new(limits::FETCHES_IN_FLIGHT_MAX)),
        unwritten: Unwritten::new(context.answers.clone(), client),
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
            // A client that waits for an answer, or reads one slowly, is not idle.
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
    long_polls: LongPolls,
    in_flight: Arc<Semaphore>,
    fetches: Arc<Semaphore>,
    unwritten: Unwritten,
    answers: AnswerMemory,
    /// Produce requests that were buffered and not decided.
    undecided: watch::Sender<usize>,
    /// The same number, where the write path looks whether waiting longer gains anything.
    waiting: Arc<AtomicU32>,
}

impl ReadingHalf<'_> {
    /// Reads the frame that `head` begins, and starts its request.
    async fn take(&mut self, head: FrameHead) -> Result<(), End> {
        let in_flight = self.behind_others(acquire(&self.in_flight)).await?;
        let fetch_slot = self.in_its_turn(head.api_key).await?;
        let (frame, held) =
            receive::frame(self.context, &mut self.frames, self.client, head).await?;
        let arrival = Instant::now();
        self.context.metrics.kafka.received_bytes.add(frame.len() as u64 + 4);

        let received = Received::parse(frame, arrival, self.info)?;
        let memory =
            receive::memory(self.context, &self.frames, self.client, held, &received).await?;
        let api = received.api.name;
        let mut decoded = None;
        let started = match (received.api.key, memory) {
            (ApiKey::Produce, RequestMemory { frame: Some(reservation), decoded: more }) => {
                decoded = more;
                let waiting = self.waiting.clone();
                let answers = self.answers.clone();
                dispatch::produce(self.context, self.info, received, reservation, waiting, answers)
                    .await?
            }
            (key, memory) => {
                let (polls, answers) = (&self.long_polls, &self.answers);
                let other =
                    dispatch::other(self.context, self.info, received, memory, polls, answers);
                if dispatch::waits_for_members(key) {
                    tokio::select! {
                        biased;
                        started = other => started?,
                        () = left_with_nothing_behind(&self.frames) => return Err(End::Closed),
                    }
                } else {
                    other.await?
                }
            }
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

    /// Waits until a request may start, before it takes memory: what it waits for may take minutes.
    /// Returns the place of the connection's Fetch when it is one.
    async fn in_its_turn(&self, api_key: i16) -> Result<Option<OwnedSemaphorePermit>, End> {
        let mut fetch_slot = None;
        if api_key != ApiKey::Produce as i16 {
            self.behind_others(self.all_decided()).await;
        }
        if api_key == ApiKey::Fetch as i16 {
            fetch_slot = Some(self.behind_others(acquire(&self.fetches)).await?);
        }
        // The answer of the fetch before may be ready by now.
        self.unwritten.has_room().await;
        Ok(fetch_slot)
    }

    /// Counts an answer from the moment when there is one.
    fn when_ready(
        &self,
        reply: BoxFuture<'static, Result<Reply, End>>,
        decoded: Option<Reservation>,
    ) -> impl Future<Output = Result<ReadyAnswer, End>> + 'static {
        let unwritten = self.unwritten.clone();
        async move {
            let reply = reply.await?;
            drop(decoded);
            Ok(unwritten.ready(reply))
        }
    }

    async fn hand_over(&self, outgoing: Outgoing) -> Result<(), End> {
        self.outgoing.send(outgoing).await.map_err(|_| End::Closed)
    }

    /// Waits for what earlier requests of this connection hold. When the client has left meanwhile, the
    /// long poll among them ends soon.
    async fn behind_others<T>(&self, waited: impl Future<Output = T>) -> T {
        tokio::pin!(waited);
        tokio::select! {
            biased;
            value = &mut waited => return value,
            () = left_for_long(self.frames.get_ref()) => self.long_polls.end(),
        }
        waited.await
    }

    /// Waits until no Produce of this connection is undecided.
    async fn all_decided(&self) {
        // Fails only when the sender is gone, and the sender is ours.
        let _ = self.undecided.subscribe().wait_for(|count| *count == 0).await;
    }
}

/// Waits until the client has left for long, with nothing sent behind the request that is handled. What
/// stands behind it is done although this request is of no use to anybody any more: clients commit
/// offsets or leave a group and close the connection without waiting for the answer.
async fn left_with_nothing_behind(frames: &FrameReader<OwnedReadHalf>) {
    left_for_long(frames.get_ref()).await;
    if frames.has_read_on() || net::has_unread(frames.get_ref()).await {
        std::future::pending::<()>().await;
    }
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
