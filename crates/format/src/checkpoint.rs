//! The head of the checkpoint: the one entry of its tree that is not a record of the state.
//!
//! ```text
//! key     00  (before every record)
//! value   magic "OTCP" · version u16 = 4 · feature level u16 · version of Ottla (24 bytes, see
//!         software) · cluster u128 · applied u64 · digest u128 · meta bytes
//!         · CRC-32C of all before u32
//! ```
//!
//! It is written in the same batch as the records that it speaks of, so that the tree always holds
//! one whole state. Meta is what the log needs to go on from here; opaque to this format.

use ottla_model::{AppliedIndex, ClusterId};

use crate::codec::{DecodeError, Reader, Result, check_feature_level, check_version, put_bytes};
use crate::feature_level::FeatureLevel;
use crate::software::Software;

/// The head's key.
pub const CHECKPOINT_HEAD_KEY: [u8; 1] = [0];
/// The first bytes of the head's value.
pub const CHECKPOINT_MAGIC: [u8; 4] = *b"OTCP";
/// The only version that is written and read. The ones before it, which were never released, did not
/// say who wrote them.
pub const CHECKPOINT_VERSION: u16 = 4;

/// Which state the tree holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointHead {
    /// The feature level of the state. A version that knows less cannot read the records.
    pub feature_level: FeatureLevel,
    /// The version of Ottla that wrote it.
    pub software: Software,
    /// The cluster.
    pub cluster: ClusterId,
    /// Index of the last log entry that is part of the state.
    pub applied: AppliedIndex,
    /// The state's digest.
    pub digest: u128,
    /// Opaque.
    pub meta: Vec<u8>,
}

impl CheckpointHead {
    /// The value's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(96 + self.meta.len());
        out.extend_from_slice(&CHECKPOINT_MAGIC);
        out.extend_from_slice(&CHECKPOINT_VERSION.to_le_bytes());
        out.extend_from_slice(&self.feature_level.0.to_le_bytes());
        out.extend_from_slice(&self.software.to_bytes());
        out.extend_from_slice(&self.cluster.0.to_le_bytes());
        out.extend_from_slice(&self.applied.0.to_le_bytes());
        out.extend_from_slice(&self.digest.to_le_bytes());
        put_bytes(&mut out, &self.meta);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a value that fills `bytes` exactly.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        const WHAT: &str = "checkpoint head";
        let mut whole = Reader::new(bytes);
        let body = whole.take(bytes.len().saturating_sub(4), WHAT)?;
        let (stored, computed) = (whole.u32(WHAT)?, crc32c::crc32c(body));
        let mut r = Reader::new(body);
        let mut magic = [0; 4];
        magic.copy_from_slice(r.take(4, WHAT)?);
        if magic != CHECKPOINT_MAGIC {
            return Err(DecodeError::BadMagic { what: "a checkpoint", found: magic });
        }
        if stored != computed {
            return Err(DecodeError::BadChecksum { what: WHAT, stored, computed });
        }
        let (version, feature_level) = (r.u16(WHAT)?, FeatureLevel(r.u16(WHAT)?));
        let software = Software::read(&mut r);
        let known = check_version("the checkpoint", version, CHECKPOINT_VERSION)
            .and_then(|()| check_feature_level(feature_level));
        if let Err(error) = known {
            return Err(software.map_or(error.clone(), |software| error.written_by(software)));
        }
        let head = Self {
            feature_level,
            software: software?,
            cluster: ClusterId(r.u128(WHAT)?),
            applied: AppliedIndex(r.u64(WHAT)?),
            digest: r.u128(WHAT)?,
            meta: r.bytes("checkpoint meta")?.to_vec(),
        };
        r.finish(WHAT)?;
        Ok(head)
    }
}
