//! The writing half: waits for answers, all at the same time, and writes them in order.
//!
//! A client that does not take its answers is waited for as long as their memory is not needed;
//! when others wait for it, for seconds. Both times are measured by progress: a byte now and then
//! is none.

use futures_util::StreamExt;
use futures_util::stream::{FuturesOrdered, FuturesUnordered};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout};

use super::unwritten::ReadyAnswer;
use super::{End, Outgoing};
use crate::context::Context;
use crate::limits;

/// An answer that is ready to be written.
struct Ready {
    answer: ReadyAnswer,
    api: &'static str,
    arrival: Instant,
    in_flight: OwnedSemaphorePermit,
}

/// Writes answers until the reading half has handed over its last and all are out.
pub(super) async fn answers(
    context: &Context,
    mut output: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Outgoing>,
) -> Result<(), End> {
    let mut answers = FuturesOrdered::new();
    let mut silent = FuturesUnordered::new();
    let mut reading = true;
    loop {
        tokio::select! {
            biased;
            Some(ready) = answers.next() => write_answer(context, &mut output, ready?).await?,
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

async fn write_answer(
    context: &Context,
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
        let pressed = answer.held.is_some()
            && stalled >= limits::WRITE_STALL_PRESSED
            && context.answers.has_waiters();
        if pressed || stalled >= limits::WRITE_STALL_MAX {
            return Err(End::SlowReader);
        }
    }
    drop((answer, in_flight));
    let metrics = &context.metrics.kafka;
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
