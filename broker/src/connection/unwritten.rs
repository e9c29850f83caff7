//! Answers of one connection that are ready and not written yet.

use std::sync::Arc;

use ottla_storage::write::{Budget, Reservation};
use ottla_wire::response::Frame;
use tokio::sync::watch;

use crate::dispatch::Reply;
use crate::limits;

/// Their bytes. Cheap to clone; clones share the number.
#[derive(Clone, Debug)]
pub(super) struct Unwritten(Arc<watch::Sender<usize>>);

/// An answer that is ready; counted until it is dropped.
#[derive(Debug)]
pub(super) struct ReadyAnswer {
    pub frame: Frame,
    /// Its bytes in the budget of answers; small ones have none there.
    pub held: Option<Reservation>,
    bytes: usize,
    unwritten: Unwritten,
}

impl Unwritten {
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    /// Counts an answer, here and in the budget of answers.
    pub fn ready(&self, memory: &Budget, client: std::net::IpAddr, reply: Reply) -> ReadyAnswer {
        let Reply { frame, held } = reply;
        let bytes = frame.len();
        let is_large = bytes > limits::SMALL_ANSWER_BYTES;
        let held = held.or_else(|| is_large.then(|| memory.charge(client, bytes)));
        self.0.send_modify(|unwritten| *unwritten += bytes);
        ReadyAnswer { frame, held, bytes, unwritten: self.clone() }
    }

    /// Waits until the client has taken enough for another request to be read.
    pub async fn has_room(&self) {
        let room = |unwritten: &usize| *unwritten <= limits::UNWRITTEN_BYTES_MAX;
        // Fails only when the sender is gone, and the sender is ours.
        let _ = self.0.subscribe().wait_for(room).await;
    }
}

impl Drop for ReadyAnswer {
    fn drop(&mut self) {
        let bytes = self.bytes;
        self.unwritten.0.send_modify(|unwritten| *unwritten = unwritten.saturating_sub(bytes));
    }
}
