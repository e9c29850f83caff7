//! An object as this broker wrote it: a rope of the pieces it was received in.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::limits::WRITTEN_PIECE_BYTES_MIN;

/// A written object, or the part of it that holds batches.
#[derive(Debug)]
pub struct WrittenObject {
    size: u64,
    /// With their positions, in order, not overlapping.
    pieces: Vec<(u64, Bytes)>,
}

impl WrittenObject {
    /// Keeps large pieces as they are and joins runs of small neighbouring ones.
    pub(super) fn new(size: u64, chunks: Vec<(u64, Bytes)>) -> Self {
        let mut pieces: Vec<(u64, Bytes)> = Vec::new();
        let mut small: Vec<Bytes> = Vec::new();
        let mut small_at = 0;
        let mut small_bytes = 0;
        for (position, chunk) in chunks {
            let neighbour = small_at + small_bytes as u64 == position;
            if chunk.len() < WRITTEN_PIECE_BYTES_MIN && (small.is_empty() || neighbour) {
                if small.is_empty() {
                    small_at = position;
                }
                small_bytes += chunk.len();
                small.push(chunk);
                continue;
            }
            join(&mut pieces, small_at, &mut small, &mut small_bytes);
            if chunk.len() < WRITTEN_PIECE_BYTES_MIN {
                small_at = position;
                small_bytes = chunk.len();
                small.push(chunk);
            } else {
                pieces.push((position, chunk));
            }
        }
        join(&mut pieces, small_at, &mut small, &mut small_bytes);
        Self { size, pieces }
    }

    /// The object's length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of all pieces.
    pub(super) fn bytes_held(&self) -> usize {
        self.pieces.iter().map(|(_, piece)| piece.len()).sum()
    }

    /// Whether all bytes of a range are held.
    pub fn holds(&self, range: &Range<u64>) -> bool {
        let first = self.pieces.partition_point(|(p, piece)| p + piece.len() as u64 <= range.start);
        let mut at = range.start;
        for (position, piece) in self.pieces.iter().skip(first) {
            if at >= range.end || *position > at {
                break;
            }
            at = position + piece.len() as u64;
        }
        at >= range.end
    }

    /// The bytes of a range, in pieces; `None` when some are not held.
    pub fn pieces(&self, range: &Range<u64>) -> Option<Vec<Bytes>> {
        let mut at = range.start;
        let mut found = Vec::new();
        let first = self.pieces.partition_point(|(p, piece)| p + piece.len() as u64 <= at);
        for (position, piece) in self.pieces.iter().skip(first) {
            if at >= range.end {
                break;
            }
            let from = usize::try_from(at.checked_sub(*position)?).ok()?;
            let to = piece.len().min(usize::try_from(range.end - position).ok()?);
            found.push(piece.slice(from..to));
            at = position + to as u64;
        }
        (at >= range.end).then_some(found)
    }
}

fn join(pieces: &mut Vec<(u64, Bytes)>, at: u64, small: &mut Vec<Bytes>, bytes: &mut usize) {
    if small.is_empty() {
        return;
    }
    let mut joined = BytesMut::with_capacity(*bytes);
    for chunk in small.drain(..) {
        joined.extend_from_slice(&chunk);
    }
    *bytes = 0;
    pieces.push((at, joined.freeze()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rope(lengths: &[usize]) -> (WrittenObject, Vec<u8>) {
        let mut whole = Vec::new();
        let mut chunks = Vec::new();
        for (i, length) in lengths.iter().enumerate() {
            chunks.push((whole.len() as u64, Bytes::from(vec![i as u8; *length])));
            whole.extend(vec![i as u8; *length]);
        }
        (WrittenObject::new(whole.len() as u64, chunks), whole)
    }

    #[test]
    fn ranges_are_cut_out_of_pieces() {
        let (object, whole) = rope(&[60, 100, 20_000, 30, 40, 50_000, 7]);
        for range in [0..whole.len(), 0..0, 59..61, 100..20_300, 20_000..70_200, 70_230..70_237] {
            let bytes = range.start as u64..range.end as u64;
            let pieces = object.pieces(&bytes).unwrap().concat();
            assert_eq!(pieces, &whole[range]);
            assert!(object.holds(&bytes));
        }
        assert_eq!(object.pieces(&(70_230..70_238)), None);
    }

    #[test]
    fn small_pieces_are_joined_and_large_ones_stay() {
        let (object, _) = rope(&[60, 100, 20_000, 30, 40, 50_000]);
        assert_eq!(object.pieces.len(), 4);
        assert_eq!(object.bytes_held(), 70_230);
    }

    #[test]
    fn holes_are_found_out() {
        let chunks = vec![(10, Bytes::from_static(b"abc")), (20, Bytes::from_static(b"def"))];
        let object = WrittenObject::new(30, chunks);
        assert_eq!(object.pieces(&(10..13)).unwrap().concat(), b"abc");
        assert_eq!(object.pieces(&(21..23)).unwrap().concat(), b"ef");
        assert_eq!(object.pieces(&(11..21)), None);
        assert!(object.holds(&(11..13)) && !object.holds(&(11..21)) && !object.holds(&(0..11)));
        assert_eq!(object.pieces(&(0..11)), None);
    }
}
