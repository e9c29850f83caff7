//! InitProducerId (key 22), versions 0–5.
//!
//! Gives an idempotent producer its id, with epoch 0. A producer that wants its epoch raised (v3+,
//! after an error that broke its sequences) gets a new id instead: its old one has no state that
//! would be worth keeping, and Kafka does the same for producers without a transactional id.
//!
//! Transactions are not served yet. A transactional id is answered TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
//! fatal in every client, at `initTransactions()`, before a record is lost. Kafka has no code for
//! "not supported" that clients of this API treat as final; any coordinator error would be
//! retried for ever.
//!
//! - v1: throttled clients are answered at once. v2: flexible versions.
//! - v3: producer id and epoch in the request (KIP-360). v4: PRODUCER_FENCED.
//! - v5: transactions (KIP-890).
//!
//! Sources: Kafka's `InitProducerIdRequest.json`, `TransactionCoordinator.handleInitProducerId`.

use kafka_protocol::ResponseError as Kafka;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use crate::context::{ConnectionInfo, Context};
use crate::errors;

/// Answers a request.
pub async fn handle(
    context: &Context,
    _connection: &ConnectionInfo,
    version: i16,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let (id, epoch) = (request.producer_id.0, request.producer_epoch);
    let asks_for_neither_or_both = (id == -1) == (epoch == -1);
    let result = if request.transactional_id.is_some() {
        Err(Kafka::TransactionalIdAuthorizationFailed)
    } else if version >= 3 && !asks_for_neither_or_both {
        Err(Kafka::InvalidRequest)
    } else {
        context.producer_ids.next(context).await.map_err(|error| errors::producer_id(&error))
    };
    match result {
        Ok(id) => InitProducerIdResponse::default()
            .with_producer_id(ProducerId(id.0))
            .with_producer_epoch(0),
        Err(error) => InitProducerIdResponse::default()
            .with_error_code(error.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1),
    }
}
