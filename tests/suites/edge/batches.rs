//! F40: forged record batches, and records that no consumer can read. Each fails its own partition; the others of the request are served
//! and the connection stays.

use std::io::Write;

use anyhow::{Result, ensure};
use bytes::Bytes;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use ottla_tests::edge::{Edge, TOPIC};
use ottla_tests::raw::{RawClient, version};
use ottla_tests::topic;

use crate::claims::sealed;

const CORRUPT_MESSAGE: i16 = 2;
const INVALID_TIMESTAMP: i16 = 32;
const INVALID_RECORD: i16 = 87;
const INVALID_TXN_STATE: i16 = 48;
const UNSUPPORTED_COMPRESSION: i16 = 76;

/// One record without key and value.
const RECORD: [u8; 7] = [12, 0, 0, 0, 1, 1, 0];

/// The same with one header, whose name is null.
const NAMELESS_HEADER: [u8; 9] = [16, 0, 0, 0, 1, 1, 2, 1, 1];

/// The codecs by their number in a batch's attributes.
const CODECS: [(u8, &str); 5] = [(0, "plain"), (1, "gzip"), (2, "snappy"), (3, "lz4"), (4, "zstd")];

fn compressed(codec: u8, plain: &[u8]) -> Result<Vec<u8>> {
    Ok(match codec {
        1 => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(plain)?;
            out.finish()?
        }
        2 => snap::raw::Encoder::new().compress_vec(plain)?,
        3 => {
            let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
            out.write_all(plain)?;
            out.finish()?
        }
        4 => zstd::encode_all(plain, 3)?,
        _ => plain.to_vec(),
    })
}

/// A batch marked with a codec around bytes that may be what the codec writes.
fn marked(codec: u8, count: i32, body: &[u8]) -> Bytes {
    sealed(body, |batch| {
        put(22, &[codec])(batch);
        put(23, &(count - 1).to_be_bytes())(batch);
        put(57, &count.to_be_bytes())(batch);
    })
}

fn put(at: usize, bytes: &[u8]) -> impl FnOnce(&mut [u8]) {
    move |batch: &mut [u8]| batch[at..at + bytes.len()].copy_from_slice(bytes)
}

/// Batches with a right checksum at which consumers stop, hang or crash.
fn unreadable() -> Result<Vec<(String, Bytes)>> {
    let mut batches = Vec::new();
    for (codec, name) in CODECS {
        let nameless = compressed(codec, &NAMELESS_HEADER)?;
        batches.push((format!("{name}: a header without a name"), marked(codec, 1, &nameless)));
        if codec == 0 {
            continue;
        }
        let good = compressed(codec, &RECORD)?;
        batches.push((format!("{name}: 3 claimed"), marked(codec, 3, &good)));
        batches.push((format!("{name}: 1,000,000 claimed"), marked(codec, 1_000_000, &good)));
        let cut = &good[..good.len() - 4];
        batches.push((format!("{name}: cut short"), marked(codec, 1, cut)));
        batches.push((format!("{name}: not compressed"), marked(codec, 1, &RECORD)));
        let hello = compressed(codec, b"hello hello")?;
        batches.push((format!("{name}: no record inside"), marked(codec, 1, &hello)));
        let noise: Vec<u8> = (1..=50u8).map(|i| i.wrapping_mul(151)).collect();
        batches.push((format!("{name}: noise"), marked(codec, 1, &noise)));
    }
    // The format of snappy's own files, which is not the one of Kafka's clients.
    let mut stream = snap::write::FrameEncoder::new(Vec::new());
    stream.write_all(&RECORD)?;
    batches.push(("snappy: its file format".to_owned(), marked(2, 1, &stream.into_inner()?)));
    Ok(batches)
}

#[tokio::test]
async fn f40_a_record_that_no_consumer_can_read_is_refused() -> Result<()> {
    let edge = Edge::start("unreadable-batches", &[]).await?;
    let mut client = RawClient::connect(&edge.bootstrap).await?;
    let mut written = 0;
    for (what, batch) in unreadable()? {
        let answer =
            client.call(version::PRODUCE, &topic::produce_request(TOPIC, 0, batch)).await?;
        let partition = &answer.responses[0].partition_responses[0];
        ensure!(partition.error_code == INVALID_RECORD, "{what}: {partition:?}");
        ensure!(partition.base_offset == -1, "{what}: an offset for nothing");
    }
    for (codec, name) in CODECS {
        let good = marked(codec, 1, &compressed(codec, &RECORD)?);
        let answer = client.call(version::PRODUCE, &topic::produce_request(TOPIC, 0, good)).await?;
        let partition = &answer.responses[0].partition_responses[0];
        let told = (partition.error_code, partition.base_offset);
        ensure!(told == (0, written), "a good batch, {name}: {partition:?}");
        written += 1;
    }
    ensure!(topic::end(&mut client, TOPIC, 0).await? == written, "offsets without records");
    edge.survived(64 << 20).await
}

/// The error of a produce to a topic of its own, and the records that it names.
async fn refused_by(
    edge: &Edge,
    name: &str,
    config: (&'static str, &'static str),
    batch: Bytes,
) -> Result<(i16, Vec<i32>)> {
    topic::create_with(&edge.bootstrap, name, 1, &[config]).await?;
    let mut client = RawClient::connect(&edge.bootstrap).await?;
    let answer = client.call(version::PRODUCE, &topic::produce_request(name, 0, batch)).await?;
    let partition = &answer.responses[0].partition_responses[0];
    let records = partition.record_errors.iter().map(|error| error.batch_index).collect();
    Ok((partition.error_code, records))
}

#[tokio::test]
async fn f40_the_records_without_a_key_are_named_one_by_one() -> Result<()> {
    let edge = Edge::start("records-without-key", &[]).await?;
    // Three records, of which the second has an empty key.
    let records: Vec<u8> =
        [[12, 0, 0, 0, 1, 1, 0], [12, 0, 0, 2, 0, 1, 0], [12, 0, 0, 4, 1, 1, 0]].concat();
    for (codec, name) in CODECS {
        let batch = marked(codec, 3, &compressed(codec, &records)?);
        let compacted = ("cleanup.policy", "compact");
        let refused = refused_by(&edge, &format!("compacted-{name}"), compacted, batch).await?;
        ensure!(refused == (INVALID_RECORD, vec![0, 2]), "{name}: {refused:?}");
    }
    edge.survived(64 << 20).await
}

#[tokio::test]
async fn f40_only_the_broker_says_that_times_are_its_own() -> Result<()> {
    let edge = Edge::start("forged-timestamp-type", &[]).await?;
    for kind in ["LogAppendTime", "CreateTime"] {
        let config = ("message.timestamp.type", kind);
        let forged = sealed(&RECORD, put(22, &[0x08]));
        let refused = refused_by(&edge, kind, config, forged).await?;
        ensure!(refused.0 == INVALID_TIMESTAMP, "{kind}: {refused:?}");
    }
    edge.survived(64 << 20).await
}

fn forged() -> Vec<(&'static str, Bytes, &'static [i16])> {
    let most = i32::MAX.to_be_bytes();
    let good = || sealed(&RECORD, |_| {});
    let two_batches = [&good()[..], &good()].concat();
    let refused: &[i16] = &[CORRUPT_MESSAGE, INVALID_RECORD];
    let unsealed = |at: usize, bytes: &[u8]| {
        let mut batch = good().to_vec();
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        Bytes::from(batch)
    };
    vec![
        (
            "2³¹ − 1 records in 68 bytes",
            sealed(&RECORD, |batch| {
                put(23, &(i32::MAX - 1).to_be_bytes())(batch);
                put(57, &most)(batch);
            }),
            refused,
        ),
        ("an offset delta that is not the count", sealed(&RECORD, put(23, &most)), refused),
        ("a negative count", sealed(&RECORD, put(57, &[0xff; 4])), refused),
        ("no record", sealed(&[], put(57, &[0; 4])), refused),
        ("several batches", two_batches.into(), refused),
        ("a control batch", sealed(&RECORD, put(22, &[0x20])), refused),
        (
            "a transactional batch",
            sealed(&RECORD, |batch| {
                put(22, &[0x10])(batch);
                put(43, &7i64.to_be_bytes())(batch);
                put(51, &[0, 0, 0, 0, 0, 0])(batch);
            }),
            &[INVALID_TXN_STATE],
        ),
        (
            "a producer with a negative sequence",
            sealed(&RECORD, |batch| {
                put(43, &7i64.to_be_bytes())(batch);
                put(51, &[0, 0])(batch);
                put(53, &(-5i32).to_be_bytes())(batch);
            }),
            refused,
        ),
        (
            "an unknown codec",
            sealed(&RECORD, put(22, &[7])),
            &[UNSUPPORTED_COMPRESSION, CORRUPT_MESSAGE, INVALID_RECORD],
        ),
        ("a wrong checksum", unsealed(17, &[1, 2, 3, 4]), refused),
        ("a length beyond the bytes", unsealed(8, &most), refused),
        ("a negative length", unsealed(8, &[0xff; 4]), refused),
        ("magic 0", unsealed(16, &[0]), refused),
        ("magic 1", unsealed(16, &[1]), refused),
        ("magic 9", unsealed(16, &[9]), refused),
        ("half a header", good().slice(..30), refused),
        ("nothing", Bytes::new(), refused),
    ]
}

#[tokio::test]
async fn f40_a_forged_batch_fails_its_partition_only() -> Result<()> {
    let edge = Edge::start("forged-batches", &[]).await?;
    let mut client = RawClient::connect(&edge.bootstrap).await?;
    let mut written = 0;
    for (what, batch, expected) in forged() {
        let good = topic::batch(&["good".to_owned()], 0, None)?;
        let mut request = topic::produce_request(TOPIC, 0, good);
        request.topic_data[0]
            .partition_data
            .push(PartitionProduceData::default().with_index(1).with_records(Some(batch)));
        let answer = client.call(version::PRODUCE, &request).await?;
        for partition in &answer.responses[0].partition_responses {
            let code = partition.error_code;
            if partition.index == 0 {
                ensure!(code == 0 && partition.base_offset == written, "{what}: {partition:?}");
            } else {
                ensure!(expected.contains(&code), "{what}: {partition:?}");
                ensure!(partition.base_offset == -1, "{what}: an offset for nothing");
            }
        }
        written += 1;
    }
    ensure!(topic::end(&mut client, TOPIC, 1).await? == 0, "something was written");
    let errors = edge.server.metric("ottla_kafka_errors_total").await?;
    ensure!(errors.is_some_and(|errors| errors >= written as f64), "counted: {errors:?}");
    edge.survived(64 << 20).await
}
