//! When a buffer becomes an object: the one place that decides it.
//!
//! A buffer is due when
//!
//! | Reason | Rule |
//! | --- | --- |
//! | linger | the earliest flush deadline in it has come |
//! | size | it is full |
//! | drain | the broker drains |
//! | pipelines | it is worth a PUT, and every connection in it waits for so many requests that waiting longer gains little |
//! | pressure | producers wait for the byte budget, and sealing frees some of it |
//! | budget | the request budget has an early seal to spend, and the last seal is a moment ago |
//!
//! and it is sealed when it is due *and* an upload slot is free. Without a slot, it goes on
//! filling: larger objects are what a slow store needs.
//!
//! **The request budget.** Waiting is only worth what a PUT costs. A token bucket fills at the rate
//! of PUTs that the operator pays for; every seal takes a token if there is one, and only a seal
//! that is not due otherwise needs one. A quiet broker saves tokens and answers a lone producer at
//! once; a busy one spends them all and settles at the rate. A store that does not charge has a
//! bucket so generous that it amounts to group commit: what gathers within the shortest interval
//! goes together, and while an upload runs, what gathers until it ends or for a longer interval.
//!
//! Everything here is a plain function of the time and of facts that the caller collects.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{SEAL_BYTES_WORTHWHILE, SEAL_INTERVAL_UPLOADING};

/// Why a buffer was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SealReason {
    Linger,
    Size,
    Drain,
    Pipelines,
    Pressure,
    Budget,
}

impl SealReason {
    /// As metrics show it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Linger => "linger",
            Self::Size => "size",
            Self::Drain => "drain",
            Self::Pipelines => "pipelines",
            Self::Pressure => "pressure",
            Self::Budget => "budget",
        }
    }
}

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Seal the oldest buffer.
    Seal(SealReason),
    /// Ask again at this time, or when a fact has changed.
    WaitUntil(Instant),
    /// Ask again when a fact has changed.
    Wait,
}

/// The facts of the decision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// An upload slot is free, and the pipeline of undecided objects has room.
    pub slot_free: bool,
    /// Some upload is running.
    pub uploading: bool,
    /// A full buffer is waiting behind which another one was opened.
    pub full_waiting: bool,
    /// Bytes in the open buffer.
    pub open_bytes: usize,
    /// The open buffer's earliest deadline; `None` when it is empty.
    pub deadline: Option<Instant>,
    /// Every connection in the open buffer has a full pipeline.
    pub pipelines_full: bool,
    /// Producers wait for the byte budget.
    pub budget_waiters: bool,
    /// The broker drains.
    pub draining: bool,
}

/// The settings of the decision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SealOptions {
    /// A buffer of this many bytes is full.
    pub size_max: usize,
    /// Tokens per second.
    pub rate: f64,
    /// Tokens that can be saved.
    pub burst: f64,
    /// Seals on the request budget's account are this far apart.
    pub interval_min: Duration,
}

/// Decides, and remembers what was spent.
#[derive(Debug)]
pub(crate) struct Sealer {
    options: SealOptions,
    tokens: f64,
    counted_at: Instant,
    last_seal: Option<Instant>,
}

impl Sealer {
    /// Begins with a full bucket.
    pub(crate) fn new(options: SealOptions, now: Instant) -> Self {
        Self { options, tokens: options.burst, counted_at: now, last_seal: None }
    }

    /// What to do at `now`, given these facts.
    pub(crate) fn decide(&mut self, facts: &Facts, now: Instant) -> Decision {
        self.fill(now);
        if !facts.slot_free {
            return Decision::Wait;
        }
        if facts.full_waiting {
            return Decision::Seal(SealReason::Size);
        }
        let Some(deadline) = facts.deadline else { return Decision::Wait };
        if facts.open_bytes >= self.options.size_max {
            return Decision::Seal(SealReason::Size);
        }
        if facts.draining {
            return Decision::Seal(SealReason::Drain);
        }
        if deadline <= now {
            return Decision::Seal(SealReason::Linger);
        }
        let worthwhile = facts.open_bytes >= SEAL_BYTES_WORTHWHILE;
        if facts.pipelines_full && worthwhile {
            return Decision::Seal(SealReason::Pipelines);
        }
        if facts.budget_waiters && (worthwhile || !facts.uploading) {
            return Decision::Seal(SealReason::Pressure);
        }
        match self.early_at(facts.uploading, now) {
            Some(at) if at <= now => Decision::Seal(SealReason::Budget),
            Some(at) => Decision::WaitUntil(at.min(deadline)),
            None => Decision::WaitUntil(deadline),
        }
    }

    /// Notes a seal. It takes a token if there is one: seals that had to be are not held up, but
    /// leave nothing to spend.
    pub(crate) fn sealed(&mut self, now: Instant) {
        self.fill(now);
        self.tokens = (self.tokens - 1.0).max(0.0);
        self.last_seal = Some(now);
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.counted_at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.options.rate).min(self.options.burst);
        self.counted_at = now;
    }

    /// When an early seal may be made; `None` with a rate of 0 and nothing saved.
    fn early_at(&self, uploading: bool, now: Instant) -> Option<Instant> {
        let missing = (1.0 - self.tokens) / self.options.rate;
        let token_at = if missing <= 0.0 {
            now
        } else {
            // Rounded up to a whole microsecond, so that the token is there when the time comes.
            let wait = Duration::try_from_secs_f64(missing).ok()? + Duration::from_micros(1);
            now.checked_add(wait)?
        };
        let shortest = self.options.interval_min;
        let interval = if uploading { shortest.max(SEAL_INTERVAL_UPLOADING) } else { shortest };
        let spaced_at = self.last_seal.map_or(now, |last| last + interval);
        Some(token_at.max(spaced_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: SealOptions =
        SealOptions { size_max: 8 << 20, rate: 400.0, burst: 16.0, interval_min: ms(2) };
    const CHARGED: SealOptions = SealOptions { rate: 8.0, ..FREE };
    const NEVER_EARLY: SealOptions = SealOptions { rate: 0.0, burst: 0.0, ..FREE };

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn facts(now: Instant) -> Facts {
        Facts {
            slot_free: true,
            uploading: false,
            full_waiting: false,
            open_bytes: 100,
            deadline: Some(now + ms(250)),
            pipelines_full: false,
            budget_waiters: false,
            draining: false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_reason_seals_on_its_own() {
        let now = Instant::now();
        let calm = facts(now);
        let large = Facts { open_bytes: SEAL_BYTES_WORTHWHILE, ..calm };
        let cases = [
            (Facts { deadline: Some(now), ..calm }, SealReason::Linger),
            (Facts { open_bytes: 8 << 20, ..calm }, SealReason::Size),
            (Facts { full_waiting: true, deadline: None, ..calm }, SealReason::Size),
            (Facts { draining: true, ..calm }, SealReason::Drain),
            (Facts { pipelines_full: true, ..large }, SealReason::Pipelines),
            (Facts { budget_waiters: true, ..calm }, SealReason::Pressure),
            (Facts { budget_waiters: true, uploading: true, ..large }, SealReason::Pressure),
        ];
        for (facts, reason) in cases {
            let mut sealer = Sealer::new(NEVER_EARLY, now);
            assert_eq!(sealer.decide(&facts, now), Decision::Seal(reason), "{facts:?}");
            let full = Facts { slot_free: false, ..facts };
            assert_eq!(sealer.decide(&full, now), Decision::Wait, "no slot: {facts:?}");
        }
        let waits = [
            calm,
            Facts { pipelines_full: true, ..calm },
            Facts { budget_waiters: true, uploading: true, ..calm },
        ];
        for facts in waits {
            let decision = Sealer::new(NEVER_EARLY, now).decide(&facts, now);
            assert_eq!(decision, Decision::WaitUntil(now + ms(250)), "{facts:?}");
        }
        let empty = Facts { deadline: None, draining: true, ..calm };
        assert_eq!(Sealer::new(FREE, now).decide(&empty, now), Decision::Wait);
    }

    /// Seals as often as allowed for a while with a buffer that is never empty.
    fn seals_within(options: SealOptions, time: Duration) -> Vec<(Duration, SealReason)> {
        let start = Instant::now();
        let (mut sealer, mut now, mut seals) = (Sealer::new(options, start), start, Vec::new());
        let mut opened = start;
        while now < start + time {
            match sealer.decide(&facts(opened), now) {
                Decision::Seal(reason) => {
                    seals.push((now - start, reason));
                    sealer.sealed(now);
                    opened = now;
                }
                Decision::WaitUntil(at) => {
                    assert!(at > now, "a wait goes forward");
                    now = at;
                }
                Decision::Wait => panic!("there is always something to seal"),
            }
        }
        seals
    }

    #[tokio::test(start_paused = true)]
    async fn group_commits_are_at_least_the_interval_apart() {
        let seals = seals_within(FREE, Duration::from_secs(1));
        assert!(seals.windows(2).all(|pair| pair[1].0 - pair[0].0 >= ms(2)));
        assert!((400..=420).contains(&seals.len()), "{} seals", seals.len());
    }

    #[tokio::test(start_paused = true)]
    async fn what_gathers_during_an_upload_goes_together_until_it_ends() {
        let start = Instant::now();
        let mut sealer = Sealer::new(FREE, start);
        sealer.sealed(start);
        let uploading = Facts { uploading: true, ..facts(start) };
        let until = Decision::WaitUntil(start + SEAL_INTERVAL_UPLOADING);
        assert_eq!(sealer.decide(&uploading, start + ms(3)), until);
        let ended = sealer.decide(&facts(start), start + ms(3));
        assert_eq!(ended, Decision::Seal(SealReason::Budget));
        let long = sealer.decide(&uploading, start + SEAL_INTERVAL_UPLOADING);
        assert_eq!(long, Decision::Seal(SealReason::Budget));
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_broker_settles_at_the_rate_it_pays_for() {
        let seals = seals_within(CHARGED, Duration::from_secs(10));
        assert!((16 + 79..=16 + 81).contains(&seals.len()), "{} seals", seals.len());
        let last = seals[seals.len() - 1].0 - seals[seals.len() - 2].0;
        assert!(last >= ms(124) && last <= ms(126), "{last:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_saved_in_quiet_times_pay_for_early_seals() {
        let start = Instant::now();
        let mut sealer = Sealer::new(CHARGED, start);
        (0..40).for_each(|_| sealer.sealed(start));
        let broke = sealer.decide(&facts(start), start + ms(3));
        assert!(matches!(broke, Decision::WaitUntil(at) if at > start + ms(120)));
        let later = start + Duration::from_secs(60);
        for n in 0..16 {
            let now = later + n * ms(2);
            assert_eq!(sealer.decide(&facts(now), now), Decision::Seal(SealReason::Budget));
            sealer.sealed(now);
        }
        let now = later + ms(32);
        assert!(matches!(sealer.decide(&facts(now), now), Decision::WaitUntil(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn with_nothing_to_spend_the_deadline_seals() {
        let seals = seals_within(NEVER_EARLY, Duration::from_secs(1));
        assert_eq!(
            seals,
            [
                (ms(250), SealReason::Linger),
                (ms(500), SealReason::Linger),
                (ms(750), SealReason::Linger)
            ]
        );
    }
}
