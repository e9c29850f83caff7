//! Where inside an extent an offset stands, remembered from the fetch before.
//!
//! A consumer that takes a large extent in parts asks for the offset after the last batch it got.
//! Without a memory of that place, each part would walk, and possibly read, the extent from its
//! start. Extents by value are short and at hand: they are walked.

use std::sync::{Mutex, PoisonError};

use ottla_control_api::view::Extent;
use ottla_model::{ObjectId, Offset, PartitionId};

use crate::cache::Fifo;
use crate::limits::PLACES_MAX;

type Key = (PartitionId, ObjectId, Offset);

/// Positions of batches by partition, object and base offset.
#[derive(Debug)]
pub(super) struct Places(Mutex<Fifo<Key, u64>>);

impl Places {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Fifo::new()))
    }

    /// The byte in the object where the batch with base offset `offset` begins, when known.
    pub(super) fn find(
        &self,
        partition: PartitionId,
        extent: &Extent,
        offset: Offset,
    ) -> Option<u64> {
        if offset <= extent.base_offset {
            return Some(extent.positions().start);
        }
        let object = extent.object()?.id;
        let places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.get(&(partition, object, offset)).copied()
    }

    /// Remembers where the batch with base offset `offset` begins.
    pub(super) fn note(
        &self,
        partition: PartitionId,
        extent: &Extent,
        offset: Offset,
        position: u64,
    ) {
        let Some(object) = extent.object().filter(|_| offset <= extent.last_offset) else { return };
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.push((partition, object.id, offset), position, 1);
        while places.bytes() > PLACES_MAX {
            places.pop();
        }
    }
}
