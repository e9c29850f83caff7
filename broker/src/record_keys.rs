//! The rule of compacted topics: every record has a key.
//!
//! The only rule that looks at compressed records. What a producer compressed well takes a second
//! to look through, so that is done off the threads that serve, for a few batches at a time; plain
//! records are looked through at once, as every batch is when its checksum is computed.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError as Kafka;
use ottla_wire::batch::{BATCH_HEADER_BYTES, BatchHeader, Compression};
use ottla_wire::{decompress, records};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::errors::ApiError;
use crate::limits;

/// Checks batches, a few compressed ones at a time.
#[derive(Debug)]
pub(crate) struct RecordKeys {
    turns: Arc<Semaphore>,
}

impl RecordKeys {
    pub fn new() -> Self {
        Self { turns: Arc::new(Semaphore::new(limits::RECORD_WALKS_MAX)) }
    }

    /// Whether all records of a verified batch have keys; the error names the first without.
    pub async fn check(&self, header: &BatchHeader, batch: &Bytes) -> Result<(), ApiError> {
        let codec = header.compression().map_err(|error| invalid(error.to_string()))?;
        let body = batch.slice(BATCH_HEADER_BYTES.min(batch.len())..);
        if codec == Compression::None {
            return all_have_keys(&body[..]);
        }
        // Never closed. It goes along, because a walk ends by itself only, asked for or not.
        let turn = self.turns.clone().acquire_owned().await;
        let walk = move || {
            let _turn = turn;
            let plain = decompress::plain(codec, &body[..], body.len())
                .map_err(|error| invalid(error.to_string()))?;
            all_have_keys(plain)
        };
        match spawn_blocking(walk).await {
            Ok(checked) => checked,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The process ends.
                Err(_) => Err(Kafka::NotLeaderOrFollower.into()),
            },
        }
    }
}

fn all_have_keys(plain: impl Read) -> Result<(), ApiError> {
    for (at, record) in records::records(plain).enumerate() {
        let record = record.map_err(|error| invalid(error.to_string()))?;
        if !record.has_key {
            return Err(invalid(format!("record {at} has no key; the topic is compacted")));
        }
    }
    Ok(())
}

fn invalid(text: String) -> ApiError {
    ApiError::new(Kafka::InvalidRecord, text)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::poll;
    use ottla_test_kit::batch;
    use ottla_wire::batch::verify;

    use super::*;

    async fn checked(keys: &RecordKeys, batch: &Bytes) -> Result<(), String> {
        let header = verify(batch).unwrap();
        keys.check(&header, batch).await.map_err(|error| error.message)
    }

    /// The batch with its only record, which has an empty value, keyed by the empty key.
    fn keyed(plain: &Bytes) -> Bytes {
        let key_length = BATCH_HEADER_BYTES + 4;
        assert_eq!(plain[key_length], 1, "no key, in zigzag");
        batch::changed(plain, |bytes| bytes[key_length] = 0)
    }

    #[tokio::test]
    async fn a_record_without_a_key_is_named() {
        let keys = RecordKeys::new();
        let without = batch::plain(&[(1, b"")]);
        assert_eq!(checked(&keys, &keyed(&without)).await, Ok(()));
        for without in [without, batch::gzipped(&[(1, b"v")])] {
            let error = checked(&keys, &without).await.unwrap_err();
            assert_eq!(error, "record 0 has no key; the topic is compacted");
        }
    }

    #[tokio::test]
    async fn a_batch_is_looked_through_up_to_the_first_record_without_a_key() {
        let keys = RecordKeys::new();
        let damaged_at_its_end = batch::changed(&batch::gzipped(&[(1, &[7; 100])]), |bytes| {
            let end = bytes.len() - 8;
            bytes[end..].fill(0);
        });
        let error = checked(&keys, &damaged_at_its_end).await.unwrap_err();
        assert_eq!(error, "record 0 has no key; the topic is compacted");
    }

    #[tokio::test]
    async fn compressed_batches_take_turns_and_plain_ones_need_none() {
        let keys = RecordKeys::new();
        let turns = keys.turns.acquire_many(limits::RECORD_WALKS_MAX as u32).await.unwrap();
        assert!(checked(&keys, &batch::plain(&[(1, b"v")])).await.is_err());
        let compressed = batch::gzipped(&[(1, b"v")]);
        let mut checking = pin!(checked(&keys, &compressed));
        for _ in 0..1_000 {
            assert!(poll!(&mut checking).is_pending(), "it walked without a turn");
            tokio::task::yield_now().await;
        }
        drop(turns);
        assert!(checking.await.is_err());
        assert_eq!(keys.turns.available_permits(), limits::RECORD_WALKS_MAX);
    }
}
