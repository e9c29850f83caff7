//! Between the protocol's strings and ours.

use std::sync::Arc;

use kafka_protocol::protocol::StrBytes;

/// Our copy of a string; the request's buffer is not kept alive by it.
pub fn text(text: &StrBytes) -> Arc<str> {
    text.as_str().into()
}

/// Our copy of a string that may be missing.
pub fn optional_text(given: &Option<StrBytes>) -> Option<Arc<str>> {
    given.as_ref().map(text)
}

/// The protocol's copy of a string.
pub fn kafka_text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// The protocol's copy of a string that may be missing.
pub fn optional_kafka_text(given: &Option<Arc<str>>) -> Option<StrBytes> {
    given.as_deref().map(kafka_text)
}
