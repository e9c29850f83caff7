//! How much goes wrong in a schedule.

use ottla_env::Random;

/// Shares from 0.0 to 1.0, drawn once per seed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// A call does not arrive.
    pub lost_request: f64,
    /// An answer does not arrive.
    pub lost_answer: f64,
    /// A call that was delivered stays in the network.
    pub doubled: f64,
    /// A caller stops waiting.
    pub timeout: f64,
    /// An attempt stores nothing.
    pub upload_failed: f64,
    /// An attempt stores half and says so.
    pub upload_truncated: f64,
    /// An attempt arrives later, or never, or in part; or it stores all and is not answered.
    pub upload_unknown: f64,
    /// An upload is given up.
    pub upload_given_up: f64,
    /// A listing leaves an object out, or shows one that is gone.
    pub stale_listing: f64,
    /// A delete does not happen, or happens without an answer.
    pub delete_failed: f64,
    /// A process crashes: weight of the step.
    pub crash: u64,
    /// A living broker is fenced: weight of the step.
    pub fence: u64,
    /// The topic is deleted: weight of the step.
    pub delete_topic: u64,
    /// A client gives up waiting: weight of the step.
    pub impatience: u64,
    /// A pass of the sweep ends in the middle.
    pub sweep_crash: f64,
}

impl Faults {
    pub(crate) fn draw(random: &Random) -> Self {
        if random.chance(0.25) {
            return Self::default();
        }
        let share = |max: f64| {
            if random.chance(0.3) { 0.0 } else { max * (random.below(100) as f64) / 100.0 }
        };
        let weight = |max: u64| if random.chance(0.4) { 0 } else { random.below(max + 1) };
        Self {
            lost_request: share(0.4),
            lost_answer: share(0.4),
            doubled: share(0.4),
            timeout: share(0.3),
            upload_failed: share(0.4),
            upload_truncated: share(0.3),
            upload_unknown: share(0.4),
            upload_given_up: share(0.3),
            stale_listing: share(0.3),
            delete_failed: share(0.3),
            crash: weight(4),
            fence: weight(4),
            delete_topic: weight(2),
            impatience: weight(12),
            sweep_crash: share(0.1),
        }
    }
}
