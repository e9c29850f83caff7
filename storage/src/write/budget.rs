//! A byte budget: who may hold how much memory, and who waits.
//!
//! The write path has one for everything accepted but not acknowledged; the broker has others for
//! requests and answers. Memory is bounded by what was granted, not by what clients send (I-BOUND).
//!
//! **Two ways to get bytes.** [`Budget::reserve`] waits for all of them, for what is there already
//! or comes at once. A frame that is still being received takes its bytes step by step, as they
//! come ([`Budget::begin`], [`Unfinished::grow`]): a client that claims 90 MB and sends 1 KB holds
//! next to nothing.
//!
//! **Order.** Grants are made in order of arrival. A waiter that does not fit holds up all behind
//! it, so a large one is not starved by small ones. The exceptions: a waiter whose client address
//! already has its share (a quarter) holds up only that client, so one client cannot stop the
//! others (one that holds nothing gets one grant of any length: a share smaller than a legal frame
//! would refuse it for ever); and unfinished frames, see below.
//!
//! **Why unfinished frames cannot block each other for ever.** Two frames that hold half of the
//! budget each, and both want more, would wait for each other. Hence three rules. Together,
//! unfinished frames hold at most the budget less the longest frame. Only the *oldest* of them goes
//! beyond, and before all other waiters; so what is missing of it is at most what the others had to
//! leave, or is held by finished frames, whose bytes come back by themselves. And a client's oldest
//! is not held to the client's share. So the oldest always gets done (or is given up by its
//! connection, which has a deadline for the bytes), the next one is the oldest then, and so on. For
//! this the longest frame is at most half of the budget.
//!
//! **What is counted.** In the write path, a frame's bytes until its batches are durable (or
//! answered); and an overhead per batch until it is answered, which may exceed the budget for a
//! moment because a parsed frame cannot wait any more.
//!
//! **Cancellation.** A waiter that is dropped leaves the queue at once; a grant that nobody takes
//! is given back.

mod reservation;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ottla_telemetry::metrics::{Gauge, SecondsCounter};
use ottla_wire::limits::FRAME_BYTES_MAX;
use thiserror::Error;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::limits::CLIENT_SHARE;
pub use reservation::Reservation;

/// A byte budget. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Shared>);

/// What a budget shows of itself.
#[derive(Clone, Debug)]
pub struct BudgetMetrics {
    /// The bytes in use.
    pub held: Gauge,
    /// The bytes that may be in use.
    pub held_max: Gauge,
    /// Time spent waiting for bytes.
    pub waited: SecondsCounter,
}

/// Why bytes are never granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{bytes} bytes are more than the {max} that may be had at once")]
pub struct BudgetError {
    /// The bytes wanted.
    pub bytes: usize,
    /// The most there is.
    pub max: usize,
}

/// The bytes of a frame that is being received; given back when dropped.
#[derive(Debug)]
pub struct Unfinished {
    place: FramePlace,
    held: Reservation,
}

#[derive(Debug)]
struct Shared {
    total: usize,
    client_max: usize,
    frame_max: usize,
    state: Mutex<State>,
    /// Stores a permit when somebody begins to wait and nobody did.
    waited_for: Notify,
    metrics: BudgetMetrics,
}

#[derive(Debug, Default)]
struct State {
    used: usize,
    /// The part of `used` that belongs to unfinished frames.
    unfinished: usize,
    /// Clients that hold bytes or send a frame.
    clients: BTreeMap<IpAddr, Client>,
    /// Unfinished frames, oldest first.
    frames: BTreeSet<u64>,
    waiting: VecDeque<Waiter>,
    /// Numbers for frames and waiters, ascending.
    next: u64,
}

#[derive(Debug, Default)]
struct Client {
    held: usize,
    frames: BTreeSet<u64>,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    wanted: Wanted,
    grant: oneshot::Sender<Reservation>,
}

#[derive(Clone, Copy, Debug)]
struct Wanted {
    client: IpAddr,
    bytes: usize,
    /// The unfinished frame that the bytes are for.
    frame: Option<u64>,
}

/// What can be done about a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Granted,
    /// Not now; others may be served before.
    Held,
    /// Not now, and everybody behind waits too.
    First,
}

impl Budget {
    /// A budget of `total` bytes, of which a client address gets a quarter at most.
    pub fn new(total: usize, metrics: BudgetMetrics) -> Self {
        Self::with_client_max(total, total / CLIENT_SHARE, metrics)
    }

    /// A budget of `total` bytes with a client's share of its own.
    pub fn with_client_max(total: usize, client_max: usize, metrics: BudgetMetrics) -> Self {
        metrics.held_max.set_bytes(total);
        Self(Arc::new(Shared {
            total,
            client_max,
            frame_max: FRAME_BYTES_MAX.min(total / 2),
            state: Mutex::default(),
            waited_for: Notify::new(),
            metrics,
        }))
    }

    /// Waits until `bytes` are free for `client`, in order of arrival. Safe to cancel.
    pub async fn reserve(&self, client: IpAddr, bytes: usize) -> Result<Reservation, BudgetError> {
        check(bytes, self.0.total)?;
        Ok(self.wait(Wanted { client, bytes, frame: None }).await)
    }

    /// The same without waiting; `None` when the bytes are not free, or others wait for some.
    pub fn try_reserve(&self, client: IpAddr, bytes: usize) -> Option<Reservation> {
        self.take_now(&mut self.lock(), Wanted { client, bytes, frame: None })
    }

    /// Counts bytes that are held already, whatever is free.
    pub fn charge(&self, client: IpAddr, bytes: usize) -> Reservation {
        self.take(&mut self.lock(), Wanted { client, bytes, frame: None })
    }

    /// Begins a frame of `length` bytes, which holds nothing yet.
    pub fn begin(&self, client: IpAddr, length: usize) -> Result<Unfinished, BudgetError> {
        check(length, self.0.frame_max)?;
        let mut state = self.lock();
        let id = state.number();
        state.frames.insert(id);
        state.clients.entry(client).or_default().frames.insert(id);
        let held = Reservation { budget: self.clone(), client, bytes: 0, unfinished: true };
        Ok(Unfinished { place: FramePlace { budget: self.clone(), client, id }, held })
    }

    /// Whether somebody waits for bytes.
    pub fn has_waiters(&self) -> bool {
        !self.lock().waiting.is_empty()
    }

    /// Whether this client waits for bytes, or another one that is within its share.
    pub fn has_waiters_for(&self, client: IpAddr) -> bool {
        let state = self.lock();
        state.waiting.iter().any(|waiter| {
            waiter.wanted.client == client || self.judge(&state, waiter.wanted) != Verdict::Held
        })
    }

    /// Returns when somebody began to wait while nobody did, since the last return or before: a sign
    /// for the one who can free bytes, who then asks [`Budget::has_waiters`]. Safe to cancel.
    pub async fn waited_for(&self) {
        self.0.waited_for.notified().await;
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

    async fn wait(&self, wanted: Wanted) -> Reservation {
        let (grant, granted) = oneshot::channel();
        let id = {
            let mut state = self.lock();
            if let Some(reservation) = self.take_now(&mut state, wanted) {
                return reservation;
            }
            if state.waiting.is_empty() {
                self.0.waited_for.notify_one();
            }
            let id = state.number();
            state.waiting.push_back(Waiter { id, wanted, grant });
            id
        };
        let since = Instant::now();
        let place = Place { budget: self, id };
        self.grant_waiting();
        let reservation = granted.await.expect("the queue drops a waiter only with its place");
        drop(place);
        self.0.metrics.waited.add(since.elapsed());
        reservation
    }

    fn take_now(&self, state: &mut State, wanted: Wanted) -> Option<Reservation> {
        let first = state.waiting.is_empty() || state.is_oldest(wanted.frame);
        let granted = first && self.judge(state, wanted) == Verdict::Granted;
        granted.then(|| self.take(state, wanted))
    }

    fn judge(&self, state: &State, wanted: Wanted) -> Verdict {
        let Wanted { client, bytes, frame } = wanted;
        if !state.is_oldest(frame) {
            let client = state.clients.get(&client);
            let held = client.map_or(0, |client| client.held);
            let is_clients_oldest = frame.is_some()
                && client.and_then(|client| client.frames.first()) == frame.as_ref();
            let within_share = held == 0 || held + bytes <= self.0.client_max;
            if !within_share && !is_clients_oldest {
                return Verdict::Held;
            }
            let for_unfinished = self.0.total - self.0.frame_max;
            if frame.is_some() && state.unfinished + bytes > for_unfinished {
                return Verdict::Held;
            }
        }
        if state.used + bytes <= self.0.total { Verdict::Granted } else { Verdict::First }
    }

    fn take(&self, state: &mut State, wanted: Wanted) -> Reservation {
        let Wanted { client, bytes, frame } = wanted;
        let unfinished = frame.is_some();
        state.used += bytes;
        state.unfinished += if unfinished { bytes } else { 0 };
        // A grant of nothing leaves no entry: nobody would remove it.
        if bytes > 0 {
            state.clients.entry(client).or_default().held += bytes;
        }
        self.0.metrics.held.set_bytes(state.used);
        Reservation { budget: self.clone(), client, bytes, unfinished }
    }

    /// Grants what can be granted. Grants are handed over outside of the lock: one that nobody
    /// takes is dropped on the spot, and gives its bytes back through the lock.
    fn grant_waiting(&self) {
        let mut grants = Vec::new();
        {
            let mut state = self.lock();
            // The oldest frame's wish, wherever it stands; when it must wait, all do.
            let oldest = state.waiting.iter().position(|w| state.is_oldest(w.wanted.frame));
            let mut all_wait = false;
            if let Some(at) = oldest {
                all_wait = !self.grant_at(&mut state, at, &mut grants);
            }
            let mut held_up = BTreeSet::new();
            let mut at = 0;
            while !all_wait && let Some(waiter) = state.waiting.get(at) {
                let wanted = waiter.wanted;
                let verdict = match held_up.contains(&wanted.client) {
                    true => Verdict::Held,
                    false => self.judge(&state, wanted),
                };
                match verdict {
                    Verdict::Granted => {
                        self.grant_at(&mut state, at, &mut grants);
                    }
                    Verdict::First => all_wait = true,
                    Verdict::Held => {
                        // Whole grants of a client keep their order; its frames have one of theirs.
                        if wanted.frame.is_none() {
                            held_up.insert(wanted.client);
                        }
                        at += 1;
                    }
                }
            }
        }
        for (grant, reservation) in grants {
            // Refused: the waiter has gone, and the reservation is given back right here.
            let _ = grant.send(reservation);
        }
    }

    /// Takes the waiter at `at` out of the queue if it can be served.
    fn grant_at(
        &self,
        state: &mut State,
        at: usize,
        grants: &mut Vec<(oneshot::Sender<Reservation>, Reservation)>,
    ) -> bool {
        let Some(waiter) = state.waiting.get(at) else { return false };
        if self.judge(state, waiter.wanted) != Verdict::Granted {
            return false;
        }
        if let Some(waiter) = state.waiting.remove(at) {
            grants.push((waiter.grant, self.take(state, waiter.wanted)));
        }
        true
    }
}

fn check(bytes: usize, max: usize) -> Result<(), BudgetError> {
    if bytes <= max { Ok(()) } else { Err(BudgetError { bytes, max }) }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn is_oldest(&self, frame: Option<u64>) -> bool {
        frame.is_some() && self.frames.first() == frame.as_ref()
    }

    /// # Panics
    /// When more comes back than was granted: the bound on memory would be wrong from then on (I-BOUND).
    fn give_back(&mut self, client: IpAddr, bytes: usize, of_frames: usize) {
        let of_client = self.clients.get_mut(&client).expect("I-BOUND: a holder is known");
        for (sum, less) in [
            (&mut self.used, bytes),
            (&mut of_client.held, bytes),
            (&mut self.unfinished, of_frames),
        ] {
            *sum = sum.checked_sub(less).expect("I-BOUND: no more comes back than was granted");
        }
        self.forget_if_idle(client);
    }

    fn forget_if_idle(&mut self, client: IpAddr) {
        if self.clients.get(&client).is_some_and(|c| c.held == 0 && c.frames.is_empty()) {
            self.clients.remove(&client);
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

/// A frame's place among the unfinished; leaves it when dropped.
#[derive(Debug)]
struct FramePlace {
    budget: Budget,
    client: IpAddr,
    id: u64,
}

impl Drop for FramePlace {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.budget.lock();
            state.frames.remove(&self.id);
            if let Some(client) = state.clients.get_mut(&self.client) {
                client.frames.remove(&self.id);
            }
            state.forget_if_idle(self.client);
            !state.waiting.is_empty()
        };
        if waiting {
            self.budget.grant_waiting();
        }
    }
}

impl Unfinished {
    /// Waits for `bytes` more. Safe to cancel.
    pub async fn grow(&mut self, bytes: usize) {
        let wanted = Wanted { client: self.place.client, bytes, frame: Some(self.place.id) };
        let mut more = self.place.budget.wait(wanted).await;
        self.held.bytes += std::mem::take(&mut more.bytes);
    }

    /// The frame is whole: what it holds, until it is dropped.
    pub fn finish(self) -> Reservation {
        let Self { place, mut held } = self;
        place.budget.lock().unfinished -= held.bytes;
        held.unfinished = false;
        held
    }
}

#[cfg(test)]
mod tests;
