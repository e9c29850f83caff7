//! From a frame to the handler of its API, and from the handler's answer to a frame.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, FetchRequest, ProduceRequest};
use kafka_protocol::protocol::{Decodable, Encodable};
use ottla_storage::write::Reservation;
use ottla_wire::apis::{Api, Versions};
use ottla_wire::fetch_response::FetchResponse;
use ottla_wire::limits::ELEMENT_BYTES;
use ottla_wire::request::{self, RequestError, RequestHead};
use ottla_wire::response::{EncodeError, Frame};
use tokio::time::{Instant, timeout};

use crate::api::{self, Closes, Errors};
use crate::connection::End;
use crate::connection::long_polls::LongPolls;
use crate::context::{ConnectionInfo, Context};
use crate::{errors, limits};

/// Why a request cannot be handled at all. Ends its connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    /// An API or a version that is not served.
    #[error("API key {key} version {version} is not supported")]
    Unsupported {
        /// As sent.
        key: i16,
        /// As sent.
        version: i16,
    },
    /// A frame that is too long for its API.
    #[error("a request with API key {api_key} has {length} bytes")]
    TooLong {
        /// As sent.
        api_key: i16,
        /// Bytes of the frame.
        length: usize,
    },
    /// A header or a count that makes no sense.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A body that does not follow its schema.
    #[error("malformed {api} request, version {version}: {error}")]
    Body {
        /// Name of the API.
        api: &'static str,
        /// As sent.
        version: i16,
        /// The decoder's words.
        error: String,
    },
}

/// A request whose header was read and whose API and version are served.
pub(crate) struct Received {
    pub api: &'static Api,
    /// The version to answer in.
    pub version: i16,
    pub correlation_id: i32,
    /// ApiVersions in a version that does not exist yet: answered without reading it.
    pub from_the_future: bool,
    /// Every string in it is UTF-8.
    pub body: Bytes,
    /// How many elements its lists have.
    pub elements: usize,
    /// Bytes by which the body grew when its strings were made UTF-8.
    pub grown: usize,
    pub arrival: Instant,
}

/// What a large request holds of a budget.
#[derive(Debug, Default)]
pub(crate) struct RequestMemory {
    /// The bytes of its frame.
    pub frame: Option<Reservation>,
    /// What it takes in memory besides, once it is decoded.
    pub decoded: Option<Reservation>,
}

impl RequestMemory {
    /// `frame`: what was granted for receiving it.
    pub fn new(frame: Option<Reservation>, received: &Received) -> Self {
        let is_large = received.elements > limits::FEW_ELEMENTS;
        let elements = if is_large { received.elements * ELEMENT_BYTES } else { 0 };
        let more = elements + received.grown;
        let decoded = frame.as_ref().filter(|_| more > 0).map(|frame| frame.charge(more));
        Self { frame, decoded }
    }
}

/// A request that was started.
pub(crate) enum Started {
    /// Its answer.
    Answered(Reply),
    /// It waits for records; others may start.
    Fetching(BoxFuture<'static, Result<Reply, End>>),
    /// Its batches are in the buffer; others may be put there behind them.
    Appending(BoxFuture<'static, Result<Reply, End>>),
    /// The same without an answer.
    AppendingSilently(BoxFuture<'static, Result<(), Closes>>),
}

/// An answer, and the memory that was set aside for it.
#[derive(Debug)]
pub(crate) struct Reply {
    pub frame: Frame,
    /// Its bytes in the budget of answers; `None` when nothing was set aside.
    pub held: Option<Reservation>,
}

impl From<Frame> for Reply {
    fn from(frame: Frame) -> Self {
        Self { frame, held: None }
    }
}

impl Malformed {
    /// Whether the request is one that others may serve.
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Unsupported { .. })
    }
}

impl Received {
    /// Reads the header of a frame. `connection` learns the client id that stands in it.
    pub fn parse(
        mut frame: Bytes,
        arrival: Instant,
        connection: &mut ConnectionInfo,
    ) -> Result<Self, Malformed> {
        let head = RequestHead::take(&mut frame)?;
        let RequestHead { api_key: key, version, correlation_id } = head;
        connection.last_request = Some((key, version));
        let api = Api::find(key).ok_or(Malformed::Unsupported { key, version })?;
        if !api.served.contains(version) {
            if api.key == ApiKey::ApiVersions {
                let body = Bytes::new();
                let from_the_future = true;
                return Ok(Self {
                    api,
                    version: 0,
                    correlation_id,
                    from_the_future,
                    body,
                    elements: 0,
                    grown: 0,
                    arrival,
                });
            }
            return Err(Malformed::Unsupported { key, version });
        }
        let flexible = api.request_is_flexible(version);
        let client_id = request::take_client_id(&mut frame, flexible)?.unwrap_or_default();
        connection.note_client_id(&client_id);
        let checked = api.shape.check(&frame, version, flexible)?;
        let (sent, mut body) = (frame.len(), frame);
        if checked.has_malformed_text {
            body = api.shape.with_valid_text(&body, version, flexible)?.into();
        }
        Ok(Self {
            api,
            version,
            correlation_id,
            from_the_future: false,
            elements: checked.elements,
            grown: body.len().saturating_sub(sent),
            body,
            arrival,
        })
    }

    fn decode<Q: Decodable>(&mut self) -> Result<Q, Malformed> {
        Q::decode(&mut self.body, self.version).map_err(|error| Malformed::Body {
            api: self.api.name,
            version: self.version,
            error: error.to_string(),
        })
    }

    /// How to frame the answer, when the request itself is gone.
    fn encoder(&self) -> Encoder {
        Encoder { api: self.api, version: self.version, correlation_id: self.correlation_id }
    }
}

/// What an answer needs of its request.
#[derive(Clone, Copy)]
struct Encoder {
    api: &'static Api,
    version: i16,
    correlation_id: i32,
}

impl Encoder {
    fn encode<A: Encodable + Errors>(
        self,
        context: &Context,
        body: &A,
    ) -> Result<Frame, EncodeError> {
        self.count_errors(context, body);
        Frame::encode(self.api, self.version, self.correlation_id, body)
    }

    fn encode_fetch(self, context: &Context, body: &FetchResponse) -> Result<Frame, EncodeError> {
        self.count_errors(context, body);
        let flexible = self.api.response_is_flexible(self.version);
        Frame::with_header(self.correlation_id, flexible, body.encode(self.version))
    }

    fn count_errors(self, context: &Context, body: &impl Errors) {
        body.errors(&mut |code| {
            if code != 0 {
                let error = errors::label(code);
                context.metrics.kafka.errors.with([self.api.name, &error]).inc();
            }
        });
    }
}

/// Decodes a request, has it handled, encodes the answer.
async fn answer<Q, A, F>(
    context: &Context,
    mut received: Received,
    memory: RequestMemory,
    handler: impl FnOnce(Q) -> F,
) -> Result<Started, End>
where
    Q: Decodable,
    A: Encodable + Errors,
    F: Future<Output = A>,
{
    let request = received.decode()?;
    let encoder = received.encoder();
    let memory = Some(memory).filter(|_| !waits_for_members(received.api.key));
    drop(received);
    let response = handler(request).await;
    drop(memory);
    Ok(Started::Answered(encoder.encode(context, &response)?.into()))
}

/// Waits until there is memory for an answer whose length the request does not tell; `None` when there
/// is none for long.
async fn memory_for_an_answer(
    context: &Context,
    connection: &ConnectionInfo,
) -> Option<Reservation> {
    let (client, bytes) = (connection.address.ip(), limits::UNKNOWN_ANSWER_BYTES);
    let reserve = context.answers.reserve(client, bytes);
    // An error cannot be: the budget is larger. Counted all the same.
    let granted = timeout(limits::REQUEST_WAIT_MAX, reserve).await.ok()?;
    Some(granted.unwrap_or_else(|_| context.answers.charge(client, bytes)))
}

/// The answer holds what was set aside for it, or as much as it needs.
fn held_by(started: Started, mut held: Reservation) -> Started {
    match started {
        Started::Answered(Reply { frame, .. }) if frame.len() > limits::SMALL_ANSWER_BYTES => {
            held.resize(frame.len());
            Started::Answered(Reply { frame, held: Some(held) })
        }
        other => other,
    }
}

/// Puts a Produce into the buffer.
pub(crate) async fn produce(
    context: &Arc<Context>,
    connection: &ConnectionInfo,
    mut received: Received,
    reservation: Reservation,
    waiting: Arc<AtomicU32>,
) -> Result<Started, End> {
    let length = received.body.len();
    let request: ProduceRequest = received.decode()?;
    let encoder = received.encoder();
    let arrival = received.arrival;
    let wants_answer = request.acks != 0;
    let frame = api::produce::Frame { length, arrival, reservation, waiting };
    let pending =
        api::produce::handle(context, connection, encoder.version, request, frame).await?;
    if wants_answer {
        let context = context.clone();
        let answer = async move { Ok(encoder.encode(&context, &pending.response().await)?.into()) };
        Ok(Started::Appending(Box::pin(answer)))
    } else {
        Ok(Started::AppendingSilently(Box::pin(pending.outcome())))
    }
}

/// Whether a request is answered only when other members of its group have acted. It holds nothing that
/// they may need, and is given up when its client leaves.
///
/// All others go on to their end, which is near. Clients commit offsets or leave a group and close the
/// connection without waiting for the answer; and a topic that was asked for should not exist or not
/// depending on how long its client stayed.
pub(crate) fn waits_for_members(key: ApiKey) -> bool {
    matches!(key, ApiKey::JoinGroup | ApiKey::SyncGroup)
}

/// Handles any request but Produce. Everything that changes state has ended when this returns.
pub(crate) async fn other(
    context: &Arc<Context>,
    connection: &mut ConnectionInfo,
    mut received: Received,
    memory: RequestMemory,
    long_polls: &LongPolls,
) -> Result<Started, End> {
    let version = received.version;
    if received.from_the_future {
        let response = api::api_versions::unsupported();
        return Ok(Started::Answered(received.encoder().encode(context, &response)?.into()));
    }
    if received.api.key == ApiKey::ApiVersions {
        let request: ApiVersionsRequest = received.decode()?;
        connection.software = api::api_versions::software(&request);
        let response = api::api_versions::handle(context, connection, version, request).await;
        return Ok(Started::Answered(received.encoder().encode(context, &response)?.into()));
    }
    if received.api.key == ApiKey::Fetch {
        let request: FetchRequest = received.decode()?;
        let encoder = received.encoder();
        // What is kept has nothing of the frame, whose memory ends here.
        drop(received);
        let client = connection.address.ip();
        let fetch = api::fetch::Fetch::new(context, client, version, request, memory)?;
        let (context, long_polls) = (context.clone(), long_polls.clone());
        let answer = async move {
            let (response, held) = fetch.answer(&context, &long_polls).await;
            Ok(Reply { frame: encoder.encode_fetch(&context, &response)?, held })
        };
        return Ok(Started::Fetching(Box::pin(answer)));
    }

    let (c, i, v) = (context.as_ref(), &*connection, version);
    match received.api.key {
        ApiKey::ListOffsets => {
            answer(c, received, memory, |q| api::list_offsets::handle(c, i, v, q)).await
        }
        ApiKey::Metadata => {
            // Its answer may be far longer than it.
            let Some(held) = memory_for_an_answer(c, i).await else {
                let response = api::metadata::no_answer_now();
                return Ok(Started::Answered(received.encoder().encode(c, &response)?.into()));
            };
            let started = answer(c, received, memory, |q| api::metadata::handle(c, i, v, q));
            Ok(held_by(started.await?, held))
        }
        ApiKey::OffsetCommit => {
            answer(c, received, memory, |q| api::offset_commit::handle(c, i, v, q)).await
        }
        ApiKey::OffsetFetch => {
            answer(c, received, memory, |q| api::offset_fetch::handle(c, i, v, q)).await
        }
        ApiKey::FindCoordinator => {
            answer(c, received, memory, |q| api::find_coordinator::handle(c, i, v, q)).await
        }
        ApiKey::JoinGroup => {
            answer(c, received, memory, |q| api::join_group::handle(c, i, v, q)).await
        }
        ApiKey::Heartbeat => {
            answer(c, received, memory, |q| api::heartbeat::handle(c, i, v, q)).await
        }
        ApiKey::LeaveGroup => {
            answer(c, received, memory, |q| api::leave_group::handle(c, i, v, q)).await
        }
        ApiKey::SyncGroup => {
            answer(c, received, memory, |q| api::sync_group::handle(c, i, v, q)).await
        }
        ApiKey::SaslHandshake => {
            answer(c, received, memory, |q| api::sasl_handshake::handle(c, i, v, q)).await
        }
        ApiKey::CreateTopics => {
            answer(c, received, memory, |q| api::create_topics::handle(c, i, v, q)).await
        }
        ApiKey::DeleteTopics => {
            answer(c, received, memory, |q| api::delete_topics::handle(c, i, v, q)).await
        }
        ApiKey::InitProducerId => {
            answer(c, received, memory, |q| api::init_producer_id::handle(c, i, v, q)).await
        }
        ApiKey::OffsetForLeaderEpoch => {
            answer(c, received, memory, |q| api::offset_for_leader_epoch::handle(c, i, v, q)).await
        }
        ApiKey::SaslAuthenticate => {
            answer(c, received, memory, |q| api::sasl_authenticate::handle(c, i, v, q)).await
        }
        ApiKey::CreatePartitions => {
            answer(c, received, memory, |q| api::create_partitions::handle(c, i, v, q)).await
        }
        ApiKey::DescribeCluster => {
            answer(c, received, memory, |q| api::describe_cluster::handle(c, i, v, q)).await
        }
        // A key of the table without a handler: a test asks for every key.
        key => {
            let Versions { min, .. } = received.api.served;
            Err(Malformed::Unsupported { key: key as i16, version: min }.into())
        }
    }
}
