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
//! Reading pauses at [`limits::IN_FLIGHT_MAX`] requests without answer, and at
//! [`limits::UNWRITTEN_BYTES_MAX`] bytes of answers that the client has not taken. Frames have budgets
//! by what they wait for (`receive`). The answers of all connections share a budget. An answer waits for
//! its part of it before it is encoded, and a Fetch before it holds records; small answers
//! ([`limits::SMALL_ANSWER_BYTES`]) wait for nothing. An answer that gets no memory within
//! [`limits::REQUEST_WAIT_MAX`] ends its connection: it cannot be made smaller. (Metadata has an answer
//! that clients repeat the request for, and a Fetch one without records.)
//!
//! The holders of what others wait for, and for how long:
//!
//! | Held | By | At most |
//! | --- | --- | --- |
//! | bytes of `produce` | a Produce, until its batches are durable or refused | the write path's deadlines |
//! | bytes of `requests` | a large Fetch, JoinGroup or SyncGroup | until it is decoded; while it is received and others wait: [`limits::FRAME_STALL_PRESSED`] without a byte, [`limits::FRAME_TIME_PRESSED`] in all |
//! | bytes of `calls` | any other large request | the same, and until it is handled: [`limits::REQUEST_WAIT_MAX`], or what a client asks for a change ([`limits::CHANGE_TIMEOUT_MAX`]); then until there is memory for its answer: [`limits::REQUEST_WAIT_MAX`] |
//! | bytes of `decoded_calls` | the same requests, when they have very many elements | as long as `calls`, from when they were received |
//! | bytes of `produce` and `group_requests` | the names or offsets that an answer has | until there is memory for that answer: [`limits::REQUEST_WAIT_MAX`] |
//! | bytes of `fetch_plans` | a Fetch that waits for records | [`limits::FETCH_WAIT_MAX`]; nobody waits for them, see `api::fetch` |
//! | bytes of `fetch_passes` | a Fetch of many partitions that looks for records | questions and reads, which have deadlines, and `HOLD_WAIT_MAX` (5 s) of the storage crate for blocks; others wait at most for its `PASS_WAIT_MAX` |
//! | blocks of fetches | a Fetch that reads from the store | reads, which have deadlines; others wait at most for `HOLD_WAIT_MAX` |
//! | bytes of `answers` | an answer that is being written, and those ready behind it | while others wait for them: [`limits::WRITE_STALL_PRESSED`] without progress |
//! | | an answer that stands behind a Fetch of its connection | that Fetch ends when the answer asks for memory: a read, which has a deadline, or [`limits::REQUEST_WAIT_MAX`] when the Fetch names very many partitions |
//! | | a Produce's answer behind another Produce | the write path's deadlines |
//! | | a Fetch that reads again with the memory that it got | reads, which have deadlines |
//! | the place of a connection's Fetch, its 64 requests in flight | its own requests | as long as those take; holds up this connection only |
//! | turns to open compressed batches | batches of a Produce, in turns around addresses | small: [`limits::CHECK_TURN_MAX`] and one batch; large: about a second |
//! | turns of look-ups by timestamp | a look-up, in turns around addresses | a hundredth of a second and one batch, which may take a second |
//! | bytes of `look_ups` | a look-up, from its read until its extent was looked through | its deadline, [`limits::REQUEST_WAIT_MAX`], and the turn that it is in; an address has a quarter |
//! | the block of producer ids | the InitProducerId that fetches the next | [`limits::CHANGE_WAIT_MAX`]; others wait as long for it |
//!
//! An address (of IPv6, a /64: see `client_share`) has a share of each budget, so one cannot take all. A
//! client that is beyond its share waits for itself: it does not press others who read slowly
//! (`Budget::has_waiters_for`). No request that waits for another client holds what that client may need.
//!
//! # Circles of waits
//!
//! * `calls`, then `decoded_calls`, then `answers`: always in this order.
//! * `calls`, then `answers`: a request that is handled holds `calls` while its answer waits. Nothing
//!   waits for `calls` that holds `answers` and would keep them for it: the two halves of a connection
//!   do not wait for each other, and answers that are ready leave whatever is being received.
//! * `answers` behind a Fetch that waits for `answers`: the answer ends that wait, and the Fetch goes out
//!   without records. A Fetch of hundreds of partitions needs some memory for the answer all the same.
//!   Two such connections may wait for each other; both end after [`limits::REQUEST_WAIT_MAX`].
//! * `fetch_passes`, then `answers`: a pass has ended before its answer asks for memory.
//! * A connection has one Fetch under way at a time, so the answer of a Fetch never stands behind one
//!   that waits for memory.
//!
//! # Lengths of answers
//!
//! | Answer | At most | Before it is encoded, counted |
//! | --- | --- | --- |
//! | ListOffsets, OffsetForLeaderEpoch, OffsetCommit, LeaveGroup, DeleteTopics, CreatePartitions | the names and elements of the request, and a sentence for each of 2,000 topics | with the request: the strings are shared, [`ottla_wire::limits::ELEMENT_BYTES`] has room for both structures |
//! | FindCoordinator | keys of the request, and a host name each | the same; entries of a broker share its host name |
//! | CreateTopics | the request, and the configs of 2,000 topics | the same; the configs are not counted, about 5 MB |
//! | OffsetFetch | all offsets of the groups it names | as `group_requests`, within the address' share; more is answered COORDINATOR_LOAD_IN_PROGRESS |
//! | JoinGroup, SyncGroup | the stored group, [`crate::group::limits::GROUP_METADATA_BYTES_MAX`] | with the group, whose bytes it shares |
//! | Metadata | all topics and partitions | as `answers`, by what was found, before the structure is made |
//! | Fetch | [`limits::FETCH_BYTES_MAX`] or one batch, and the names and partitions of the request | names with its plan; the whole as `answers` before it is encoded |
//! | Produce | the names of the request, and [`limits::RECORD_ERRORS_MAX`] sentences | the names as `produce`, once they are long |
//! | all others | a few strings; ApiVersions and DescribeCluster: a list of APIs or brokers | not: they are small |
//!
//! # Ends
//!
//! Reading and writing are two halves of one task. When reading ends, because the client closed its
//! side, sent what is no request, or the broker drains, all requests before are answered first, as
//! Kafka does. A client that closed its side may still read or may be gone, which only a write finds
//! out; so what waits for others ends [`limits::HALF_CLOSED_WAIT_MAX`] later: a Fetch is answered with
//! what there is, a JoinGroup or SyncGroup is given up (unless requests stand behind it, which are
//! handled after it), a frame that waits for memory is dropped. All else has its own deadline. A
//! socket that fails ends both halves at once; what was produced is decided all the same. A panic in
//! a handler ends this task, and with it this connection only.

mod log;
pub(crate) mod long_polls;
mod read;
mod receive;
mod unwritten;
mod write;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use ottla_env::net::TcpStream;
use ottla_telemetry::Metrics;
use ottla_telemetry::metrics::Gauge;
use ottla_wire::frame::FrameError;
use ottla_wire::limits::READ_AHEAD_BYTES;
use ottla_wire::response::EncodeError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;

use crate::api::Closes;
use crate::context::{ConnectionInfo, Context};
use crate::dispatch::Malformed;
use crate::limits;
use long_polls::LongPolls;
use unwritten::ReadyAnswer;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    /// The peer closed its side between two requests.
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
    /// There was no memory for an answer, and it cannot be made smaller.
    #[error("no memory for an answer of {bytes} bytes: other clients do not take theirs")]
    NoAnswerMemory {
        /// Its length, or as much as it may need.
        bytes: usize,
    },
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
            Self::NoAnswerMemory { .. } => Some("no_answer_memory"),
            Self::Frame(_) => Some("frame"),
            Self::Malformed(error) if error.is_unsupported() => Some("unsupported"),
            Self::Malformed(_) => Some("malformed"),
            Self::Refused(_) => Some("refused"),
            Self::Encode(_) => Some("defect"),
        }
    }
}

/// What the reading half hands to the writing half.
enum Outgoing {
    /// An answer, in its place.
    Answer(BoxFuture<'static, Result<Ready, End>>),
    /// A Produce without answer, followed only for its error.
    Silent(BoxFuture<'static, Result<(), End>>),
}

/// An answer that is ready to be written.
struct Ready {
    answer: ReadyAnswer,
    api: &'static str,
    arrival: Instant,
    /// Counts it as in flight until it is written.
    in_flight: OwnedSemaphorePermit,
}

/// Serves one connection until it ends.
pub(crate) async fn serve(context: Arc<Context>, socket: TcpStream, mut info: ConnectionInfo) {
    let metrics = context.metrics.clone();
    let _open = OpenGuard::new(&metrics);
    let end = match socket.set_nodelay(true) {
        Ok(()) => serve_halves(&context, socket, &mut info).await,
        Err(error) => End::Io(error),
    };
    if let Some(reason) = end.reason() {
        metrics.kafka.connections_closed.with([reason]).inc();
    }
    log::ended(&info, &end);
}

/// Counts the connection as closed, even when its task panics.
struct OpenGuard {
    open: Gauge,
    read_ahead: Gauge,
}

impl OpenGuard {
    fn new(metrics: &Metrics) -> Self {
        let open = metrics.kafka.connections.clone();
        let read_ahead = metrics.memory.bytes.with(["connections"]);
        open.inc();
        read_ahead.add(READ_AHEAD_BYTES as i64);
        Self { open, read_ahead }
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.open.dec();
        self.read_ahead.sub(READ_AHEAD_BYTES as i64);
    }
}

async fn serve_halves(context: &Arc<Context>, socket: TcpStream, info: &mut ConnectionInfo) -> End {
    let (input, output) = socket.into_split();
    let (outgoing, queue) = mpsc::channel(limits::IN_FLIGHT_MAX);
    let long_polls = LongPolls::new();
    let read = read::requests(context, input, info, outgoing, long_polls.clone());
    let write = write::answers(&context.metrics.kafka, output, queue);
    tokio::pin!(read, write);
    tokio::select! {
        end = &mut read => match end {
            // The client is gone: nobody takes an answer.
            End::Io(_) => end,
            // The writing half ends when it has written all that the reading half handed over.
            end => match answer_the_rest(write, &long_polls).await {
                Err(failed) if matches!(end, End::Closed | End::Drained) => failed,
                Ok(()) | Err(_) => end,
            },
        },
        end = &mut write => match end {
            Ok(()) => read.await,
            Err(end) => end,
        },
    }
}

/// Writes what was handed over before reading ended. Long polls have a moment left.
async fn answer_the_rest(
    mut write: impl Future<Output = Result<(), End>> + Unpin,
    long_polls: &LongPolls,
) -> Result<(), End> {
    tokio::select! {
        biased;
        written = &mut write => return written,
        () = ottla_env::delay(limits::HALF_CLOSED_WAIT_MAX) => long_polls.end(),
    }
    write.await
}
