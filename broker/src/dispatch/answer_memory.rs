//! Memory for answers: reserved before an answer is encoded, and held until its client has taken it.

use std::net::IpAddr;

use ottla_storage::write::{Budget, Reservation};
use tokio::time::timeout;

use crate::connection::End;
use crate::connection::long_polls::LongPolls;
use crate::limits;

/// Where the answers of one connection get their memory from. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct AnswerMemory {
    budget: Budget,
    client: IpAddr,
    /// The connection's long polls, which end when an answer behind them needs memory.
    long_polls: LongPolls,
}

impl AnswerMemory {
    /// Memory of `budget`, in the share of `client`.
    pub fn new(budget: Budget, client: IpAddr, long_polls: LongPolls) -> Self {
        Self { budget, client, long_polls }
    }

    /// Waits for the memory of an answer of `bytes`; `None` for a small one, which needs none. Safe to
    /// cancel. Fails after [`limits::REQUEST_WAIT_MAX`], or at once when the budget is smaller.
    pub async fn reserve(&self, bytes: usize) -> Result<Option<Reservation>, End> {
        if bytes <= limits::SMALL_ANSWER_BYTES {
            return Ok(None);
        }
        // Before the wait: what this answer gets must not stand behind a Fetch that waits for records,
        // and the Fetch must not wait for memory that answers like this one hold.
        self.long_polls.end_begun();
        let reserve = self.budget.reserve(self.client, bytes);
        match timeout(limits::REQUEST_WAIT_MAX, reserve).await {
            Ok(Ok(held)) => Ok(Some(held)),
            Ok(Err(_)) | Err(_) => Err(End::NoAnswerMemory { bytes }),
        }
    }

    /// The memory of an answer whose length was not known before it was made. `held` was reserved for
    /// it; more is waited for.
    pub async fn settle(
        &self,
        held: Option<Reservation>,
        bytes: usize,
    ) -> Result<Option<Reservation>, End> {
        match held {
            Some(mut held) if bytes <= held.bytes() => {
                held.resize(bytes);
                Ok(Some(held).filter(|_| bytes > limits::SMALL_ANSWER_BYTES))
            }
            held => {
                drop(held);
                self.reserve(bytes).await
            }
        }
    }

    /// The most that one answer may reserve.
    pub fn bytes_max(&self) -> usize {
        self.budget.total()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use ottla_telemetry::Metrics;
    use tokio::time::Instant;

    use super::*;
    use crate::context::answers_budget;

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const LARGE: usize = limits::SMALL_ANSWER_BYTES + 1;

    fn memory(total: usize) -> (Budget, AnswerMemory) {
        let budget = answers_budget(total, &Metrics::new());
        (budget.clone(), AnswerMemory::new(budget, CLIENT, LongPolls::new()))
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_gets_no_memory_for_long_ends_its_connection() {
        let (budget, memory) = memory(2 * LARGE);
        let all = budget.charge(CLIENT, 2 * LARGE);
        let began = Instant::now();
        let end = memory.reserve(LARGE).await.unwrap_err();
        assert!(matches!(end, End::NoAnswerMemory { bytes: LARGE }));
        assert_eq!(began.elapsed(), limits::REQUEST_WAIT_MAX);
        assert!(memory.reserve(limits::SMALL_ANSWER_BYTES).await.unwrap().is_none());
        drop(all);
        assert_eq!(memory.reserve(LARGE).await.unwrap().unwrap().bytes(), LARGE);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_longer_than_all_memory_ends_its_connection_at_once() {
        let (_, memory) = memory(LARGE);
        let began = Instant::now();
        assert!(memory.reserve(LARGE + 1).await.is_err());
        assert_eq!(began.elapsed(), std::time::Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_holds_what_it_needs_and_not_what_was_reserved_for_it() {
        let (budget, memory) = memory(10 * LARGE);
        for bytes in [LARGE, 2 * LARGE, 3 * LARGE] {
            let held = memory.reserve(2 * LARGE).await.unwrap();
            let held = memory.settle(held, bytes).await.unwrap();
            assert_eq!(
                (held.as_ref().map(Reservation::bytes), budget.used()),
                (Some(bytes), bytes)
            );
        }
        let held = memory.reserve(2 * LARGE).await.unwrap();
        assert!(memory.settle(held, 100).await.unwrap().is_none());
    }
}
