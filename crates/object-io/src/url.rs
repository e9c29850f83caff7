//! Store URLs: `memory:`, `file:///path` (or a plain path), `s3://bucket/prefix`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// In this process; gone with it.
    Memory,
    /// In a directory.
    File(PathBuf),
    /// In a bucket that speaks S3.
    S3 {
        /// The bucket.
        bucket: String,
        /// Keys start with this; no slash at either end, may be empty.
        prefix: String,
    },
}

/// Why a URL was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "'{url}' is not an object store URL: {reason} (use file:///absolute/path, a plain path, \
     s3://bucket/prefix or memory:)"
)]
pub struct UrlError {
    /// What was given.
    pub url: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl FromStr for StoreUrl {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        let refuse = |reason| UrlError { url: url.to_owned(), reason };
        if matches!(url, "memory:" | "memory://") {
            return Ok(Self::Memory);
        }
        if let Some(path) = url.strip_prefix("file://") {
            if !path.starts_with('/') {
                return Err(refuse("a file: URL needs an absolute path after file://"));
            }
            return Ok(Self::File(PathBuf::from(path)));
        }
        if let Some(rest) = url.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let prefix = prefix.trim_matches('/');
            if bucket.is_empty() {
                return Err(refuse("it names no bucket"));
            }
            if !prefix.is_empty() && !is_key(prefix) {
                return Err(refuse(
                    "a prefix may have ASCII letters, digits, '.', '_' and '-' between slashes",
                ));
            }
            return Ok(Self::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() });
        }
        if url.is_empty() {
            return Err(refuse("it is empty"));
        }
        if url.contains("://") || url.starts_with("file:") || url.starts_with("memory:") {
            return Err(refuse("its scheme is not known"));
        }
        Ok(Self::File(PathBuf::from(url)))
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::File(path) if path.is_absolute() => write!(f, "file://{}", path.display()),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// Whether every store can hold `key` as it is, with no encoding.
pub(crate) fn is_key(key: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    key.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_shown() {
        let s3 = |bucket: &str, prefix: &str| StoreUrl::S3 {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        };
        for (url, want, shown) in [
            ("memory:", StoreUrl::Memory, "memory:"),
            ("file:///var/o", StoreUrl::File("/var/o".into()), "file:///var/o"),
            ("./data/objects", StoreUrl::File("./data/objects".into()), "./data/objects"),
            ("s3://b", s3("b", ""), "s3://b"),
            ("s3://b/a/c/", s3("b", "a/c"), "s3://b/a/c"),
        ] {
            let read: StoreUrl = url.parse().unwrap();
            assert_eq!(read, want);
            assert_eq!(read.to_string(), shown);
        }
    }

    #[test]
    fn bad_urls_are_refused_with_the_reason() {
        for url in
            ["", "s3://", "s3:///x", "file://x", "gs://b", "s3://b/ä", "s3://b/a//b", "file:x"]
        {
            assert!(url.parse::<StoreUrl>().is_err(), "{url}");
        }
    }
}
