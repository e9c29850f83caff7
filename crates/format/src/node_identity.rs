//! The identity file of a controller's data directory: whose data this is. Written once, at the
//! first start, before anything else.
//!
//! ```text
//!   0   4  magic "OTND"
//!   4   2  version = 3: the layout of the whole directory
//!   6   2  zero
//!   8  16  cluster id
//!  24   4  node: the process's id, as brokers have it
//!  28   8  raft id, never 0
//!  36   4  CRC-32C of bytes 0..36
//! ```
//!
//! # Why two numbers
//!
//! The node's id is chosen by whoever runs the cluster and stays with the machine. The Raft id is
//! drawn at the first start of the directory and stays with its bytes. A Raft node promises to
//! remember its votes and what it acknowledged; a machine with a wiped disk cannot keep the promises
//! of the one before it, so it must not have its name. It draws a new number, and is for the others a
//! new member that has to be let in.

use ottla_model::{BrokerId, ClusterId};

use crate::codec::{DecodeError, Reader, Result, check_version};

/// The first bytes of an identity file.
pub const IDENTITY_MAGIC: [u8; 4] = *b"OTND";
/// The version of the directory layout, the only one that is written and read. The ones before it,
/// which were never released, have another state under the same commands.
pub const IDENTITY_VERSION: u16 = 3;
/// Length of an identity file.
pub const IDENTITY_BYTES: usize = 40;

/// Whose data a directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeIdentity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The process that made the directory, by the id that brokers have.
    pub node: BrokerId,
    /// The node within the control plane, by the number that Raft has for it. Never 0.
    pub raft_id: u64,
}

impl NodeIdentity {
    /// The encoding.
    pub fn encode(&self) -> [u8; IDENTITY_BYTES] {
        let mut out = [0; IDENTITY_BYTES];
        out[0..4].copy_from_slice(&IDENTITY_MAGIC);
        out[4..6].copy_from_slice(&IDENTITY_VERSION.to_le_bytes());
        out[8..24].copy_from_slice(&self.cluster.0.to_le_bytes());
        out[24..28].copy_from_slice(&self.node.0.to_le_bytes());
        out[28..36].copy_from_slice(&self.raft_id.to_le_bytes());
        let crc = crc32c::crc32c(&out[0..36]);
        out[36..40].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a whole identity file.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        // A file of another version has another length, and a checksum at its end as well.
        let covered = bytes.len().saturating_sub(4);
        let mut reader = Reader::new(bytes);
        let covered = reader.take(covered, "identity")?;
        let stored = reader.u32("identity checksum")?;
        let mut head = Reader::new(covered);
        let magic = head.take(4, "magic")?;
        if magic != IDENTITY_MAGIC {
            let mut found = [0; 4];
            found.copy_from_slice(magic);
            return Err(DecodeError::BadMagic { what: "a controller's identity file", found });
        }
        let computed = crc32c::crc32c(covered);
        if computed != stored {
            return Err(DecodeError::BadChecksum { what: "identity", stored, computed });
        }
        let version = head.u16("version")?;
        check_version("the controller's data directory", version, IDENTITY_VERSION)?;
        let reserved = head.u16("reserved")?;
        if reserved != 0 {
            return Err(DecodeError::Invalid { what: "reserved", value: i128::from(reserved) });
        }
        let identity = Self {
            cluster: ClusterId(head.u128("cluster")?),
            node: BrokerId(head.u32("node")? as i32),
            raft_id: head.u64("raft id")?,
        };
        if identity.raft_id == 0 {
            return Err(DecodeError::Invalid { what: "raft id", value: 0 });
        }
        head.finish("identity")?;
        Ok(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> NodeIdentity {
        NodeIdentity { cluster: ClusterId(0x1234_5678), node: BrokerId(1), raft_id: 0xfeed }
    }

    #[test]
    fn the_golden_identity_is_read_and_written_byte_for_byte() {
        crate::golden::check("node_identity_v3.bin", &identity().encode());
        assert_eq!(NodeIdentity::decode(&identity().encode()).unwrap(), identity());
    }

    #[test]
    fn a_directory_of_another_version_is_named_as_such() {
        let of_version = |version: u16| {
            let mut bytes = identity().encode();
            bytes[4..6].copy_from_slice(&version.to_le_bytes());
            let crc = crc32c::crc32c(&bytes[0..36]);
            bytes[36..40].copy_from_slice(&crc.to_le_bytes());
            NodeIdentity::decode(&bytes).unwrap_err()
        };
        let what = "the controller's data directory";
        assert_eq!(of_version(2), DecodeError::OutdatedVersion { what, found: 2, oldest: 3 });
        assert_eq!(of_version(4), DecodeError::UnsupportedVersion { what, found: 4, supported: 3 });
    }

    /// A file of the last build before this layout: it was four bytes shorter.
    #[test]
    fn a_directory_of_the_version_before_is_named_as_such() {
        let mut bytes = [&b"OTND"[..], &[2, 0, 0, 0], &[7; 16], &1u64.to_le_bytes()].concat();
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        let error = NodeIdentity::decode(&bytes).unwrap_err();
        assert!(matches!(error, DecodeError::OutdatedVersion { found: 2, .. }), "{error}");
    }

    #[test]
    fn no_node_has_the_raft_id_0() {
        let bytes = NodeIdentity { raft_id: 0, ..identity() }.encode();
        let error = NodeIdentity::decode(&bytes).unwrap_err();
        assert_eq!(error, DecodeError::Invalid { what: "raft id", value: 0 });
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_an_error() {
        let bytes = identity().encode();
        assert_eq!(NodeIdentity::decode(&bytes).unwrap(), identity());
        for cut in 0..bytes.len() {
            assert!(NodeIdentity::decode(&bytes[..cut]).is_err());
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(NodeIdentity::decode(&flipped).is_err(), "bit {bit}");
        }
    }
}
