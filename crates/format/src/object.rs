//! Objects: record batches of many partitions with an index.
//!
//! A WAL object is what a broker makes of one sealed buffer; a merged object is an output of a merge.
//! They differ in the header, which says who made the object, and in what stands in the data.
//!
//! ```text
//! object   = header · data · footer · trailer
//!
//! header     60 bytes; see [`ObjectHeader`]
//!
//! data       record batches in runs: all batches of one partition next to each other; runs in the
//!            order of (topic id, partition). In a WAL object as received, in the order they
//!            arrived; in a merged object with final headers, in the order of their offsets
//!
//! footer     run count           varint
//!            run × count:
//!              topic id          u128
//!              partition         varint
//!              position          varint  first byte in the object
//!              length            varint  bytes
//!              records           varint
//!              batches           varint
//!              checksum          u32     CRC-32C of the run's bytes
//!              producer count    varint  idempotent producers, in order of (id, epoch)
//!              producer × count: id varint, epoch varint, first sequence varint,
//!                                last sequence varint
//!            checksum            u32  CRC-32C of the footer up to here
//!
//! trailer    0  footer position  u64
//!            8  footer length    u32  checksum included
//!           12  checksum         u32  CRC-32C of bytes 0..12
//!           16  magic            4    "OTWE"
//! ```
//!
//! **One set of bytes for all attempts.** The header has the object's origin, which a reader checks
//! against the extent's object; it does not name the attempt. So every attempt of an object uploads
//! the same bytes: the payload is laid out once and shared.
//!
//! **No second pass over the records.** A batch already carries the CRC-32C of its bytes from 21
//! on, verified when it arrived. The writer hashes the first 21 bytes and joins the rest
//! ([`crc32c_join`]): that yields each run's checksum and the whole object's, which the store's
//! answer is verified with. (Batches so short that reading them costs less are read.)
//!
//! **Self-describing.** Header, footer and the batches' own headers say everything that a commit
//! says, so the index can be rebuilt, and `ottla object inspect` needs nothing but the object.
//! Dead bytes (refused or left-out batches) are in the runs too: only the control plane knows
//! which batches became records.

mod header;

use std::collections::BTreeMap;

use bytes::Bytes;
use ottla_model::{
    BatchProducer, BytePosition, PartitionId, PartitionIndex, ProducerEpoch, ProducerId, Sequence,
    TopicId,
};

use crate::checksum::crc32c_join;
use crate::codec::{DecodeError, Reader, Result, put_varint};
pub use header::{OBJECT_HEADER_BYTES, ObjectHeader};

/// Length of the trailer: what a reader fetches first to find the footer.
pub const OBJECT_TRAILER_BYTES: usize = 20;
/// Up to here a batch's bytes are not covered by the batch's own CRC.
pub const BATCH_CRC_FROM: usize = 21;

const TRAILER_MAGIC: [u8; 4] = *b"OTWE";
/// The fewest bytes a run takes in the footer: what a damaged count is checked against.
const RUN_BYTES_MIN: usize = 16 + 5 + 4 + 1;
/// From this length on, joining a batch's own CRC is cheaper than reading the batch: hardware reads
/// some ten bytes in a nanosecond, and a join takes a few hundred.
const JOIN_BYTES_MIN: usize = 4096;
/// The fewest bytes a producer takes in the footer.
const PRODUCER_BYTES_MIN: usize = 4;

/// One partition's batches in an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Whose.
    pub partition: PartitionId,
    /// First byte in the object.
    pub position: BytePosition,
    /// Length in bytes.
    pub length: u64,
    /// How many records.
    pub records: u64,
    /// How many batches.
    pub batches: u32,
    /// CRC-32C of the run's bytes.
    pub checksum: u32,
    /// The idempotent producers in it, in order of id and epoch.
    pub producers: Vec<ProducerRange>,
}

/// What one idempotent producer has in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerRange {
    /// Who.
    pub id: ProducerId,
    /// In which epoch.
    pub epoch: ProducerEpoch,
    /// The base sequence of its first batch in the run.
    pub first: Sequence,
    /// The sequence of the last record of its last batch in the run.
    pub last: Sequence,
}

/// What the encoder must know of a batch besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSummary {
    /// Its number of records, 1 or more.
    pub records: u32,
    /// The CRC-32C in its header, which covers its bytes from [`BATCH_CRC_FROM`] on. Verified by
    /// the caller.
    pub crc: u32,
    /// Its producer, when it is idempotent.
    pub producer: Option<BatchProducer>,
}

/// What surrounds the batches of an object. The object is `header`, then the batches in the order
/// they were given to the encoder, then `tail`.
#[derive(Clone, Debug)]
pub struct EncodedObject {
    /// The header's bytes.
    pub header: Bytes,
    /// Footer and trailer.
    pub tail: Bytes,
    /// Length of the whole object in bytes.
    pub length: u64,
    /// CRC-32C of the whole object.
    pub crc32c: u32,
}

/// Lays an object out around batches that it reads only the first 21 bytes of.
#[derive(Debug)]
pub struct ObjectEncoder {
    header: [u8; OBJECT_HEADER_BYTES],
    position: u64,
    checksum: u32,
    run_count: u64,
    footer: Vec<u8>,
    open: Option<OpenRun>,
}

/// The run that is being filled.
#[derive(Debug)]
struct OpenRun {
    partition: PartitionId,
    position: u64,
    records: u64,
    batches: u32,
    checksum: u32,
    producers: BTreeMap<(ProducerId, ProducerEpoch), (Sequence, Sequence)>,
}

impl ObjectEncoder {
    /// An object without batches.
    pub fn new(header: &ObjectHeader) -> Self {
        let header = header.encode();
        Self {
            checksum: crc32c::crc32c(&header),
            header,
            position: OBJECT_HEADER_BYTES as u64,
            run_count: 0,
            footer: Vec::new(),
            open: None,
        }
    }

    /// Adds the next batch and says where it lies.
    ///
    /// # Panics
    /// When a partition is given after a higher one, or a batch is shorter than the part of its
    /// header that its CRC leaves out: the caller sorts, and has verified the batches.
    pub fn push(
        &mut self,
        partition: PartitionId,
        batch: &[u8],
        about: BatchSummary,
    ) -> BytePosition {
        if self.open.as_ref().is_none_or(|run| run.partition != partition) {
            self.begin_run(partition);
        }
        let position = self.position;
        self.position += batch.len() as u64;
        let run = self.open.as_mut().expect("a run was begun above");
        run.checksum = append_batch(run.checksum, batch, about.crc);
        run.records += u64::from(about.records);
        run.batches += 1;
        if let Some(producer) = about.producer {
            let first = producer.base_sequence;
            let last = first.plus(about.records.saturating_sub(1) as i32);
            run.producers
                .entry((producer.id, producer.epoch))
                .and_modify(|range| range.1 = last)
                .or_insert((first, last));
        }
        BytePosition(position)
    }

    fn begin_run(&mut self, partition: PartitionId) {
        if let Some(previous) = self.open.take() {
            assert!(previous.partition < partition, "runs are added in order of their partitions");
            self.end_run(&previous);
        }
        self.open = Some(OpenRun {
            partition,
            position: self.position,
            records: 0,
            batches: 0,
            checksum: 0,
            producers: BTreeMap::new(),
        });
    }

    fn end_run(&mut self, run: &OpenRun) {
        self.run_count += 1;
        let length = self.position - run.position;
        self.checksum = crc32c_join(self.checksum, run.checksum, length);
        let out = &mut self.footer;
        out.extend_from_slice(&run.partition.topic.0.to_le_bytes());
        put_varint(out, u64::from(run.partition.index.0 as u32));
        put_varint(out, run.position);
        put_varint(out, length);
        put_varint(out, run.records);
        put_varint(out, u64::from(run.batches));
        out.extend_from_slice(&run.checksum.to_le_bytes());
        put_varint(out, run.producers.len() as u64);
        for ((id, epoch), (first, last)) in &run.producers {
            put_varint(out, id.0 as u64);
            put_varint(out, u64::from(epoch.0 as u16));
            put_varint(out, u64::from(first.0 as u32));
            put_varint(out, u64::from(last.0 as u32));
        }
    }

    /// Closes the object.
    pub fn finish(mut self) -> EncodedObject {
        if let Some(last) = self.open.take() {
            self.end_run(&last);
        }
        let footer_position = self.position;
        let mut tail = Vec::with_capacity(self.footer.len() + 10 + 4 + OBJECT_TRAILER_BYTES);
        put_varint(&mut tail, self.run_count);
        tail.extend_from_slice(&self.footer);
        let checksum = crc32c::crc32c(&tail);
        tail.extend_from_slice(&checksum.to_le_bytes());

        let mut trailer = [0; 12];
        trailer[0..8].copy_from_slice(&footer_position.to_le_bytes());
        trailer[8..12].copy_from_slice(&(tail.len() as u32).to_le_bytes());
        tail.extend_from_slice(&trailer);
        tail.extend_from_slice(&crc32c::crc32c(&trailer).to_le_bytes());
        tail.extend_from_slice(&TRAILER_MAGIC);

        EncodedObject {
            header: Bytes::copy_from_slice(&self.header),
            length: footer_position + tail.len() as u64,
            crc32c: crc32c_join(self.checksum, crc32c::crc32c(&tail), tail.len() as u64),
            tail: tail.into(),
        }
    }
}

/// The checksum of a run with one more batch, whose own CRC is known. Either way its first bytes
/// are read; the rest only when that is cheaper than joining.
fn append_batch(run: u32, batch: &[u8], crc: u32) -> u32 {
    let (uncovered, covered) = batch.split_at(BATCH_CRC_FROM);
    if batch.len() < JOIN_BYTES_MIN {
        return crc32c::crc32c_append(run, batch);
    }
    crc32c_join(crc32c::crc32c_append(run, uncovered), crc, covered.len() as u64)
}

/// Where an object's footer lies: read from its last [`OBJECT_TRAILER_BYTES`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectTrailer {
    /// First byte of the footer; one past the last byte of data.
    pub footer_position: BytePosition,
    /// Length of the footer in bytes.
    pub footer_length: u32,
}

impl ObjectTrailer {
    /// Reads the last bytes of an object of `object_length` bytes.
    pub fn decode(bytes: &[u8], object_length: u64) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let covered = reader.take(12, "object trailer")?;
        let checksum = reader.u32("object trailer checksum")?;
        let magic = reader.take(4, "object trailer magic")?;
        reader.finish("object trailer")?;
        if magic != TRAILER_MAGIC {
            return Err(bad_magic("an object's end", magic));
        }
        check_crc("object trailer", covered, checksum)?;
        let mut reader = Reader::new(covered);
        let position = reader.u64("footer position")?;
        let footer_length = reader.u32("footer length")?;
        let end = position.checked_add(u64::from(footer_length) + OBJECT_TRAILER_BYTES as u64);
        if position < OBJECT_HEADER_BYTES as u64 || end != Some(object_length) {
            return Err(invalid("footer position", position));
        }
        Ok(Self { footer_position: BytePosition(position), footer_length })
    }

    /// Reads the footer: `bytes` are exactly the ones the trailer points to. The runs are in order
    /// and fill the object's data without a gap.
    pub fn decode_footer(&self, bytes: &[u8]) -> Result<Vec<Run>> {
        let mut reader = Reader::new(bytes);
        let covered = reader.take(bytes.len().saturating_sub(4), "object footer")?;
        check_crc("object footer", covered, reader.u32("object footer checksum")?)?;

        let mut reader = Reader::new(covered);
        let count = reader.count(RUN_BYTES_MIN, "run count")?;
        let mut runs: Vec<Run> = Vec::with_capacity(count);
        let mut data_end = OBJECT_HEADER_BYTES as u64;
        for _ in 0..count {
            let run = decode_run(&mut reader)?;
            if runs.last().is_some_and(|previous| previous.partition >= run.partition) {
                return Err(invalid("run's partition", run.partition.index.0));
            }
            if run.position.0 != data_end {
                return Err(invalid("run position", run.position.0));
            }
            data_end = data_end
                .checked_add(run.length)
                .ok_or_else(|| invalid("run length", run.length))?;
            runs.push(run);
        }
        reader.finish("object footer")?;
        if data_end != self.footer_position.0 {
            return Err(invalid("end of the last run", data_end));
        }
        Ok(runs)
    }
}

fn decode_run(reader: &mut Reader<'_>) -> Result<Run> {
    let topic = TopicId(reader.u128("run's topic id")?);
    let index = PartitionIndex(reader.narrow("run's partition")?);
    let position = BytePosition(reader.varint("run position")?);
    let length = reader.varint("run length")?;
    let records = reader.varint("run's records")?;
    let batches: u32 = reader.narrow("run's batches")?;
    if batches == 0 || records < u64::from(batches) {
        return Err(invalid("run's batches", batches));
    }
    let checksum = reader.u32("run checksum")?;
    let count = reader.count(PRODUCER_BYTES_MIN, "run's producer count")?;
    let mut producers = Vec::with_capacity(count);
    for _ in 0..count {
        producers.push(ProducerRange {
            id: ProducerId(reader.narrow("producer id")?),
            epoch: ProducerEpoch(reader.narrow("producer epoch")?),
            first: Sequence(reader.narrow("producer's first sequence")?),
            last: Sequence(reader.narrow("producer's last sequence")?),
        });
    }
    let partition = PartitionId { topic, index };
    Ok(Run { partition, position, length, records, batches, checksum, producers })
}

/// Reads a whole object and checks every byte of it.
pub fn decode_object(bytes: &[u8]) -> Result<(ObjectHeader, Vec<Run>)> {
    let header = ObjectHeader::decode(bytes)?;
    let (body, trailer) =
        bytes.split_last_chunk::<OBJECT_TRAILER_BYTES>().ok_or(DecodeError::Truncated {
            what: "object trailer",
            needed: OBJECT_TRAILER_BYTES,
            remaining: bytes.len(),
        })?;
    let trailer = ObjectTrailer::decode(trailer, bytes.len() as u64)?;
    let mut reader = Reader::new(body);
    let data = reader.take(trailer.footer_position.0 as usize, "object data")?;
    let runs = trailer.decode_footer(reader.take(reader.remaining(), "object footer")?)?;
    let mut reader = Reader::new(data);
    reader.take(OBJECT_HEADER_BYTES, "object header")?;
    for run in &runs {
        check_crc("run", reader.take(run.length as usize, "run")?, run.checksum)?;
    }
    Ok((header, runs))
}

fn check_crc(what: &'static str, bytes: &[u8], stored: u32) -> Result<()> {
    let computed = crc32c::crc32c(bytes);
    if computed == stored {
        Ok(())
    } else {
        Err(DecodeError::BadChecksum { what, stored, computed })
    }
}

fn bad_magic(what: &'static str, magic: &[u8]) -> DecodeError {
    let mut found = [0; 4];
    found.iter_mut().zip(magic).for_each(|(slot, byte)| *slot = *byte);
    DecodeError::BadMagic { what, found }
}

fn invalid(what: &'static str, value: impl Into<i128>) -> DecodeError {
    DecodeError::Invalid { what, value: value.into() }
}

#[cfg(test)]
#[path = "object_tests.rs"]
mod tests;
