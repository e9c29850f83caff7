//! Answers of one connection that are ready and not written yet.

use std::net::IpAddr;
use std::sync::Arc;

use ottla_storage::write::{Budget, Reservation};
use ottla_wire::response::Frame;
use tokio::sync::watch;

use crate::dispatch::Reply;
use crate::limits;

/// What they come to. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Unwritten(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    sum: watch::Sender<Sum>,
    /// The budget of answers.
    memory: Budget,
    client: IpAddr,
}

#[derive(Debug, Default)]
struct Sum {
    bytes: usize,
    /// How many of them are counted in the budget of answers.
    holding: usize,
}

/// An answer that is ready; counted until it is dropped.
#[derive(Debug)]
pub(super) struct ReadyAnswer {
    pub frame: Frame,
    /// Its bytes in the budget of answers; small ones have none there.
    held: Option<Reservation>,
    bytes: usize,
    unwritten: Unwritten,
}

impl Unwritten {
    /// Answers to `client`, which hold bytes of `memory`.
    pub fn new(memory: Budget, client: IpAddr) -> Self {
        Self(Arc::new(Shared { sum: watch::Sender::new(Sum::default()), memory, client }))
    }

    /// Counts an answer, whose memory was reserved when it was made.
    pub fn ready(&self, reply: Reply) -> ReadyAnswer {
        let Reply { frame, held } = reply;
        let bytes = frame.len();
        debug_assert!(
            held.is_some() || bytes <= limits::SMALL_ANSWER_BYTES,
            "an answer of {bytes} bytes has no memory"
        );
        self.0.sum.send_modify(|sum| {
            sum.bytes += bytes;
            sum.holding += usize::from(held.is_some());
        });
        ReadyAnswer { frame, held, bytes, unwritten: self.clone() }
    }

    /// Waits until the client has taken enough for another request to be read.
    pub async fn has_room(&self) {
        let room = |sum: &Sum| sum.bytes <= limits::UNWRITTEN_BYTES_MAX;
        // Fails only when the sender is gone, and the sender is ours.
        let _ = self.0.sum.subscribe().wait_for(room).await;
    }
}

impl ReadyAnswer {
    /// Whether somebody waits for the memory of this answer, or of one that is ready behind it: this
    /// client itself, or another one that has not got its share.
    pub fn is_wanted_by_others(&self) -> bool {
        let Shared { sum, memory, client } = &*self.unwritten.0;
        let holding = sum.borrow().holding;
        holding > 0 && memory.has_waiters_for(*client)
    }
}

impl Drop for ReadyAnswer {
    fn drop(&mut self) {
        let (bytes, holding) = (self.bytes, usize::from(self.held.is_some()));
        self.unwritten.0.sum.send_modify(|sum| {
            sum.bytes = sum.bytes.saturating_sub(bytes);
            sum.holding = sum.holding.saturating_sub(holding);
        });
    }
}
