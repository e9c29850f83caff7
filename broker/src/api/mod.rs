//! One file per Kafka API. Each opens with the versions served, what the handler does, and what
//! each version brought.
//!
//! A handler is a plain function: `handle(context, connection, version, request) -> response`. It
//! never fails as a whole: errors go where the response has room for them, per topic or partition
//! where it can. The few requests that Kafka answers by closing the connection return
//! [`Closes`].

pub mod api_versions;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_topics;
pub mod describe_cluster;
mod error_codes;
pub(crate) mod fetch;
pub mod find_coordinator;
pub mod heartbeat;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_offsets;
pub mod metadata;
pub mod offset_commit;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub(crate) mod produce;
pub mod sasl_authenticate;
pub mod sasl_handshake;
pub mod sync_group;
mod text;

pub(crate) use error_codes::Errors;

#[cfg(test)]
mod group_tests;

/// The connection must be closed without an answer; the text says why, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closes(pub &'static str);
