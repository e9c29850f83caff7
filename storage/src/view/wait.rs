//! Waiting for changes of some partitions.

use std::sync::Arc;

use ottla_model::PartitionId;
use tokio::sync::Notify;

use super::View;

/// A registration for changes of some partitions; ends when dropped.
#[derive(Debug)]
pub struct Wait {
    view: Arc<View>,
    partitions: Vec<PartitionId>,
    ticket: u64,
    notify: Arc<Notify>,
}

impl Wait {
    pub(super) fn register(view: Arc<View>, partitions: Vec<PartitionId>) -> Self {
        let notify = Arc::new(Notify::new());
        let ticket = view.partitions.next_ticket();
        for partition in &partitions {
            view.partitions.register(*partition, ticket, &notify);
        }
        Self { view, partitions, ticket, notify }
    }

    /// Waits until one of the partitions changed since the registration or the last wake-up.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        for partition in &self.partitions {
            self.view.partitions.unregister(*partition, self.ticket);
        }
    }
}
