//! Record batches: their headers, their codecs, and the records in them.

use std::io::{self, BufRead, Write};

use bytes::Bytes;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use ottla_env::Random;
use ottla_model::{Offset, TimestampMs};
use ottla_wire::batch::{self, BATCH_HEADER_BYTES, Compression};
use ottla_wire::decompress::{self, OutputLimits, Scratch};
use ottla_wire::records;
use ottla_wire::verify::{ReceivedBatch, RecordRules};

use super::{Inputs, Target, Verdict};
use crate::damage::below;

pub(super) const TARGETS: &[Target] = &[
    Target { name: "batches", read: read_batches, examples: batches, reseal: Some(seal_batch) },
    Target {
        name: "records",
        read: |body| walk(body),
        examples: |random| Ok(record_lists(random)),
        reseal: None,
    },
    codec("gzip", |body| unpack(Compression::Gzip, body), gzip),
    codec("snappy", |body| unpack(Compression::Snappy, body), snappy),
    codec("lz4", |body| unpack(Compression::Lz4, body), lz4),
    codec("zstd", |body| unpack(Compression::Zstd, body), zstd),
];

const fn codec(
    name: &'static str,
    read: fn(&[u8]) -> Verdict,
    examples: fn(&Random) -> Inputs,
) -> Target {
    Target { name, read, examples, reseal: None }
}

/// What a codec makes of bytes.
type Pack = fn(&[u8]) -> io::Result<Vec<u8>>;

/// The records of a body, as the rules that look at records see them.
fn walk(body: impl BufRead) -> Verdict {
    Ok(records::records(body).try_for_each(|record| record.map(drop))?)
}

/// One record, and many: with and without keys, compressible and not, small deltas and large ones.
fn record_lists(random: &Random) -> Vec<Vec<u8>> {
    [1, 60].map(|count| (0..count).flat_map(|delta| record(delta, random)).collect()).to_vec()
}

fn record(delta: i64, random: &Random) -> Vec<u8> {
    let mut fields = vec![0];
    put_varint(&mut fields, random.u64() as i64 >> below(random, 64));
    put_varint(&mut fields, delta);
    put_text(&mut fields, &[b'k'; 5][..below(random, 5)]);
    put_text(&mut fields, &random.u128().to_le_bytes());
    let headers = below(random, 3);
    put_varint(&mut fields, headers as i64);
    for _ in 0..headers {
        put_text(&mut fields, b"name");
        put_text(&mut fields, &[b'v'; 40]);
    }
    let mut record = Vec::new();
    put_text(&mut record, &fields);
    record
}

/// An empty text stands for one that is not there.
fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put_varint(out, if text.is_empty() { -1 } else { text.len() as i64 });
    out.extend(text);
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)) as u64;
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

/// A batch of each codec, and two, as an object holds them.
fn batches(random: &Random) -> Inputs {
    let packed: [(u16, Pack); 5] = [
        (0, |plain| Ok(plain.to_vec())),
        (1, gzip_of),
        (2, xerial_of),
        (3, |plain| lz4_of(plain, FrameInfo::new())),
        (4, |plain| zstd::encode_all(plain, 3)),
    ];
    let mut batches = Vec::new();
    for (attributes, pack) in packed {
        for (records, count) in record_lists(random).iter().zip([1i32, 60]) {
            let mut batch = vec![0; BATCH_HEADER_BYTES];
            batch[16] = 2;
            batch[21..23].copy_from_slice(&attributes.to_be_bytes());
            batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
            // No producer.
            batch[43..57].fill(0xff);
            batch[57..61].copy_from_slice(&count.to_be_bytes());
            batch.extend(pack(records)?);
            seal_batch(&mut batch);
            batches.push(batch);
        }
    }
    batches.push(batches.concat());
    Ok(batches)
}

/// Makes length and checksum of the first batch right again. Its length stays when all of it is
/// there: others follow.
fn seal_batch(batch: &mut [u8]) {
    if batch.len() < BATCH_HEADER_BYTES {
        return;
    }
    let said = u32::from_be_bytes([batch[8], batch[9], batch[10], batch[11]]) as usize;
    let whole = said.saturating_add(12);
    let end = if (BATCH_HEADER_BYTES..batch.len()).contains(&whole) { whole } else { batch.len() };
    batch[8..12].copy_from_slice(&(end as u32 - 12).to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..end]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// What is done with batches on both ways: verified, looked through, and patched for an answer.
fn read_batches(bytes: &[u8]) -> Verdict {
    for found in batch::walk(bytes) {
        let (_, batch) = found?;
        let received = ReceivedBatch::read(Bytes::copy_from_slice(batch))?;
        let body = batch.get(BATCH_HEADER_BYTES..).ok_or("read without a body")?;
        let scratch = &mut Scratch::default();
        let small = received.verify(&RecordRules::NONE, OutputLimits::SMALL, scratch);
        let verified = received.verify(&RecordRules::NONE, OutputLimits::full(body.len()), scratch);
        if let (Ok(_), Err(_)) = (small, &verified) {
            return Err("more is allowed, and less is taken".into());
        }
        verified?;
        let (offset, time) = (Offset(i64::MAX), TimestampMs(i64::MIN));
        let patched = batch::patched_header(batch, offset, Some(time))?;
        batch::check(&[&patched[..], body].concat())?;
    }
    Ok(())
}

/// All that is in a body, and the records in it as far as there are any.
fn unpack(codec: Compression, body: &[u8]) -> Verdict {
    let limits = OutputLimits::full(body.len());
    let scratch = &mut Scratch::default();
    let records = walk(decompress::plain(codec, body, limits, scratch)?);
    io::copy(&mut decompress::plain(codec, body, limits, scratch)?, &mut io::sink())?;
    records
}

fn packed(random: &Random, pack: Pack) -> Inputs {
    record_lists(random).iter().map(|plain| pack(plain)).collect()
}

fn gzip(random: &Random) -> Inputs {
    packed(random, gzip_of)
}

fn gzip_of(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain)?;
    encoder.finish()
}

fn snappy(random: &Random) -> Inputs {
    Ok([packed(random, raw_snappy_of)?, packed(random, xerial_of)?].concat())
}

fn raw_snappy_of(plain: &[u8]) -> io::Result<Vec<u8>> {
    Ok(snap::raw::Encoder::new().compress_vec(plain)?)
}

/// In the blocks of snappy-java.
fn xerial_of(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    for part in plain.chunks(1_000) {
        let block = raw_snappy_of(part)?;
        out.extend((block.len() as u32).to_be_bytes());
        out.extend(block);
    }
    Ok(out)
}

/// Frames whose headers ask for as much memory as they can, beside common ones: a header has a
/// checksum of its own, behind which damage does not come.
fn lz4(random: &Random) -> Inputs {
    let common = packed(random, |plain| lz4_of(plain, FrameInfo::new()))?;
    let greedy = packed(random, |plain| {
        let largest = FrameInfo::new().block_size(BlockSize::Max4MB);
        lz4_of(plain, largest.block_mode(BlockMode::Linked).block_checksums(true))
    })?;
    Ok([common, greedy].concat())
}

fn lz4_of(plain: &[u8], frame: FrameInfo) -> io::Result<Vec<u8>> {
    let mut encoder = FrameEncoder::with_frame_info(frame, Vec::new());
    encoder.write_all(plain)?;
    Ok(encoder.finish()?)
}

fn zstd(random: &Random) -> Inputs {
    packed(random, |plain| zstd::encode_all(plain, 3))
}
