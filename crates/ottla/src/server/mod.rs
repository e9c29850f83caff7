//! The parts of a node put together, watched, and taken apart.
//!
//! # Order
//!
//! Controller's files (which locks the data directory for this process), object store (has it seen
//! more than these files hold?), controller (which replays its log), admin listener (alive, not
//! ready), object store again (claimed for the cluster), broker. The broker opens its
//! listener when it has caught up and is registered; then the compactor's sweep starts and the node
//! is ready. Stopping takes the parts down: the broker drains while the controller still commits for
//! it, then the others end.
//!
//! # Failure
//!
//! A part that ends by itself while the node runs is a defect or a fenced node. The node does not
//! mend itself: whoever runs it ends it, because a node that lost a part serves nobody well and a
//! restart is safe at any moment.

mod bucket;
pub(crate) mod limits;
mod node;
mod older_copy;
mod options;
mod seams;

pub use limits::DRAIN_MAX;
pub use node::{Ended, Node};
pub use older_copy::Age;
pub use options::{NodeOptions, WriteSettings};
pub use seams::Seams;
