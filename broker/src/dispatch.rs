//! From a frame to the handler of its API, and from the handler's answer to a frame.

mod answer_memory;
mod received;

pub(crate) use answer_memory::AnswerMemory;
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

use crate::api::{self, Closes, Errors};
use crate::connection::End;
use crate::connection::long_polls::LongPolls;
use crate::context::{ConnectionInfo, Context};
use crate::errors;

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
    /// Its bytes in the budget of answers; `None` for a small one.
    pub held: Option<Reservation>,
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
    /// Encodes an answer once there is memory for it. Nothing is encoded before: clients that do not
    /// read would hold more than the budget.
    async fn reply<A: Encodable + Errors>(
        self,
        context: &Context,
        answers: &AnswerMemory,
        body: &A,
    ) -> Result<Reply, End> {
        let held = answers.reserve(Frame::encoded_length(self.api, self.version, body)?).await?;
        Ok(Reply { frame: self.encode(context, body)?, held })
    }

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

/// Handles requests whose answers follow from them.
struct Handling<'a> {
    context: &'a Context,
    received: Received,
    /// Held until the answer is encoded: the response shares the request's strings, and its lists are
    /// as long. [`ottla_wire::limits::ELEMENT_BYTES`] counts both.
    memory: RequestMemory,
    answers: &'a AnswerMemory,
}

impl Handling<'_> {
    /// Decodes a request, has it handled, encodes the answer.
    async fn by<Q, A, F>(self, handler: impl FnOnce(Q) -> F) -> Result<Started, End>
    where
        Q: Decodable,
        A: Encodable + Errors,
        F: Future<Output = A>,
    {
        self.with_memory_by(|request| async { (handler(request).await, None) }).await
    }

    /// The same with a handler that reserves memory for a response that is larger than its request.
    async fn with_memory_by<Q, A, F>(mut self, handler: impl FnOnce(Q) -> F) -> Result<Started, End>
    where
        Q: Decodable,
        A: Encodable + Errors,
        F: Future<Output = (A, Option<Reservation>)>,
    {
        let request = self.received.decode()?;
        let encoder = self.received.encoder();
        let memory = Some(self.memory).filter(|_| !waits_for_members(self.received.api.key));
        drop(self.received);
        // Handlers wait for the control plane and the store: no memory of answers is held meanwhile.
        let (response, held) = handler(request).await;
        let reply = encoder.reply(self.context, self.answers, &response).await?;
        drop((memory, held));
        Ok(Started::Answered(reply))
    }

    /// Metadata: its answer may be far longer than the request. Its memory is reserved when it is known
    /// which topics there are, and before it is made.
    async fn metadata(mut self, connection: &ConnectionInfo) -> Result<Started, End> {
        let Self { context, answers, .. } = self;
        let request = self.received.decode()?;
        let encoder = self.received.encoder();
        let memory = self.memory;
        drop(self.received);
        let found = api::metadata::find(context, encoder.version, request).await;
        let most = found.answer_bytes(context).min(answers.bytes_max());
        let Ok(held) = answers.reserve(most).await else {
            let response = api::metadata::no_answer_now();
            return Ok(Started::Answered(encoder.reply(context, answers, &response).await?));
        };
        let frame = {
            let response = found.answer(context, connection);
            encoder.encode(context, &response)?
        };
        drop(memory);
        let held = answers.settle(held, frame.len()).await?;
        Ok(Started::Answered(Reply { frame, held }))
    }
}

/// Puts a Produce into the buffer.
pub(crate) async fn produce(
    context: &Arc<Context>,
    connection: &ConnectionInfo,
    mut received: Received,
    reservation: Reservation,
    waiting: Arc<AtomicU32>,
    answers: AnswerMemory,
) -> Result<Started, End> {
    let length = received.body.len();
    let request: ProduceRequest = received.decode()?;
    let encoder = received.encoder();
    let arrival = received.arrival;
    let wants_answer = request.acks != 0;
    let frame = api::produce::Frame { length, arrival, reservation, waiting };
    let mut pending =
        api::produce::handle(context, connection, encoder.version, request, frame).await?;
    if wants_answer {
        let context = context.clone();
        let answer = async move {
            let _echoed = pending.echoed.take();
            encoder.reply(&context, &answers, &pending.response().await).await
        };
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
    answers: &AnswerMemory,
) -> Result<Started, End> {
    let version = received.version;
    if received.from_the_future {
        let response = api::api_versions::unsupported();
        let reply = received.encoder().reply(context, answers, &response).await?;
        return Ok(Started::Answered(reply));
    }
    if received.api.key == ApiKey::ApiVersions {
        let request: ApiVersionsRequest = received.decode()?;
        connection.software = api::api_versions::software(&request);
        let response = api::api_versions::handle(context, connection, version, request).await;
        let reply = received.encoder().reply(context, answers, &response).await?;
        return Ok(Started::Answered(reply));
    }
    if received.api.key == ApiKey::Fetch {
        let request: FetchRequest = received.decode()?;
        let encoder = received.encoder();
        // What is kept has nothing of the frame, whose memory ends here.
        drop(received);
        let client = connection.share();
        let fetch = api::fetch::Fetch::new(context, client, version, request, memory)?;
        let (context, long_poll) = (context.clone(), long_polls.begin());
        let answer = async move {
            let (response, held) = fetch.answer(&context, &long_poll).await?;
            Ok(Reply { frame: encoder.encode_fetch(&context, &response)?, held })
        };
        return Ok(Started::Fetching(Box::pin(answer)));
    }

    let (c, i, v) = (context.as_ref(), &*connection, version);
    let key = received.api.key;
    let handling = Handling { context: c, received, memory, answers };
    match key {
        ApiKey::ListOffsets => handling.by(|q| api::list_offsets::handle(c, i, v, q)).await,
        ApiKey::Metadata => handling.metadata(i).await,
        ApiKey::OffsetCommit => handling.by(|q| api::offset_commit::handle(c, i, v, q)).await,
        ApiKey::OffsetFetch => {
            handling.with_memory_by(|q| api::offset_fetch::handle(c, i, v, q)).await
        }
        ApiKey::FindCoordinator => handling.by(|q| api::find_coordinator::handle(c, i, v, q)).await,
        ApiKey::JoinGroup => handling.by(|q| api::join_group::handle(c, i, v, q)).await,
        ApiKey::Heartbeat => handling.by(|q| api::heartbeat::handle(c, i, v, q)).await,
        ApiKey::LeaveGroup => handling.by(|q| api::leave_group::handle(c, i, v, q)).await,
        ApiKey::SyncGroup => handling.by(|q| api::sync_group::handle(c, i, v, q)).await,
        ApiKey::SaslHandshake => handling.by(|q| api::sasl_handshake::handle(c, i, v, q)).await,
        ApiKey::CreateTopics => handling.by(|q| api::create_topics::handle(c, i, v, q)).await,
        ApiKey::DeleteTopics => handling.by(|q| api::delete_topics::handle(c, i, v, q)).await,
        ApiKey::InitProducerId => handling.by(|q| api::init_producer_id::handle(c, i, v, q)).await,
        ApiKey::OffsetForLeaderEpoch => {
            handling.by(|q| api::offset_for_leader_epoch::handle(c, i, v, q)).await
        }
        ApiKey::SaslAuthenticate => {
            handling.by(|q| api::sasl_authenticate::handle(c, i, v, q)).await
        }
        ApiKey::CreatePartitions => {
            handling.by(|q| api::create_partitions::handle(c, i, v, q)).await
        }
        ApiKey::DescribeCluster => handling.by(|q| api::describe_cluster::handle(c, i, v, q)).await,
        // A key of the table without a handler: a test asks for every key.
        key => {
            let Versions { min, .. } = handling.received.api.served;
            Err(Malformed::Unsupported { key: key as i16, version: min }.into())
        }
    }
}
