//! The state machine by small stories, the service against a control plane that misbehaves.

pub(crate) mod control;
mod joining;
mod machine;
mod offsets;
mod random;
mod service;
mod sessions;
mod static_members;
mod syncing;
