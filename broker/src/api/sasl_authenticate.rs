//! SaslAuthenticate (key 36), versions 0–2.
//!
//! The listener has no authentication: see [`super::sasl_handshake`], which comes first and has the line
//! in the log. The bytes of a client may be a password, and is not looked at.
//!
//! - v1: lifetime of the session (KIP-368). v2: flexible versions.
//!
//! Sources: Kafka's `SaslAuthenticateRequest.json`, `KafkaApis.handleSaslAuthenticateRequest`.

use kafka_protocol::ResponseError as Kafka;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use kafka_protocol::protocol::StrBytes;

use crate::context::{ConnectionInfo, Context};

/// Answers a request.
pub async fn handle(
    _context: &Context,
    _connection: &ConnectionInfo,
    _version: i16,
    _request: SaslAuthenticateRequest,
) -> SaslAuthenticateResponse {
    let reason = StrBytes::from_static_str("this listener has no authentication");
    SaslAuthenticateResponse::default()
        .with_error_code(Kafka::IllegalSaslState.code())
        .with_error_message(Some(reason))
}
