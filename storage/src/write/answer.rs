//! The answers to producers, and their time.
//!
//! [`AppendTicket`] is the waiting side, one per request; `Answer` is the deciding side, one per
//! batch. Every answer is given exactly once: an `Answer` that is dropped (a task that ended, a
//! defect) counts as "may or may not be stored", so no request can hang, and no request is told
//! "failed" by accident.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ottla_format::command::BatchRefusal;
use ottla_model::{Offset, TimestampMs};
use ottla_telemetry::metrics::Histogram;
use tokio::time::{Instant, Sleep};

use super::budget::Reservation;
use crate::limits::{ANSWER_PERCENT, ANSWER_WAIT_MIN};

/// The outcome of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// Durable and committed, now or by an earlier send of the same batch (I-ACK, I-IDEM).
    Stored {
        /// Offset of its first record.
        base_offset: Offset,
        /// The time of all its records, when the topic has log-append time.
        append_time: Option<TimestampMs>,
        /// The partition's log start at the commit.
        log_start: Offset,
    },
    /// The state machine refused it. Not stored.
    Refused(BatchRefusal),
    /// Certainly not stored; the same batch may be sent again.
    NotStored,
    /// It may or may not be stored; an idempotent producer finds out by sending it again.
    Undecided,
    /// Certainly not stored: this broker's registration is over. Send it again, to any broker.
    Fenced,
}

/// Waits for the outcomes of a request's batches, one per batch in their order. Resolves when all
/// are known, or when so long has passed since its arrival as `answer_after` says: what is then
/// not known is [`AppendOutcome::Undecided`], while the broker goes on deciding it. Dropping a
/// ticket changes nothing about its batches.
#[derive(Debug)]
pub struct AppendTicket {
    shared: Arc<Shared>,
    /// `None`: so far in the future that there is no such instant.
    deadline: Option<Instant>,
    arrival: Instant,
    /// Counts the time from arrival to answer.
    timed: Option<Histogram>,
    /// Made when the ticket first has to wait: many never do.
    timer: Option<Pin<Box<Sleep>>>,
}

/// The right and the duty to answer one batch.
#[derive(Debug)]
pub(crate) struct Answer {
    shared: Arc<Shared>,
    index: u32,
    given: bool,
}

#[derive(Debug)]
struct Shared(Mutex<State>);

#[derive(Debug)]
struct State {
    outcomes: Vec<Option<AppendOutcome>>,
    missing: usize,
    waker: Option<Waker>,
    /// What the batches cost besides their bytes, until all are answered.
    overhead: Option<Reservation>,
}

/// How long after its arrival a request is answered in any case: at 80 % of its time-out, but not
/// before its batches could be stored. Some clients send time-outs of a millisecond or none, and
/// wait for the answer all the same; an early "may or may not be stored" makes them store their
/// records twice.
pub(crate) fn answer_after(timeout: Duration, linger: Duration) -> Duration {
    let share = timeout.saturating_mul(ANSWER_PERCENT) / 100;
    share.max(linger.saturating_add(ANSWER_WAIT_MIN))
}

impl AppendTicket {
    /// A ticket for `batches` batches of a request that arrived at `arrival`.
    pub(crate) fn new(
        batches: usize,
        arrival: Instant,
        answer_after: Duration,
        overhead: Option<Reservation>,
    ) -> Self {
        let state =
            State { outcomes: vec![None; batches], missing: batches, waker: None, overhead };
        Self {
            shared: Arc::new(Shared(Mutex::new(state))),
            deadline: arrival.checked_add(answer_after),
            arrival,
            timed: None,
            timer: None,
        }
    }

    /// Counts the time that it takes.
    pub(crate) fn timed_by(mut self, histogram: Histogram) -> Self {
        self.timed = Some(histogram);
        self
    }

    /// Never says "undecided" by itself, and needs no timer: whoever drives steps decides when a
    /// request's time is up.
    #[cfg(feature = "step-functions")]
    pub(crate) fn without_deadline(mut self) -> Self {
        self.deadline = None;
        self
    }

    fn resolve(&mut self, outcomes: Vec<AppendOutcome>) -> Poll<Vec<AppendOutcome>> {
        if let Some(histogram) = self.timed.take() {
            histogram.time(self.arrival.elapsed());
        }
        Poll::Ready(outcomes)
    }

    /// The answer of batch `index`. Called once per batch.
    pub(crate) fn answer(&self, index: usize) -> Answer {
        Answer { shared: self.shared.clone(), index: index as u32, given: false }
    }
}

impl Future for AppendTicket {
    type Output = Vec<AppendOutcome>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ticket = self.get_mut();
        {
            let mut state = ticket.shared.lock();
            if state.missing == 0 {
                let outcomes = state.take_outcomes();
                drop(state);
                return ticket.resolve(outcomes);
            }
            match &mut state.waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
        }
        let Some(deadline) = ticket.deadline else { return Poll::Pending };
        let timer =
            ticket.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        let outcomes = ticket.shared.lock().take_outcomes();
        ticket.resolve(outcomes)
    }
}

impl Answer {
    /// Answers the batch.
    pub(crate) fn give(mut self, outcome: AppendOutcome) {
        self.settle(outcome);
    }

    fn settle(&mut self, outcome: AppendOutcome) {
        self.given = true;
        let mut state = self.shared.lock();
        if let Some(slot) = state.outcomes.get_mut(self.index as usize) {
            *slot = Some(outcome);
        }
        state.missing -= 1;
        if state.missing == 0 {
            let (waker, overhead) = (state.waker.take(), state.overhead.take());
            // Both run code of others: not under our lock.
            drop(state);
            drop(overhead);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.given {
            self.settle(AppendOutcome::Undecided);
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Outcomes that come later find no slot, which is what they should: the request is answered.
    fn take_outcomes(&mut self) -> Vec<AppendOutcome> {
        let outcomes = std::mem::take(&mut self.outcomes);
        outcomes.into_iter().map(|outcome| outcome.unwrap_or(AppendOutcome::Undecided)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn ticket(batches: usize, timeout_ms: u64) -> AppendTicket {
        let answer_after = answer_after(ms(timeout_ms), Duration::ZERO);
        AppendTicket::new(batches, Instant::now(), answer_after, None)
    }

    #[test]
    fn a_short_time_out_does_not_cut_off_linger_and_a_slow_put() {
        assert_eq!(answer_after(ms(30_000), ms(250)), ms(24_000));
        for short in [0, 1, 100, 5_000] {
            assert_eq!(answer_after(ms(short), ms(250)), ms(250) + ANSWER_WAIT_MIN);
        }
        assert_eq!(answer_after(ms(100), ms(10_000)), ms(10_000) + ANSWER_WAIT_MIN);
        assert_eq!(answer_after(Duration::MAX, ms(0)), Duration::MAX / 100);
    }

    #[tokio::test(start_paused = true)]
    async fn outcomes_come_in_the_order_of_the_batches() {
        let ticket = ticket(2, 1000);
        let (first, second) = (ticket.answer(0), ticket.answer(1));
        second.give(AppendOutcome::NotStored);
        first.give(AppendOutcome::Fenced);
        assert_eq!(ticket.await, [AppendOutcome::Fenced, AppendOutcome::NotStored]);
    }

    #[tokio::test(start_paused = true)]
    async fn at_80_percent_of_the_timeout_the_rest_is_undecided() {
        let start = Instant::now();
        let ticket = ticket(2, 10_000);
        let late = ticket.answer(0);
        ticket.answer(1).give(AppendOutcome::NotStored);
        assert_eq!(ticket.await, [AppendOutcome::Undecided, AppendOutcome::NotStored]);
        assert_eq!(start.elapsed(), ms(8_000));
        late.give(AppendOutcome::Fenced);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_dropped_is_undecided() {
        let ticket = ticket(1, 1000);
        drop(ticket.answer(0));
        assert_eq!(ticket.await, [AppendOutcome::Undecided]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_endless_timeout_waits_for_the_answer() {
        let ticket = AppendTicket::new(1, Instant::now(), Duration::MAX / 100, None);
        let answer = ticket.answer(0);
        let waiting = tokio::spawn(ticket);
        tokio::task::yield_now().await;
        answer.give(AppendOutcome::NotStored);
        assert_eq!(waiting.await.unwrap(), [AppendOutcome::NotStored]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_without_batches_is_answered_at_once() {
        assert_eq!(ticket(0, 1000).await, []);
    }
}
