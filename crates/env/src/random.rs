//! Random numbers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::{StdRng, SysRng};
use rand::{Rng, RngExt, SeedableRng};

/// A source of random numbers; cheap to clone, clones share one stream. Not for secrets: those
/// come from the operating system where they are made.
#[derive(Clone, Debug)]
pub struct Random(Arc<Mutex<StdRng>>);

impl Random {
    /// Seeded by the operating system.
    ///
    /// # Panics
    /// When the operating system has no randomness to give: nothing can run safely then.
    pub fn system() -> Self {
        let rng =
            StdRng::try_from_rng(&mut SysRng).expect("the operating system gives random bytes");
        Self(Arc::new(Mutex::new(rng)))
    }

    /// The same stream for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    fn with<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// 64 random bits.
    pub fn u64(&self) -> u64 {
        self.with(|rng| rng.next_u64())
    }

    /// 128 random bits.
    pub fn u128(&self) -> u128 {
        u128::from(self.u64()) << 64 | u128::from(self.u64())
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.with(|rng| rng.random_range(0..bound)) }
    }

    /// True in `share` of all draws (0.0 never, 1.0 always).
    pub fn chance(&self, share: f64) -> bool {
        self.with(|rng| rng.random::<f64>()) < share
    }

    /// A duration from half of `base` up to `base`: spreads retries that began together.
    pub fn jitter(&self, base: Duration) -> Duration {
        let micros = u64::try_from(base.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(micros / 2 + self.below(micros / 2 + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_stream() {
        let (a, b) = (Random::seeded(7), Random::seeded(7));
        assert_eq!((a.u128(), a.below(10)), (b.u128(), b.below(10)));
        assert_ne!(Random::seeded(8).u64(), Random::seeded(7).u64());
    }

    #[test]
    fn jitter_stays_between_half_and_the_whole() {
        let random = Random::seeded(1);
        for _ in 0..100 {
            let drawn = random.jitter(Duration::from_millis(10));
            assert!(drawn >= Duration::from_millis(5) && drawn <= Duration::from_millis(10));
        }
    }
}
