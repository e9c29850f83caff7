//! How many operations on a directory are under way at the same time.
//!
//! A file operation blocks a thread of the runtime, and on a mount that hangs it blocks it for as
//! long as the mount does, whatever its caller does meanwhile. So each one holds a place that it
//! gives back when its thread returns, not when its caller stops waiting. With no place free, an
//! operation waits for a short time and is then refused: the store is unavailable. Threads, open
//! files and the bytes that a hung write still refers to thus have a bound, and the runtime's other
//! blocking work always finds a thread.

use std::io;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;

use super::classify;
use crate::StoreError;
use crate::limits::{DIRECT_BYTES_MIN, FILE_GATE_WAIT_MAX};

/// The places of one kind of operation.
#[derive(Debug)]
pub(super) struct Gate {
    places: Arc<Semaphore>,
    /// In addition, those of operations on [`DIRECT_BYTES_MIN`] and more.
    large: Arc<Semaphore>,
}

/// Held until the operation has really ended.
#[derive(Debug)]
struct Place {
    _any: OwnedSemaphorePermit,
    _large: Option<OwnedSemaphorePermit>,
}

impl Gate {
    pub(super) fn new(places: usize, large: usize) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self { places: semaphore(places), large: semaphore(large) }
    }

    /// Runs what blocks, on a thread where it may. `length`: of the bytes that it moves.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        key: &str,
        length: u64,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let place = self.enter(key, length).await?;
        let blocking = spawn_blocking(move || {
            let _until_returned = place;
            work()
        });
        match blocking.await {
            Ok(done) => done.map_err(|error| classify(key, &error)),
            Err(error) => Err(failed(key, &error)),
        }
    }

    /// Runs a call of a client that has its own blocking threads: to its end, also when nobody
    /// waits for it any more.
    pub(super) async fn run_to_end<T: Send + 'static>(
        &self,
        key: &str,
        call: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let place = self.enter(key, 0).await?;
        let task = tokio::spawn(async move {
            let _until_returned = place;
            call.await
        });
        task.await.unwrap_or_else(|error| Err(failed(key, &error)))
    }

    /// Waits for a place. A large operation waits for its turn first, so that those behind it take
    /// no place from small ones.
    async fn enter(&self, key: &str, length: u64) -> Result<Place, StoreError> {
        let place = async {
            let large = match length >= DIRECT_BYTES_MIN {
                true => Some(self.large.clone().acquire_owned().await.ok()?),
                false => None,
            };
            let any = self.places.clone().acquire_owned().await.ok()?;
            Some(Place { _any: any, _large: large })
        };
        // Neither semaphore is ever closed.
        timeout(FILE_GATE_WAIT_MAX, place).await.ok().flatten().ok_or_else(|| {
            let reason = format!(
                "as many file operations as may be under way have not returned for {} s; is its \
                 disk or mount hanging?",
                FILE_GATE_WAIT_MAX.as_secs()
            );
            StoreError::Unavailable { key: key.to_owned(), reason }
        })
    }
}

/// The work panicked, or the runtime ends.
fn failed(key: &str, error: &JoinError) -> StoreError {
    StoreError::Internal { key: key.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;
    use crate::StoreErrorKind;

    const SHORT: Duration = Duration::from_millis(1);

    /// An operation that returns when it is let go, and whose caller has given up.
    async fn hung(gate: &Gate, length: u64) -> oneshot::Sender<()> {
        let (release, released) = oneshot::channel::<()>();
        let work = move || {
            let _ = released.blocking_recv();
            Ok(())
        };
        assert!(timeout(SHORT, gate.run("hung", length, work)).await.is_err());
        release
    }

    #[tokio::test]
    async fn a_place_is_held_until_the_thread_returns_and_not_by_its_caller() {
        let gate = Gate::new(1, 1);
        let release = hung(&gate, 0).await;
        assert_eq!(gate.places.available_permits(), 0);
        release.send(()).unwrap();
        assert_eq!(gate.run("next", 0, || Ok(7)).await.unwrap(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn an_operation_without_a_place_is_refused_as_unavailable() {
        let gate = Gate::new(2, 1);
        let client = |key| gate.run_to_end(key, pending::<Result<(), StoreError>>());
        assert!(timeout(SHORT, client("hung")).await.is_err());
        assert!(timeout(SHORT, client("hung")).await.is_err());
        let refused = client("next").await.unwrap_err();
        assert_eq!(refused.kind(), StoreErrorKind::Retry);
        assert!(refused.to_string().contains("hanging"), "{refused}");
    }

    #[tokio::test]
    async fn large_operations_that_wait_take_no_place_from_small_ones() {
        let gate = Gate::new(3, 1);
        let _hung = hung(&gate, DIRECT_BYTES_MIN).await;
        for _ in 0..3 {
            let waits = gate.run("large", DIRECT_BYTES_MIN, || Ok(()));
            assert!(timeout(SHORT, waits).await.is_err());
        }
        assert!(gate.run("small", 1, || Ok(())).await.is_ok());
    }
}
