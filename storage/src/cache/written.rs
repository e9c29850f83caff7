//! An object as this broker wrote it: a rope of the pieces it was received in.

use std::ops::Range;

use bytes::Bytes;

use crate::limits::WRITTEN_PIECE_BYTES_MIN;

/// A written object.
#[derive(Debug)]
pub struct WrittenObject {
    /// With their positions, in order, from the object's first byte to its last.
    pieces: Vec<(u64, Bytes)>,
    size: u64,
}

impl WrittenObject {
    /// Keeps large pieces as they are and joins runs of small neighbouring ones.
    pub(super) fn new(chunks: Vec<Bytes>) -> Self {
        let mut object = Self { pieces: Vec::new(), size: 0 };
        let mut small = Vec::new();
        for chunk in chunks {
            if chunk.len() < WRITTEN_PIECE_BYTES_MIN {
                small.extend_from_slice(&chunk);
            } else {
                object.push_joined(&mut small);
                object.push(chunk);
            }
        }
        object.push_joined(&mut small);
        object
    }

    /// Growing left room to spare in `joined`: a copy of the right size is kept.
    fn push_joined(&mut self, joined: &mut Vec<u8>) {
        self.push(Bytes::copy_from_slice(joined));
        joined.clear();
    }

    fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            let position = self.size;
            self.size += piece.len() as u64;
            self.pieces.push((position, piece));
        }
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The bytes of a range, in pieces; `None` when it reaches beyond the object's end.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn rope(lengths: &[usize]) -> (WrittenObject, Vec<u8>) {
        let chunks: Vec<Bytes> =
            lengths.iter().enumerate().map(|(i, length)| vec![i as u8; *length].into()).collect();
        let whole = chunks.concat();
        (WrittenObject::new(chunks), whole)
    }

    #[test]
    fn ranges_are_cut_out_of_pieces() {
        let (object, whole) = rope(&[60, 100, 20_000, 30, 40, 50_000, 7]);
        for range in [0..whole.len(), 0..0, 59..61, 100..20_300, 20_000..70_200, 70_230..70_237] {
            let bytes = range.start as u64..range.end as u64;
            let pieces = object.pieces(&bytes).unwrap().concat();
            assert_eq!(pieces, &whole[range]);
        }
        assert_eq!(object.pieces(&(70_230..70_238)), None);
    }

    #[test]
    fn small_pieces_are_joined_and_large_ones_stay() {
        let (object, _) = rope(&[60, 100, 20_000, 30, 40, 50_000]);
        assert_eq!(object.pieces.len(), 4);
        assert_eq!(object.size(), 70_230);
    }
}
