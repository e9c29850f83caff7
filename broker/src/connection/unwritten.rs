//! Answers of one connection that are ready and not written yet.

use std::sync::Arc;

use ottla_storage::write::{Budget, Reservation};
use ottla_wire::response::Frame;
use tokio::sync::watch;

use crate::dispatch::Reply;
use crate::limits;

/// What they come to. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Unwritten(Arc<watch::Sender<Sum>>);

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
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Sum::default())))
    }

    /// Counts an answer, here and in the budget of answers.
    pub fn ready(&self, memory: &Budget, client: std::net::IpAddr, reply: Reply) -> ReadyAnswer {
        let Reply { frame, held } = reply;
        let bytes = frame.len();
        let is_large = bytes > limits::SMALL_ANSWER_BYTES;
        let held = held.or_else(|| is_large.then(|| memory.charge(client, bytes)));
        self.0.send_modify(|sum| {
            sum.bytes += bytes;
            sum.holding += usize::from(held.is_some());
        });
        ReadyAnswer { frame, held, bytes, unwritten: self.clone() }
    }

    /// Waits until the client has taken enough for another request to be read.
    pub async fn has_room(&self) {
        let room = |sum: &Sum| sum.bytes <= limits::UNWRITTEN_BYTES_MAX;
        // Fails only when the sender is gone, and the sender is ours.
        let _ = self.0.subscribe().wait_for(room).await;
    }
}

impl ReadyAnswer {
    /// Whether this answer, or one that is ready behind it, is counted in the budget of answers:
    /// then others may be waiting for what this client does not take.
    pub fn holds_memory(&self) -> bool {
        self.unwritten.0.borrow().holding > 0
    }
}

impl Drop for ReadyAnswer {
    fn drop(&mut self) {
        let (bytes, holding) = (self.bytes, usize::from(self.held.is_some()));
        self.unwritten.0.send_modify(|sum| {
            sum.bytes = sum.bytes.saturating_sub(bytes);
            sum.holding = sum.holding.saturating_sub(holding);
        });
    }
}
