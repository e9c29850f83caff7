//! Bytes that were granted.

use std::net::IpAddr;

use super::{Budget, Wanted};

/// Granted bytes; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    pub(super) budget: Budget,
    pub(super) client: IpAddr,
    pub(super) bytes: usize,
    /// Whether they belong to a frame that is still being received.
    pub(super) unfinished: bool,
}

impl Reservation {
    /// Counts further bytes for the same client, at once and whatever is free.
    pub fn charge(&self, bytes: usize) -> Reservation {
        self.budget.charge(self.client, bytes)
    }

    /// Holds exactly `bytes` from now on: gives the rest back, or counts what is missing.
    pub fn resize(&mut self, bytes: usize) {
        let (more, less) = (bytes.saturating_sub(self.bytes), self.bytes.saturating_sub(bytes));
        if more > 0 {
            self.bytes += std::mem::take(&mut self.charge(more).bytes);
        }
        if less > 0 {
            self.bytes = bytes;
            drop(Self {
                budget: self.budget.clone(),
                client: self.client,
                bytes: less,
                unfinished: self.unfinished,
            });
        }
    }

    /// Holds `more` bytes too, or changes nothing when they are not free, or beyond the client's share.
    pub fn try_grow(&mut self, more: usize) -> bool {
        let grown = {
            let mut state = self.budget.lock();
            let client = state.clients.get(&self.client).map_or(0, |client| client.held);
            let within_share = client + more <= self.budget.0.client_max;
            let is_free = state.waiting.is_empty() && state.used + more <= self.budget.0.total;
            let wanted = Wanted { client: self.client, bytes: more, frame: None };
            (within_share && is_free).then(|| self.budget.take(&mut state, wanted))
        };
        let has_grown = grown.is_some();
        self.bytes += grown.map_or(0, |mut grown| std::mem::take(&mut grown.bytes));
        has_grown
    }

    /// Parts with the first `bytes` of it, or with all.
    pub fn split(&mut self, bytes: usize) -> Reservation {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        let (budget, client, unfinished) = (self.budget.clone(), self.client, self.unfinished);
        Self { budget, client, bytes, unfinished }
    }

    /// How many bytes it holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let waiting = {
            let mut state = self.budget.lock();
            let of_frames = if self.unfinished { self.bytes } else { 0 };
            state.give_back(self.client, self.bytes, of_frames);
            self.budget.0.metrics.held.set_bytes(state.used);
            !state.waiting.is_empty()
        };
        if waiting {
            self.budget.grant_waiting();
        }
    }
}
