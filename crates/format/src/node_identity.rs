//! The identity file of a controller's data directory: whose data this is. Written once, at the
//! first start, before anything else.
//!
//! ```text
//!   0   4  magic "OTND"
//!   4   2  version = 2: the layout of the whole directory
//!   6   2  zero
//!   8  16  cluster id
//!  24   8  node
//!  32   4  CRC-32C of bytes 0..32
//! ```

use ottla_model::ClusterId;

use crate::codec::{DecodeError, Reader, Result, check_version};

/// The first bytes of an identity file.
pub const IDENTITY_MAGIC: [u8; 4] = *b"OTND";
/// The version of the directory layout, the only one that is written and read. Version 1, which was
/// never released, has another state under the same commands.
pub const IDENTITY_VERSION: u16 = 2;
/// Length of an identity file.
pub const IDENTITY_BYTES: usize = 36;

/// Whose data a directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeIdentity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node within the control plane.
    pub node: u64,
}

impl NodeIdentity {
    /// The encoding.
    pub fn encode(&self) -> [u8; IDENTITY_BYTES] {
        let mut out = [0; IDENTITY_BYTES];
        out[0..4].copy_from_slice(&IDENTITY_MAGIC);
        out[4..6].copy_from_slice(&IDENTITY_VERSION.to_le_bytes());
        out[8..24].copy_from_slice(&self.cluster.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.node.to_le_bytes());
        let crc = crc32c::crc32c(&out[0..32]);
        out[32..36].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a whole identity file.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let covered = reader.take(IDENTITY_BYTES - 4, "identity")?;
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
        reader.finish("identity")?;
        let reserved = head.u16("reserved")?;
        if reserved != 0 {
            return Err(DecodeError::Invalid { what: "reserved", value: i128::from(reserved) });
        }
        Ok(Self { cluster: ClusterId(head.u128("cluster")?), node: head.u64("node")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> NodeIdentity {
        NodeIdentity { cluster: ClusterId(0x1234_5678), node: 1 }
    }

    #[test]
    fn the_golden_identity_is_read_and_written_byte_for_byte() {
        crate::golden::check("node_identity_v2.bin", &identity().encode());
        assert_eq!(NodeIdentity::decode(&identity().encode()).unwrap(), identity());
    }

    #[test]
    fn a_directory_of_another_version_is_named_as_such() {
        let of_version = |version: u16| {
            let mut bytes = identity().encode();
            bytes[4..6].copy_from_slice(&version.to_le_bytes());
            let crc = crc32c::crc32c(&bytes[0..32]);
            bytes[32..36].copy_from_slice(&crc.to_le_bytes());
            NodeIdentity::decode(&bytes).unwrap_err()
        };
        let what = "the controller's data directory";
        assert_eq!(of_version(1), DecodeError::OutdatedVersion { what, found: 1, oldest: 2 });
        assert_eq!(of_version(3), DecodeError::UnsupportedVersion { what, found: 3, supported: 2 });
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
