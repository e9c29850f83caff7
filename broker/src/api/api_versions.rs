//! ApiVersions (key 18), versions 0–4.
//!
//! Lists what the dispatcher serves, from the one table. A version that does not exist yet is
//! answered in a v0 body with error 35, so that the client can ask again. Feature fields are sent
//! only to clients that can skip them: version 4, or version 3 from the Java client. librdkafka
//! before 2.2 reads tagged fields of version 3 wrongly and would lose the connection.
//!
//! - v1: throttle time.
//! - v2: throttled clients are answered at once.
//! - v3: client software name and version (KIP-511), flexible versions, features (KIP-584).
//! - v4: features with minimum 0 may be listed (KAFKA-17492).
//!
//! Sources: Kafka's `ApiVersionsRequest.json`, `ApiVersionManager`.

use kafka_protocol::ResponseError as Kafka;
use kafka_protocol::messages::ApiVersionsRequest;
use kafka_protocol::messages::api_versions_response::{
    ApiVersion, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use kafka_protocol::protocol::StrBytes;
use ottla_wire::apis::APIS;

use crate::context::{ConnectionInfo, Context, Software};
use crate::limits::CLIENT_ID_BYTES_MAX;

/// The feature by which tools tell a cluster's version: level 27 is Kafka 4.1.
const METADATA_VERSION: &str = "metadata.version";
/// Kafka 4's lowest level (3.3-IV3).
const METADATA_VERSION_MIN: i16 = 7;
const METADATA_VERSION_NOW: i16 = 27;

/// The Java client's name for itself.
const JAVA_CLIENT: &str = "apache-kafka-java";

/// Answers a request.
pub async fn handle(
    _context: &Context,
    connection: &ConnectionInfo,
    version: i16,
    request: ApiVersionsRequest,
) -> ApiVersionsResponse {
    if version >= 3
        && !(is_software(&request.client_software_name)
            && is_software(&request.client_software_version))
    {
        return ApiVersionsResponse::default().with_error_code(Kafka::InvalidRequest.code());
    }
    let response = ApiVersionsResponse::default().with_api_keys(api_keys());
    let reads_features =
        version >= 4 || (version == 3 && &*connection.software.name == JAVA_CLIENT);
    if !reads_features {
        return response;
    }
    let name = StrBytes::from_static_str(METADATA_VERSION);
    response
        .with_supported_features(vec![
            SupportedFeatureKey::default()
                .with_name(name.clone())
                .with_min_version(METADATA_VERSION_MIN)
                .with_max_version(METADATA_VERSION_NOW),
        ])
        .with_finalized_features_epoch(0)
        .with_finalized_features(vec![
            FinalizedFeatureKey::default()
                .with_name(name)
                .with_min_version_level(METADATA_VERSION_NOW)
                .with_max_version_level(METADATA_VERSION_NOW),
        ])
}

/// The answer to a version that is not known, in the layout of version 0.
pub fn unsupported() -> ApiVersionsResponse {
    ApiVersionsResponse::default()
        .with_error_code(Kafka::UnsupportedVersion.code())
        .with_api_keys(api_keys())
}

/// What a request says about the client's library; of a name that is longer than any, the beginning.
pub fn software(request: &ApiVersionsRequest) -> Software {
    let known = |text: &StrBytes| {
        let text = if is_software(text) { text.as_str() } else { "" };
        text[..text.floor_char_boundary(CLIENT_ID_BYTES_MAX)].into()
    };
    Software {
        name: known(&request.client_software_name),
        version: known(&request.client_software_version),
    }
}

/// Kafka's rule for software names and versions (KIP-511).
fn is_software(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(edge)
        && text.ends_with(edge)
        && text.chars().all(|c| edge(c) || matches!(c, '-' | '.'))
}

fn api_keys() -> Vec<ApiVersion> {
    let one = |api: &ottla_wire::apis::Api| {
        ApiVersion::default()
            .with_api_key(api.key as i16)
            .with_min_version(api.advertised.min)
            .with_max_version(api.advertised.max)
    };
    APIS.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_very_long_name_the_beginning_is_kept() {
        let request = |name: &str| {
            ApiVersionsRequest::default()
                .with_client_software_name(StrBytes::from(name.to_owned()))
                .with_client_software_version(StrBytes::from_static_str("4.3.1"))
        };
        let kept = software(&request(&"x".repeat(1 << 20)));
        assert_eq!((kept.name.len(), &*kept.version), (CLIENT_ID_BYTES_MAX, "4.3.1"));
        assert_eq!(&*software(&request(JAVA_CLIENT)).name, JAVA_CLIENT);
        assert_eq!(&*software(&request("no software")).name, "");
    }
}
