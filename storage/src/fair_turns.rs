//! A number of turns that go around those who wait: each address in its order, and within one
//! address each waiter in its order. Who waits on many connections gets no more than who waits on
//! one.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// See the module's essay.
#[derive(Debug)]
pub struct FairTurns(Arc<Mutex<Turns>>);

#[derive(Debug)]
struct Turns {
    free: usize,
    /// Addresses that wait, the next one first; each once.
    order: VecDeque<IpAddr>,
    /// Bounded by the requests in flight: a connection checks the records of one Produce at a time, and
    /// looks up timestamps of one request, a few at a time.
    waiting: BTreeMap<IpAddr, VecDeque<oneshot::Sender<Turn>>>,
}

/// The right to work; the next in order gets it when this is dropped.
#[derive(Debug)]
pub struct Turn(Option<Arc<Mutex<Turns>>>);

impl FairTurns {
    /// So many turns at the same time.
    pub fn new(turns: usize) -> Self {
        let (order, waiting) = (VecDeque::new(), BTreeMap::new());
        Self(Arc::new(Mutex::new(Turns { free: turns, order, waiting })))
    }

    /// Waits for a turn on behalf of an address. Safe to cancel.
    pub async fn turn(&self, address: IpAddr) -> Turn {
        let coming = {
            let mut turns = lock(&self.0);
            if turns.free > 0 {
                turns.free -= 1;
                None
            } else {
                Some(turns.enqueue(address))
            }
        };
        match coming {
            None => Turn(Some(self.0.clone())),
            // The sender is dropped only together with the queue, which `self` holds.
            Some(coming) => coming.await.unwrap_or(Turn(None)),
        }
    }

    /// A turn, when one is free now.
    pub fn try_turn(&self) -> Option<Turn> {
        let mut turns = lock(&self.0);
        turns.free = turns.free.checked_sub(1)?;
        Some(Turn(Some(self.0.clone())))
    }
}

impl Turns {
    fn enqueue(&mut self, address: IpAddr) -> oneshot::Receiver<Turn> {
        let (sender, coming) = oneshot::channel();
        let of_address = self.waiting.entry(address).or_default();
        if of_address.is_empty() {
            self.order.push_back(address);
        }
        of_address.push_back(sender);
        coming
    }

    /// Who is next; without anybody, the turn counts as free.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        let Some(address) = self.order.pop_front() else {
            self.free += 1;
            return None;
        };
        let of_address = self.waiting.get_mut(&address)?;
        let next = of_address.pop_front();
        if of_address.is_empty() {
            self.waiting.remove(&address);
        } else {
            self.order.push_back(address);
        }
        next
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(turns) = self.0.take() else { return };
        loop {
            let next = lock(&turns).next();
            let Some(next) = next else { return };
            match next.send(Turn(Some(turns.clone()))) {
                Ok(()) => return,
                // It waits no more. Its turn must not pass itself on from in here.
                Err(mut unwanted) => unwanted.0 = None,
            }
        }
    }
}

fn lock(turns: &Mutex<Turns>) -> MutexGuard<'_, Turns> {
    turns.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::Poll;

    use futures_util::poll;

    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// Passes the one turn on until nobody waits; who had it, in order.
    async fn served<F: Future<Output = Turn>>(
        first: Turn,
        waiting: &mut [(u8, Pin<&mut F>)],
    ) -> Vec<u8> {
        let mut turn = Some(first);
        let mut served = Vec::new();
        while turn.take().is_some() {
            for (name, waiter) in waiting.iter_mut().filter(|(name, _)| !served.contains(name)) {
                if let Poll::Ready(next) = poll!(waiter.as_mut()) {
                    served.push(*name);
                    turn = Some(next);
                    break;
                }
            }
        }
        served
    }

    #[tokio::test]
    async fn turns_go_around_addresses_and_keep_the_order_within_one() {
        let turns = FairTurns::new(1);
        let first = turns.turn(address(1)).await;
        let [mut a, mut b, mut c, mut d] =
            [1, 1, 1, 2].map(|last| Box::pin(turns.turn(address(last))));
        for waiter in [&mut a, &mut b, &mut c, &mut d] {
            assert!(poll!(waiter.as_mut()).is_pending());
        }
        let mut waiting = [(1, a.as_mut()), (2, b.as_mut()), (3, c.as_mut()), (4, d.as_mut())];
        assert_eq!(served(first, &mut waiting).await, [1, 4, 2, 3]);
        assert_eq!(lock(&turns.0).free, 1);
        assert!(lock(&turns.0).waiting.is_empty());
    }

    #[tokio::test]
    async fn a_waiter_that_went_away_holds_up_nobody() {
        let turns = FairTurns::new(1);
        let first = turns.turn(address(1)).await;
        let mut last = pin!(turns.turn(address(2)));
        {
            let mut gone = pin!(turns.turn(address(1)));
            assert!(poll!(&mut gone).is_pending());
            assert!(poll!(&mut last).is_pending());
        }
        drop(first);
        assert!(poll!(&mut last).is_ready());
        assert_eq!(lock(&turns.0).free, 1);
    }

    #[tokio::test]
    async fn a_turn_that_was_granted_and_never_taken_goes_on() {
        let turns = FairTurns::new(1);
        let first = turns.turn(address(1)).await;
        {
            let mut granted = pin!(turns.turn(address(1)));
            assert!(poll!(&mut granted).is_pending());
            drop(first);
        }
        assert_eq!(lock(&turns.0).free, 1);
    }
}
