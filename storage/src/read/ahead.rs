//! Reading ahead for those who go through older data.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ottla_object_io::ReadCause;
use tokio::task::JoinSet;

use super::gather::{Gather, Gathered, Wanted};
use crate::cache::Heat;
use crate::limits::READ_AHEADS_MAX;

/// The read-aheads under way: a bounded number of tasks that end with the reader.
#[derive(Debug, Default)]
pub(super) struct Ahead(Mutex<JoinSet<()>>);

impl Ahead {
    /// Brings ranges into the catch-up compartment, unless enough others are being brought.
    pub(super) fn start(&self, gather: &Arc<Gather>, wanted: Vec<Wanted>) {
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        if tasks.len() >= READ_AHEADS_MAX {
            return;
        }
        let gather = Arc::clone(gather);
        tasks.spawn(async move {
            let mut unused = Gathered::default();
            gather.read(&wanted, Heat::CatchUp, ReadCause::CatchUp, &mut unused).await;
        });
    }

    /// Ends them all.
    pub(super) async fn stop(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks());
        tasks.shutdown().await;
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
