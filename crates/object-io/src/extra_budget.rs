//! The budget for extra tries.
//!
//! Retries and hedges help when one request in a hundred fails or is slow. When every request
//! does, they are load on a store that is already in trouble. So each first try earns a share of an
//! extra one, and an extra one is made only when it was earned.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::limits::{EXTRA_EARNED_HUNDREDTHS, EXTRA_SAVED_HUNDREDTHS_MAX};

/// What one extra try costs, in hundredths.
const COST: u32 = 100;

#[derive(Debug)]
pub(crate) struct ExtraBudget(AtomicU32);

impl ExtraBudget {
    /// A full one.
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(EXTRA_SAVED_HUNDREDTHS_MAX))
    }

    /// A first try is made.
    pub(crate) fn earn(&self) {
        self.change(|saved| {
            Some((saved + EXTRA_EARNED_HUNDREDTHS).min(EXTRA_SAVED_HUNDREDTHS_MAX))
        });
    }

    /// Whether an extra try may be made; it is then paid.
    pub(crate) fn take(&self) -> bool {
        self.change(|saved| saved.checked_sub(COST))
    }

    fn change(&self, next: impl FnMut(u32) -> Option<u32>) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_in_trouble_sees_half_again_as_many_requests() {
        let budget = ExtraBudget::new();
        while budget.take() {}
        let mut extra = 0;
        for _ in 0..1_000 {
            budget.earn();
            extra += u32::from(budget.take());
        }
        assert_eq!(extra, 500);
    }
}
