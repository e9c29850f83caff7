//! Log lines that clients can cause, kept to a bounded number.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Lets a few log lines through per period and counts the others. One value per *kind* of line,
/// never per client: its state is the same size whoever calls.
///
/// ```
/// # use std::time::Duration;
/// # use ottla_telemetry::RateLimited;
/// static MALFORMED: RateLimited = RateLimited::new(10, Duration::from_secs(10));
/// if let Some(suppressed) = MALFORMED.permit() {
///     tracing::warn!(suppressed, "closing a connection: malformed request");
/// }
/// ```
#[derive(Debug)]
pub struct RateLimited {
    lines_max: u32,
    period: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    period_start: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl RateLimited {
    /// At most `lines_max` lines per `period`.
    pub const fn new(lines_max: u32, period: Duration) -> Self {
        let state = State { period_start: None, lines: 0, suppressed: 0 };
        Self { lines_max, period, state: Mutex::new(state) }
    }

    /// `Some` when the line may be written: how many were kept back since the last written one.
    pub fn permit(&self) -> Option<u64> {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.period_start.is_none_or(|start| now.duration_since(start) >= self.period) {
            state.period_start = Some(now);
            state.lines = 0;
        }
        if state.lines >= self.lines_max {
            state.suppressed = state.suppressed.saturating_add(1);
            return None;
        }
        state.lines += 1;
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lines_beyond_the_limit_are_counted_and_told_later() {
        let limited = RateLimited::new(2, Duration::from_secs(10));
        assert_eq!(limited.permit(), Some(0));
        assert_eq!(limited.permit(), Some(0));
        assert_eq!(limited.permit(), None);
        assert_eq!(limited.permit(), None);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(limited.permit(), Some(2));
        assert_eq!(limited.permit(), Some(0));
        assert_eq!(limited.permit(), None);
    }
}
