//! F66: very many look-ups by timestamp of one client, and what others get meanwhile.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest};
use ottla_tests::edge::{Edge, HONEST, TOPIC};
use ottla_tests::raw::{RawClient, topic_name, version};
use ottla_tests::topic;
use tokio::time::Instant;

use crate::claims::{sealed, varint};

/// "At once" on a machine that also runs other tests.
const AT_ONCE: Duration = Duration::from_secs(5);
const LOOK_UPS: usize = 600;
const RECORDS: i32 = 200_000;
const LAST: i64 = RECORDS as i64 - 1;
const BEGIN: i64 = 1_700_000_000_000;

/// A batch that takes long to look through: the record with the largest timestamp is the last.
fn long_batch() -> Result<Bytes> {
    let mut records = BytesMut::new();
    for offset in 0..=LAST {
        let mut record = BytesMut::new();
        record.put_u8(0);
        varint(&mut record, offset); // timestamp
        varint(&mut record, offset);
        varint(&mut record, -1); // no key
        varint(&mut record, 100);
        record.put_bytes(0, 100);
        record.put_u8(0);
        varint(&mut records, record.len() as i64);
        records.put(record);
    }
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(&records)?;
    Ok(sealed(&out.finish()?, |batch| {
        batch[22] = 1;
        batch[23..27].copy_from_slice(&(RECORDS - 1).to_be_bytes());
        batch[27..35].copy_from_slice(&BEGIN.to_be_bytes());
        batch[35..43].copy_from_slice(&(BEGIN + LAST).to_be_bytes());
        batch[57..61].copy_from_slice(&RECORDS.to_be_bytes());
    }))
}

async fn produce(edge: &Edge, partition: i32, batch: Bytes) -> Result<()> {
    let mut client = RawClient::connect(&edge.bootstrap).await?;
    let request = topic::produce_request(TOPIC, partition, batch);
    let answer = client.call(version::PRODUCE, &request).await?;
    let written = &answer.responses[0].partition_responses[0];
    ensure!(written.error_code == 0, "{written:?}");
    Ok(())
}

/// Of the last record of partition 0.
fn look_up() -> ListOffsetsRequest {
    let asked = ListOffsetsPartition::default().with_timestamp(BEGIN + LAST);
    let asked =
        ListOffsetsTopic::default().with_name(topic_name(TOPIC)).with_partitions(vec![asked]);
    ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![asked])
}

#[tokio::test]
async fn f66_very_many_look_ups_of_one_client_hold_up_no_other() -> Result<()> {
    let mut edge = Edge::start("many-look-ups", &[]).await?;
    produce(&edge, 0, long_batch()?).await?;
    produce(&edge, 1, topic::batch(&["old".to_owned()], 0, None)?).await?;
    // From now on, what was written is old data.
    edge.server.stop().await?;
    edge.server.start().await?;
    edge.bootstrap = edge.server.bootstrap();

    let mut many = Vec::new();
    for _ in 0..LOOK_UPS {
        let mut client = RawClient::connect(&edge.bootstrap).await?;
        client.send(version::LIST_OFFSETS, &look_up()).await?;
        many.push(client);
    }
    many.first_mut().context("no client")?.receive::<ListOffsetsRequest>().await?;

    let mut honest = RawClient::connect_from(HONEST, &edge.bootstrap).await?;
    let began = Instant::now();
    let answer = honest.call(version::FETCH, &topic::fetch_request(TOPIC, 1, 0)).await?;
    let read = &answer.responses[0].partitions[0];
    ensure!(read.records.as_ref().is_some_and(|records| !records.is_empty()), "{read:?}");
    let fetch = began.elapsed();
    let began = Instant::now();
    let answer = honest.call(version::LIST_OFFSETS, &look_up()).await?;
    let found = &answer.topics[0].partitions[0];
    ensure!((found.error_code, found.offset) == (0, LAST), "{found:?}");
    let look_up = began.elapsed();
    println!("f66: a fetch of old data took {fetch:?}, a look-up {look_up:?}");
    ensure!(fetch < AT_ONCE, "a fetch of old data took {fetch:?}");
    ensure!(look_up < AT_ONCE, "a look-up took {look_up:?}");
    many.into_iter().try_for_each(RawClient::reset)?;
    edge.survived(400 << 20).await
}
