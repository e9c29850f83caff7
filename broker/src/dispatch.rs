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
use ottla_wire::request::{self, RequestError, RequestHead};
use ottla_wire::response::{EncodeError, Frame};
use tokio::time::Instant;

use crate::api::{self, Closes};
use crate::connection::End;
use crate::context::{ConnectionInfo, Context};

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
    Answered(Frame),
    /// It waits for records; others may start.
    Fetching(BoxFuture<'static, Result<Frame, End>>),
    /// Its batches are in the buffer; others may be put there behind them.
    Appending(BoxFuture<'static, Result<Frame, End>>),
    /// The same without an answer.
    AppendingSilently(BoxFuture<'static, Result<(), Closes>>),
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
    fn reply(&self) -> Reply {
        Reply { api: self.api, version: self.version, correlation_id: self.correlation_id }
    }
}

/// What an answer needs of its request.
#[derive(Clone, Copy)]
struct Reply {
    api: &'static Api,
    version: i16,
    correlation_id: i32,
}

impl Reply {
    fn encode(self, body: &impl Encodable) -> Result<Frame, EncodeError> {
        Frame::encode(self.api, self.version, self.correlation_id, body)
    }

    fn frame(self, pieces: Vec<Bytes>) -> Result<Frame, EncodeError> {
        let flexible = self.api.response_is_flexible(self.version);
        Frame::with_header(self.correlation_id, flexible, pieces)
    }
}

/// Decodes a request, has it handled, encodes the answer.
async fn answer<Q, A, F>(
    mut received: Received,
    handler: impl FnOnce(Q) -> F,
) -> Result<Started, End>
where
    Q: Decodable,
    A: Encodable,
    F: Future<Output = A>,
{
    let request = received.decode()?;
    let reply = received.reply();
    drop(received);
    let response = handler(request).await;
    Ok(Started::Answered(reply.encode(&response)?))
}

/// Puts a Produce into the buffer.
pub(crate) fn produce(
    context: &Arc<Context>,
    connection: &ConnectionInfo,
    mut received: Received,
    reservation: Reservation,
    waiting: Arc<AtomicU32>,
) -> Result<Started, End> {
    let request: ProduceRequest = received.decode()?;
    let reply = received.reply();
    let arrival = received.arrival;
    let wants_answer = request.acks != 0;
    let frame = api::produce::Frame { arrival, reservation, waiting };
    let pending = api::produce::handle(context, connection, reply.version, request, frame)?;
    if wants_answer {
        let answer = async move { Ok(reply.encode(&pending.response().await)?) };
        Ok(Started::Appending(Box::pin(answer)))
    } else {
        Ok(Started::AppendingSilently(Box::pin(pending.outcome())))
    }
}

/// Handles any request but Produce. Everything that changes state has ended when this returns.
pub(crate) async fn other(
    context: &Arc<Context>,
    connection: &mut ConnectionInfo,
    mut received: Received,
) -> Result<Started, End> {
    let version = received.version;
    if received.from_the_future {
        return Ok(Started::Answered(received.reply().encode(&api::api_versions::unsupported())?));
    }
    if received.api.key == ApiKey::ApiVersions {
        let request: ApiVersionsRequest = received.decode()?;
        connection.software = api::api_versions::software(&request);
        let response = api::api_versions::handle(context, connection, version, request).await;
        return Ok(Started::Answered(received.reply().encode(&response)?));
    }
    if received.api.key == ApiKey::Fetch {
        let request: FetchRequest = received.decode()?;
        let reply = received.reply();
        let (context, connection) = (context.clone(), connection.clone());
        let answer = async move {
            let response = api::fetch::handle(&context, &connection, version, request).await?;
            Ok(reply.frame(response.encode(version))?)
        };
        return Ok(Started::Fetching(Box::pin(answer)));
    }

    let (c, i, v) = (context.as_ref(), &*connection, version);
    match received.api.key {
        ApiKey::ListOffsets => answer(received, |q| api::list_offsets::handle(c, i, v, q)).await,
        ApiKey::Metadata => answer(received, |q| api::metadata::handle(c, i, v, q)).await,
        ApiKey::OffsetCommit => answer(received, |q| api::offset_commit::handle(c, i, v, q)).await,
        ApiKey::OffsetFetch => answer(received, |q| api::offset_fetch::handle(c, i, v, q)).await,
        ApiKey::FindCoordinator => {
            answer(received, |q| api::find_coordinator::handle(c, i, v, q)).await
        }
        ApiKey::JoinGroup => answer(received, |q| api::join_group::handle(c, i, v, q)).await,
        ApiKey::Heartbeat => answer(received, |q| api::heartbeat::handle(c, i, v, q)).await,
        ApiKey::LeaveGroup => answer(received, |q| api::leave_group::handle(c, i, v, q)).await,
        ApiKey::SyncGroup => answer(received, |q| api::sync_group::handle(c, i, v, q)).await,
        ApiKey::CreateTopics => answer(received, |q| api::create_topics::handle(c, i, v, q)).await,
        ApiKey::DeleteTopics => answer(received, |q| api::delete_topics::handle(c, i, v, q)).await,
        ApiKey::InitProducerId => {
            answer(received, |q| api::init_producer_id::handle(c, i, v, q)).await
        }
        ApiKey::OffsetForLeaderEpoch => {
            answer(received, |q| api::offset_for_leader_epoch::handle(c, i, v, q)).await
        }
        ApiKey::CreatePartitions => {
            answer(received, |q| api::create_partitions::handle(c, i, v, q)).await
        }
        ApiKey::DescribeCluster => {
            answer(received, |q| api::describe_cluster::handle(c, i, v, q)).await
        }
        // A key of the table without a handler: a test asks for every key.
        key => {
            let Versions { min, .. } = received.api.served;
            Err(Malformed::Unsupported { key: key as i16, version: min }.into())
        }
    }
}
