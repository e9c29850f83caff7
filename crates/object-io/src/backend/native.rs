//! The adapter over `object_store`: one attempt per call, exact lengths, our errors.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};

use super::classify::{already_exists, classify};
use crate::limits::{LIST_ENTRIES_MAX, WHOLE_OBJECT_BYTES_MAX};
use crate::url::is_key;
use crate::{ObjectEntry, Payload, PutDone, ReadCause, Store, StoreError};

/// One of `object_store`'s clients behind our trait.
#[derive(Clone)]
pub(crate) struct Native {
    client: Arc<dyn ObjectStore>,
    name: &'static str,
    charges: bool,
}

impl Native {
    pub(crate) fn new(client: Arc<dyn ObjectStore>, name: &'static str, charges: bool) -> Self {
        Self { client, name, charges }
    }

    /// How many bytes a store holds of what it just accepted. Stores that check a checksum of the
    /// body before they accept it need not be asked.
    async fn written_length(&self, path: &Path, payload: &Payload) -> Result<u64, StoreError> {
        if self.charges {
            return Ok(payload.length);
        }
        Ok(self.client.head(path).await.map_err(|e| classify(path, &e))?.size)
    }
}

impl fmt::Debug for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A key as `object_store` knows it, if it is one that every store keeps.
pub(super) fn checked_path(key: &str) -> Result<Path, StoreError> {
    let invalid = |reason: String| StoreError::Invalid { key: key.to_owned(), reason };
    if !is_key(key) {
        return Err(invalid("it has characters or parts that not every store keeps".to_owned()));
    }
    Path::parse(key).map_err(|e| invalid(e.to_string()))
}

#[async_trait]
impl Store for Native {
    async fn put(&self, key: &str, payload: Payload) -> Result<PutDone, StoreError> {
        let path = checked_path(key)?;
        let body = PutPayload::from_iter(payload.chunks.iter().cloned());
        self.client.put(&path, body).await.map_err(|e| classify(&path, &e))?;
        Ok(PutDone { bytes: self.written_length(&path, &payload).await? })
    }

    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<bool, StoreError> {
        let path = checked_path(key)?;
        let options = PutOptions::from(PutMode::Create);
        match self.client.put_opts(&path, PutPayload::from_bytes(body), options).await {
            Ok(_) => Ok(true),
            Err(error @ object_store::Error::AlreadyExists { .. }) => {
                already_exists(&path, &error).map(|()| false)
            }
            Err(error) => Err(classify(&path, &error)),
        }
    }

    async fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
        _cause: ReadCause,
    ) -> Result<Bytes, StoreError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let path = checked_path(key)?;
        self.client.get_range(&path, range).await.map_err(|e| classify(&path, &e))
    }

    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        let path = checked_path(key)?;
        let found = self.client.get(&path).await.map_err(|e| classify(&path, &e))?;
        if found.meta.size > WHOLE_OBJECT_BYTES_MAX {
            let reason = format!("it has {} bytes, too many to read whole", found.meta.size);
            return Err(StoreError::Invalid { key: key.to_owned(), reason });
        }
        let size = found.meta.size;
        let bytes = found.bytes().await.map_err(|e| classify(&path, &e))?;
        if bytes.len() as u64 != size {
            let reason = format!("{} of {size} bytes came", bytes.len());
            return Err(StoreError::Unavailable { key: key.to_owned(), reason });
        }
        Ok(bytes)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectEntry>, StoreError> {
        let folder = if prefix.is_empty() { Path::default() } else { checked_path(prefix)? };
        let mut stream = self.client.list(Some(&folder));
        let mut entries = Vec::new();
        while let Some(entry) = stream.next().await {
            let entry = entry.map_err(|e| classify(&folder, &e))?;
            if entries.len() == LIST_ENTRIES_MAX {
                let reason = format!("it holds more than {LIST_ENTRIES_MAX} objects");
                return Err(StoreError::Invalid { key: prefix.to_owned(), reason });
            }
            entries.push(ObjectEntry {
                key: entry.location.to_string(),
                size: entry.size,
                modified_ms: entry.last_modified.timestamp_millis(),
            });
        }
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(entries)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let path = checked_path(key)?;
        match self.client.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(classify(&path, &error)),
        }
    }

    async fn prepare(&self, _folders: &[String]) -> Result<(), StoreError> {
        Ok(())
    }

    fn charges_for_requests(&self) -> bool {
        self.charges
    }
}
