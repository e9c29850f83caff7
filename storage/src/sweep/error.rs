//! Why a pass of the sweep ended early.

use ottla_control_api::CallError;
use ottla_object_io::StoreError;
use thiserror::Error;

/// Why a pass ended early. The next pass begins anew; nothing has to be undone.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SweepError {
    /// The control plane did not answer.
    #[error("cannot ask what to delete: {0}")]
    Control(#[from] CallError),
    /// The store did not list its objects.
    #[error("cannot list objects: {0}")]
    List(#[from] StoreError),
    /// The store did not take a height.
    #[error("cannot note how far the cluster is: {0}")]
    Height(#[source] StoreError),
}
