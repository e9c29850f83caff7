//! The contract between Ottla and an object store.

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Payload, StoreError};

/// An object store as Ottla uses it: whole objects under fresh keys, ranged reads, listing,
/// deletion. Cheap to share as `Arc<dyn Store>`.
///
/// Keys are relative to the store's prefix: ASCII letters, digits, `.`, `_`, `-` and `/`, with no
/// empty component (see [`crate::keys`]).
///
/// A store as [`crate::open`] gives it retries and hedges reads inside and verifies what it
/// returns. [`Store::put`] is the exception: it is one attempt, because the next attempt needs a
/// key of its own.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// Writes an object, one attempt. `Ok`: the store holds exactly the payload's bytes (length
    /// and checksum verified), durably. An error of kind [`RetryUnknown`] means that the object
    /// may be there, or may still appear later.
    ///
    /// The key must never have been written before, whatever became of that attempt.
    ///
    /// [`RetryUnknown`]: crate::StoreErrorKind::RetryUnknown
    async fn put(&self, key: &str, payload: Payload) -> Result<PutDone, StoreError>;

    /// Writes a small object unless its key exists; `false`: it existed and is untouched. After an
    /// error of an unknown outcome, read the key to see whose bytes are there.
    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<bool, StoreError>;

    /// Reads `range.end - range.start` bytes from position `range.start`: exactly that many, or an
    /// error.
    async fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
        cause: ReadCause,
    ) -> Result<Bytes, StoreError>;

    /// Reads a whole object of at most [`crate::limits::WHOLE_OBJECT_BYTES_MAX`].
    async fn get(&self, key: &str) -> Result<Bytes, StoreError>;

    /// All objects whose key lies in the folder `prefix`, in key order. At most
    /// [`crate::limits::LIST_ENTRIES_MAX`]; more is an error. A listing may be stale or incomplete:
    /// nothing is decided on it alone.
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectEntry>, StoreError>;

    /// Deletes an object. One that does not exist counts as deleted.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Makes the first write into each folder as cheap as later ones, where the store has real
    /// folders. Never needed for correctness.
    async fn prepare(&self, folders: &[String]) -> Result<(), StoreError>;

    /// Whether requests cost money. A store that does not charge is written to without saving up.
    fn charges_for_requests(&self) -> bool;
}

/// A verified write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutDone {
    /// How many bytes the store holds under the key.
    pub bytes: u64,
}

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectEntry {
    /// Its key.
    pub key: String,
    /// Its length in bytes.
    pub size: u64,
    /// When the store says it was written, in milliseconds since the Unix epoch.
    pub modified_ms: i64,
}

/// Why bytes are read: requests are accounted by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReadCause {
    /// A fetch near the end of its partition.
    Tail,
    /// A fetch of older data, with its read-ahead.
    CatchUp,
    /// A look-up of a record by its timestamp.
    Timestamp,
    /// Somebody looks at an object.
    Inspect,
}

impl ReadCause {
    /// The cause as metrics show it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Tail => "tail",
            Self::CatchUp => "catch_up",
            Self::Timestamp => "timestamp",
            Self::Inspect => "inspect",
        }
    }
}
