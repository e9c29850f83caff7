//! One file per Kafka API. Each opens with the versions served, what the handler does, and what
//! each version brought.
//!
//! A handler is a plain function: `handle(context, connection, version, request) -> response`. It
//! never fails as a whole: errors go where the response has room for them, per topic or partition
//! where it can. The few requests that Kafka answers by closing the connection return
//! [`Closes`].

/// The connection must be closed without an answer; the text says why, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closes(pub &'static str);
