//! A commit of objects: each batch as its difference from the one before. Drawn in
//! [`crate::command_codec`].

use ottla_model::{
    Attempt, BatchProducer, BytePosition, ObjectSeq, PartitionId, PartitionIndex, ProducerEpoch,
    ProducerId, Sequence, TimestampMs, TopicId,
};

use super::{put_author, put_topic, read_author, read_topic};
use crate::codec::{DecodeError, Reader, Result, put_varint, put_zigzag};
use crate::command::{CommitBatch, CommitObject, CommitObjects};

const SAME_TOPIC: u8 = 1 << 0;
const SAME_INDEX: u8 = 1 << 1;
const CONTIGUOUS: u8 = 1 << 2;
const HAS_PRODUCER: u8 = 1 << 3;
const SAME_PRODUCER: u8 = 1 << 4;
const ALL_FLAGS: u8 = SAME_TOPIC | SAME_INDEX | CONTIGUOUS | HAS_PRODUCER | SAME_PRODUCER;

/// The fewest bytes that a list item can take, for [`Reader::count`].
const OBJECT_BYTES_MIN: usize = 4;
const BATCH_BYTES_MIN: usize = 4;

/// What the next batch is written as the difference to.
struct Before {
    partition: PartitionId,
    end: u64,
    max_timestamp: i64,
    producer: (ProducerId, ProducerEpoch),
}

impl Before {
    const NOTHING: Self = Self {
        partition: PartitionId { topic: TopicId::ZERO, index: PartitionIndex(0) },
        end: 0,
        max_timestamp: 0,
        producer: (ProducerId(0), ProducerEpoch(0)),
    };

    /// Positions of the next object start over; partitions and producers often repeat.
    fn next_object(&mut self) {
        self.end = 0;
    }

    fn advance(&mut self, batch: &CommitBatch) {
        self.partition = batch.partition;
        self.end = batch.position.0.wrapping_add(u64::from(batch.length));
        self.max_timestamp = batch.max_timestamp.0;
        if let Some(producer) = batch.producer {
            self.producer = (producer.id, producer.epoch);
        }
    }
}

pub(super) fn put_commit_objects(out: &mut Vec<u8>, commit: &CommitObjects) {
    put_author(out, commit.author);
    put_varint(out, commit.frontier.0);
    put_varint(out, commit.objects.len() as u64);
    let mut before = Before::NOTHING;
    for object in &commit.objects {
        before.next_object();
        put_varint(out, object.seq.0);
        put_varint(out, u64::from(object.attempt.0));
        put_varint(out, object.size);
        put_varint(out, object.batches.len() as u64);
        for batch in &object.batches {
            put_batch(out, batch, &before);
            before.advance(batch);
        }
    }
}

pub(super) fn read_commit_objects(r: &mut Reader<'_>) -> Result<CommitObjects> {
    let author = read_author(r)?;
    let frontier = ObjectSeq(r.varint("frontier")?);
    let count = r.count(OBJECT_BYTES_MIN, "object count")?;
    let mut before = Before::NOTHING;
    let mut objects = Vec::with_capacity(count);
    for _ in 0..count {
        before.next_object();
        let seq = ObjectSeq(r.varint("object sequence")?);
        let attempt = Attempt(r.narrow("attempt")?);
        let size = r.varint("object size")?;
        let batch_count = r.count(BATCH_BYTES_MIN, "batch count")?;
        let mut batches = Vec::with_capacity(batch_count);
        for _ in 0..batch_count {
            let batch = read_batch(r, &before)?;
            before.advance(&batch);
            batches.push(batch);
        }
        objects.push(CommitObject { seq, attempt, size, batches });
    }
    Ok(CommitObjects { author, frontier, objects })
}

fn put_batch(out: &mut Vec<u8>, batch: &CommitBatch, before: &Before) {
    let same_topic = batch.partition.topic == before.partition.topic;
    let same_index = batch.partition.index == before.partition.index;
    let contiguous = batch.position.0 == before.end;
    let same_producer = batch.producer.is_some_and(|p| (p.id, p.epoch) == before.producer);
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    out.push(
        flag(same_topic, SAME_TOPIC)
            | flag(same_index, SAME_INDEX)
            | flag(contiguous, CONTIGUOUS)
            | flag(batch.producer.is_some(), HAS_PRODUCER)
            | flag(same_producer, SAME_PRODUCER),
    );
    if !same_topic {
        put_topic(out, batch.partition.topic);
    }
    if !same_index {
        put_zigzag(out, i64::from(batch.partition.index.0));
    }
    if !contiguous {
        put_zigzag(out, batch.position.0.wrapping_sub(before.end) as i64);
    }
    put_varint(out, u64::from(batch.length));
    put_zigzag(out, i64::from(batch.last_offset_delta));
    put_zigzag(out, batch.max_timestamp.0.wrapping_sub(before.max_timestamp));
    if let Some(producer) = batch.producer {
        if !same_producer {
            put_zigzag(out, producer.id.0);
            put_zigzag(out, i64::from(producer.epoch.0));
        }
        put_zigzag(out, i64::from(producer.base_sequence.0));
    }
}

fn read_batch(r: &mut Reader<'_>, before: &Before) -> Result<CommitBatch> {
    let flags = r.u8("batch flags")?;
    let has = |bit: u8| flags & bit != 0;
    if flags & !ALL_FLAGS != 0 || (has(SAME_PRODUCER) && !has(HAS_PRODUCER)) {
        return Err(DecodeError::Invalid { what: "batch flags", value: i128::from(flags) });
    }
    let topic = if has(SAME_TOPIC) { before.partition.topic } else { read_topic(r)? };
    let index = if has(SAME_INDEX) {
        before.partition.index
    } else {
        PartitionIndex(r.narrow_zigzag("partition index")?)
    };
    let gap = if has(CONTIGUOUS) { 0 } else { r.zigzag("batch position")? };
    let position = BytePosition(before.end.wrapping_add(gap as u64));
    let length = r.narrow("batch length")?;
    let last_offset_delta = r.narrow_zigzag("last offset delta")?;
    let max_timestamp = TimestampMs(before.max_timestamp.wrapping_add(r.zigzag("max timestamp")?));
    let producer = if has(HAS_PRODUCER) {
        let (id, epoch) = if has(SAME_PRODUCER) {
            before.producer
        } else {
            let id = ProducerId(r.zigzag("producer id")?);
            (id, ProducerEpoch(r.narrow_zigzag("producer epoch")?))
        };
        let base_sequence = Sequence(r.narrow_zigzag("base sequence")?);
        Some(BatchProducer { id, epoch, base_sequence })
    } else {
        None
    };
    let partition = PartitionId { topic, index };
    Ok(CommitBatch { partition, position, length, last_offset_delta, max_timestamp, producer })
}
