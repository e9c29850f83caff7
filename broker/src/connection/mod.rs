//! One client connection, from its first frame to its last answer.
//!
//! # Order
//!
//! A connection reads one request after the other. Produce is put into the buffer in the order of
//! arrival, without waiting for the one before: a producer with five requests under way has five
//! in the buffer. A Fetch that waits for records does not hold up what follows. Every other request
//! starts when everything before it that changes state (Produce included) was decided and its own
//! predecessor's handler ended, so that two OffsetCommits cannot swap, a LeaveGroup cannot
//! overtake a commit, and ListOffsets sees what the same connection produced.
//!
//! Answers leave in the order of the requests. A Produce with acks=0 has no answer and takes no
//! place in that order; when it fails, the connection is closed, which is all that Kafka's
//! protocol has to tell such a client.
//!
//! # Bounds
//!
//! Reading pauses at [`limits::IN_FLIGHT_MAX`] requests without answer. A Produce frame waits for
//! the write path's budget before it is read; other frames have a small budget of their own. A
//! frame or an answer that makes no progress closes the connection, as do ten idle minutes.
//!
//! # Ends
//!
//! Reading and writing are two halves of one task; whichever fails ends both. A peer that closes
//! loses its waiting fetches at once; what it produced is decided all the same. When the broker
//! drains, reading stops and what was taken is answered. A panic in a handler ends this task, and
//! with it this connection only.

mod read;
mod write;

use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use ottla_env::net::TcpStream;
use ottla_telemetry::RateLimited;
use ottla_wire::frame::FrameError;
use ottla_wire::response::{EncodeError, Frame};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;

use crate::api::Closes;
use crate::context::{ConnectionInfo, Context};
use crate::dispatch::Malformed;
use crate::limits;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    /// The peer closed between two requests.
    #[error("closed by the client")]
    Closed,
    /// The broker drains, and all that was taken is answered.
    #[error("the broker stops")]
    Drained,
    /// No request for a long time.
    #[error("idle")]
    Idle,
    /// The client does not read its answers.
    #[error("the client does not read its answers")]
    SlowReader,
    /// A frame that cannot be one, or that did not come whole.
    #[error(transparent)]
    Frame(FrameError),
    /// A request that cannot be read, or is not served.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A request that Kafka answers by closing.
    #[error("{}", .0.0)]
    Refused(Closes),
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A defect.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl From<Closes> for End {
    fn from(closes: Closes) -> Self {
        Self::Refused(closes)
    }
}

impl From<FrameError> for End {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(error) => Self::Io(error),
            error => Self::Frame(error),
        }
    }
}

impl End {
    /// The label of the metric; `None` when the client closed.
    fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Closed | Self::Io(_) => None,
            Self::Drained => Some("drain"),
            Self::Idle => Some("idle"),
            Self::SlowReader => Some("slow_reader"),
            Self::Frame(_) => Some("frame"),
            Self::Malformed(Malformed::Unsupported { .. }) => Some("unsupported"),
            Self::Malformed(_) => Some("malformed"),
            Self::Refused(_) => Some("refused"),
            Self::Encode(_) => Some("defect"),
        }
    }
}

/// What the reading half hands to the writing half.
enum Outgoing {
    /// An answer, in its place.
    Answer(Answer),
    /// A Produce without answer, followed only for its error.
    Silent(BoxFuture<'static, Result<(), Closes>>, OwnedSemaphorePermit),
}

/// An answer on its way.
struct Answer {
    frame: BoxFuture<'static, Result<Frame, End>>,
    api: &'static str,
    arrival: Instant,
    /// Counts it as in flight until it is written.
    in_flight: OwnedSemaphorePermit,
}

/// Serves one connection until it ends.
pub(crate) async fn serve(context: Arc<Context>, socket: TcpStream, info: ConnectionInfo) {
    let address = info.address;
    let metrics = context.metrics.clone();
    metrics.kafka.connections.inc();
    let _open = OpenGuard(&context);
    let end = match socket.set_nodelay(true) {
        Ok(()) => serve_halves(&context, socket, info).await,
        Err(error) => End::Io(error),
    };
    if let Some(reason) = end.reason() {
        metrics.kafka.connections_closed.with([reason]).inc();
    }
    log_end(address.ip(), &end);
}

/// Counts the connection as closed, even when its task panics.
struct OpenGuard<'a>(&'a Context);

impl Drop for OpenGuard<'_> {
    fn drop(&mut self) {
        self.0.metrics.kafka.connections.sub(1);
    }
}

async fn serve_halves(context: &Arc<Context>, socket: TcpStream, info: ConnectionInfo) -> End {
    let (input, output) = socket.into_split();
    let (outgoing, queue) = mpsc::channel(limits::IN_FLIGHT_MAX);
    let read = read::requests(context, input, info, outgoing);
    let write = write::answers(context, output, queue);
    tokio::pin!(read, write);
    tokio::select! {
        end = &mut read => match end {
            // The writing half ends when it has written all that the reading half handed over.
            End::Drained => match write.await { Ok(()) => End::Drained, Err(end) => end },
            end => end,
        },
        end = &mut write => match end {
            Ok(()) => read.await,
            Err(end) => end,
        },
    }
}

static CLOSED_LINES: RateLimited =
    RateLimited::new(limits::STRANGER_LINES_MAX, limits::STRANGER_LINES_PERIOD);

fn log_end(client: IpAddr, end: &End) {
    match end {
        End::Closed | End::Drained | End::Idle | End::Io(_) => {
            tracing::debug!(%client, reason = %end, "connection ended");
        }
        End::Encode(_) => tracing::error!(%client, reason = %end, "closing a connection"),
        _ => {
            if let Some(suppressed) = CLOSED_LINES.permit() {
                tracing::warn!(%client, reason = %end, suppressed, "closing a connection");
            }
        }
    }
}
