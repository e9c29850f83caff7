//! Looks at every record of a batch before it is stored.
//!
//! Plain records are looked at where their checksum is computed. Compressed ones are decompressed
//! first, which is done off the threads that serve, in turns:
//!
//! * *Small turns*, one per core: a batch is tried with the limits of
//!   [`OutputLimits::SMALL`], which the batches of common clients keep to. The batches of one request
//!   share a turn until [`CHECK_TURN_MAX`] has passed.
//! * *Large turns*, few: a batch that needs more begins again there, with all that is allowed
//!   (a thousandfold of its length, or as much as a request may have). It may take a second, and it
//!   holds up none of the small ones.
//!
//! Both go around the clients' addresses: a client that sends bombs over many connections waits for
//! its own. A connection waits for the check of one request before its next is read, so that its
//! batches stay in order, and holds up no other connection.
//!
//! An operator who has measured that decompression costs too much can leave large batches closed
//! (`produce.check_large_batches`). They are opened all the same where their topic needs keys, or
//! where the maximum timestamp in their header cannot be true.
//!
//! [`CHECK_TURN_MAX`]: limits::CHECK_TURN_MAX

use std::net::IpAddr;
use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ottla_storage::fair_turns::FairTurns;
use ottla_wire::batch::Compression;
use ottla_wire::batch_error::BatchError;
use ottla_wire::decompress::{OutputLimits, Scratch};
use ottla_wire::verify::{ReceivedBatch, RecordRules, VerifiedBatch};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::limits;

/// Checks batches, a few compressed ones at a time.
#[derive(Debug)]
pub(crate) struct RecordCheck {
    small: FairTurns,
    large: FairTurns,
    /// What small turns decompress with; at most one for each of them.
    scratches: Arc<Mutex<Vec<Scratch>>>,
    opens_large_batches: bool,
}

/// A batch with what its topic asks of its records.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub batch: ReceivedBatch,
    pub rules: RecordRules,
}

/// What was found of a batch.
pub(crate) type Verdict = Result<VerifiedBatch, BatchError>;

/// How far the check of a batch has come.
#[derive(Debug)]
enum Stage {
    /// To be tried with small limits.
    Small,
    /// To be tried with all that is allowed.
    Large,
    Done(Verdict),
}

/// The batches of one request, in its order.
type Work = Vec<(Candidate, Stage)>;

impl RecordCheck {
    pub fn new(opens_large_batches: bool) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            small: FairTurns::new(cores.max(limits::SMALL_CHECKS_MIN)),
            large: FairTurns::new((cores / 2).clamp(1, limits::LARGE_CHECKS_MAX)),
            scratches: Arc::default(),
            opens_large_batches,
        }
    }

    /// A verdict for each batch of a client's request. Waits only where records are compressed.
    pub async fn check(&self, client: IpAddr, batches: Vec<Candidate>) -> Vec<Verdict> {
        let with_stage = |candidate: Candidate| {
            let stage = self.first_stage(&candidate);
            (candidate, stage)
        };
        let mut work: Work = batches.into_iter().map(with_stage).collect();
        while work.iter().any(|(_, stage)| matches!(stage, Stage::Small)) {
            let turn = self.small.turn(client).await;
            let scratches = self.scratches.clone();
            work = off_the_serving_threads(move || {
                let _turn = turn;
                let mut scratch = lock(&scratches).pop().unwrap_or_default();
                let work = try_small(work, &mut scratch);
                lock(&scratches).push(scratch);
                work
            })
            .await;
        }
        while let Some(at) = work.iter().position(|(_, stage)| matches!(stage, Stage::Large)) {
            let turn = self.large.turn(client).await;
            work = off_the_serving_threads(move || {
                let _turn = turn;
                try_large(work, at)
            })
            .await;
        }
        work.into_iter().filter_map(|(_, stage)| stage.verdict()).collect()
    }

    fn first_stage(&self, Candidate { batch, rules }: &Candidate) -> Stage {
        if batch.codec() == Compression::None {
            return Stage::Done(batch.verify(rules, OutputLimits::SMALL, &mut Scratch::default()));
        }
        let may_stay_closed = !self.opens_large_batches
            && batch.body_bytes() > limits::SMALL_BATCH_BYTES
            && !rules.keys_required
            && batch.has_plausible_max_timestamp();
        if may_stay_closed { Stage::Done(batch.unopened(rules)) } else { Stage::Small }
    }
}

impl Stage {
    fn verdict(self) -> Option<Verdict> {
        match self {
            Self::Done(verdict) => Some(verdict),
            Self::Small | Self::Large => None,
        }
    }
}

/// Tries batches with small limits until all are tried, or the turn is over.
fn try_small(mut work: Work, scratch: &mut Scratch) -> Work {
    let began = Instant::now();
    for (Candidate { batch, rules }, stage) in &mut work {
        if !matches!(stage, Stage::Small) {
            continue;
        }
        *stage = match batch.verify(rules, OutputLimits::SMALL, scratch) {
            // Too little for an honest batch, or not decodable at all.
            Err(BatchError::Unreadable { .. }) => Stage::Large,
            verdict => Stage::Done(verdict),
        };
        if began.elapsed() >= limits::CHECK_TURN_MAX {
            break;
        }
    }
    work
}

fn try_large(mut work: Work, at: usize) -> Work {
    if let Some((Candidate { batch, rules }, stage)) = work.get_mut(at) {
        let limits = OutputLimits::full(batch.body_bytes());
        *stage = Stage::Done(batch.verify(rules, limits, &mut Scratch::default()));
    }
    work
}

fn lock(scratches: &Mutex<Vec<Scratch>>) -> MutexGuard<'_, Vec<Scratch>> {
    scratches.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs to its end, whether or not somebody waits for it. Never answers once the process ends.
async fn off_the_serving_threads<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::pin::pin;

    use bytes::Bytes;
    use futures_util::poll;
    use ottla_storage::fair_turns::Turn;
    use ottla_test_kit::batch;

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const TIME: i64 = 1_700_000_000_000;

    fn candidate(bytes: &Bytes) -> Candidate {
        let batch = ReceivedBatch::read(bytes.clone()).unwrap();
        Candidate { batch, rules: RecordRules::NONE }
    }

    fn all_turns(of: &FairTurns) -> Vec<Turn> {
        std::iter::from_fn(|| of.try_turn()).collect()
    }

    async fn verdicts(check: &RecordCheck, batches: &[Bytes]) -> Vec<Verdict> {
        check.check(CLIENT, batches.iter().map(candidate).collect()).await
    }

    /// A gzip batch that decompresses to more than the small limits allow.
    fn large() -> Bytes {
        batch::gzipped(&[(TIME, &vec![0; OutputLimits::SMALL.bytes_max + 1])])
    }

    /// The batch with a compressed body that is cut.
    fn cut(whole: &Bytes) -> Bytes {
        batch::changed(whole, |bytes| bytes.truncate(bytes.len() - 4))
    }

    #[tokio::test]
    async fn verdicts_come_in_the_order_of_the_batches() {
        let check = RecordCheck::new(true);
        let [plain, gzip] =
            [batch::plain(&[(1, b"v")]), batch::gzipped(&[(TIME, b"v"), (TIME, b"w")])];
        let all = [plain, large(), cut(&gzip), gzip, cut(&large())];
        let counts: Vec<_> = verdicts(&check, &all)
            .await
            .into_iter()
            .map(|verdict| verdict.map(|batch| batch.record_count()).ok())
            .collect();
        assert_eq!(counts, [Some(1), Some(1), None, Some(2), None]);
    }

    #[tokio::test]
    async fn small_batches_do_not_wait_for_large_ones() {
        let check = RecordCheck::new(true);
        let all_large = all_turns(&check.large);
        let large = [large()];
        let mut waiting = pin!(verdicts(&check, &large));
        let small = [batch::gzipped(&[(TIME, b"v")])];
        assert!(poll!(&mut waiting).is_pending());
        assert!(verdicts(&check, &small).await[0].is_ok());
        assert!(poll!(&mut waiting).is_pending(), "checked without a turn");
        drop(all_large);
        assert!(waiting.await[0].is_ok());
    }

    #[tokio::test]
    async fn compressed_batches_take_turns_and_plain_ones_need_none() {
        let check = RecordCheck::new(true);
        let turns = all_turns(&check.small);
        assert!(verdicts(&check, &[batch::plain(&[(1, b"v")])]).await[0].is_ok());
        let compressed = [batch::gzipped(&[(TIME, b"v")])];
        let mut checking = pin!(verdicts(&check, &compressed));
        for _ in 0..1_000 {
            assert!(poll!(&mut checking).is_pending(), "it was checked without a turn");
            tokio::task::yield_now().await;
        }
        drop(turns);
        assert!(checking.await[0].is_ok());
    }

    #[tokio::test]
    async fn large_batches_stay_closed_where_the_operator_says_so_and_nothing_needs_them_open() {
        let random = ottla_env::Random::seeded(1);
        let noise: Vec<u8> =
            (0..2 * limits::SMALL_BATCH_BYTES).map(|_| random.u64() as u8).collect();
        let whole = batch::gzipped(&[(TIME, &noise)]);
        let damaged = cut(&whole);
        let sparing = RecordCheck::new(false);
        assert!(
            verdicts(&RecordCheck::new(true), std::slice::from_ref(&damaged)).await[0].is_err()
        );
        assert!(verdicts(&sparing, std::slice::from_ref(&damaged)).await[0].is_ok());

        let small = cut(&batch::gzipped(&[(TIME, b"v")]));
        assert!(verdicts(&sparing, &[small]).await[0].is_err());
        let without_maximum = batch::changed(&damaged, |bytes| bytes[35..43].fill(0xff));
        assert!(verdicts(&sparing, &[without_maximum]).await[0].is_err());
        let mut compacted = candidate(&damaged);
        compacted.rules.keys_required = true;
        assert!(sparing.check(CLIENT, vec![compacted]).await[0].is_err());
    }
}
