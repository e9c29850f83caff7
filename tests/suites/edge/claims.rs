//! F41: few bytes that claim to be very many.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use flate2::{Compress, FlushCompress};
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use ottla_tests::edge::{Edge, TOPIC};
use ottla_tests::raw::{RawClient, request_frame, version};
use ottla_tests::topic;
use ottla_wire::apis::Api;
use tokio::time::Instant;

/// 2³² − 1 as an unsigned varint: a compact list of 2³² − 2 elements.
const MOST: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 0x0f];

/// 2³¹ − 1, the count of a classic list.
const MOST_CLASSIC: [u8; 4] = [0x7f, 0xff, 0xff, 0xff];

/// A body whose last bytes are a count: API key, version, what stands before, the count.
fn count_bombs() -> Vec<(i16, i16, Vec<u8>)> {
    let compact = |head: &[u8]| [head, &MOST].concat();
    let classic = |head: &[u8]| [head, &MOST_CLASSIC].concat();
    vec![
        (0, 9, compact(&[0, 0, 1, 0, 0, 0, 1])), // Produce: topics
        (0, 9, compact(&[0, 0, 1, 0, 0, 0, 1, 2, 1])), // … partitions of the first
        (0, 3, classic(&[0xff, 0xff, 0, 1, 0, 0, 0, 1])),
        (1, 12, compact(&[0; 25])), // Fetch: topics
        (1, 12, compact(&[&[0; 25][..], &[2, 1]].concat())), // … partitions of the first
        (1, 12, compact(&[&[0; 25][..], &[1]].concat())), // … forgotten topics
        (1, 4, classic(&[0; 17])),
        (2, 7, compact(&[0; 5])),                // ListOffsets: topics
        (2, 7, compact(&[0, 0, 0, 0, 0, 2, 1])), // … partitions of the first
        (3, 12, compact(&[])),                   // Metadata: 309 GB in five bytes
        (3, 4, classic(&[])),                    // … 154 GB
        (8, 8, compact(&[1, 0, 0, 0, 0, 1, 0])), // OffsetCommit: topics
        (9, 8, compact(&[])),                    // OffsetFetch: groups
        (9, 8, compact(&[2, 1])),                // … topics of the first
        (10, 4, compact(&[0])),                  // FindCoordinator: keys
        (11, 9, compact(&[1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 1])), // JoinGroup: protocols
        (13, 4, compact(&[1])),                  // LeaveGroup: members
        (14, 5, compact(&[1, 0, 0, 0, 1, 1, 0, 0, 0])), // SyncGroup: assignments
        (19, 7, compact(&[])),                   // CreateTopics: 481 GB
        (19, 7, compact(&[2, 1, 0, 0, 0, 1, 0, 1])), // … assignments of the first
        (19, 7, compact(&[2, 1, 0, 0, 0, 1, 0, 1, 2, 0, 0, 0, 0])), // … brokers of its first
        (19, 7, compact(&[2, 1, 0, 0, 0, 1, 0, 1, 1])), // … configs of the first
        (20, 6, compact(&[])),                   // DeleteTopics: topics
        (20, 4, compact(&[])),                   // … names
        (23, 4, compact(&[0, 0, 0, 0])),         // OffsetForLeaderEpoch: topics
        (37, 2, compact(&[])),                   // CreatePartitions: topics
        (37, 2, compact(&[2, 1, 0, 0, 0, 1])),   // … assignments of the first
        (18, 3, compact(&[1, 1])),               // ApiVersions: tagged fields
        (22, 4, compact(&[0; 15])),              // InitProducerId: tagged fields
        (60, 0, compact(&[0])),                  // DescribeCluster: tagged fields
    ]
}

#[tokio::test]
async fn f41_a_count_that_the_bytes_cannot_hold_closes_that_connection_only() -> Result<()> {
    let mut edge = Edge::start("count-bombs", &[]).await?;
    for round in 0..20 {
        for (key, api_version, body) in count_bombs() {
            let api = Api::find(key).context("not served")?;
            let mut client = RawClient::connect(&edge.bootstrap).await?;
            client.send_bytes(&request_frame(api, api_version, &body)).await?;
            let name = api.name;
            client.expect_close().await.with_context(|| format!("{name} {api_version}"))?;
        }
        if round % 5 == 0 {
            edge.serves_others().await?;
        }
    }
    edge.survived(64 << 20).await
}

/// Requests whose counts are true, and whose elements take fifty times their bytes when decoded.
#[tokio::test]
async fn f41_very_many_small_elements_are_refused() -> Result<()> {
    let mut edge = Edge::start("many-elements", &[]).await?;
    let api = Api::find(3).context("no Metadata")?;
    // 8 million topics with empty names.
    let count = 8_000_000u32;
    let mut body = count.to_be_bytes().to_vec();
    body.resize(4 + 2 * count as usize, 0);
    let frame = request_frame(api, 0, &body);
    for _ in 0..10 {
        let mut client = RawClient::connect(&edge.bootstrap).await?;
        // The server may close before it has read all.
        let _ = client.send_bytes(&frame).await;
        client.expect_close().await?;
        edge.look()?;
    }
    edge.survived(160 << 20).await
}

pub fn varint(out: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

/// A batch around `records`, checksum and length true.
pub fn sealed(records: &[u8], change: impl FnOnce(&mut [u8])) -> Bytes {
    let mut batch = vec![0; 61];
    batch[16] = 2;
    batch[43..57].fill(0xff);
    batch[57..61].copy_from_slice(&1i32.to_be_bytes());
    batch.extend(records);
    change(&mut batch);
    let length = batch.len() as u32 - 12;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

/// A record that claims 10⁹ headers: the decoder of `kafka-protocol` takes seven seconds and two
/// gigabytes for it.
fn header_bomb() -> Bytes {
    let mut record = BytesMut::new();
    record.put_slice(&[0, 0, 0, 1, 1]); // attributes, deltas, no key, no value
    varint(&mut record, 1_000_000_000);
    let mut records = BytesMut::new();
    varint(&mut records, record.len() as i64);
    records.put(record);
    sealed(&records, |_| {})
}

#[tokio::test]
async fn f41_a_batch_of_72_bytes_with_a_billion_headers_costs_nothing() -> Result<()> {
    let edge = Edge::start("header-bomb", &[]).await?;
    let compacted = "compacted";
    topic::create_with(&edge.bootstrap, compacted, 1, &[("cleanup.policy", "compact")]).await?;
    assert_eq!(header_bomb().len(), 72);
    let mut client = RawClient::connect(&edge.bootstrap).await?;
    for name in [TOPIC, compacted] {
        let begin = Instant::now();
        for _ in 0..20 {
            let request = topic::produce_request(name, 0, header_bomb());
            client.call(version::PRODUCE, &request).await?;
        }
        let took = begin.elapsed();
        ensure!(took.as_secs() < 15, "20 requests to {name} took {took:?}");
    }
    edge.survived(64 << 20).await
}

/// A codec whose few bytes unpack to very many.
struct Bomb {
    codec: &'static str,
    /// Its number in a batch's attributes.
    number: u8,
    packed: Vec<u8>,
}

/// What every bomb unpacks to: one well-formed record with an empty key and a value of zeros, so
/// that nothing but the size is wrong with it.
const PLAIN_BYTES: usize = 512 << 20;
/// Bombs are put together from pieces that unpack to so much.
const PIECE_BYTES: usize = 4 << 20;
/// A batch of any length may unpack to this much, and to so many times its length, but never to
/// more than that.
const ANY_RATIO_BYTES: usize = 100 << 20;
const RATIO_MAX: usize = 1_000;
const UNPACKED_BYTES_MAX: usize = 400 << 20;
/// Unpacking 400 MiB of zeros takes a tenth of a second where nothing else runs.
const BOMB_WITHIN: Duration = Duration::from_secs(15);

/// The first piece, which begins with the record's head, and all others.
fn pieces() -> (Vec<u8>, Vec<u8>) {
    // Both lengths take five bytes as varints.
    let length = PLAIN_BYTES - 5;
    let mut first = BytesMut::new();
    varint(&mut first, length as i64);
    first.put_slice(&[0, 0, 0, 0]); // attributes, deltas, an empty key
    varint(&mut first, (length - 4 - 5 - 1) as i64);
    let mut first = first.to_vec();
    assert_eq!(first.len(), 14);
    first.resize(PIECE_BYTES, 0);
    (first, vec![0; PIECE_BYTES])
}

/// A piece of a gzip stream that ends at a byte and refers to nothing before it.
fn deflated(plain: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(plain.len());
    let mut deflate = Compress::new(flate2::Compression::best(), false);
    deflate.compress_vec(plain, &mut out, FlushCompress::Full)?;
    Ok(out)
}

/// A frame of one block.
fn lz4(plain: &[u8]) -> Result<Vec<u8>> {
    let info = FrameInfo::new().block_size(BlockSize::Max4MB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(plain)?;
    Ok(encoder.finish()?)
}

fn bombs() -> Result<Vec<Bomb>> {
    /// Of a frame without sizes and checksums.
    const LZ4_HEAD_BYTES: usize = 7;
    const LZ4_END: [u8; 4] = [0; 4];
    let (first, other) = pieces();
    let others = PLAIN_BYTES / PIECE_BYTES - 1;
    // One stream: its header, its pieces, an empty last block. Nobody gets as far as its checksum.
    let gzip_head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let gzip_tail = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let (gzip_first, gzip_other) = (deflated(&first)?, deflated(&other)?);
    let gzip = [&gzip_head[..], &gzip_first, &gzip_other.repeat(others), &gzip_tail].concat();
    let zstd = [zstd::encode_all(&first[..], 3)?, zstd::encode_all(&other[..], 3)?.repeat(others)];
    let (lz4_first, lz4_other) = (lz4(&first)?, lz4(&other)?);
    let block = &lz4_other[LZ4_HEAD_BYTES..lz4_other.len() - LZ4_END.len()];
    let lz4 = [&lz4_first[..lz4_first.len() - LZ4_END.len()], &block.repeat(others), &LZ4_END];
    // A block unpacks to twenty times its length at best: it is the claim that must not be believed.
    let mut snappy = vec![0x80, 0x80, 0x80, 0x80, 0x02];
    snappy.resize(1_000, 0);
    Ok(vec![
        Bomb { codec: "gzip", number: 1, packed: gzip },
        Bomb { codec: "snappy", number: 2, packed: snappy },
        Bomb { codec: "lz4", number: 3, packed: lz4.concat() },
        Bomb { codec: "zstd", number: 4, packed: zstd.concat() },
    ])
}

/// Batches of a topic whose rule needs to see the keys. The largest is of 2 MB.
#[tokio::test]
async fn f41_a_decompression_bomb_is_refused_within_its_cap() -> Result<()> {
    const INVALID_RECORD: i16 = 87;
    const ROUNDS: usize = 4;
    let bombs = bombs()?;
    let mut edge = Edge::start("decompression-bomb", &[]).await?;
    let name = "compacted";
    let configs = [("cleanup.policy", "compact"), ("max.message.bytes", "4194304")];
    topic::create_with(&edge.bootstrap, name, 1, &configs).await?;
    let mut client = RawClient::connect(&edge.bootstrap).await?;
    for Bomb { codec, number, packed } in &bombs {
        let cap = UNPACKED_BYTES_MAX.min(RATIO_MAX * packed.len()).max(ANY_RATIO_BYTES);
        let reason = format!("the records decompress to more than {cap} bytes");
        let mut slowest = Duration::ZERO;
        for _ in 0..ROUNDS {
            let bomb = sealed(packed, |batch| batch[22] = *number);
            let begin = Instant::now();
            let request = topic::produce_request(name, 0, bomb);
            let answer = client.call(version::PRODUCE, &request).await?;
            slowest = slowest.max(begin.elapsed());
            let partition = &answer.responses[0].partition_responses[0];
            ensure!(partition.error_code == INVALID_RECORD, "{codec}: {partition:?}");
            let said = partition.error_message.as_deref().unwrap_or_default();
            ensure!(said.ends_with(&reason), "{codec}: {said:?} instead of {reason:?}");
        }
        edge.look()?;
        let (bytes, grown) = (packed.len(), edge.grown() >> 20);
        println!(
            "f41: {bytes} bytes of {codec}: {slowest:.1?} at most, memory grew by {grown} MiB"
        );
        ensure!(slowest < BOMB_WITHIN, "{codec}: a batch took {slowest:?}");
    }
    let counted = edge.server.metric("ottla_produce_rejected_total").await?;
    ensure!(counted == Some((bombs.len() * ROUNDS) as f64), "counted as rejected: {counted:?}");
    edge.survived(64 << 20).await
}
