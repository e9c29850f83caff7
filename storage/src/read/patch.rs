//! The response copy of batches: patched headers beside the stored records.

use bytes::{Bytes, BytesMut};
use ottla_wire::batch::patched_header;

use super::assemble::StoredBatch;
use super::{ReadError, Records};
use crate::limits::COPY_BATCH_BYTES_MAX;

/// A piece of the answer while it is put together.
enum Piece {
    /// From the scratch buffer, of this length, after the ones before.
    Scratch(usize),
    /// From the store's bytes.
    Stored(Bytes),
}

/// Patches batches for an answer. All headers share one buffer, and so do small batches, whole;
/// with `copy` all batches do.
pub(super) fn patch<'a>(
    batches: impl IntoIterator<Item = &'a StoredBatch>,
    copy: bool,
) -> Result<Records, ReadError> {
    let mut scratch = BytesMut::new();
    let mut layout: Vec<Piece> = Vec::new();
    let mut length = 0;
    for batch in batches {
        let header = patched_header(batch.bytes.head(), batch.base_offset, batch.append_time)
            .map_err(|error| ReadError::Corrupt(error.to_string()))?;
        let batch_length = batch.bytes.len();
        length += batch_length;
        scratch.extend_from_slice(&header);
        let mut copied = header.len();
        let small = copy || batch_length < COPY_BATCH_BYTES_MAX;
        if small {
            batch.bytes.records().for_each(|piece| scratch.extend_from_slice(&piece));
            copied += batch_length - header.len();
        }
        match layout.last_mut() {
            Some(Piece::Scratch(before)) => *before += copied,
            _ => layout.push(Piece::Scratch(copied)),
        }
        if !small {
            layout.extend(batch.bytes.records().map(Piece::Stored));
        }
    }
    let mut scratch = scratch.freeze();
    let pieces = layout
        .into_iter()
        .map(|piece| match piece {
            Piece::Scratch(length) => scratch.split_to(length),
            Piece::Stored(bytes) => bytes,
        })
        .collect();
    Ok(Records { pieces, length })
}
