//! The control plane as a service: a controller process's part, and the API that brokers in the
//! same process use.
//!
//! | File | Is |
//! | --- | --- |
//! | [`controller`] | start and stop |
//! | [`data_dir`], `restore` | what lies on disk, and putting it together at start |
//! | `lead` | Raft, up to the moment when this node leads with its log applied |
//! | `serving` | the tasks over a leader |
//! | [`local`] | the [`ControlPlane`](ottla_control_api::ControlPlane) trait in process |
//! | [`proposer`] | the one way into the log |
//! | [`sessions`], [`replicated_clock`], `housekeeper` | what happens as time passes |
//! | [`faulty`] | a control plane that loses answers, for tests |

pub mod controller;
pub mod data_dir;
mod error;
#[doc(hidden)]
pub mod faulty;
mod housekeeper;
mod lead;
pub mod local;
pub mod proposer;
pub mod replicated_clock;
mod restore;
mod serving;
pub mod sessions;

#[cfg(test)]
mod power_loss_tests;
#[cfg(test)]
mod tests;

pub use controller::{Controller, ControllerOptions, OpenedController};
pub use error::StartError;
