//! SaslHandshake (key 17), versions 0 and 1.
//!
//! The listener has no authentication. A client that is configured for it asks here first, is told
//! ILLEGAL_SASL_STATE and no mechanisms, and reports that at once, as with a plain listener of Kafka.
//! The connection stays.
//!
//! - v1: the exchange goes on with SaslAuthenticate (KIP-152).
//!
//! Sources: Kafka's `SaslHandshakeRequest.json`, `KafkaApis.handleSaslHandshakeRequest`.

use kafka_protocol::ResponseError as Kafka;
use kafka_protocol::messages::{SaslHandshakeRequest, SaslHandshakeResponse};

use crate::context::{ConnectionInfo, Context};

/// Answers a request.
pub async fn handle(
    _context: &Context,
    connection: &ConnectionInfo,
    _version: i16,
    request: SaslHandshakeRequest,
) -> SaslHandshakeResponse {
    tracing::warn!(
        client = %connection.address, client_id = &*connection.client_id,
        mechanism = request.mechanism.as_str(),
        "a client wants to authenticate, and this listener has no authentication: remove SASL from \
         the client's settings (security.protocol=PLAINTEXT)"
    );
    SaslHandshakeResponse::default().with_error_code(Kafka::IllegalSaslState.code())
}
