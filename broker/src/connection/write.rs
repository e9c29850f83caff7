//! The writing half: waits for answers, all at the same time, and writes them in order.
//!
//! Those that are not ready go on while one is written, also those that come meanwhile: a Fetch that
//! is being answered holds places in queues of the whole broker, and a Produce its part of a budget,
//! which nobody gets while a client that does not read stands in front of it.
//!
//! A client that does not take its answers is waited for as long as their memory is not needed;
//! when others wait for it, for seconds. Both times are measured by progress: a byte now and then
//! is none. Its answer is copied meanwhile, so that it holds the memory it is counted with: the
//! records in it were slices of what the cache read or received.

use std::collections::VecDeque;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, FuturesUnordered};
use ottla_telemetry::metrics::KafkaMetrics;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::{End, Outgoing, Ready};
use crate::limits;

/// Writes answers until the reading half has handed over its last and all are out.
pub(super) async fn answers(
    metrics: &KafkaMetrics,
    mut output: impl AsyncWrite + Unpin,
    queue: mpsc::Receiver<Outgoing>,
) -> Result<(), End> {
    let mut waiting = Waiting::new(queue);
    // At most as many as a connection has requests in flight.
    let mut parked = VecDeque::new();
    loop {
        let Some(next) = parked.pop_front() else {
            match waiting.next().await {
                Some(ready) => parked.push_back(ready),
                None => return Ok(()),
            }
            continue;
        };
        let write = write_answer(metrics, &mut output, next?);
        tokio::pin!(write);
        loop {
            tokio::select! {
                biased;
                written = &mut write => break written?,
                Some(ready) = waiting.next() => parked.push_back(ready),
            }
        }
    }
}

/// What is on its way and not ready.
struct Waiting {
    queue: mpsc::Receiver<Outgoing>,
    answers: FuturesOrdered<BoxFuture<'static, Result<Ready, End>>>,
    silent: FuturesUnordered<BoxFuture<'static, Result<(), End>>>,
}

impl Waiting {
    fn new(queue: mpsc::Receiver<Outgoing>) -> Self {
        Self { queue, answers: FuturesOrdered::new(), silent: FuturesUnordered::new() }
    }

    /// The next answer, in order, when it is ready, or why the connection must end behind those
    /// before it. `None`: the reading half has ended, and nothing is left. Cancel safe.
    async fn next(&mut self) -> Option<Result<Ready, End>> {
        loop {
            tokio::select! {
                biased;
                Some(ready) = self.answers.next() => return Some(ready),
                Some(outcome) = self.silent.next() => if let Err(end) = outcome {
                    return Some(Err(end));
                },
                Some(outgoing) = self.queue.recv() => match outgoing {
                    Outgoing::Answer(answer) => self.answers.push_back(answer),
                    Outgoing::Silent(outcome) => self.silent.push(outcome),
                },
                else => return None,
            }
        }
    }
}

async fn write_answer(
    metrics: &KafkaMetrics,
    output: &mut (impl AsyncWrite + Unpin),
    ready: Ready,
) -> Result<(), End> {
    let Ready { mut answer, api, arrival, in_flight } = ready;
    let bytes = answer.frame.len() as u64;
    let began = Instant::now();
    let mut progress = Progress { since: began, taken: 0 };
    let mut is_detached = false;
    while !answer.frame.is_empty() {
        let slices = answer.frame.slices();
        let write = output.write_vectored(&slices);
        // Woken now and then to see whether others wait.
        if let Ok(taken) = timeout(limits::WRITE_STALL_PRESSED, write).await {
            let taken = taken?;
            drop(slices);
            if taken == 0 {
                return Err(End::Io(std::io::ErrorKind::WriteZero.into()));
            }
            answer.frame.advance(taken);
            progress.note(taken);
        }
        let stalled = progress.since.elapsed();
        let pressed = stalled >= limits::WRITE_STALL_PRESSED && answer.is_wanted_by_others();
        if pressed || stalled >= limits::WRITE_STALL_MAX {
            return Err(End::SlowReader);
        }
        if !is_detached && began.elapsed() >= limits::WRITE_STALL_PRESSED {
            answer.frame.detach();
            is_detached = true;
        }
    }
    drop((answer, in_flight));
    metrics.sent_bytes.add(bytes);
    metrics.requests.with([api]).inc();
    metrics.request_seconds.with([api]).observe(arrival.elapsed().as_secs_f64());
    Ok(())
}

/// Since when a client has taken less than counts as progress.
struct Progress {
    since: Instant,
    taken: usize,
}

impl Progress {
    fn note(&mut self, taken: usize) {
        self.taken += taken;
        if self.taken >= limits::WRITE_PROGRESS_BYTES {
            *self = Self { since: Instant::now(), taken: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use ottla_storage::write::Budget;
    use ottla_telemetry::Metrics;
    use ottla_wire::response::Frame;
    use tokio::io::DuplexStream;
    use tokio::sync::{Semaphore, oneshot};

    use super::super::unwritten::Unwritten;
    use super::*;
    use crate::context::answers_budget;
    use crate::dispatch::Reply;

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const SMALL: usize = 100;

    /// A connection whose answers nobody takes, beyond a few bytes.
    struct World {
        metrics: Arc<Metrics>,
        memory: Budget,
        unwritten: Unwritten,
        slots: Arc<Semaphore>,
        output: Option<DuplexStream>,
        _client: DuplexStream,
    }

    impl World {
        fn new() -> Self {
            let metrics = Metrics::new();
            let memory = answers_budget(limits::ANSWERS_BYTES_MIN, &metrics);
            let (output, _client) = tokio::io::duplex(8);
            let slots = Arc::new(Semaphore::new(limits::IN_FLIGHT_MAX));
            let output = Some(output);
            let unwritten = Unwritten::new(memory.clone(), CLIENT);
            Self { metrics, memory, unwritten, slots, output, _client }
        }

        fn ready(&self, bytes: usize) -> Ready {
            self.ready_with(Bytes::from(vec![7; bytes]))
        }

        fn ready_with(&self, body: Bytes) -> Ready {
            let frame = Frame::with_header(1, false, [body]).unwrap();
            let is_large = frame.len() > limits::SMALL_ANSWER_BYTES;
            let held = is_large.then(|| self.memory.try_reserve(CLIENT, frame.len()).unwrap());
            let answer = self.unwritten.ready(Reply { frame, held });
            let in_flight = self.slots.clone().try_acquire_owned().unwrap();
            Ready { answer, api: "Fetch", arrival: Instant::now(), in_flight }
        }

        fn answer(&self, bytes: usize) -> Outgoing {
            Outgoing::Answer(Box::pin(std::future::ready(Ok(self.ready(bytes)))))
        }

        fn write(
            &mut self,
        ) -> (mpsc::Sender<Outgoing>, impl Future<Output = Result<(), End>> + use<>) {
            let (outgoing, queue) = mpsc::channel(limits::IN_FLIGHT_MAX);
            let metrics = self.metrics.clone();
            let output = self.output.take().unwrap();
            let write = async move { answers(&metrics.kafka, output, queue).await };
            (outgoing, write)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_keeps_only_its_own_bytes_in_memory() {
        let mut world = World::new();
        let (outgoing, write) = world.write();
        tokio::pin!(write);
        let read = Bytes::from(vec![7; 1 << 20]);
        let ready = world.ready_with(read.slice(..SMALL));
        assert!(outgoing.send(Outgoing::Answer(Box::pin(async { Ok(ready) }))).await.is_ok());
        let copied_after = limits::WRITE_STALL_PRESSED;
        assert!(timeout(copied_after - Duration::from_secs(1), &mut write).await.is_err());
        assert!(!read.is_unique(), "clients that read are sent the cache's own bytes");
        assert!(timeout(Duration::from_secs(2), &mut write).await.is_err());
        assert!(read.is_unique());
    }

    #[tokio::test]
    async fn what_comes_behind_an_answer_that_nobody_takes_gets_ready() {
        let mut world = World::new();
        let (outgoing, write) = world.write();
        tokio::pin!(write);
        assert!(outgoing.send(world.answer(SMALL)).await.is_ok());
        let stuck = timeout(Duration::from_millis(50), &mut write).await;
        assert!(stuck.is_err(), "nobody reads");

        let behind = world.ready(SMALL);
        let (tell, told) = oneshot::channel();
        let answer = async move {
            tell.send(()).unwrap();
            Ok(behind)
        };
        assert!(outgoing.send(Outgoing::Answer(Box::pin(answer))).await.is_ok());
        let (tell, told_silently) = oneshot::channel();
        let silent = async move {
            tell.send(()).unwrap();
            Ok(())
        };
        assert!(outgoing.send(Outgoing::Silent(Box::pin(silent))).await.is_ok());
        tokio::select! {
            both = async { (told.await, told_silently.await) } => assert_eq!(both, (Ok(()), Ok(()))),
            _ = &mut write => panic!("nobody reads"),
        }
        drop(world);
        assert!(matches!(write.await, Err(End::Io(_))), "the client has gone");
    }

    #[tokio::test(start_paused = true)]
    async fn memory_behind_an_answer_that_nobody_takes_is_wanted_back() {
        let mut world = World::new();
        let (outgoing, write) = world.write();
        let (small, large) = (world.answer(SMALL), world.answer(limits::SMALL_ANSWER_BYTES + 1));
        let writing = tokio::spawn(write);
        assert!(outgoing.send(small).await.is_ok());
        assert!(outgoing.send(large).await.is_ok());
        ottla_env::delay(2 * limits::WRITE_STALL_PRESSED).await;
        assert!(!writing.is_finished(), "nobody waits for its memory");

        let all = limits::ANSWERS_BYTES_MIN;
        let began = Instant::now();
        drop(world.memory.reserve(CLIENT, all).await.unwrap());
        assert!(began.elapsed() <= 2 * limits::WRITE_STALL_PRESSED, "{:?}", began.elapsed());
        assert!(matches!(writing.await.unwrap(), Err(End::SlowReader)));
    }
}
