//! The writing half: waits for answers, all at the same time, and writes them in order.
//!
//! Those that are not ready go on while one is written: a Fetch that is being answered holds places
//! in queues of the whole broker, which nobody gets while a client that does not read stands in
//! front of it.
//!
//! A client that does not take its answers is waited for as long as their memory is not needed;
//! when others wait for it, for seconds. Both times are measured by progress: a byte now and then
//! is none.

use std::collections::VecDeque;
use std::convert::Infallible;

use futures_util::stream::{FuturesOrdered, FuturesUnordered};
use futures_util::{Stream, StreamExt};
use ottla_storage::write::Budget;
use ottla_telemetry::metrics::KafkaMetrics;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout};

use super::unwritten::ReadyAnswer;
use super::{End, Outgoing};
use crate::limits;

/// An answer that is ready to be written.
struct Ready {
    answer: ReadyAnswer,
    api: &'static str,
    arrival: Instant,
    in_flight: OwnedSemaphorePermit,
}

/// Writes answers until the reading half has handed over its last and all are out. `memory` is the
/// budget that answers are held in.
pub(super) async fn answers(
    memory: &Budget,
    metrics: &KafkaMetrics,
    mut output: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Outgoing>,
) -> Result<(), End> {
    let mut answers = FuturesOrdered::new();
    let mut silent = FuturesUnordered::new();
    // At most as many as a connection has requests in flight.
    let mut parked = VecDeque::new();
    let mut reading = true;
    loop {
        if let Some(ready) = parked.pop_front() {
            let next = ready?;
            let others = park(&mut answers, &mut parked);
            tokio::select! {
                biased;
                written = write_answer(memory, metrics, &mut output, next) => written?,
                never = others => match never {},
            }
            continue;
        }
        tokio::select! {
            biased;
            Some(ready) = answers.next() => parked.push_back(ready),
            Some(outcome) = silent.next() => outcome?,
            outgoing = queue.recv(), if reading => match outgoing {
                Some(Outgoing::Answer(answer)) => answers.push_back(async move {
                    let ready = answer.ready.await?;
                    let (api, arrival, in_flight) = (answer.api, answer.arrival, answer.in_flight);
                    Ok::<_, End>(Ready { answer: ready, api, arrival, in_flight })
                }),
                Some(Outgoing::Silent(outcome, in_flight)) => silent.push(async move {
                    let _until_decided = in_flight;
                    outcome.await.map_err(End::from)
                }),
                None => reading = false,
            },
            else => return Ok(()),
        }
    }
}

/// Takes answers that become ready, in their order, until it is dropped.
async fn park(
    answers: &mut (impl Stream<Item = Result<Ready, End>> + Unpin),
    parked: &mut VecDeque<Result<Ready, End>>,
) -> Infallible {
    while let Some(ready) = answers.next().await {
        parked.push_back(ready);
    }
    std::future::pending().await
}

async fn write_answer(
    memory: &Budget,
    metrics: &KafkaMetrics,
    output: &mut (impl AsyncWrite + Unpin),
    ready: Ready,
) -> Result<(), End> {
    let Ready { mut answer, api, arrival, in_flight } = ready;
    let bytes = answer.frame.len() as u64;
    let mut progress = Progress { since: Instant::now(), taken: 0 };
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
        let pressed =
            answer.held.is_some() && stalled >= limits::WRITE_STALL_PRESSED && memory.has_waiters();
        if pressed || stalled >= limits::WRITE_STALL_MAX {
            return Err(End::SlowReader);
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

    use bytes::Bytes;
    use futures_util::future::BoxFuture;
    use ottla_telemetry::Metrics;
    use ottla_wire::response::Frame;
    use tokio::sync::{Semaphore, oneshot};

    use super::super::Answer;
    use super::super::unwritten::Unwritten;
    use super::*;
    use crate::context::answers_budget;
    use crate::dispatch::Reply;

    #[tokio::test]
    async fn answers_get_ready_behind_one_that_nobody_takes() {
        let metrics = Metrics::new();
        let memory = answers_budget(limits::ANSWERS_BYTES_MIN, &metrics);
        let (unwritten, slots) = (Unwritten::new(), Arc::new(Semaphore::new(2)));
        let answer = |ready: BoxFuture<'static, Result<ReadyAnswer, End>>| {
            let in_flight = slots.clone().try_acquire_owned().unwrap();
            Outgoing::Answer(Answer { ready, api: "Fetch", arrival: Instant::now(), in_flight })
        };
        let ready = || {
            let frame = Frame::with_header(1, false, [Bytes::from(vec![7; 100])]).unwrap();
            let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
            unwritten.ready(&memory, client, Reply { frame, held: None })
        };

        let (outgoing, queue) = mpsc::channel(2);
        let (first, second) = (ready(), ready());
        let (go, gone) = oneshot::channel::<()>();
        let (tell, told) = oneshot::channel::<()>();
        let behind = async move {
            gone.await.unwrap();
            tell.send(()).unwrap();
            Ok(second)
        };
        let in_front = async move {
            // By then both were handed over.
            tokio::task::yield_now().await;
            Ok(first)
        };
        assert!(outgoing.send(answer(Box::pin(in_front))).await.is_ok());
        assert!(outgoing.send(answer(Box::pin(behind))).await.is_ok());

        let (output, not_read) = tokio::io::duplex(8);
        let write = answers(&memory, &metrics.kafka, output, queue);
        tokio::pin!(write);
        let stuck = timeout(std::time::Duration::from_millis(50), &mut write).await;
        assert!(stuck.is_err(), "nobody reads");
        go.send(()).unwrap();
        tokio::select! {
            told = told => told.unwrap(),
            _ = &mut write => panic!("nobody reads"),
        }
        drop(not_read);
        assert!(matches!(write.await, Err(End::Io(_))));
    }
}
