//! How many writes a store serves: a bucket of tokens that holds a tenth of a second's worth.

use std::time::Duration;

use tokio::time::Instant;

/// What is left of a store's capacity.
#[derive(Debug)]
pub(super) struct Capacity {
    per_second: f64,
    tokens: f64,
    counted_at: Instant,
}

/// How much unused capacity is kept.
const KEPT: Duration = Duration::from_millis(100);

impl Capacity {
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second: f64::from(per_second), tokens: 1.0, counted_at: now }
    }

    /// Whether one more write is served.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.counted_at).as_secs_f64();
        let full = (self.per_second * KEPT.as_secs_f64()).max(1.0);
        self.tokens = (self.tokens + passed * self.per_second).min(full);
        self.counted_at = now;
        let served = self.tokens >= 1.0;
        if served {
            self.tokens -= 1.0;
        }
        served
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_second_serves_as_many_requests_as_it_says() {
        let start = Instant::now();
        let mut capacity = Capacity::new(50, start);
        let served = (0..10_000u32)
            .filter(|n| capacity.take(start + Duration::from_micros(100) * *n))
            .count();
        assert!((50..=52).contains(&served), "{served}");
    }
}
