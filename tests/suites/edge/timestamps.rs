//! F40: batches whose header says nothing, or something false, of the largest timestamp of their
//! records. Old clients leave it at −1. Look-ups by time are exact to the record all the same.

use std::io::Write;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest};
use ottla_tests::edge::{Edge, TOPIC};
use ottla_tests::raw::{RawClient, topic_name, version};
use ottla_tests::topic;

use crate::claims::sealed;

/// When the first record was made.
const BEGIN: i64 = 1_700_000_000_000;
const HOUR: i64 = 3_600_000;
/// The record with the largest timestamp.
const LATEST: i64 = -3;

/// Two records at `time` and a tenth of a second later, in a batch whose header claims `max`.
fn batch(time: i64, max: i64, gzip: bool) -> Result<Bytes> {
    // The second timestamp delta is 100, as a zigzag varint.
    let records = [&[12, 0, 0, 0, 1, 1, 0][..], &[14, 0, 0xc8, 1, 2, 1, 1, 0]].concat();
    let body = if gzip {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(&records)?;
        out.finish()?
    } else {
        records
    };
    Ok(sealed(&body, |batch| {
        batch[22] = u8::from(gzip);
        batch[23..27].copy_from_slice(&1i32.to_be_bytes());
        batch[27..35].copy_from_slice(&time.to_be_bytes());
        batch[35..43].copy_from_slice(&max.to_be_bytes());
        batch[57..61].copy_from_slice(&2i32.to_be_bytes());
    }))
}

/// Offset and timestamp of the first record that is as late; −1 for none.
async fn at(client: &mut RawClient, partition: i32, time: i64) -> Result<(i64, i64)> {
    let asked =
        ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(time);
    let asked =
        ListOffsetsTopic::default().with_name(topic_name(TOPIC)).with_partitions(vec![asked]);
    let request =
        ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![asked]);
    let answer = client.call(version::LIST_OFFSETS, &request).await?;
    let found = &answer.topics.first().context("no topic")?.partitions[0];
    ensure!(found.error_code == 0, "at {time}: {found:?}");
    Ok((found.offset, found.timestamp))
}

#[tokio::test]
async fn f40_look_ups_by_time_do_not_believe_headers() -> Result<()> {
    let edge = Edge::start("maximum-timestamps", &[]).await?;
    let mut client = RawClient::connect(&edge.bootstrap).await?;
    for gzip in [false, true] {
        let partition = i32::from(gzip);
        // Left out, below the first, between the two, and far too late.
        let claims = [-1, -1, BEGIN + 1_000, BEGIN + 3_050, BEGIN + 100 * HOUR];
        for (second, max) in (0..).zip(claims) {
            let sent = batch(BEGIN + second * 1_000, max, gzip)?;
            // All in one object, as far as they come together.
            client.send(version::PRODUCE, &topic::produce_request(TOPIC, partition, sent)).await?;
        }
        for base in [0, 2, 4, 6, 8] {
            type Produce = kafka_protocol::messages::ProduceRequest;
            let answer = client.receive::<Produce>().await?;
            let written = &answer.responses[0].partition_responses[0];
            ensure!((written.error_code, written.base_offset) == (0, base), "{written:?}");
        }
        for (time, offset, found) in [
            (BEGIN - HOUR, 0, BEGIN),
            (BEGIN, 0, BEGIN),
            (BEGIN + 1, 1, BEGIN + 100),
            (BEGIN + 1_050, 3, BEGIN + 1_100),
            (BEGIN + 2_000, 4, BEGIN + 2_000),
            (BEGIN + 3_060, 7, BEGIN + 3_100),
            (BEGIN + 4_100, 9, BEGIN + 4_100),
            (LATEST, 9, BEGIN + 4_100),
            (BEGIN + 4_101, -1, -1),
        ] {
            let told = at(&mut client, partition, time).await?;
            ensure!(told == (offset, found), "gzip {gzip}, at {time}: {told:?}");
        }
        // Another client writes behind them: it hides none of what is before.
        let later = batch(BEGIN + 9_000, BEGIN + 9_100, gzip)?;
        let request = topic::produce_request(TOPIC, partition, later);
        let answer = client.call(version::PRODUCE, &request).await?;
        ensure!(answer.responses[0].partition_responses[0].error_code == 0, "{answer:?}");
        ensure!(at(&mut client, partition, BEGIN).await? == (0, BEGIN), "gzip {gzip}");
        let latest = at(&mut client, partition, LATEST).await?;
        ensure!(latest == (11, BEGIN + 9_100), "gzip {gzip}: {latest:?}");
    }
    edge.survived(64 << 20).await
}
