//! Compression as producers do it, for tests.

use std::io::Write as _;

use crate::batch::Compression;

/// All codecs, in the order of their numbers in a batch's attributes.
pub const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

/// The bytes as a producer with this codec sends them; snappy as one raw block.
pub fn compress(codec: Compression, plain: &[u8]) -> Vec<u8> {
    match codec {
        Compression::None => plain.to_vec(),
        Compression::Gzip => {
            let level = flate2::Compression::best();
            let mut out = flate2::write::GzEncoder::new(Vec::new(), level);
            out.write_all(plain).unwrap();
            out.finish().unwrap()
        }
        Compression::Snappy => snap::raw::Encoder::new().compress_vec(plain).unwrap(),
        Compression::Lz4 => {
            let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
            out.write_all(plain).unwrap();
            out.finish().unwrap()
        }
        Compression::Zstd => zstd::stream::encode_all(plain, 3).unwrap(),
    }
}
