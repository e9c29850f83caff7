//! Uploads: a sealed buffer becomes a verified object, or is given up.
//!
//! **One key per attempt.** The first try, every retry and every hedge write a key of their own, and
//! no key is written twice. So an answer that was lost, a truncated object, an attempt that arrives
//! minutes late: none can damage what was committed. The first attempt that the store has verified
//! wins; the others are orphans, which the sweep deletes.
//!
//! **Retries.** Whatever the error, the next attempt follows after a growing pause with jitter, up
//! to the time budget. That counts from the arrival of the oldest request in the buffer, so waiting
//! for a slot is part of it; one honest attempt is always made. A store that refuses gets fewer
//! uploads at once: see [`pace`](super::pace).
//!
//! **Hedges.** An attempt that takes much longer than recent ones did gets a rival. Hedges are
//! earned by uploads: when everything is slow, hedging stops, because the store needs less load
//! then, not more.
//!
//! **Cancellation.** Dropping an upload drops its attempts. They may still arrive; nobody will
//! commit them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use ottla_env::Random;
use ottla_format::object::ObjectHeader;
use ottla_model::{
    Attempt, BrokerAuthor, ClusterId, ObjectName, ObjectOrigin, ObjectSeq, ProcessNonce,
};
use ottla_object_io::{Payload, Store, StoreError, StoreErrorKind, keys};
use ottla_telemetry::Metrics;
use ottla_telemetry::metrics::{Counter, Histogram};
use tokio::time::Instant;

use super::WrittenObjects;
use super::buffer::Body;
use super::layout::{Layout, lay_out};
use super::pace::Pace;
use crate::limits::{
    HEDGE_DELAY_MAX, UPLOAD_ATTEMPTS_AT_ONCE, UPLOAD_ATTEMPTS_MAX, UPLOAD_PAUSE_FIRST,
    UPLOAD_PAUSE_MAX, UPLOAD_TIME_MIN,
};

/// A sealed buffer to upload.
#[derive(Debug)]
pub(crate) struct Upload {
    pub seq: ObjectSeq,
    pub bodies: Vec<Body>,
    /// When its oldest request arrived.
    pub oldest: Instant,
}

/// An object that the store has, byte for byte.
#[derive(Debug)]
pub(crate) struct Verified {
    pub attempt: Attempt,
    pub size: u64,
    pub layout: Layout,
    pub at: Instant,
}

/// Uploads objects of one writer.
#[derive(Debug)]
pub(crate) struct Uploader {
    pub store: Arc<dyn Store>,
    pub cluster: ClusterId,
    pub author: BrokerAuthor,
    pub nonce: ProcessNonce,
    pub written: Arc<dyn WrittenObjects>,
    pub random: Random,
    /// From the arrival of the oldest request.
    pub time_max: Duration,
    pub pace: Mutex<Pace>,
    pub observed: Observed,
}

/// The counters of uploads.
#[derive(Debug)]
pub(crate) struct Observed {
    stage: Histogram,
    object_bytes: Histogram,
    object_batches: Histogram,
    object_partitions: Histogram,
    hedges: Counter,
    retries: Counter,
}

impl Observed {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let produce = &metrics.produce;
        Self {
            stage: produce.stage_seconds.with(["upload"]),
            object_bytes: produce.object_bytes.clone(),
            object_batches: produce.object_batches.clone(),
            object_partitions: produce.object_partitions.clone(),
            hedges: produce.extra_attempts.with(["hedge"]),
            retries: produce.extra_attempts.with(["retry"]),
        }
    }
}

/// Why another attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extra {
    Hedge,
    Retry,
}

impl Uploader {
    /// Uploads an object and puts it into the read cache. `None`: given up; nothing of it will
    /// ever be committed.
    pub(crate) async fn upload(&self, upload: Upload) -> Option<Verified> {
        let Upload { seq, bodies, oldest } = upload;
        let sealed_at = Instant::now();
        let header = ObjectHeader { cluster: self.cluster, origin: self.origin(seq) };
        let laid = lay_out(&header, &bodies);

        let give_up_at = (oldest + self.time_max).max(sealed_at + UPLOAD_TIME_MIN);
        let attempts = self.attempts(seq, &laid.payload);
        let attempt = tokio::time::timeout_at(give_up_at, attempts).await.ok().flatten()?;

        let at = Instant::now();
        self.observed.stage.time(at - sealed_at);
        self.observed.object_bytes.observe(laid.payload.length as f64);
        self.observed.object_batches.observe(bodies.len() as f64);
        self.observed.object_partitions.observe(laid.partitions as f64);
        let size = laid.payload.length;
        self.written.insert_written(&self.name(seq, attempt), size, laid.payload.chunks);
        Some(Verified { attempt, size, layout: laid.layout, at })
    }

    fn origin(&self, seq: ObjectSeq) -> ObjectOrigin {
        ObjectOrigin::Wal { author: self.author, nonce: self.nonce, seq }
    }

    fn name(&self, seq: ObjectSeq, attempt: Attempt) -> ObjectName {
        ObjectName { origin: self.origin(seq), attempt }
    }

    /// Makes attempts until one is verified. `None`: as many failed as may be made.
    async fn attempts(&self, seq: ObjectSeq, payload: &Payload) -> Option<Attempt> {
        let mut running = FuturesUnordered::new();
        running.push(self.attempt(seq, Attempt(0), payload.clone()));
        let mut made = 1;
        let mut failures = 0;
        let hedge_delay = self.pace().begin();
        let mut next = self.hedge_at(hedge_delay);
        loop {
            let next_at = next.map(|(at, _)| at);
            tokio::select! {
                biased;
                Some((attempt, result)) = running.next() => match result {
                    Ok(took) => {
                        self.pace().succeeded(took);
                        return Some(attempt);
                    }
                    Err(error) => {
                        failures += 1;
                        if error.kind() == StoreErrorKind::Retry {
                            self.pace().refused(Instant::now());
                        }
                        tracing::warn!(
                            object = %self.name(seq, attempt), %error, "upload attempt failed"
                        );
                        next = (made < UPLOAD_ATTEMPTS_MAX)
                            .then(|| (Instant::now() + self.pause(failures, &error), Extra::Retry));
                        if next.is_none() && running.is_empty() {
                            return None;
                        }
                    }
                },
                () = sleep_until(next_at), if next_at.is_some() => {
                    let retry = next.is_some_and(|(_, extra)| extra == Extra::Retry);
                    let room = running.len() < UPLOAD_ATTEMPTS_AT_ONCE && made < UPLOAD_ATTEMPTS_MAX;
                    next = None;
                    if room && (retry || self.pace().take_hedge()) {
                        let counter =
                            if retry { &self.observed.retries } else { &self.observed.hedges };
                        counter.inc();
                        running.push(self.attempt(seq, Attempt(made), payload.clone()));
                        made += 1;
                        next = self.hedge_at(hedge_delay * made);
                    }
                }
            }
        }
    }

    /// One attempt under its own key; how long it took.
    async fn attempt(
        &self,
        seq: ObjectSeq,
        attempt: Attempt,
        payload: Payload,
    ) -> (Attempt, Result<Duration, StoreError>) {
        let since = Instant::now();
        let length = payload.length;
        let key = keys::object(self.cluster, &self.name(seq, attempt));
        let result = match self.store.put(&key, payload).await {
            Ok(done) if done.bytes == length => Ok(since.elapsed()),
            Ok(done) => {
                let reason = format!("{} of {length} bytes are there", done.bytes);
                Err(StoreError::Corrupt { key, reason })
            }
            Err(error) => Err(error),
        };
        (attempt, result)
    }

    fn hedge_at(&self, delay: Duration) -> Option<(Instant, Extra)> {
        Some((Instant::now() + delay.min(HEDGE_DELAY_MAX), Extra::Hedge))
    }

    fn pause(&self, failures: u32, error: &StoreError) -> Duration {
        let longest = match error.kind() {
            StoreErrorKind::Denied | StoreErrorKind::Invalid => UPLOAD_PAUSE_MAX,
            _ => UPLOAD_PAUSE_FIRST * 2u32.saturating_pow(failures.saturating_sub(1)),
        };
        self.random.jitter(longest.min(UPLOAD_PAUSE_MAX))
    }

    /// How many uploads may run at the same time, as the store takes them.
    pub(crate) fn slots(&self) -> usize {
        self.pace().slots()
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}
