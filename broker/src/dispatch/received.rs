//! A request whose header was read, and what it holds of a budget.

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::Decodable;
use ottla_storage::write::Reservation;
use ottla_wire::apis::Api;
use ottla_wire::limits::ELEMENT_BYTES;
use ottla_wire::request::{self, RequestError, RequestHead};
use tokio::time::Instant;

use crate::context::ConnectionInfo;
use crate::limits;

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
    /// A request whose frame holds bytes of a budget. What it takes once it is decoded is counted there
    /// whatever is free: a wait for more of the same budget could last for ever.
    pub fn beside(frame: Reservation, received: &Received) -> Self {
        let more = received.decoded_bytes();
        let decoded = (more > 0).then(|| frame.charge(more));
        Self { frame: Some(frame), decoded }
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

    /// Bytes that the request takes beside its frame, once it is decoded; 0 when that is little.
    pub fn decoded_bytes(&self) -> usize {
        let is_large = self.elements > limits::FEW_ELEMENTS;
        self.grown + if is_large { self.elements * ELEMENT_BYTES } else { 0 }
    }

    /// Decodes the body, which is gone from here then.
    pub fn decode<Q: Decodable>(&mut self) -> Result<Q, Malformed> {
        Q::decode(&mut self.body, self.version).map_err(|error| Malformed::Body {
            api: self.api.name,
            version: self.version,
            error: error.to_string(),
        })
    }
}
