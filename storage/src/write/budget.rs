//! The byte budget: everything accepted but not acknowledged.
//!
//! A connection reserves a Produce frame's whole length before it reads the frame, so memory is
//! bounded by what was granted, not by what clients send (I-BOUND). Only Produce frames come here;
//! with the store away, everything else goes on.
//!
//! **Order.** Grants are made in order of arrival. A waiter that does not fit holds up all behind
//! it, so a large frame is not starved by small ones. The exception: a waiter whose client address
//! already has its share (a quarter) holds up only that client, so one client cannot stop the
//! others. A client that holds nothing gets one frame of any length up to the budget: a share
//! smaller than a legal frame would refuse it for ever.
//!
//! **What is counted.** The frame's bytes, until its batches are durable (or answered); and an
//! overhead per batch, until it is answered, which may exceed the budget for a moment because a
//! parsed frame cannot wait any more.
//!
//! **Cancellation.** A waiter that is dropped leaves the queue at once; a grant that nobody takes
//! is given back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ottla_telemetry::Metrics;
use ottla_telemetry::metrics::{Gauge, SecondsCounter};
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::limits::CLIENT_SHARE;

/// The byte budget of a broker's write path. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Shared>);

/// Why bytes are never granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BudgetError {
    /// The frame is longer than the whole budget.
    #[error("a produce request of {bytes} bytes is longer than the whole budget of {total} bytes")]
    LongerThanBudget {
        /// The frame's length.
        bytes: usize,
        /// The budget.
        total: usize,
    },
}

/// Granted bytes; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    client: IpAddr,
    bytes: usize,
}

#[derive(Debug)]
struct Shared {
    total: usize,
    client_max: usize,
    state: Mutex<State>,
    in_use: Gauge,
    backpressure: SecondsCounter,
}

#[derive(Debug, Default)]
struct State {
    used: usize,
    clients: BTreeMap<IpAddr, usize>,
    waiting: VecDeque<Waiter>,
    next_waiter: u64,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    client: IpAddr,
    bytes: usize,
    grant: oneshot::Sender<Reservation>,
}

impl Budget {
    /// A budget of `total` bytes.
    pub fn new(total: usize, metrics: &Metrics) -> Self {
        metrics.memory.bytes_max.with(["produce"]).set_bytes(total);
        Self(Arc::new(Shared {
            total,
            client_max: total / CLIENT_SHARE,
            state: Mutex::default(),
            in_use: metrics.memory.bytes.with(["produce"]),
            backpressure: metrics.produce.backpressure.clone(),
        }))
    }

    /// Waits until `bytes` are free for `client`, in order of arrival. Safe to cancel.
    pub async fn reserve(&self, client: IpAddr, bytes: usize) -> Result<Reservation, BudgetError> {
        let total = self.0.total;
        if bytes > total {
            return Err(BudgetError::LongerThanBudget { bytes, total });
        }
        let (grant, granted) = oneshot::channel();
        let id = {
            let mut state = self.lock();
            if state.waiting.is_empty() && self.fits(&state, client, bytes) {
                return Ok(self.take(&mut state, client, bytes));
            }
            let id = state.next_waiter;
            state.next_waiter += 1;
            state.waiting.push_back(Waiter { id, client, bytes, grant });
            id
        };
        let since = Instant::now();
        let place = Place { budget: self, id };
        self.grant_waiting();
        let reservation = granted.await.expect("the queue drops a waiter only with its place");
        drop(place);
        self.0.backpressure.add(since.elapsed());
        Ok(reservation)
    }

    /// Whether somebody waits for bytes.
    pub fn has_waiters(&self) -> bool {
        !self.lock().waiting.is_empty()
    }

    /// Bytes in use; for a moment more than the budget when overheads were added.
    pub fn used(&self) -> usize {
        self.lock().used
    }

    /// The whole budget in bytes.
    pub fn total(&self) -> usize {
        self.0.total
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn within_share(&self, state: &State, client: IpAddr, bytes: usize) -> bool {
        match state.clients.get(&client) {
            None => true,
            Some(held) => held + bytes <= self.0.client_max,
        }
    }

    fn fits(&self, state: &State, client: IpAddr, bytes: usize) -> bool {
        state.used + bytes <= self.0.total && self.within_share(state, client, bytes)
    }

    fn take(&self, state: &mut State, client: IpAddr, bytes: usize) -> Reservation {
        state.used += bytes;
        *state.clients.entry(client).or_default() += bytes;
        self.0.in_use.set_bytes(state.used);
        Reservation { budget: self.clone(), client, bytes }
    }

    /// Grants what can be granted. Grants are handed over outside of the lock: one that nobody
    /// takes is dropped on the spot, and gives its bytes back through the lock.
    fn grant_waiting(&self) {
        let mut grants = Vec::new();
        {
            let mut state = self.lock();
            let mut over_share = BTreeSet::new();
            let mut at = 0;
            while let Some(waiter) = state.waiting.get(at) {
                let (client, bytes) = (waiter.client, waiter.bytes);
                if over_share.contains(&client) || !self.within_share(&state, client, bytes) {
                    over_share.insert(client);
                    at += 1;
                    continue;
                }
                if state.used + bytes > self.0.total {
                    break;
                }
                if let Some(waiter) = state.waiting.remove(at) {
                    grants.push((waiter.grant, self.take(&mut state, client, bytes)));
                }
            }
        }
        for (grant, reservation) in grants {
            // Refused: the waiter has gone, and the reservation is given back right here.
            let _ = grant.send(reservation);
        }
    }
}

/// A waiter's place in the queue; leaves it when dropped.
struct Place<'a> {
    budget: &'a Budget,
    id: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let left = {
            let mut state = self.budget.lock();
            // Ids are given in ascending order and waiters only leave.
            let found = state.waiting.binary_search_by_key(&self.id, |waiter| waiter.id);
            found.ok().and_then(|at| state.waiting.remove(at))
        };
        if left.is_some() {
            self.budget.grant_waiting();
        }
    }
}

impl Reservation {
    /// Counts further bytes for the same client, at once and whatever is free.
    pub(crate) fn charge(&self, bytes: usize) -> Reservation {
        self.budget.take(&mut self.budget.lock(), self.client, bytes)
    }

    /// How many bytes it holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.budget.lock();
            state.used -= self.bytes;
            if let Some(held) = state.clients.get_mut(&self.client) {
                *held -= self.bytes;
                if *held == 0 {
                    state.clients.remove(&self.client);
                }
            }
            self.budget.0.in_use.set_bytes(state.used);
            !state.waiting.is_empty()
        };
        if waiting {
            self.budget.grant_waiting();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn client(n: u8) -> IpAddr {
        IpAddr::from([10, 1, 0, n])
    }

    fn budget(total: usize) -> Budget {
        Budget::new(total, &Metrics::new())
    }

    fn poll<F: Future>(future: &mut Pin<&mut F>) -> Poll<F::Output> {
        future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    fn now(budget: &Budget, client: IpAddr, bytes: usize) -> Reservation {
        match poll(&mut pin!(budget.reserve(client, bytes))) {
            Poll::Ready(granted) => granted.unwrap(),
            Poll::Pending => panic!("not granted at once"),
        }
    }

    #[test]
    fn a_frame_longer_than_the_budget_is_refused() {
        let refused = poll(&mut pin!(budget(100).reserve(A, 101)));
        assert!(matches!(refused, Poll::Ready(Err(BudgetError::LongerThanBudget { .. }))));
    }

    #[test]
    fn bytes_come_back_when_a_reservation_is_dropped() {
        let budget = budget(100);
        let frame = now(&budget, A, 20);
        let overhead = frame.charge(200);
        assert_eq!(budget.used(), 220);
        drop(frame);
        assert_eq!(budget.used(), 200);
        drop(overhead);
        assert_eq!(budget.used(), 0);
        assert!(budget.lock().clients.is_empty());
    }

    #[test]
    fn waiters_are_served_in_order_of_arrival() {
        let budget = budget(100);
        let held: Vec<_> = (0..4).map(|n| now(&budget, client(n), 25)).collect();
        let (mut large, mut small) =
            (pin!(budget.reserve(client(9), 40)), pin!(budget.reserve(client(8), 1)));
        assert!(poll(&mut large).is_pending() && poll(&mut small).is_pending());
        let mut held = held.into_iter();
        drop(held.next());
        assert!(poll(&mut small).is_pending(), "a small frame does not overtake a large one");
        drop(held.next());
        let Poll::Ready(Ok(first)) = poll(&mut large) else { panic!("granted") };
        let Poll::Ready(Ok(second)) = poll(&mut small) else { panic!("granted") };
        assert_eq!(budget.used(), 50 + 41);
        drop((first, second, held));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_client_over_its_share_waits_without_holding_up_others() {
        let budget = budget(100);
        let held = now(&budget, A, 20);
        let mut more = pin!(budget.reserve(A, 10));
        let mut least = pin!(budget.reserve(A, 1));
        assert!(poll(&mut more).is_pending());
        assert!(poll(&mut least).is_pending(), "not before the one that came first");
        let mut other = pin!(budget.reserve(B, 25));
        assert!(poll(&mut other).is_ready());
        drop(held);
        assert!(poll(&mut more).is_ready() && poll(&mut least).is_ready());
    }

    #[test]
    fn a_client_that_holds_nothing_gets_a_frame_larger_than_its_share() {
        let budget = budget(100);
        let held = now(&budget, A, 100);
        assert!(poll(&mut pin!(budget.reserve(A, 1))).is_pending());
        drop(held);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_waiter_that_goes_away_makes_room_for_those_behind() {
        let budget = budget(100);
        let _held: Vec<_> = (0..3).map(|n| now(&budget, client(n), 25)).collect();
        let mut behind = pin!(budget.reserve(B, 20));
        {
            let mut large = pin!(budget.reserve(A, 60));
            assert!(poll(&mut large).is_pending());
            assert!(poll(&mut behind).is_pending());
        }
        assert!(poll(&mut behind).is_ready());
    }

    #[test]
    fn a_grant_that_nobody_takes_is_given_back() {
        let budget = budget(100);
        let held = now(&budget, A, 100);
        {
            let mut waiting = pin!(budget.reserve(B, 50));
            assert!(poll(&mut waiting).is_pending());
            drop(held);
            assert_eq!(budget.used(), 50, "granted, not yet taken");
        }
        assert_eq!(budget.used(), 0);
        assert!(!budget.has_waiters());
    }
}
