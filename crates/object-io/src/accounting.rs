//! Counting requests where they are made: each try by operation, cause and outcome.

use std::sync::Arc;

use ottla_telemetry::Metrics;
use tokio::time::Instant;

use crate::StoreError;

/// What a request does to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestKind {
    Put,
    Get,
    List,
    Delete,
}

impl RequestKind {
    fn label(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }

    fn direction(self) -> &'static str {
        if self == Self::Put { "out" } else { "in" }
    }
}

#[derive(Clone)]
pub(crate) struct Accounting(pub(crate) Arc<Metrics>);

impl Accounting {
    pub(crate) fn start(&self, kind: RequestKind, cause: &'static str) -> Request {
        self.0.object_store.inflight.inc();
        Request { metrics: Arc::clone(&self.0), kind, cause, started: Instant::now(), open: true }
    }

    pub(crate) fn retried(&self, reason: &StoreError) {
        self.0.object_store.retries.with([reason.kind().label()]).inc();
    }

    pub(crate) fn hedged(&self) {
        self.0.object_store.hedges.inc();
    }
}

/// A request on its way. One that is dropped (its rival won, its caller gave up) counts as
/// `cancelled`: it was sent and is on the bill.
pub(crate) struct Request {
    metrics: Arc<Metrics>,
    kind: RequestKind,
    cause: &'static str,
    started: Instant,
    open: bool,
}

impl Request {
    /// The request ended; `bytes` says how many it moved when it succeeded.
    pub(crate) fn end<T>(mut self, done: &Result<T, StoreError>, bytes: impl FnOnce(&T) -> u64) {
        let outcome = match done {
            Ok(done) => {
                let labels = [self.kind.direction(), self.cause];
                self.metrics.object_store.bytes.with(labels).add(bytes(done));
                "ok"
            }
            Err(error) => error.kind().label(),
        };
        self.close(outcome);
    }

    fn close(&mut self, outcome: &'static str) {
        self.open = false;
        let metrics = &self.metrics.object_store;
        metrics.inflight.dec();
        metrics.requests.with([self.kind.label(), self.cause, outcome]).inc();
        metrics.request_seconds.with([self.kind.label()]).time(self.started.elapsed());
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if self.open {
            self.close("cancelled");
        }
    }
}
