//! The line about a connection that this side closed: who, and why. Clients can cause as many as
//! they like: the log holds each of the places below to its number of lines, so that one reason does
//! not silence the others.

use super::End;
use crate::context::ConnectionInfo;

/// Writes the line, if the end deserves one.
pub(super) fn ended(connection: &ConnectionInfo, end: &End) {
    let (api, version) = match connection.last_request {
        Some((key, version)) => (i32::from(key), i32::from(version)),
        None => (-1, -1),
    };
    let (client, client_id) = (connection.address, &*connection.client_id);
    macro_rules! closing {
        ($level:ident) => {
            tracing::$level!(%client, client_id, api, version, reason = %end, "closing a connection")
        };
    }
    match end {
        End::Closed | End::Drained | End::Idle | End::Io(_) => {
            tracing::debug!(%client, reason = %end, "connection ended");
        }
        // A defect, and no client's doing.
        End::Encode(_) => closing!(error),
        End::SlowReader => closing!(warn),
        End::NoAnswerMemory { .. } => closing!(warn),
        End::Frame(_) => closing!(warn),
        End::Malformed(error) if error.is_unsupported() => closing!(warn),
        End::Malformed(_) => closing!(warn),
        End::Refused(_) => closing!(warn),
    }
}
