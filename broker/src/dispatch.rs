//! From a frame to the handler of its API, and from the handler's answer to a frame.

mod received;

pub(crate) use received::{Malformed, Received, RequestMemory};

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use futures_util::future::BoxFuture;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, FetchRequest, ProduceRequest};
use kafka_protocol::protocol::{Decodable, Encodable};
use ottla_storage::write::Reservation;
use ottla_wire::apis::{Api, Versions};
use ottla_wire::fetch_response::FetchResponse;
use ottla_wire::response::{EncodeError, Frame};
use tokio::time::timeout;

use crate::api::{self, Closes, Errors};
use crate::connection::End;
use crate::connection::long_polls::LongPolls;
use crate::context::{ConnectionInfo, Context};
use crate::{errors, limits};

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

impl Received {
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
