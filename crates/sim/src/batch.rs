//! Record batches that carry who they are, so that whoever finds one can tell.

use bytes::Bytes;
use ottla_model::{BatchProducer, PartitionId, PartitionIndex, TopicId};
use ottla_wire::batch::{BATCH_HEADER_BYTES, parse};
use ottla_wire::verify::{ReceivedBatch, RecordRules, VerifiedBatch};

/// Which batch, and which send of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Where it was sent to. The topic id is the one that was bound at the send.
    pub partition: PartitionId,
    /// Who sent it.
    pub client: u64,
    /// Its place in the order of its sender, from 0.
    pub number: u64,
    /// The send. No two sends of the world share one.
    pub attempt: u64,
    /// How many records it has.
    pub records: i32,
}

const BODY_BYTES: usize = 16 + 4 + 8 + 8 + 8 + 4;

/// A batch as the write path takes it. What follows its header are no records, and nobody looks.
pub fn build(identity: &Identity, producer: Option<BatchProducer>) -> VerifiedBatch {
    let mut bytes = vec![0; BATCH_HEADER_BYTES];
    bytes.extend(identity.partition.topic.0.to_le_bytes());
    bytes.extend(identity.partition.index.0.to_le_bytes());
    bytes.extend(identity.client.to_le_bytes());
    bytes.extend(identity.number.to_le_bytes());
    bytes.extend(identity.attempt.to_le_bytes());
    bytes.extend(identity.records.to_le_bytes());
    // Batches of all lengths, so that a position that is off by one batch shows.
    bytes.resize(BATCH_HEADER_BYTES + BODY_BYTES + (identity.attempt % 23) as usize, 0xa5);
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    let (id, epoch, sequence) =
        producer.map_or((-1, -1, -1), |p| (p.id.0, p.epoch.0, p.base_sequence.0));
    let length = BATCH_HEADER_BYTES + BODY_BYTES + (identity.attempt % 23) as usize;
    put(8, &((length - 12) as i32).to_be_bytes());
    put(12, &(-1i32).to_be_bytes());
    put(16, &[2]);
    put(23, &(identity.records - 1).to_be_bytes());
    put(27, &1_000i64.to_be_bytes());
    put(35, &1_000i64.to_be_bytes());
    put(43, &id.to_be_bytes());
    put(51, &epoch.to_be_bytes());
    put(53, &sequence.to_be_bytes());
    put(57, &identity.records.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    let received = ReceivedBatch::read(Bytes::from(bytes)).expect("built as the format says");
    received.unopened(&RecordRules::NONE).expect("nothing is asked of it")
}

/// Reads a batch back; what is wrong with it, if it is not as it was built.
pub fn read(bytes: &[u8]) -> Result<Identity, String> {
    let header = parse(bytes).map_err(|error| error.to_string())?;
    let body = bytes.get(BATCH_HEADER_BYTES..).unwrap_or_default();
    if crc32c::crc32c(bytes.get(21..).unwrap_or_default()) != header.crc || body.len() < BODY_BYTES
    {
        return Err("a batch is damaged".to_owned());
    }
    let u64_at = |at: usize| u64::from_le_bytes(body[at..at + 8].try_into().expect("8 bytes"));
    let i32_at = |at: usize| i32::from_le_bytes(body[at..at + 4].try_into().expect("4 bytes"));
    let topic = u128::from_le_bytes(body[..16].try_into().expect("16 bytes"));
    Ok(Identity {
        partition: PartitionId { topic: TopicId(topic), index: PartitionIndex(i32_at(16)) },
        client: u64_at(20),
        number: u64_at(28),
        attempt: u64_at(36),
        records: i32_at(44),
    })
}
