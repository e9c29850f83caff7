//! Waiting for changes of some partitions.

use std::sync::Arc;

use ottla_model::PartitionId;
use tokio::sync::Notify;

use super::View;

/// Partitions that can be waited for. The registration keeps the set instead of a copy.
pub trait PartitionSet {
    /// The same ones each time; one may come twice.
    fn partitions(&self) -> impl Iterator<Item = PartitionId>;
}

impl<const N: usize> PartitionSet for [PartitionId; N] {
    fn partitions(&self) -> impl Iterator<Item = PartitionId> {
        self.iter().copied()
    }
}

/// A registration for changes of some partitions; ends when dropped.
#[derive(Debug)]
pub struct Wait<P: PartitionSet> {
    view: Arc<View>,
    partitions: P,
    ticket: u64,
    notify: Arc<Notify>,
}

impl<P: PartitionSet> Wait<P> {
    pub(super) fn register(view: Arc<View>, partitions: P) -> Self {
        let notify = Arc::new(Notify::new());
        let ticket = view.partitions.next_ticket();
        for partition in partitions.partitions() {
            view.partitions.register(partition, ticket, &notify);
        }
        Self { view, partitions, ticket, notify }
    }

    /// Waits until one of the partitions changed since the registration or the last wake-up.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }
}

impl<P: PartitionSet> Drop for Wait<P> {
    fn drop(&mut self) {
        for partition in self.partitions.partitions() {
            self.view.partitions.unregister(partition, self.ticket);
        }
    }
}
