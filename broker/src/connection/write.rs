//! The writing half: waits for answers, all at the same time, and writes them in order.

use futures_util::StreamExt;
use futures_util::stream::{FuturesOrdered, FuturesUnordered};
use ottla_wire::response::Frame;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout};

use super::{End, Outgoing};
use crate::context::Context;
use crate::limits;

/// An answer that is ready to be written.
struct Ready {
    frame: Frame,
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
                    let frame = answer.frame.await?;
                    let (api, arrival, in_flight) = (answer.api, answer.arrival, answer.in_flight);
                    Ok::<_, End>(Ready { frame, api, arrival, in_flight })
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
    let Ready { mut frame, api, arrival, in_flight } = ready;
    let bytes = frame.len() as u64;
    while !frame.is_empty() {
        let written = timeout(limits::WRITE_STALL_MAX, output.write_vectored(&frame.slices()))
            .await
            .map_err(|_| End::SlowReader)??;
        if written == 0 {
            return Err(End::Io(std::io::ErrorKind::WriteZero.into()));
        }
        frame.advance(written);
    }
    drop(in_flight);
    let metrics = &context.metrics.kafka;
    metrics.sent_bytes.add(bytes);
    metrics.requests.with([api]).inc();
    metrics.request_seconds.with([api]).observe(arrival.elapsed().as_secs_f64());
    Ok(())
}
