//! Which faults there are, and how often they are drawn.

use std::time::Duration;

use ottla_env::Random;

/// What happens to one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFault {
    /// Answered with 503; nothing is stored.
    Refused,
    /// Answered with an error of unknown outcome; nothing is stored.
    FailedBefore,
    /// Stored, and then answered with an error of unknown outcome.
    FailedAfter,
    /// Only the first half is stored, and the answer says success and what is there.
    Truncated,
    /// An empty object is stored, and the answer says success and what is there.
    Empty,
    /// Answered with an error of unknown outcome; stored after this long.
    Late(Duration),
    /// Stored; no answer ever comes.
    AnswerLost,
    /// Stored and answered after this long.
    Slow(Duration),
    /// 403.
    Denied,
}

/// What happens to one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFault {
    /// Answered with 503.
    Refused,
    /// The last byte is missing.
    Short,
    /// One bit is flipped.
    Corrupt,
    /// 404, although the object exists.
    Missing,
    /// Answered after this long.
    Slow(Duration),
    /// No answer ever comes.
    AnswerLost,
    /// 403.
    Denied,
}

/// How long every request takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latency {
    /// Most requests take from half of this up to this.
    pub usual: Duration,
    /// The others take from half of this up to this.
    pub slow: Duration,
    /// The share of slow ones, 0.0 to 1.0.
    pub slow_share: f64,
}

impl Latency {
    pub(super) fn draw(&self, random: &Random) -> Duration {
        let base = if random.chance(self.slow_share) { self.slow } else { self.usual };
        random.jitter(base)
    }
}

/// How often faults are drawn: shares from 0.0 to 1.0, all 0 by default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FaultRates {
    /// Time of every request.
    pub latency: Latency,
    /// Any request: 403.
    pub denied: f64,
    /// Any request: nothing is done, and no answer ever comes.
    pub silent: f64,
    /// [`WriteFault::Refused`] and [`ReadFault::Refused`].
    pub refused: f64,
    /// [`WriteFault::FailedBefore`].
    pub write_failed_before: f64,
    /// [`WriteFault::FailedAfter`].
    pub write_failed_after: f64,
    /// [`WriteFault::Truncated`].
    pub write_truncated: f64,
    /// [`WriteFault::Empty`].
    pub write_empty: f64,
    /// [`WriteFault::Late`], by up to `late_by`.
    pub write_late: f64,
    /// The longest delay of a late write.
    pub late_by: Duration,
    /// [`WriteFault::AnswerLost`] and [`ReadFault::AnswerLost`].
    pub answer_lost: f64,
    /// [`ReadFault::Short`].
    pub read_short: f64,
    /// [`ReadFault::Corrupt`].
    pub read_corrupt: f64,
    /// [`ReadFault::Missing`].
    pub read_missing: f64,
}

impl FaultRates {
    pub(super) fn draw_write(&self, random: &Random) -> Option<WriteFault> {
        first_hit(
            random,
            [
                (self.refused, WriteFault::Refused),
                (self.write_failed_before, WriteFault::FailedBefore),
                (self.write_failed_after, WriteFault::FailedAfter),
                (self.write_truncated, WriteFault::Truncated),
                (self.write_empty, WriteFault::Empty),
                (self.write_late, WriteFault::Late(random.jitter(self.late_by))),
                (self.answer_lost, WriteFault::AnswerLost),
            ],
        )
    }

    pub(super) fn draw_read(&self, random: &Random) -> Option<ReadFault> {
        first_hit(
            random,
            [
                (self.refused, ReadFault::Refused),
                (self.read_short, ReadFault::Short),
                (self.read_corrupt, ReadFault::Corrupt),
                (self.read_missing, ReadFault::Missing),
                (self.answer_lost, ReadFault::AnswerLost),
            ],
        )
    }
}

fn first_hit<F, const N: usize>(random: &Random, shares: [(f64, F); N]) -> Option<F> {
    shares.into_iter().find(|(share, _)| *share > 0.0 && random.chance(*share)).map(|(_, f)| f)
}
