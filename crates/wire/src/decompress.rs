//! Decompression of a batch's records, for the few rules that need to see a record.
//!
//! The input comes from strangers, so the output is capped twice: by the caller, and by
//! [`limits::decompressed_bytes_max`] (size, and ratio to the input). The cap is checked while the
//! output grows: a bomb costs at most the cap in memory and time, never what it claims.
//!
//! The encodings are those of Kafka clients: gzip, snappy in the blocks of snappy-java or raw,
//! LZ4 frames, zstd frames.

use std::io::{self, Read};

use thiserror::Error;

use crate::batch::Compression;
use crate::limits;

/// Why records were not decompressed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecompressError {
    /// They have more bytes than allowed.
    #[error("the records decompress to more than {0} bytes")]
    TooLarge(usize),
    /// They are not what the codec writes.
    #[error("the records are not valid {codec:?} data: {reason}")]
    Malformed {
        /// The codec that the batch names.
        codec: Compression,
        /// What the decoder said.
        reason: String,
    },
}

/// Decompresses the bytes after a batch's header to at most `output_max` bytes. Trailing bytes
/// that belong to no frame are an error in gzip, snappy and zstd.
pub fn decompress(
    codec: Compression,
    body: &[u8],
    output_max: usize,
) -> Result<Vec<u8>, DecompressError> {
    let cap = output_max.min(limits::decompressed_bytes_max(body.len()));
    match codec {
        Compression::None if body.len() > cap => Err(DecompressError::TooLarge(cap)),
        Compression::None => Ok(body.to_vec()),
        Compression::Gzip => read_all(codec, flate2::read::MultiGzDecoder::new(body), cap),
        Compression::Snappy => snappy(body, cap),
        Compression::Lz4 => read_all(codec, lz4_flex::frame::FrameDecoder::new(body), cap),
        Compression::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(body);
            read_all(codec, decoder.map_err(|e| malformed(codec, &e))?, cap)
        }
    }
}

fn malformed(codec: Compression, reason: &dyn ToString) -> DecompressError {
    DecompressError::Malformed { codec, reason: reason.to_string() }
}

/// Reads a stream to its end, or to the first byte beyond the cap.
fn read_all(codec: Compression, stream: impl Read, cap: usize) -> Result<Vec<u8>, DecompressError> {
    let mut output = Vec::new();
    let one_more = (cap as u64).saturating_add(1);
    let read: io::Result<usize> = stream.take(one_more).read_to_end(&mut output);
    read.map_err(|error| malformed(codec, &error))?;
    if output.len() > cap { Err(DecompressError::TooLarge(cap)) } else { Ok(output) }
}

/// What snappy-java's streams begin with; the version numbers that follow are not looked at.
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
/// The magic and two version numbers of four bytes.
const XERIAL_HEADER_BYTES: usize = 16;

fn snappy(body: &[u8], cap: usize) -> Result<Vec<u8>, DecompressError> {
    let mut output = Vec::new();
    if !body.starts_with(XERIAL_MAGIC) {
        snappy_block(body, cap, &mut output)?;
        return Ok(output);
    }
    let cut = |what: &str| malformed(Compression::Snappy, &what);
    let mut rest = body.get(XERIAL_HEADER_BYTES..).ok_or_else(|| cut("the header is cut short"))?;
    while !rest.is_empty() {
        let (length, after) =
            rest.split_first_chunk().ok_or_else(|| cut("a block's length is cut short"))?;
        let (block, after) = after
            .split_at_checked(u32::from_be_bytes(*length) as usize)
            .ok_or_else(|| cut("a block is cut short"))?;
        snappy_block(block, cap, &mut output)?;
        rest = after;
    }
    Ok(output)
}

/// Appends one raw block. Its claimed length is believed only as far as the format can reach: a
/// copy of 64 bytes, the longest, takes three bytes of input.
fn snappy_block(block: &[u8], cap: usize, output: &mut Vec<u8>) -> Result<(), DecompressError> {
    let claimed =
        snap::raw::decompress_len(block).map_err(|e| malformed(Compression::Snappy, &e))?;
    if claimed > cap.saturating_sub(output.len()) {
        return Err(DecompressError::TooLarge(cap));
    }
    if claimed > block.len().saturating_mul(32) {
        return Err(malformed(Compression::Snappy, &"its length cannot be true"));
    }
    let start = output.len();
    output.resize(start + claimed, 0);
    let space = output.get_mut(start..).unwrap_or_default();
    snap::raw::Decoder::new()
        .decompress(block, space)
        .map_err(|e| malformed(Compression::Snappy, &e))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    const CODECS: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    const ENOUGH: usize = limits::DECOMPRESSED_BYTES_MAX;

    fn compress(codec: Compression, plain: &[u8]) -> Vec<u8> {
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

    fn xerial(plain: &[u8], block: usize) -> Vec<u8> {
        let mut out = XERIAL_MAGIC.to_vec();
        out.extend([0, 0, 0, 1, 0, 0, 0, 1]);
        for part in plain.chunks(block) {
            let part = compress(Compression::Snappy, part);
            out.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
            out.extend(part);
        }
        out
    }

    #[test]
    fn every_codec_gives_back_what_went_in() {
        let plain: Vec<u8> = (0..100_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        for codec in CODECS {
            for plain in [&plain[..], b"", b"x"] {
                let packed = compress(codec, plain);
                assert_eq!(decompress(codec, &packed, ENOUGH).as_deref(), Ok(plain), "{codec:?}");
            }
        }
    }

    #[test]
    fn snappy_java_blocks_are_joined() {
        let plain: Vec<u8> = (0..50_000u32).flat_map(|i| (i % 251).to_le_bytes()).collect();
        let packed = xerial(&plain, 32 * 1024);
        assert_eq!(decompress(Compression::Snappy, &packed, ENOUGH), Ok(plain));
        for cut in [packed.len() - 1, 17, 18, 19, 12] {
            assert!(decompress(Compression::Snappy, &packed[..cut], ENOUGH).is_err(), "{cut}");
        }
    }

    #[test]
    fn the_callers_cap_holds_to_the_byte() {
        for codec in CODECS {
            let packed = compress(codec, &[7; 5_000]);
            assert_eq!(decompress(codec, &packed, 5_000).map(|v| v.len()), Ok(5_000), "{codec:?}");
            assert_eq!(decompress(codec, &packed, 4_999), Err(DecompressError::TooLarge(4_999)));
        }
    }

    #[test]
    fn bombs_stop_at_the_ratio() {
        let plain = vec![0; 64 << 20];
        for codec in [Compression::Gzip, Compression::Zstd] {
            let packed = compress(codec, &plain);
            let cap = limits::decompressed_bytes_max(packed.len());
            let done = decompress(codec, &packed, ENOUGH);
            if cap < plain.len() {
                assert_eq!(done, Err(DecompressError::TooLarge(cap)), "{codec:?}");
            } else {
                assert_eq!(done.map(|v| v.len()), Ok(plain.len()), "{codec:?}");
            }
        }
        let packed = compress(Compression::Zstd, &plain);
        assert!(limits::decompressed_bytes_max(packed.len()) < plain.len(), "zstd makes a bomb");
    }

    #[test]
    fn claimed_lengths_reserve_nothing() {
        // A raw snappy block that claims 4 GiB, and one that claims 7 MiB in six bytes.
        let huge = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
        assert!(decompress(Compression::Snappy, &huge, ENOUGH).is_err());
        let large = [0x80, 0x80, 0xc0, 0x03, 0, 0];
        assert!(matches!(
            decompress(Compression::Snappy, &large, ENOUGH),
            Err(DecompressError::Malformed { .. })
        ));
    }

    proptest! {
        #[test]
        fn random_bytes_are_an_error_or_small(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for codec in CODECS {
                if let Ok(output) = decompress(codec, &bytes, ENOUGH) {
                    prop_assert!(output.len() <= limits::decompressed_bytes_max(bytes.len()));
                }
            }
        }

        #[test]
        fn damaged_frames_never_panic(at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let plain: Vec<u8> = (0..2_000u32).flat_map(|i| (i / 3).to_le_bytes()).collect();
            for codec in CODECS {
                let mut packed = compress(codec, &plain);
                let at = at.index(packed.len());
                packed[at] ^= 1 << bit;
                let _ = decompress(codec, &packed, ENOUGH);
                packed.truncate(at);
                let _ = decompress(codec, &packed, ENOUGH);
            }
            let mut packed = xerial(&plain, 1_000);
            let at = at.index(packed.len());
            packed[at] ^= 1 << bit;
            let _ = decompress(Compression::Snappy, &packed, ENOUGH);
        }
    }
}
