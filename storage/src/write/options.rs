//! The parts and options of a writer.

use std::sync::Arc;
use std::time::Duration;

use ottla_control_api::ControlPlane;
use ottla_env::Random;
use ottla_model::{BrokerAuthor, ClusterId, ProcessNonce};
use ottla_object_io::Store;
use ottla_telemetry::Metrics;

use super::WrittenObjects;
use crate::limits::{
    BUDGET_BYTES_DEFAULT, LINGER_DEFAULT, OBJECT_BYTES_DEFAULT, PUT_BURST_CHARGED, PUT_BURST_FREE,
    PUT_RATE_CHARGED, PUT_RATE_FREE, SEAL_INTERVAL_MIN, UPLOAD_TIME_DEFAULT, UPLOADS_DEFAULT,
};

/// Settings of a writer.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// How long a batch waits at most for its buffer to be sealed, unless its topic says otherwise.
    pub linger: Duration,
    /// A buffer of this many bytes is full.
    pub size_max: usize,
    /// Objects per second that the request budget pays for.
    pub put_rate: f64,
    /// Objects that the request budget can save up.
    pub put_burst: f64,
    /// Early seals are at least this far apart.
    pub seal_interval_min: Duration,
    /// Objects uploaded at the same time.
    pub uploads_max: usize,
    /// How long an upload may take, counted from the arrival of its oldest request.
    pub upload_time_max: Duration,
    /// Bytes accepted but not acknowledged.
    pub budget_bytes: usize,
}

impl WriteOptions {
    /// The defaults for a store that does or does not charge for requests.
    pub fn for_store(store: &dyn Store) -> Self {
        let charges = store.charges_for_requests();
        let (put_rate, put_burst) = if charges {
            (PUT_RATE_CHARGED, PUT_BURST_CHARGED)
        } else {
            (PUT_RATE_FREE, PUT_BURST_FREE)
        };
        Self {
            linger: LINGER_DEFAULT,
            size_max: OBJECT_BYTES_DEFAULT,
            put_rate,
            put_burst,
            seal_interval_min: SEAL_INTERVAL_MIN,
            uploads_max: UPLOADS_DEFAULT,
            upload_time_max: UPLOAD_TIME_DEFAULT,
            budget_bytes: BUDGET_BYTES_DEFAULT,
        }
    }
}

/// What a writer works with.
#[derive(Clone)]
pub struct WriteParts {
    /// The cluster it writes for.
    pub cluster: ClusterId,
    /// The registration it writes under.
    pub author: BrokerAuthor,
    /// The process start that registered.
    pub nonce: ProcessNonce,
    /// Where objects go. Its [`Store::put`] is one attempt.
    pub store: Arc<dyn Store>,
    /// Who commits them.
    pub control: Arc<dyn ControlPlane>,
    /// Who gets what was just written.
    pub written: Arc<dyn WrittenObjects>,
    /// Jitter.
    pub random: Random,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

impl std::fmt::Debug for WriteParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteParts").field("author", &self.author).finish_non_exhaustive()
    }
}
