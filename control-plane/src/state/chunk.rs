//! Chunks that copies of the state share, while they are being filled.

use std::sync::Arc;

use ottla_format::state::CHUNK_LENGTH;

/// How much a chunk that has to grow grows at least, in entries.
const GROWTH_MIN: usize = 4;

/// The chunk with room for one more entry, copied first if a copy of the state shares it.
///
/// A chunk grows by a quarter, and never beyond [`CHUNK_LENGTH`]. A vector left to itself doubles:
/// with 100,000 partitions half of the memory of their last chunks would be empty, and one that was
/// copied when half full would be kept half empty for good.
pub(super) fn writable<T: Clone>(chunk: &mut Arc<Vec<T>>) -> &mut Vec<T> {
    if Arc::get_mut(chunk).is_none() {
        let mut copy = Vec::with_capacity(room(chunk.len()));
        copy.extend_from_slice(chunk);
        *chunk = Arc::new(copy);
    }
    let entries = Arc::make_mut(chunk);
    if entries.len() == entries.capacity() {
        entries.reserve_exact(room(entries.len()) - entries.len());
    }
    entries
}

/// How many entries a chunk of this length is given room for.
fn room(length: usize) -> usize {
    let grown = length + (length / 4).max(GROWTH_MIN);
    grown.min(CHUNK_LENGTH).max(length + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_never_has_room_for_more_than_it_may_hold() {
        let mut chunk = Arc::new(Vec::new());
        let mut copies = Vec::new();
        for entry in 0..CHUNK_LENGTH {
            if entry % 100 == 50 {
                copies.push(Arc::clone(&chunk));
            }
            writable(&mut chunk).push(entry);
            let most = (chunk.len() + chunk.len() / 4 + GROWTH_MIN).min(CHUNK_LENGTH);
            assert!(chunk.capacity() <= most, "{} for {}", chunk.capacity(), chunk.len());
        }
        assert_eq!(*chunk, (0..CHUNK_LENGTH).collect::<Vec<_>>());
        assert_eq!(copies.iter().map(|copy| copy.len()).collect::<Vec<_>>(), [50, 150, 250]);
    }
}
