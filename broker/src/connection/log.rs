//! The line about a connection that this side closed: who, and why. Clients can cause as many as
//! they like, so each reason has a number of lines per period and tells how many it kept back.

use ottla_telemetry::RateLimited;

use super::End;
use crate::context::ConnectionInfo;
use crate::limits;

const fn lines() -> RateLimited {
    RateLimited::new(limits::CLIENT_LINES_MAX, limits::CLIENT_LINES_PERIOD)
}

static SLOW_READERS: RateLimited = lines();
static FRAMES: RateLimited = lines();
static UNSUPPORTED: RateLimited = lines();
static MALFORMED: RateLimited = lines();
static REFUSED: RateLimited = lines();

/// Writes the line, if the end deserves one.
pub(super) fn ended(connection: &ConnectionInfo, end: &End) {
    let lines = match end {
        End::Closed | End::Drained | End::Idle | End::Io(_) => {
            tracing::debug!(client = %connection.address, reason = %end, "connection ended");
            return;
        }
        // A defect, and no client's doing; it has its line.
        End::Encode(_) => None,
        End::SlowReader => Some(&SLOW_READERS),
        End::Frame(_) => Some(&FRAMES),
        End::Malformed(error) if error.is_unsupported() => Some(&UNSUPPORTED),
        End::Malformed(_) => Some(&MALFORMED),
        End::Refused(_) => Some(&REFUSED),
    };
    let (api, version) = match connection.last_request {
        Some((key, version)) => (i32::from(key), i32::from(version)),
        None => (-1, -1),
    };
    let (client, client_id) = (connection.address, &*connection.client_id);
    match lines.map(RateLimited::permit) {
        None => {
            tracing::error!(%client, client_id, api, version, reason = %end, "closing a connection");
        }
        Some(Some(suppressed)) => tracing::warn!(
            %client, client_id, api, version, reason = %end, suppressed, "closing a connection"
        ),
        Some(None) => {}
    }
}
