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
use ottla_wire::request::{self, RequestError, RequestHead};
use ottla_wire::response::{EncodeError, Frame};
use tokio::time::Instant;

use crate::api::{self, Closes, Errors};
use crate::connection::End;
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
    pub body: Bytes,
    /// How many elements its lists have.
    pub elements: usize,
    pub arrival: Instant,
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
                    arrival,
                });
            }
            return Err(Malformed::Unsupported { key, version });
        }
        let flexible = api.request_is_flexible(version);
        let client_id = request::take_client_id(&mut frame, flexible)?;
        let client_id = client_id.as_deref().unwrap_or("");
        let client_id = &client_id[..client_id.floor_char_boundary(limits::CLIENT_ID_BYTES_MAX)];
        if *connection.client_id != *client_id {
            connection.client_id = client_id.into();
        }
        let elements = api.shape.check(&frame, version, flexible)?;
        let from_the_future = false;
        Ok(Self { api, version, correlation_id, from_the_future, body: frame, elements, arrival })
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
    handler: impl FnOnce(Q) -> F,
) -> Result<Started, End>
where
    Q: Decodable,
    A: Encodable + Errors,
    F: Future<Output = A>,
{
    let request = received.decode()?;
    let encoder = received.encoder();
    drop(received);
    let response = handler(request).await;
    Ok(Started::Answered(encoder.encode(context, &response)?.into()))
}

/// Waits until there is memory for an answer whose length the request does not tell.
async fn memory_for_an_answer(context: &Context, connection: &ConnectionInfo) -> Reservation {
    let (client, bytes) = (connection.address.ip(), limits::UNKNOWN_ANSWER_BYTES);
    match context.answers.reserve(client, bytes).await {
        Ok(held) => held,
        // Cannot be: the budget is larger. Counted all the same.
        Err(_) => context.answers.charge(client, bytes),
    }
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

/// Whether a request is given up when its client leaves while it waits, with nothing sent behind it.
/// These wait for other members, for memory, for the store or for the control plane, and only to
/// answer. (A Metadata that was to create a topic, and did not get there, is followed by the next
/// one that asks.)
///
/// All others go on to their end. Clients commit offsets or leave a group and close the connection
/// without waiting for the answer; and a topic that was asked for should not exist or not depending
/// on how long its client stayed.
pub(crate) fn ends_with_its_client(key: ApiKey) -> bool {
    matches!(
        key,
        ApiKey::JoinGroup
            | ApiKey::SyncGroup
            | ApiKey::Metadata
            | ApiKey::ListOffsets
            | ApiKey::OffsetFetch
            | ApiKey::OffsetForLeaderEpoch
    )
}

/// Handles any request but Produce. Everything that changes state has ended when this returns.
pub(crate) async fn other(
    context: &Arc<Context>,
    connection: &mut ConnectionInfo,
    mut received: Received,
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
        drop(received);
        let (context, connection) = (context.clone(), connection.clone());
        let answer = async move {
            let (response, held) =
                api::fetch::handle(&context, &connection, version, request).await?;
            Ok(Reply { frame: encoder.encode_fetch(&context, &response)?, held })
        };
        return Ok(Started::Fetching(Box::pin(answer)));
    }

    let (c, i, v) = (context.as_ref(), &*connection, version);
    match received.api.key {
        ApiKey::ListOffsets => answer(c, received, |q| api::list_offsets::handle(c, i, v, q)).await,
        ApiKey::Metadata => {
            // Its answer may be far longer than it.
            let held = memory_for_an_answer(c, i).await;
            let started = answer(c, received, |q| api::metadata::handle(c, i, v, q)).await?;
            Ok(held_by(started, held))
        }
        ApiKey::OffsetCommit => {
            answer(c, received, |q| api::offset_commit::handle(c, i, v, q)).await
        }
        ApiKey::OffsetFetch => answer(c, received, |q| api::offset_fetch::handle(c, i, v, q)).await,
        ApiKey::FindCoordinator => {
            answer(c, received, |q| api::find_coordinator::handle(c, i, v, q)).await
        }
        ApiKey::JoinGroup => answer(c, received, |q| api::join_group::handle(c, i, v, q)).await,
        ApiKey::Heartbeat => answer(c, received, |q| api::heartbeat::handle(c, i, v, q)).await,
        ApiKey::LeaveGroup => answer(c, received, |q| api::leave_group::handle(c, i, v, q)).await,
        ApiKey::SyncGroup => answer(c, received, |q| api::sync_group::handle(c, i, v, q)).await,
        ApiKey::CreateTopics => {
            answer(c, received, |q| api::create_topics::handle(c, i, v, q)).await
        }
        ApiKey::DeleteTopics => {
            answer(c, received, |q| api::delete_topics::handle(c, i, v, q)).await
        }
        ApiKey::InitProducerId => {
            answer(c, received, |q| api::init_producer_id::handle(c, i, v, q)).await
        }
        ApiKey::OffsetForLeaderEpoch => {
            answer(c, received, |q| api::offset_for_leader_epoch::handle(c, i, v, q)).await
        }
        ApiKey::CreatePartitions => {
            answer(c, received, |q| api::create_partitions::handle(c, i, v, q)).await
        }
        ApiKey::DescribeCluster => {
            answer(c, received, |q| api::describe_cluster::handle(c, i, v, q)).await
        }
        // A key of the table without a handler: a test asks for every key.
        key => {
            let Versions { min, .. } = received.api.served;
            Err(Malformed::Unsupported { key: key as i16, version: min }.into())
        }
    }
}
