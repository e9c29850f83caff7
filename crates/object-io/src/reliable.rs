//! The layer between callers and a back end: verification, retries and hedges of reads, time-outs,
//! accounting.
//!
//! Reads are safe to repeat, so they are: after an error of kind retry or unknown, after a short
//! answer, and (hedge) when the first try is slow; all within a time that leaves the caller some.
//! Extra tries come out of an [`ExtraBudget`].
//! Writes are tried once; what the store says it holds is compared with what was sent.

use std::fmt;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{Either, select};
use ottla_env::{Random, delay};
use tokio::time::timeout;

use crate::accounting::{Accounting, RequestKind};
use crate::extra_budget::ExtraBudget;
use crate::limits::{
    LIST_TIME_MAX, READ_ATTEMPTS_MAX, READ_PAUSE_FIRST, READ_PAUSE_MAX, READ_TIME_MAX,
    READ_TIMEOUT, WRITE_TIMEOUT,
};
use crate::{ObjectEntry, Payload, PutDone, ReadCause, Store, StoreError, StoreErrorKind, keys};

pub(crate) struct Reliable {
    inner: Arc<dyn Store>,
    hedge_after: Option<Duration>,
    random: Random,
    accounting: Accounting,
    extra: ExtraBudget,
}

impl Reliable {
    pub(crate) fn new(
        inner: Arc<dyn Store>,
        hedge_after: Option<Duration>,
        random: Random,
        accounting: Accounting,
    ) -> Self {
        Self { inner, hedge_after, random, accounting, extra: ExtraBudget::new() }
    }

    /// Repeats a safe request while that helps.
    async fn repeated<T, F>(
        &self,
        key: &str,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        self.extra.earn();
        let mut pause = READ_PAUSE_FIRST;
        for tried in 1.. {
            let error = match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let helps =
                matches!(error.kind(), StoreErrorKind::Retry | StoreErrorKind::RetryUnknown);
            if !helps || tried == READ_ATTEMPTS_MAX || !self.extra.take() {
                return Err(error);
            }
            tracing::debug!(%error, key, tried, "retry request");
            self.accounting.retried(&error);
            delay(self.random.jitter(pause)).await;
            pause = (pause * 2).min(READ_PAUSE_MAX);
        }
        unreachable!("the loop ends by returning")
    }

    async fn read_once(
        &self,
        key: &str,
        range: Range<u64>,
        cause: ReadCause,
    ) -> Result<Bytes, StoreError> {
        let length = range.end.saturating_sub(range.start);
        let request = self.accounting.start(RequestKind::Get, cause.label());
        let read = async {
            let bytes = self.inner.get_range(key, range.clone(), cause).await?;
            if bytes.len() as u64 == length {
                Ok(bytes)
            } else {
                let reason = format!("{} of {length} bytes came for {range:?}", bytes.len());
                Err(StoreError::Unavailable { key: key.to_owned(), reason })
            }
        };
        let done = limited(key, READ_TIMEOUT, read).await;
        request.end(&done, |bytes| bytes.len() as u64);
        done
    }

    /// One read, with a rival when it is slow. The first success wins.
    async fn read_hedged(
        &self,
        key: &str,
        range: Range<u64>,
        cause: ReadCause,
    ) -> Result<Bytes, StoreError> {
        let mut first = pin!(self.read_once(key, range.clone(), cause));
        let Some(patience) = self.hedge_after else { return first.await };
        if let Ok(done) = timeout(patience, &mut first).await {
            return done;
        }
        if !self.extra.take() {
            return first.await;
        }
        self.accounting.hedged();
        let second = pin!(self.read_once(key, range, cause));
        match select(first, second).await {
            Either::Left((Err(_), other)) => other.await,
            Either::Right((Err(_), other)) => other.await,
            Either::Left((done, _)) | Either::Right((done, _)) => done,
        }
    }
}

/// Ends a try, or all tries of a read, when they take too long: what became of it is then unknown.
async fn limited<T>(
    key: &str,
    limit: Duration,
    attempt: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    timeout(limit, attempt).await.unwrap_or_else(|_| {
        let reason = format!("no answer within {} s", limit.as_secs());
        Err(StoreError::OutcomeUnknown { key: key.to_owned(), reason })
    })
}

impl fmt::Debug for Reliable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl Store for Reliable {
    async fn put(&self, key: &str, payload: Payload) -> Result<PutDone, StoreError> {
        let length = payload.length;
        let request = self.accounting.start(RequestKind::Put, keys::area(key));
        let write = async {
            let done = self.inner.put(key, payload).await?;
            if done.bytes == length {
                Ok(done)
            } else {
                let reason = format!("the store holds {} of {length} bytes", done.bytes);
                Err(StoreError::Corrupt { key: key.to_owned(), reason })
            }
        };
        let done = limited(key, WRITE_TIMEOUT, write).await;
        request.end(&done, |done| done.bytes);
        done
    }

    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<bool, StoreError> {
        let length = body.len() as u64;
        let request = self.accounting.start(RequestKind::Put, keys::area(key));
        let done = limited(key, READ_TIMEOUT, self.inner.put_if_absent(key, body)).await;
        request.end(&done, |written| if *written { length } else { 0 });
        done
    }

    async fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
        cause: ReadCause,
    ) -> Result<Bytes, StoreError> {
        let tries = self.repeated(key, || self.read_hedged(key, range.clone(), cause));
        limited(key, READ_TIME_MAX, tries).await
    }

    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        let tries = self.repeated(key, || async {
            let request = self.accounting.start(RequestKind::Get, keys::area(key));
            let done = limited(key, READ_TIMEOUT, self.inner.get(key)).await;
            request.end(&done, |bytes| bytes.len() as u64);
            done
        });
        limited(key, READ_TIME_MAX, tries).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectEntry>, StoreError> {
        self.repeated(prefix, || async {
            let request = self.accounting.start(RequestKind::List, keys::area(prefix));
            // A long listing is many requests.
            let done = limited(prefix, LIST_TIME_MAX, self.inner.list(prefix)).await;
            request.end(&done, |_| 0);
            done
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.repeated(key, || async {
            let request = self.accounting.start(RequestKind::Delete, keys::area(key));
            let done = limited(key, READ_TIMEOUT, self.inner.delete(key)).await;
            request.end(&done, |()| 0);
            done
        })
        .await
    }

    async fn prepare(&self, folders: &[String]) -> Result<(), StoreError> {
        limited("folders", LIST_TIME_MAX, self.inner.prepare(folders)).await
    }

    fn charges_for_requests(&self) -> bool {
        self.inner.charges_for_requests()
    }
}
