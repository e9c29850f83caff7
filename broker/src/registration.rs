//! The broker's registration with the control plane: who it is at the moment.

use ottla_model::BrokerAuthor;
use tokio::sync::watch;

/// The broker's present registration; cheap to clone. It changes when the broker was fenced and
/// registered again, so that commands ask for it each time instead of keeping a copy.
#[derive(Clone, Debug)]
pub struct AuthorSource(watch::Receiver<BrokerAuthor>);

impl AuthorSource {
    /// Follows a registration.
    pub fn new(current: watch::Receiver<BrokerAuthor>) -> Self {
        Self(current)
    }

    /// A registration that never changes.
    pub fn fixed(author: BrokerAuthor) -> Self {
        Self(watch::channel(author).1)
    }

    /// The registration to put into commands now.
    pub fn author(&self) -> BrokerAuthor {
        *self.0.borrow()
    }
}
