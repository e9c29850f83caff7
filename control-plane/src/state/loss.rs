//! Going on from an older copy of the state, when what came after the copy is given up.
//!
//! The lost time gave out broker epochs, producer ids and object names that this state will give
//! out again, and clients and the bucket still hold those of then:
//!
//! * *Producer ids.* Two producers under one id would take each other's sequences for their own,
//!   and a batch of one could be acknowledged as a repetition of the other's. A block larger than
//!   any lost time can have used is skipped.
//! * *Objects.* What a run uploaded after the copy may hold acknowledged records. This state sees
//!   an upload that was never committed, and the sweep would delete it. So it forgets the runs: an
//!   object of a run that it does not know is foreign, and stays. Objects that are committed here
//!   are known by their own names.

use ottla_model::ProducerId;

use super::State;
use super::changes::Changes;
use super::semantics::PRODUCER_IDS_SKIPPED;

impl State {
    pub(super) fn accept_loss(&mut self, changes: &mut Changes) {
        let next = &mut self.books.counters.next_producer_id;
        *next = ProducerId(next.0.saturating_add(PRODUCER_IDS_SKIPPED));
        self.brokers.forget_all(&mut self.books, changes);
    }
}
