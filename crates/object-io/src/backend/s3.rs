//! Objects in a bucket that speaks S3.
//!
//! The client's own retries are off: a write that is retried goes under a fresh key, which only
//! the writer can choose, and reads are retried a layer above. Every write carries a CRC64-NVME of
//! its body in a header that the store checks before it accepts, so that a body cut short or
//! changed on the way is refused; the request's signature therefore need not hash the body again.

use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, Checksum, S3ConditionalPut};
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectStore, RetryConfig};

use super::Native;
use crate::limits::{CONNECT_TIMEOUT, READ_TIMEOUT, WRITE_TIMEOUT};
use crate::{OpenError, S3Options};

/// Credentials that are not among the options come from the environment (`AWS_ACCESS_KEY_ID`, …,
/// web identity, instance role).
pub(super) fn open(bucket: &str, prefix: &str, options: &S3Options) -> Result<Native, OpenError> {
    let no_retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let connection = ClientOptions::new()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_read_timeout(READ_TIMEOUT)
        .with_timeout(WRITE_TIMEOUT)
        .with_allow_http(options.allow_http);
    let mut builder = AmazonS3Builder::from_env()
        .with_client_options(connection)
        .with_bucket_name(bucket)
        .with_retry(no_retry)
        .with_unsigned_payload(true)
        .with_checksum_algorithm(Checksum::CRC64NVME)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_virtual_hosted_style_request(!options.path_style);
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    }
    let client = builder
        .build()
        .map_err(|e| OpenError::S3 { bucket: bucket.to_owned(), reason: e.to_string() })?;
    let client: Arc<dyn ObjectStore> = if prefix.is_empty() {
        Arc::new(client)
    } else {
        Arc::new(PrefixStore::new(client, prefix))
    };
    Ok(Native::new(client, "s3", true))
}
