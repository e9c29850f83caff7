//! Decompression of a batch's records, for the rules that look at records.
//!
//! A stream: what is not asked for is not decompressed, and no more than the codec's own window is
//! held. Only snappy's raw blocks come whole; they are at most `SNAPPY_RATIO_MAX` times as long
//! as their input.
//!
//! The input comes from anybody, so the output is capped while it is read ([`OutputLimits`]): a bomb
//! costs at most the time of the cap, never what it claims.
//!
//! The encodings are those of Kafka clients: gzip, snappy in the blocks of snappy-java or raw,
//! LZ4 frames, zstd frames.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use thiserror::Error;
use zstd::zstd_safe::{DCtx, DParameter, ResetDirective};

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

/// The limits of one decompression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLimits {
    /// Bytes that may come out.
    pub bytes_max: usize,
    /// The window that a zstd frame may ask for, as a power of two.
    pub zstd_window_log_max: u32,
}

impl OutputLimits {
    /// Enough for the batches of common clients, and little enough to be tried for anybody.
    pub const SMALL: Self = Self {
        bytes_max: limits::DECOMPRESSED_BYTES_SMALL,
        zstd_window_log_max: limits::ZSTD_SMALL_WINDOW_LOG_MAX,
    };

    /// What `compressed` bytes of a batch may take at most.
    pub const fn full(compressed: usize) -> Self {
        Self {
            bytes_max: limits::decompressed_bytes_max(compressed),
            zstd_window_log_max: limits::ZSTD_WINDOW_LOG_MAX,
        }
    }
}

/// What decompression can use again: making it anew costs more than a small batch does. Holds the
/// largest window that was asked for.
#[derive(Default)]
pub struct Scratch {
    zstd: Option<DCtx<'static>>,
}

impl Scratch {
    fn zstd(&mut self, window_log_max: u32) -> io::Result<&mut DCtx<'static>> {
        let context = self.zstd.get_or_insert_with(DCtx::create);
        let failed = |code| io::Error::other(zstd::zstd_safe::get_error_name(code));
        context.reset(ResetDirective::SessionAndParameters).map_err(failed)?;
        context.set_parameter(DParameter::WindowLogMax(window_log_max)).map_err(failed)?;
        Ok(context)
    }
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scratch")
    }
}

/// The bytes after a batch's header as they were before the producer compressed them. An error of
/// the stream carries a [`DecompressError`]; trailing bytes that belong to no frame are one in gzip,
/// snappy and zstd.
pub fn plain<'a>(
    codec: Compression,
    body: impl BufRead + 'a,
    limits: OutputLimits,
    scratch: &'a mut Scratch,
) -> Result<Box<dyn BufRead + 'a>, DecompressError> {
    let cap = limits.bytes_max;
    let capped = Capped { codec, cap, left: cap, stream: () };
    Ok(match codec {
        Compression::None => Box::new(capped.over(body)),
        Compression::Gzip => {
            let member = OneMember(flate2::bufread::GzDecoder::new(body));
            Box::new(capped.over(buffered(member)))
        }
        Compression::Snappy => Box::new(capped.over(Snappy::new(body, cap))),
        Compression::Lz4 => Box::new(capped.over(lz4_flex::frame::FrameDecoder::new(body))),
        Compression::Zstd => {
            let context = scratch.zstd(limits.zstd_window_log_max);
            let context = context.map_err(|error| malformed(codec, &error))?;
            let frames = zstd::stream::read::Decoder::with_context(body, context);
            Box::new(capped.over(buffered(frames)))
        }
    })
}

/// A gzip stream of one member. The format allows more; librdkafka reads only the first, and waits for
/// the rest for ever.
struct OneMember<B>(flate2::bufread::GzDecoder<B>);

impl<B: BufRead> Read for OneMember<B> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(out)?;
        if read == 0 && !out.is_empty() && !self.0.get_mut().fill_buf()?.is_empty() {
            return Err(io::Error::other("bytes follow the gzip stream"));
        }
        Ok(read)
    }
}

fn buffered<R: Read>(decoder: R) -> BufReader<R> {
    BufReader::with_capacity(limits::RECORDS_BUFFER_BYTES, decoder)
}

fn malformed(codec: Compression, reason: &dyn ToString) -> DecompressError {
    DecompressError::Malformed { codec, reason: reason.to_string() }
}

/// A stream that fails when more than the cap would come, and says of what codec it is.
struct Capped<B> {
    stream: B,
    codec: Compression,
    cap: usize,
    left: usize,
}

impl Capped<()> {
    fn over<B>(self, stream: B) -> Capped<B> {
        let Self { codec, cap, left, .. } = self;
        Capped { stream, codec, cap, left }
    }
}

impl<B: BufRead> BufRead for Capped<B> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let codec = self.codec;
        let buffered = self.stream.fill_buf().map_err(|error| {
            let is_ours = error.get_ref().is_some_and(|inner| inner.is::<DecompressError>());
            if is_ours { error } else { io::Error::other(malformed(codec, &error)) }
        })?;
        if buffered.len() > self.left {
            return Err(io::Error::other(DecompressError::TooLarge(self.cap)));
        }
        Ok(buffered)
    }

    fn consume(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
        self.stream.consume(bytes);
    }
}

impl<B: BufRead> Read for Capped<B> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(out)?;
        self.consume(read);
        Ok(read)
    }
}

/// What snappy-java's streams begin with, before their own version and the one that a reader needs.
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
                let version = header.get(XERIAL_MAGIC.len()..).and_then(|rest| rest.first_chunk());
                if version.is_none_or(|version| i32::from_be_bytes(*version) < 1) {
                    return Err(cut("the header names no version"));
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

impl<R: Read> BufRead for Snappy<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.block.position() >= self.block.get_ref().len() as u64 && self.advance()? {}
        self.block.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.block.consume(bytes);
    }
}

impl<R: Read> Read for Snappy<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(out)?;
        self.consume(read);
        Ok(read)
    }
}

fn cut(reason: &str) -> io::Error {
    io::Error::other(reason)
}

#[cfg(test)]
#[path = "decompress_tests.rs"]
mod tests;
