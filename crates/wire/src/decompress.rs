//! Decompression of a batch's records, for the few rules that need to see a record.
//!
//! A stream: what is not asked for is not decompressed, and no more than the codec's own window is
//! held. Only snappy's raw blocks come whole; they are at most `SNAPPY_RATIO_MAX` times as long
//! as their input.
//!
//! The input comes from anybody, so the output is capped by [`limits::decompressed_bytes_max`]
//! (size, and ratio to the input) while it is read: a bomb costs at most the time of the cap, never
//! what it claims.
//!
//! The encodings are those of Kafka clients: gzip, snappy in the blocks of snappy-java or raw,
//! LZ4 frames, zstd frames.

use std::io::{self, Cursor, Read};

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

/// The bytes after a batch's header as they were before the producer compressed them. `compressed`
/// is how many there are in `body`. An error of the stream carries a [`DecompressError`]; trailing
/// bytes that belong to no frame are one in gzip, snappy and zstd.
pub fn plain<'a>(
    codec: Compression,
    body: impl Read + 'a,
    compressed: usize,
) -> Result<Box<dyn Read + 'a>, DecompressError> {
    capped(codec, body, limits::decompressed_bytes_max(compressed))
}

fn capped<'a>(
    codec: Compression,
    body: impl Read + 'a,
    cap: usize,
) -> Result<Box<dyn Read + 'a>, DecompressError> {
    let stream: Box<dyn Read + 'a> = match codec {
        Compression::None => Box::new(body),
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(body)),
        Compression::Snappy => Box::new(Snappy::new(body, cap)),
        Compression::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(body)),
        Compression::Zstd => Box::new(zstd_frames(body).map_err(|e| malformed(codec, &e))?),
    };
    Ok(Box::new(Capped { stream, codec, cap, left: cap }))
}

fn zstd_frames<R: Read>(body: R) -> io::Result<impl Read> {
    let mut decoder = zstd::stream::read::Decoder::new(body)?;
    decoder.window_log_max(limits::ZSTD_WINDOW_LOG_MAX)?;
    Ok(decoder)
}

fn malformed(codec: Compression, reason: &dyn ToString) -> DecompressError {
    DecompressError::Malformed { codec, reason: reason.to_string() }
}

/// A stream that fails at the first byte beyond the cap, and says of what codec it is.
struct Capped<R> {
    stream: R,
    codec: Compression,
    cap: usize,
    left: usize,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(out).map_err(|error| {
            let is_ours = error.get_ref().is_some_and(|inner| inner.is::<DecompressError>());
            if is_ours { error } else { io::Error::other(malformed(self.codec, &error)) }
        })?;
        match self.left.checked_sub(read) {
            Some(left) => self.left = left,
            None => return Err(io::Error::other(DecompressError::TooLarge(self.cap))),
        }
        Ok(read)
    }
}

/// What snappy-java's streams begin with; the version numbers that follow are not looked at.
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
/// The magic and two version numbers of four bytes.
const XERIAL_HEADER_BYTES: usize = 16;
/// A copy of 64 bytes, the longest, takes three bytes of input.
const SNAPPY_RATIO_MAX: usize = 32;

/// The blocks of snappy-java, or one raw block.
struct Snappy<R> {
    body: R,
    framing: Framing,
    block: Cursor<Vec<u8>>,
    cap: usize,
    left: usize,
}

enum Framing {
    /// Nothing was read.
    Unknown,
    Xerial,
    /// One block, which was read.
    Raw,
}

impl<R: Read> Snappy<R> {
    fn new(body: R, cap: usize) -> Self {
        Self { body, framing: Framing::Unknown, block: Cursor::default(), cap, left: cap }
    }

    /// Makes the next block the present one; `false` when there is none.
    fn advance(&mut self) -> io::Result<bool> {
        match self.framing {
            Framing::Unknown => {
                let header = self.up_to(XERIAL_HEADER_BYTES)?;
                if !header.starts_with(XERIAL_MAGIC) {
                    self.framing = Framing::Raw;
                    let mut packed = header;
                    self.body.read_to_end(&mut packed)?;
                    return self.unpack(&packed);
                }
                if header.len() < XERIAL_HEADER_BYTES {
                    return Err(cut("the header is cut short"));
                }
                self.framing = Framing::Xerial;
                self.next_of_many()
            }
            Framing::Xerial => self.next_of_many(),
            Framing::Raw => Ok(false),
        }
    }

    fn next_of_many(&mut self) -> io::Result<bool> {
        let length = self.up_to(4)?;
        if length.is_empty() {
            return Ok(false);
        }
        let length = length.try_into().map_err(|_| cut("a block's length is cut short"))?;
        let length = u32::from_be_bytes(length) as usize;
        let packed = self.up_to(length)?;
        if packed.len() < length {
            return Err(cut("a block is cut short"));
        }
        self.unpack(&packed)
    }

    /// The next bytes of the body: so many, or all that are left.
    fn up_to(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        let mut taken = Vec::new();
        self.body.by_ref().take(bytes as u64).read_to_end(&mut taken)?;
        Ok(taken)
    }

    /// Unpacks a raw block. Its claimed length is believed only as far as the format can reach.
    fn unpack(&mut self, packed: &[u8]) -> io::Result<bool> {
        let claimed = snap::raw::decompress_len(packed).map_err(io::Error::other)?;
        if claimed > self.left {
            return Err(io::Error::other(DecompressError::TooLarge(self.cap)));
        }
        if claimed > packed.len().saturating_mul(SNAPPY_RATIO_MAX) {
            return Err(cut("its length cannot be true"));
        }
        self.left -= claimed;
        let mut block = std::mem::take(&mut self.block).into_inner();
        block.clear();
        block.resize(claimed, 0);
        snap::raw::Decoder::new().decompress(packed, &mut block).map_err(io::Error::other)?;
        self.block = Cursor::new(block);
        Ok(true)
    }
}

impl<R: Read> Read for Snappy<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.block.read(out)?;
            if read > 0 || out.is_empty() || !self.advance()? {
                return Ok(read);
            }
        }
    }
}

fn cut(reason: &str) -> io::Error {
    io::Error::other(reason)
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

    fn decompress(codec: Compression, body: &[u8]) -> Result<Vec<u8>, DecompressError> {
        to_cap(codec, body, limits::decompressed_bytes_max(body.len()))
    }

    fn to_cap(codec: Compression, body: &[u8], cap: usize) -> Result<Vec<u8>, DecompressError> {
        let mut output = Vec::new();
        match capped(codec, body, cap)?.read_to_end(&mut output) {
            Ok(_) => Ok(output),
            Err(error) => Err(*error.into_inner().unwrap().downcast().unwrap()),
        }
    }

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
                assert_eq!(decompress(codec, &packed).as_deref(), Ok(plain), "{codec:?}");
            }
        }
    }

    #[test]
    fn snappy_java_blocks_are_joined() {
        let plain: Vec<u8> = (0..50_000u32).flat_map(|i| (i % 251).to_le_bytes()).collect();
        let packed = xerial(&plain, 32 * 1024);
        assert_eq!(decompress(Compression::Snappy, &packed), Ok(plain));
        for cut in [packed.len() - 1, 17, 18, 19, 12] {
            assert!(decompress(Compression::Snappy, &packed[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn the_callers_cap_holds_to_the_byte() {
        for codec in CODECS {
            let packed = compress(codec, &[7; 5_000]);
            assert_eq!(to_cap(codec, &packed, 5_000).map(|v| v.len()), Ok(5_000), "{codec:?}");
            assert_eq!(to_cap(codec, &packed, 4_999), Err(DecompressError::TooLarge(4_999)));
        }
    }

    #[test]
    fn bombs_stop_at_the_ratio() {
        let plain = vec![0; 64 << 20];
        for codec in [Compression::Gzip, Compression::Zstd] {
            let packed = compress(codec, &plain);
            let cap = limits::decompressed_bytes_max(packed.len());
            let done = decompress(codec, &packed);
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
    fn what_is_not_asked_for_is_not_decompressed() {
        // The end of each is missing: whoever reads on finds out.
        let plain: Vec<u8> = (0..4_000_000u32).flat_map(|i| (i / 3).to_le_bytes()).collect();
        let streams = [
            (Compression::Gzip, compress(Compression::Gzip, &plain)),
            (Compression::Lz4, compress(Compression::Lz4, &plain)),
            (Compression::Zstd, compress(Compression::Zstd, &plain)),
            (Compression::Snappy, xerial(&plain, 32 * 1024)),
        ];
        for (codec, mut packed) in streams {
            packed.truncate(packed.len() - 20);
            let mut stream = super::plain(codec, &packed[..], packed.len()).unwrap();
            let mut first = [0; 1_000];
            stream.read_exact(&mut first).unwrap();
            assert_eq!(first, plain[..1_000], "{codec:?}");
            let rest = stream.read_to_end(&mut Vec::new());
            assert!(rest.is_err(), "{codec:?}");
        }
    }

    #[test]
    fn claimed_lengths_reserve_nothing() {
        // A raw snappy block that claims 4 GiB, and one that claims 7 MiB in six bytes.
        let huge = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
        assert!(decompress(Compression::Snappy, &huge).is_err());
        let large = [0x80, 0x80, 0xc0, 0x03, 0, 0];
        assert!(matches!(
            decompress(Compression::Snappy, &large),
            Err(DecompressError::Malformed { .. })
        ));
    }

    proptest! {
        #[test]
        fn random_bytes_are_an_error_or_small(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for codec in CODECS {
                if let Ok(output) = decompress(codec, &bytes) {
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
                let _ = decompress(codec, &packed);
                packed.truncate(at);
                let _ = decompress(codec, &packed);
            }
            let mut packed = xerial(&plain, 1_000);
            let at = at.index(packed.len());
            packed[at] ^= 1 << bit;
            let _ = decompress(Compression::Snappy, &packed);
        }
    }
}
