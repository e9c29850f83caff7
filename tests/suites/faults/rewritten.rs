//! A partition whose extents are of every kind, on a whole node: part of it in a merged object, part by
//! value in the state, part as it was written. No command makes the first two, so the test writes them
//! into the checkpoint of a node that is stopped.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use ottla_control_plane::checkpoint::{Checkpoint, Loaded};
use ottla_control_plane::state::{RecordDigest, State, StateLoader};
use ottla_env::delay;
use ottla_format::object::{BatchSummary, ObjectEncoder, ObjectHeader};
use ottla_format::state::{
    CHUNK_LENGTH, ExtentEntry, ExtentLocation, ObjectEntry, ObjectStatus, StateRecord,
};
use ottla_model::{
    Attempt, BytePosition, ClusterId, ExtentFlags, JobId, JobOutput, LeaseNonce, ObjectId,
    ObjectName, PartitionId,
};
use ottla_object_io::{Payload, Store, keys};
use ottla_tests::raw::{RawClient, version};
use ottla_tests::{Scratch, topic};
use ottla_wire::batch::walk;
use tokio::time::Instant;

use crate::node::FaultyNode;

const TOPIC: &str = "rewritten";
/// Each becomes an object of its own. The first three are merged, the next one is kept by value.
const BATCHES: usize = 5;
const MERGED: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extents_of_every_kind_are_read_and_swept_like_those_that_were_written() -> Result<()> {
    let scratch = Scratch::new("rewritten")?;
    let mut node = FaultyNode::start(&scratch, false, &[]).await?;
    topic::create(node.bootstrap(), TOPIC, 1).await?;
    produce(node.bootstrap()).await?;
    let written = topic::read(node.bootstrap(), TOPIC, 0).await?;
    ensure!(written.end > BATCHES as i64, "too few records to show anything");
    ensure!(node.objects()? == BATCHES, "{} objects", node.objects()?);

    let cluster = node.cluster()?;
    node.stop().await?;
    let checkpoint = scratch.path().join("node/controller/checkpoint");
    let (name, object) = rewrite(&checkpoint, cluster, &written.bytes)?;
    node.store().put(&keys::object(cluster, &name), Payload::from(object)).await?;
    node.start_again().await?;

    let read = topic::read(node.bootstrap(), TOPIC, 0).await?;
    ensure!(read == written, "{:?} instead of {:?}", read.records, written.records);
    // The objects that the merged one replaced are swept; it and the last one stay.
    comes_to_have(&node, 2).await?;
    ensure!(topic::read(node.bootstrap(), TOPIC, 0).await? == written, "after the sweep");

    topic::delete(node.bootstrap(), TOPIC).await?;
    comes_to_have(&node, 0).await?;
    node.stop().await?;
    scratch.done();
    Ok(())
}

/// Waits until the node knows so many objects, and no others are in the bucket.
async fn comes_to_have(node: &FaultyNode, objects: usize) -> Result<()> {
    let begin = Instant::now();
    while node.objects()? != objects {
        ensure!(begin.elapsed() < Duration::from_secs(30), "{} objects", node.objects()?);
        delay(Duration::from_millis(50)).await;
    }
    node.come_to_rest().await
}

async fn produce(bootstrap: &str) -> Result<()> {
    let mut client = RawClient::connect(bootstrap).await?;
    for number in 0..BATCHES {
        let values: Vec<String> = (0..=number).map(|at| format!("{number}-{at}")).collect();
        let batch = topic::batch(&values, 1_000 + number as i64, None)?;
        let request = topic::produce_request(TOPIC, 0, batch);
        let answer = client.call(version::PRODUCE, &request).await?;
        let error = answer.responses[0].partition_responses[0].error_code;
        ensure!(error == 0, "produce: error {error}");
    }
    Ok(())
}

/// Rewrites the only partition of a checkpoint; returns the merged object that it refers to now.
/// `served` is the partition as clients get it: batches with final headers.
fn rewrite(checkpoint: &Path, cluster: ClusterId, served: &[u8]) -> Result<(ObjectName, Bytes)> {
    let (mut checkpoint, loaded) = Checkpoint::open(checkpoint, cluster)?;
    let Loaded { state, meta } = loaded.context("no checkpoint was written")?;
    let name = ObjectName::merged(JobId(1), LeaseNonce(0xfeed), JobOutput(0), Attempt(1));
    let batches: Vec<&[u8]> = walk(served).map(|b| Ok(b?.1)).collect::<Result<_>>()?;
    ensure!(batches.len() == BATCHES, "{} batches", batches.len());

    let mut records = Vec::new();
    for (key, value) in state.records() {
        records.push(StateRecord::decode(&key, &value)?);
    }
    let partition = records.iter().find_map(|record| match record {
        StateRecord::Partition(id, _) => Some(*id),
        _ => None,
    });
    let partition = partition.context("no partition")?;
    let (object, position) = merge(cluster, name, partition, &batches[..MERGED])?;
    let length = batches[..MERGED].iter().map(|batch| batch.len() as u32).sum();
    for record in &mut records {
        match record {
            StateRecord::Counters(counters) => counters.next_object.0 += 1,
            StateRecord::Partition(_, entry) => entry.extents = 1 + (BATCHES - MERGED) as u64,
            StateRecord::Extents(_, _, extents) => {
                let number = ObjectId(BATCHES as u64);
                let range = ExtentLocation::Object { object: number, position, length };
                let last = extents[MERGED - 1].last_offset();
                let merged = ExtentEntry {
                    last_offset_delta: (last.0 - extents[0].base_offset.0) as u32,
                    max_timestamp: extents[MERGED - 1].max_timestamp,
                    flags: ExtentFlags::FINAL_HEADERS,
                    location: range,
                    ..extents[0].clone()
                };
                extents.splice(..MERGED, [merged]);
                extents[1].flags = ExtentFlags::FINAL_HEADERS;
                extents[1].location = ExtentLocation::Inline(batches[MERGED].into());
            }
            StateRecord::Objects(chunk, objects) => {
                ensure!(
                    *chunk == 0 && objects.len() == BATCHES && BATCHES < CHUNK_LENGTH,
                    "objects"
                );
                for (_, object) in &mut objects[..=MERGED] {
                    let status = ObjectStatus::Condemned { at: state.time() };
                    *object = ObjectEntry { references: 0, live_bytes: 0, status, ..*object };
                }
                let (size, live_bytes) = (object.len() as u64, u64::from(length));
                let status = ObjectStatus::Live;
                objects.push((
                    BATCHES as u8,
                    ObjectEntry { name, size, live_bytes, references: 1, status },
                ));
            }
            _ => {}
        }
    }
    let (copy, dirty) = load(&state, records)?.cut_checkpoint();
    copy.check()?;
    checkpoint.write(&copy, &dirty, &meta)?;
    Ok((name, object))
}

/// A merged object of batches of one partition, and where they begin in it.
fn merge(
    cluster: ClusterId,
    name: ObjectName,
    partition: PartitionId,
    batches: &[&[u8]],
) -> Result<(Bytes, BytePosition)> {
    let mut encoder = ObjectEncoder::new(&ObjectHeader { cluster, origin: name.origin });
    let mut positions = Vec::new();
    for batch in batches {
        let header = ottla_wire::batch::parse(batch)?;
        let records = (header.last_offset_delta + 1).unsigned_abs();
        let about = BatchSummary { records, crc: header.crc, producer: None };
        positions.push(encoder.push(partition, batch, about));
    }
    let encoded = encoder.finish();
    let object = [&encoded.header[..], &batches.concat(), &encoded.tail].concat();
    Ok((object.into(), positions[0]))
}

/// The state of these records, at the index of another.
fn load(like: &State, records: Vec<StateRecord>) -> Result<State> {
    let mut digest = RecordDigest::default();
    records.iter().for_each(|record| digest.add(record));
    let mut identity = like.identity();
    identity.digest = digest.sum();
    let mut loader = StateLoader::new(identity);
    for record in records {
        loader.load(record)?;
    }
    Ok(loader.finish()?)
}
