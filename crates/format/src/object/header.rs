//! The first bytes of an object: whose it is.
//!
//! ```text
//!            WAL object                merged object
//!  0   4     magic "OTWO"              magic "OTMO"
//!  4  u16    version = 1
//!  6  u16    header length = 60
//!  8  u32    flags = 0; a reader refuses flags it does not know
//! 12  u32    broker                    output
//! 16  u128   cluster id
//! 32  u64    broker epoch              job
//! 40  u64    nonce (process start)     nonce (lease)
//! 48  u64    seq                       0
//! 56  u32    CRC-32C of bytes 0..56
//! ```

use ottla_model::{
    BrokerAuthor, BrokerEpoch, BrokerId, ClusterId, JobId, JobOutput, LeaseNonce, ObjectName,
    ObjectOrigin, ObjectSeq, ProcessNonce,
};

use super::{bad_magic, check_crc, invalid};
use crate::codec::{DecodeError, Reader, Result};

/// Length of the header of version 1.
pub const OBJECT_HEADER_BYTES: usize = 60;

const WAL_MAGIC: [u8; 4] = *b"OTWO";
const MERGED_MAGIC: [u8; 4] = *b"OTMO";
const VERSION: u16 = 1;

/// Whose object it is: who made it, and as which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectHeader {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// Its name, but for the attempt.
    pub origin: ObjectOrigin,
}

impl ObjectHeader {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; OBJECT_HEADER_BYTES] {
        let (magic, small, [first, nonce, last]) = match self.origin {
            ObjectOrigin::Wal { author: BrokerAuthor { broker, epoch }, nonce, seq } => {
                (WAL_MAGIC, broker.0 as u32, [epoch.0, nonce.0, seq.0])
            }
            ObjectOrigin::Merged { job, nonce, output } => {
                (MERGED_MAGIC, output.0, [job.0, nonce.0, 0])
            }
        };
        let mut out = [0; OBJECT_HEADER_BYTES];
        out[0..4].copy_from_slice(&magic);
        out[4..6].copy_from_slice(&VERSION.to_le_bytes());
        out[6..8].copy_from_slice(&(OBJECT_HEADER_BYTES as u16).to_le_bytes());
        out[12..16].copy_from_slice(&small.to_le_bytes());
        out[16..32].copy_from_slice(&self.cluster.0.to_le_bytes());
        out[32..40].copy_from_slice(&first.to_le_bytes());
        out[40..48].copy_from_slice(&nonce.to_le_bytes());
        out[48..56].copy_from_slice(&last.to_le_bytes());
        let checksum = crc32c::crc32c(&out[..56]);
        out[56..60].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Reads a header from the object's first bytes; more may follow.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let magic = reader.take(4, "object magic")?;
        let is_merged = magic == MERGED_MAGIC;
        if !is_merged && magic != WAL_MAGIC {
            return Err(bad_magic("an object", magic));
        }
        let version = reader.u16("object version")?;
        if version != VERSION {
            return Err(DecodeError::UnsupportedVersion {
                what: "object",
                found: version,
                supported: VERSION,
            });
        }
        let mut reader = Reader::new(bytes);
        let covered = reader.take(OBJECT_HEADER_BYTES - 4, "object header")?;
        check_crc("object header", covered, reader.u32("object header checksum")?)?;

        let mut reader = Reader::new(covered);
        reader.take(6, "object magic and version")?;
        let header_length = reader.u16("object header length")?;
        if usize::from(header_length) != OBJECT_HEADER_BYTES {
            return Err(invalid("object header length", header_length));
        }
        let flags = reader.u32("object flags")?;
        if flags != 0 {
            return Err(invalid("object flags", flags));
        }
        let small = reader.u32("object broker or output")?;
        let cluster = ClusterId(reader.u128("object cluster id")?);
        let first = reader.u64("object broker epoch or job")?;
        let nonce = reader.u64("object nonce")?;
        let last = reader.u64("object seq")?;
        reader.finish("object header")?;
        let origin = if is_merged {
            if last != 0 {
                return Err(invalid("merged object seq", last));
            }
            let (job, nonce) = (JobId(first), LeaseNonce(nonce));
            ObjectOrigin::Merged { job, nonce, output: JobOutput(small) }
        } else {
            let (broker, epoch) = (BrokerId(small as i32), BrokerEpoch(first));
            let author = BrokerAuthor { broker, epoch };
            ObjectOrigin::Wal { author, nonce: ProcessNonce(nonce), seq: ObjectSeq(last) }
        };
        Ok(Self { cluster, origin })
    }

    /// Whether this is the header of the object that an extent names.
    pub fn belongs_to(&self, cluster: ClusterId, name: &ObjectName) -> bool {
        self.cluster == cluster && self.origin == name.origin
    }
}
