//! F40: forged record batches. Each fails its own partition; the others of the request are served
//! and the connection stays.

use anyhow::{Result, ensure};
use bytes::Bytes;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use ottla_tests::edge::{Edge, TOPIC};
use ottla_tests::raw::{RawClient, version};
use ottla_tests::topic;

use crate::claims::sealed;

const CORRUPT_MESSAGE: i16 = 2;
const INVALID_RECORD: i16 = 87;
const INVALID_TXN_STATE: i16 = 48;
const UNSUPPORTED_COMPRESSION: i16 = 76;

/// One record without key and value.
const RECORD: [u8; 7] = [12, 0, 0, 0, 1, 1, 0];

fn put(at: usize, bytes: &[u8]) -> impl FnOnce(&mut [u8]) {
    move |batch: &mut [u8]| batch[at..at + bytes.len()].copy_from_slice(bytes)
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
