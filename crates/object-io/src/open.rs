//! Opening a store by its URL.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ottla_env::{DiskTurns, Random};
use ottla_telemetry::Metrics;
use thiserror::Error;

use crate::accounting::Accounting;
use crate::limits::HEDGE_AFTER;
use crate::reliable::Reliable;
use crate::{Store, StoreUrl, UrlError, backend};

/// How stores are spoken to.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    /// For `s3://` URLs.
    pub s3: S3Options,
    /// A read that has not ended after this long gets a rival. `None`: 400 ms for stores over the
    /// network, never for local ones.
    pub hedge_after: Option<Duration>,
    /// A directory is not made when it does not exist, and nothing is removed from it: for who only
    /// looks.
    pub as_it_is: bool,
    /// Of the disk of a directory: shared with whatever else is synced on it.
    pub disk: DiskTurns,
}

/// How a bucket is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Options {
    /// Where the service is, when it is not Amazon's: `http://127.0.0.1:9000`.
    pub endpoint: Option<String>,
    /// The bucket's region.
    pub region: Option<String>,
    /// The bucket stands in the path, not in the host name. What services outside of Amazon need.
    pub path_style: bool,
    /// Plain HTTP is allowed.
    pub allow_http: bool,
    /// `None`: from the environment (`AWS_ACCESS_KEY_ID`, web identity, instance role).
    pub credentials: Option<S3Credentials>,
}

/// A key that does not change while the process runs.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Credentials {
    /// The key's id.
    pub key_id: String,
    /// The key. Never shown.
    pub secret: String,
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Credentials").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl Default for S3Options {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            path_style: true,
            allow_http: false,
            credentials: None,
        }
    }
}

/// Why a store could not be opened. Nothing was asked of a store over the network yet.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// Not a URL of a store.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The directory cannot be used.
    #[error("the object directory {} cannot be used: {reason}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The bucket's settings make no client.
    #[error("the S3 bucket '{bucket}' cannot be used: {reason}")]
    S3 {
        /// Which.
        bucket: String,
        /// What is wrong.
        reason: String,
    },
}

/// Opens the store at `url`, with verification, retries, time-outs and accounting around it. A
/// directory is made when it does not exist, and cleared of unfinished writes (unless it is to stay
/// [as it is](StoreOptions::as_it_is)); that blocks the thread for a moment.
pub fn open(
    url: &str,
    options: &StoreOptions,
    random: Random,
    metrics: Arc<Metrics>,
) -> Result<Arc<dyn Store>, OpenError> {
    Ok(reliable(open_bare(url, options)?, options, random, metrics))
}

/// Opens the store at `url` as it is, for whoever puts something between it and [`reliable`].
pub fn open_bare(url: &str, options: &StoreOptions) -> Result<Arc<dyn Store>, OpenError> {
    Ok(match url.parse()? {
        StoreUrl::Memory => Arc::new(backend::memory()),
        StoreUrl::File(path) => {
            Arc::new(backend::file(&path, options.as_it_is, options.disk.clone())?)
        }
        StoreUrl::S3 { bucket, prefix } => Arc::new(backend::s3(&bucket, &prefix, &options.s3)?),
    })
}

/// A fresh store in memory with nothing around it, for tests that put a
/// [`FaultStore`](crate::faults::FaultStore) around it, or need no metrics.
pub fn memory() -> Arc<dyn Store> {
    Arc::new(backend::memory())
}

/// Puts verification, retries, hedges, time-outs and accounting around a bare store, as [`open`]
/// does. Tests put it around a [`FaultStore`](crate::faults::FaultStore).
pub fn reliable(
    store: Arc<dyn Store>,
    options: &StoreOptions,
    random: Random,
    metrics: Arc<Metrics>,
) -> Arc<dyn Store> {
    let default = store.charges_for_requests().then_some(HEDGE_AFTER);
    let hedge_after = options.hedge_after.or(default);
    Arc::new(Reliable::new(store, hedge_after, random, Accounting(metrics)))
}
