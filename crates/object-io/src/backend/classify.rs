//! From `object_store`'s errors to ours.
//!
//! `object_store` keeps a request's HTTP status in a private type, so for what it has no variant
//! for (`Generic`) the status is read from the error's text. When that text changes, the result is
//! the careful one: an unknown outcome, which the caller answers with a fresh key or another read.

use std::error::Error as _;

use object_store::Error;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path;

use crate::StoreError;

pub(super) fn classify(path: &Path, error: &Error) -> StoreError {
    let (key, reason) = (path.to_string(), describe(error));
    match error {
        // A bucket that does not exist is a mistake in the settings, not a missing object.
        Error::NotFound { .. } if reason.contains("NoSuchBucket") => {
            StoreError::Invalid { key, reason }
        }
        Error::NotFound { .. } => StoreError::NotFound { key },
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            StoreError::Denied { key, reason }
        }
        Error::InvalidPath { .. }
        | Error::NotSupported { .. }
        | Error::NotImplemented { .. }
        | Error::UnknownConfigurationKey { .. } => StoreError::Invalid { key, reason },
        Error::JoinError { .. } => StoreError::Internal { key, reason },
        _ => generic(key, reason, error),
    }
}

fn generic(key: String, reason: String, error: &Error) -> StoreError {
    if http_kind(error) == Some(HttpErrorKind::Connect) {
        return StoreError::Unavailable { key, reason };
    }
    match status(&reason) {
        Some(400) if reason.contains("BadDigest") || reason.contains("checksum") => {
            StoreError::Corrupt { key, reason }
        }
        Some(400) if reason.contains("RequestTimeout") => StoreError::Unavailable { key, reason },
        Some(300..=399 | 400 | 405..=407 | 410..=428) => StoreError::Invalid { key, reason },
        // The store says itself that it did nothing.
        Some(429) => StoreError::Unavailable { key, reason },
        Some(503) if reason.contains("SlowDown") => StoreError::Unavailable { key, reason },
        _ => StoreError::OutcomeUnknown { key, reason },
    }
}

/// A refused create-once write: `Ok` when the key really exists. Stores answer 409 also for other
/// reasons, told apart by the error code in the body.
pub(super) fn already_exists(path: &Path, error: &Error) -> Result<(), StoreError> {
    let (key, reason) = (path.to_string(), describe(error));
    if reason.contains("ConditionalRequestConflict") || reason.contains("OperationAborted") {
        return Err(StoreError::Unavailable { key, reason });
    }
    if reason.contains("ObjectParentIsFile") {
        return Err(StoreError::Invalid { key, reason });
    }
    Ok(())
}

fn http_kind(error: &Error) -> Option<HttpErrorKind> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(http) = cause.downcast_ref::<HttpError>() {
            return Some(http.kind());
        }
        source = cause.source();
    }
    None
}

/// The number in "status code: 503 …".
fn status(reason: &str) -> Option<u16> {
    let (_, after) = reason.split_once("status code: ")?;
    after.get(..3)?.parse().ok()
}

/// The error with its causes, each said once, on one line.
fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoreErrorKind;

    fn said(text: &str) -> StoreErrorKind {
        let error = Error::Generic { store: "S3", source: text.to_owned().into() };
        classify(&Path::from("k"), &error).kind()
    }

    #[test]
    fn answers_of_s3_say_what_to_do() {
        let status = |rest| format!("Server returned non-2xx status code: {rest}");
        for (text, kind) in [
            (status("503 Service Unavailable: <Code>SlowDown</Code>"), StoreErrorKind::Retry),
            (status("503 Service Unavailable: "), StoreErrorKind::RetryUnknown),
            (status("500 Internal Server Error: "), StoreErrorKind::RetryUnknown),
            (status("429 Too Many Requests: "), StoreErrorKind::Retry),
            (status("400 Bad Request: <Code>BadDigest</Code>"), StoreErrorKind::Corrupt),
            (status("400 Bad Request: <Code>RequestTimeout</Code>"), StoreErrorKind::Retry),
            (status("400 Bad Request: <Code>InvalidArgument</Code>"), StoreErrorKind::Invalid),
            ("connection closed before message completed".to_owned(), StoreErrorKind::RetryUnknown),
        ] {
            assert_eq!(said(&text), kind, "{text}");
        }
    }

    #[test]
    fn a_missing_bucket_is_not_a_missing_object() {
        let missing = |body: &str| {
            let error = Error::NotFound { path: "k".to_owned(), source: body.to_owned().into() };
            classify(&Path::from("k"), &error).kind()
        };
        assert_eq!(missing("<Code>NoSuchKey</Code>"), StoreErrorKind::NotFound);
        assert_eq!(missing("<Code>NoSuchBucket</Code>"), StoreErrorKind::Invalid);
    }

    #[test]
    fn a_conflict_counts_as_existing_only_when_it_is() {
        let conflict = |body: &str| Error::AlreadyExists {
            path: "k".to_owned(),
            source: body.to_owned().into(),
        };
        let path = Path::from("k");
        assert_eq!(already_exists(&path, &conflict("PreconditionFailed")), Ok(()));
        let kind = |body| already_exists(&path, &conflict(body)).map_err(|e| e.kind());
        assert_eq!(kind("<Code>ConditionalRequestConflict</Code>"), Err(StoreErrorKind::Retry));
        assert_eq!(kind("<Code>ObjectParentIsFile</Code>"), Err(StoreErrorKind::Invalid));
    }
}
