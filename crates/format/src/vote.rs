//! The vote file: which leader this node last voted for. A small file of its own, replaced as a
//! whole (written aside, synced, renamed, directory synced).
//!
//! ```text
//!   0   4  magic "OTVT"
//!   4   2  version = 1
//!   6   1  1 when the vote was granted by a quorum, else 0
//!   7   1  zero
//!   8  16  cluster id
//!  24   8  node: whose vote it is, by its Raft id
//!  32   8  term
//!  40   8  candidate
//!  48   4  CRC-32C of bytes 0..48
//! ```

use ottla_model::ClusterId;

use crate::codec::{DecodeError, Reader, Result};

/// The first bytes of a vote file.
pub const VOTE_MAGIC: [u8; 4] = *b"OTVT";
/// The version that is written, and the highest that is read.
pub const VOTE_VERSION: u16 = 1;
/// Length of a vote file.
pub const VOTE_BYTES: usize = 52;

/// A node's last vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteRecord {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node that voted.
    pub node: u64,
    /// The Raft term it voted in.
    pub term: u64,
    /// The node it voted for.
    pub candidate: u64,
    /// A quorum granted it: the candidate leads.
    pub committed: bool,
}

impl VoteRecord {
    /// The encoding.
    pub fn encode(&self) -> [u8; VOTE_BYTES] {
        let mut out = [0; VOTE_BYTES];
        out[0..4].copy_from_slice(&VOTE_MAGIC);
        out[4..6].copy_from_slice(&VOTE_VERSION.to_le_bytes());
        out[6] = u8::from(self.committed);
        out[8..24].copy_from_slice(&self.cluster.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.node.to_le_bytes());
        out[32..40].copy_from_slice(&self.term.to_le_bytes());
        out[40..48].copy_from_slice(&self.candidate.to_le_bytes());
        let crc = crc32c::crc32c(&out[0..48]);
        out[48..52].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a whole vote file.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let covered = reader.take(VOTE_BYTES - 4, "vote")?;
        let stored = reader.u32("vote checksum")?;
        reader.finish("vote")?;
        let mut reader = Reader::new(covered);
        let magic = reader.take(4, "magic")?;
        if magic != VOTE_MAGIC {
            let mut found = [0; 4];
            found.copy_from_slice(magic);
            return Err(DecodeError::BadMagic { what: "a vote file", found });
        }
        let computed = crc32c::crc32c(covered);
        if computed != stored {
            return Err(DecodeError::BadChecksum { what: "vote", stored, computed });
        }
        let version = reader.u16("version")?;
        if version != VOTE_VERSION {
            return Err(DecodeError::UnsupportedVersion {
                what: "the vote file",
                found: version,
                supported: VOTE_VERSION,
            });
        }
        let committed = reader.flag("committed")?;
        let reserved = reader.u8("reserved")?;
        if reserved != 0 {
            return Err(DecodeError::Invalid { what: "reserved", value: i128::from(reserved) });
        }
        Ok(Self {
            cluster: ClusterId(reader.u128("cluster")?),
            node: reader.u64("node")?,
            term: reader.u64("term")?,
            candidate: reader.u64("candidate")?,
            committed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote() -> VoteRecord {
        VoteRecord { cluster: ClusterId(9), node: 1, term: 77, candidate: 3, committed: true }
    }

    #[test]
    fn votes_round_trip() {
        assert_eq!(VoteRecord::decode(&vote().encode()).unwrap(), vote());
    }

    #[test]
    fn the_golden_vote_is_read_and_written_byte_for_byte() {
        crate::golden::check("vote_v1.bin", &vote().encode());
        assert_eq!(VoteRecord::decode(&vote().encode()).unwrap(), vote());
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_an_error() {
        let bytes = vote().encode();
        for cut in 0..bytes.len() {
            assert!(VoteRecord::decode(&bytes[..cut]).is_err());
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(VoteRecord::decode(&flipped).is_err(), "bit {bit}");
        }
        assert!(VoteRecord::decode(&[&bytes[..], &[0]].concat()).is_err());
    }
}
