//! Where something can be put between the parts of a node.

use std::fmt;
use std::sync::Arc;

use ottla_control_api::ControlPlane;
use ottla_env::{Clock, Random};
use ottla_object_io::Store;

/// Puts something around a part.
pub type Around<T> = Box<dyn FnOnce(Arc<T>) -> Arc<T> + Send>;

/// What stands between the parts of a node, and between the node and the world. By default nothing
/// and the machine's own: what the binary runs with.
pub struct Seams {
    /// Around the object store, below the layer that verifies, retries and counts.
    pub store: Around<dyn Store>,
    /// Around the control plane as the broker sees it.
    pub control: Around<dyn ControlPlane>,
    /// The wall clock.
    pub clock: Clock,
    /// All randomness.
    pub random: Random,
}

impl Default for Seams {
    fn default() -> Self {
        Self {
            store: Box::new(|store| store),
            control: Box::new(|control| control),
            clock: Clock::system(),
            random: Random::system(),
        }
    }
}

impl fmt::Debug for Seams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seams").field("clock", &self.clock).finish_non_exhaustive()
    }
}
