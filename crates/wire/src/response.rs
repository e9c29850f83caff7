//! Answers on their way to a socket: a frame in pieces, so that records are never copied.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::Encodable;

use crate::apis::Api;
use crate::limits::WRITE_SLICES_MAX;

/// An answer could not be encoded: a field that the version does not have, or more than 2 GiB.
/// Always a defect of this side.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer cannot be encoded: {0}")]
pub struct EncodeError(pub String);

/// Bytes of the length field.
const LENGTH_BYTES: usize = 4;

/// One response frame, its length field included, as pieces that go out one after the other.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    pieces: VecDeque<Bytes>,
    length: usize,
}

impl Frame {
    /// The length of the frame that [`Frame::encode`] makes, in bytes.
    pub fn encoded_length(
        api: &Api,
        version: i16,
        body: &impl Encodable,
    ) -> Result<usize, EncodeError> {
        let size = body.compute_size(version).map_err(|error| EncodeError(error.to_string()))?;
        Ok(LENGTH_BYTES + header_bytes(api.response_is_flexible(version)) + size)
    }

    /// Encodes an answer of `api` in `version`.
    pub fn encode(
        api: &Api,
        version: i16,
        correlation_id: i32,
        body: &impl Encodable,
    ) -> Result<Self, EncodeError> {
        let failed = |error: &dyn std::fmt::Display| EncodeError(error.to_string());
        let size = body.compute_size(version).map_err(|error| failed(&error))?;
        let mut bytes = BytesMut::with_capacity(size);
        body.encode(&mut bytes, version).map_err(|error| failed(&error))?;
        let flexible = api.response_is_flexible(version);
        Self::with_header(correlation_id, flexible, [bytes.freeze()])
    }

    /// Puts length and header before the pieces of a body.
    pub fn with_header(
        correlation_id: i32,
        flexible: bool,
        body: impl IntoIterator<Item = Bytes>,
    ) -> Result<Self, EncodeError> {
        let mut pieces: VecDeque<Bytes> = body.into_iter().filter(|p| !p.is_empty()).collect();
        let after_length = header_bytes(flexible) + pieces.iter().map(Bytes::len).sum::<usize>();
        let length_field = i32::try_from(after_length)
            .map_err(|_| EncodeError(format!("{after_length} bytes do not fit a frame")))?;
        let mut header = BytesMut::with_capacity(9);
        header.put_i32(length_field);
        header.put_i32(correlation_id);
        if flexible {
            // No tagged field.
            header.put_u8(0);
        }
        pieces.push_front(header.freeze());
        Ok(Self { pieces, length: after_length + LENGTH_BYTES })
    }

    /// Bytes that are still to be written.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether all is written.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The next pieces, for one vectored write.
    pub fn slices(&self) -> Vec<IoSlice<'_>> {
        self.pieces.iter().take(WRITE_SLICES_MAX).map(|piece| IoSlice::new(piece)).collect()
    }

    /// Copies what is still to be written. Pieces are slices of what records came in, and keep all of
    /// that in memory.
    pub fn detach(&mut self) {
        self.pieces = [self.to_bytes()].into();
    }

    /// Notes that the first `written` bytes are out.
    pub fn advance(&mut self, written: usize) {
        let mut left = written.min(self.length);
        self.length -= left;
        while left > 0
            && let Some(piece) = self.pieces.front_mut()
        {
            let step = left.min(piece.len());
            piece.advance(step);
            left -= step;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
    }

    /// What is still to be written, copied.
    pub fn to_bytes(&self) -> Bytes {
        let mut whole = BytesMut::with_capacity(self.length);
        self.pieces.iter().for_each(|piece| whole.put_slice(piece));
        whole.freeze()
    }
}

/// A correlation id, and in flexible versions the number of tagged fields.
const fn header_bytes(flexible: bool) -> usize {
    if flexible { 5 } else { 4 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detached_frame_keeps_nothing_but_itself() {
        let read = Bytes::from(vec![7; 1_000]);
        let mut frame =
            Frame::with_header(7, false, [read.slice(10..20), read.slice(500..520)]).unwrap();
        frame.advance(12);
        let rest = frame.to_bytes();
        assert!(!read.is_unique());
        frame.detach();
        assert!(read.is_unique());
        assert_eq!((frame.len(), frame.to_bytes()), (26, rest));
    }

    #[test]
    fn a_frame_goes_out_in_any_steps() {
        let body = [Bytes::from_static(b"abc"), Bytes::new(), Bytes::from_static(b"defg")];
        let whole = b"\x00\x00\x00\x0c\x00\x00\x00\x07\x00abcdefg";
        for step in 1..=whole.len() + 1 {
            let mut frame = Frame::with_header(7, true, body.clone()).unwrap();
            assert_eq!(frame.len(), whole.len());
            let mut out = Vec::new();
            while !frame.is_empty() {
                let now: Vec<u8> = frame.slices().iter().flat_map(|s| s.to_vec()).collect();
                out.extend_from_slice(&now[..step.min(now.len())]);
                frame.advance(step);
            }
            assert_eq!(out, whole);
        }
    }
}
