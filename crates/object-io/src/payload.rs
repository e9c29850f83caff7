//! The bytes to write: reference-counted pieces, never joined.

use bytes::Bytes;

/// The bytes of an object in pieces that are written one after the other. Cheap to clone, so every
/// attempt gets a payload of its own.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    /// The pieces, in order.
    pub chunks: Vec<Bytes>,
    /// Their total length in bytes.
    pub length: u64,
    /// CRC-32C of all pieces, as the object's writer computed it while it put the object together.
    pub crc32c: u32,
}

impl Payload {
    /// A payload with a checksum that is already known (combined from those of its parts).
    pub fn new(chunks: Vec<Bytes>, crc32c: u32) -> Self {
        let length = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Self { chunks, length, crc32c }
    }

    /// A payload whose checksum is computed here, in one pass over the bytes.
    pub fn checksummed(chunks: Vec<Bytes>) -> Self {
        let crc32c = chunks.iter().fold(0, |crc, chunk| crc32c::crc32c_append(crc, chunk));
        Self::new(chunks, crc32c)
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::checksummed(vec![bytes])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_the_checksum_of_the_whole() {
        let parts =
            vec![Bytes::from_static(b"wr"), Bytes::from_static(b""), Bytes::from_static(b"ite")];
        let payload = Payload::checksummed(parts);
        assert_eq!(payload.length, 5);
        assert_eq!(payload.crc32c, crc32c::crc32c(b"write"));
    }
}
