//! Decompression of what raw fetches bring, apart from the product's own.

use std::io::Read;

use anyhow::{Context, Result};
use bytes::{Buf, Bytes};
use kafka_protocol::records::{Compression, RecordBatchDecoder, RecordSet};

/// Decodes record batches, compressed or not.
pub fn decode_all(bytes: &mut Bytes) -> Result<Vec<RecordSet>> {
    let mut sets = Vec::new();
    while bytes.has_remaining() {
        sets.push(RecordBatchDecoder::decode_with_custom_compression(bytes, Some(decompress))?);
    }
    Ok(sets)
}

fn decompress(body: &mut Bytes, codec: Compression) -> Result<Bytes> {
    let body = body.copy_to_bytes(body.remaining());
    let body = &body[..];
    let mut plain = Vec::new();
    let mut decoder: Box<dyn Read + '_> = match codec {
        Compression::None => return Ok(Bytes::copy_from_slice(body)),
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(body)),
        Compression::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(body)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(body)?),
        // librdkafka writes bare blocks; Java's frames are not read here.
        Compression::Snappy => {
            let plain = snap::raw::Decoder::new().decompress_vec(body).context("a snappy block")?;
            return Ok(plain.into());
        }
    };
    decoder.read_to_end(&mut plain)?;
    Ok(plain.into())
}
