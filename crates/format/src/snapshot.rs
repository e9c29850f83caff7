//! A snapshot file: the whole state at one applied index.
//!
//! ```text
//! header
//!   0   4  magic "OTSN"
//!   4   2  version = 4
//!   6   2  feature level of the state
//!   8  24  version of Ottla that wrote it (see software)
//!  32  16  cluster id
//!  48   8  applied: index of the last log entry that is part of it
//!  56  16  state digest
//!  72   4  meta length
//!  76   4  CRC-32C of meta
//!  80   4  CRC-32C of bytes 0..80
//!  84      meta: what the log needs to go on from here; opaque to this format
//!
//! block, any number of them
//!   0   4  payload length, not 0
//!   4   4  records in it
//!   8   4  CRC-32C of the payload
//!  12   4  CRC-32C of bytes 0..12
//!  16      payload: per record key bytes · value bytes (see state)
//!
//! footer, the end of the file
//!   0   4  zero (no block has this length)
//!   4   4  zero
//!   8   4  CRC-32C of the whole file before the footer
//!  12   4  CRC-32C of bytes 0..12
//!  16   8  records in all blocks
//!  24   8  blocks
//!  32   4  CRC-32C of bytes 16..32
//! ```
//!
//! A snapshot is written and read as a stream, a block at a time. Lengths are verified by a
//! checksum of their own before they are used. A file without its footer is unfinished. Records
//! come in the order of their kinds, each after what it belongs to (a partition after its topic).

use ottla_model::{AppliedIndex, ClusterId};

use crate::codec::{DecodeError, Reader, Result, check_feature_level, check_version, put_bytes};
use crate::feature_level::FeatureLevel;
use crate::software::Software;

/// The first bytes of a snapshot.
pub const SNAPSHOT_MAGIC: [u8; 4] = *b"OTSN";
/// The only version that is written and read. The ones before it, which were never released, did not
/// say who wrote them.
pub const SNAPSHOT_VERSION: u16 = 4;
/// Length of the header without its meta. It and the checksum's place stay the same in all versions.
pub const SNAPSHOT_HEADER_BYTES: usize = 84;
/// Length of a block's header, and of the part of the footer that stands in its place.
pub const SNAPSHOT_BLOCK_HEADER_BYTES: usize = 16;
/// Length of what follows in a footer.
pub const SNAPSHOT_FOOTER_REST_BYTES: usize = 20;
/// A writer closes a block when its payload has reached this.
pub const SNAPSHOT_BLOCK_BYTES: usize = 256 * 1024;
/// The longest payload a reader accepts: a block ends with the record that fills it, and no record
/// is larger than a log entry by more than a little.
pub const SNAPSHOT_BLOCK_BYTES_MAX: usize = 128 * 1024 * 1024;
/// The longest meta a reader accepts.
pub const SNAPSHOT_META_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What stands before the meta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// The feature level of the state. A version that knows less cannot read the records.
    pub feature_level: FeatureLevel,
    /// The version of Ottla that wrote it.
    pub software: Software,
    /// The cluster whose state it is.
    pub cluster: ClusterId,
    /// Index of the last log entry that is part of it.
    pub applied: AppliedIndex,
    /// The state's digest.
    pub digest: u128,
    meta_length: u32,
    meta_crc: u32,
}

impl SnapshotHeader {
    /// A header that this build writes, for this meta, at most [`SNAPSHOT_META_BYTES_MAX`] long.
    pub fn new(
        cluster: ClusterId,
        applied: AppliedIndex,
        (digest, feature_level): (u128, FeatureLevel),
        meta: &[u8],
    ) -> Self {
        let (meta_length, meta_crc) = (meta.len() as u32, crc32c::crc32c(meta));
        let software = Software::THIS;
        Self { feature_level, software, cluster, applied, digest, meta_length, meta_crc }
    }

    /// How many bytes of meta follow the header.
    pub fn meta_length(&self) -> usize {
        self.meta_length as usize
    }

    /// The header's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SNAPSHOT_HEADER_BYTES);
        out.extend_from_slice(&SNAPSHOT_MAGIC);
        out.extend_from_slice(&SNAPSHOT_VERSION.to_le_bytes());
        out.extend_from_slice(&self.feature_level.0.to_le_bytes());
        out.extend_from_slice(&self.software.to_bytes());
        out.extend_from_slice(&self.cluster.0.to_le_bytes());
        out.extend_from_slice(&self.applied.0.to_le_bytes());
        out.extend_from_slice(&self.digest.to_le_bytes());
        out.extend_from_slice(&self.meta_length.to_le_bytes());
        out.extend_from_slice(&self.meta_crc.to_le_bytes());
        put_checksum(&mut out);
        out
    }

    /// Reads a header.
    pub fn decode(bytes: &[u8; SNAPSHOT_HEADER_BYTES]) -> Result<Self> {
        const WHAT: &str = "snapshot header";
        let mut r = Reader::new(bytes);
        let magic = r.take(4, WHAT)?;
        if magic != SNAPSHOT_MAGIC {
            let [a, b, c, d, ..] = *bytes;
            return Err(DecodeError::BadMagic { what: "a snapshot", found: [a, b, c, d] });
        }
        let version = r.u16(WHAT)?;
        check(WHAT, bytes)?;
        let feature_level = FeatureLevel(r.u16(WHAT)?);
        let software = Software::read(&mut r);
        let known = check_version("a snapshot", version, SNAPSHOT_VERSION)
            .and_then(|()| check_feature_level(feature_level));
        if let Err(error) = known {
            return Err(software.map_or(error.clone(), |software| error.written_by(software)));
        }
        let header = Self {
            feature_level,
            software: software?,
            cluster: ClusterId(r.u128(WHAT)?),
            applied: AppliedIndex(r.u64(WHAT)?),
            digest: r.u128(WHAT)?,
            meta_length: r.u32(WHAT)?,
            meta_crc: r.u32(WHAT)?,
        };
        limit("snapshot meta length", header.meta_length(), SNAPSHOT_META_BYTES_MAX)?;
        Ok(header)
    }

    /// Verifies the bytes that follow the header.
    pub fn check_meta(&self, meta: &[u8]) -> Result<()> {
        compare("snapshot meta", self.meta_crc, crc32c::crc32c(meta))
    }
}

/// What begins after the header or a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotPart {
    /// A block with a payload of this many bytes follows.
    Block(SnapshotBlock),
    /// The rest of the footer follows; the file before it has this checksum.
    Footer {
        /// CRC-32C of the whole file before the footer.
        file_crc: u32,
    },
}

/// A block's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotBlock {
    length: u32,
    records: u32,
    crc: u32,
}

impl SnapshotPart {
    /// Reads the 16 bytes that begin a block or the footer.
    pub fn decode(bytes: &[u8; SNAPSHOT_BLOCK_HEADER_BYTES]) -> Result<Self> {
        const WHAT: &str = "snapshot block header";
        check(WHAT, bytes)?;
        let mut r = Reader::new(bytes);
        let (length, records, crc) = (r.u32(WHAT)?, r.u32(WHAT)?, r.u32(WHAT)?);
        if length == 0 {
            zero(records)?;
            return Ok(Self::Footer { file_crc: crc });
        }
        let block = SnapshotBlock { length, records, crc };
        limit("snapshot block length", block.payload_length(), SNAPSHOT_BLOCK_BYTES_MAX)?;
        Ok(Self::Block(block))
    }

    /// The 16 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (length, records, crc) = match self {
            Self::Block(block) => (block.length, block.records, block.crc),
            Self::Footer { file_crc } => (0, 0, *file_crc),
        };
        let mut out = Vec::with_capacity(SNAPSHOT_BLOCK_HEADER_BYTES);
        for field in [length, records, crc] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        put_checksum(&mut out);
        out
    }
}

impl SnapshotBlock {
    /// The header of a block with this payload, at most [`SNAPSHOT_BLOCK_BYTES_MAX`] long.
    pub fn new(payload: &[u8], records: u32) -> Self {
        Self { length: payload.len() as u32, records, crc: crc32c::crc32c(payload) }
    }

    /// How long the payload is.
    pub fn payload_length(&self) -> usize {
        self.length as usize
    }

    /// How many records are in it.
    pub fn record_count(&self) -> u32 {
        self.records
    }

    /// Verifies the payload and takes it apart into keys and values.
    pub fn records<'a>(&self, payload: &'a [u8]) -> Result<Vec<(&'a [u8], &'a [u8])>> {
        compare("snapshot block", self.crc, crc32c::crc32c(payload))?;
        let mut r = Reader::new(payload);
        let mut records = Vec::new();
        while r.remaining() > 0 {
            records.push((r.bytes("record key")?, r.bytes("record value")?));
        }
        if records.len() != self.records as usize {
            let value = records.len() as i128;
            return Err(DecodeError::Invalid { what: "snapshot block record count", value });
        }
        Ok(records)
    }
}

/// Appends a record to a block's payload.
pub fn put_record(payload: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    put_bytes(payload, key);
    put_bytes(payload, value);
}

/// What follows the 16 bytes that begin the footer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotTotals {
    /// Records in all blocks.
    pub records: u64,
    /// Blocks.
    pub blocks: u64,
}

impl SnapshotTotals {
    /// The 20 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SNAPSHOT_FOOTER_REST_BYTES);
        out.extend_from_slice(&self.records.to_le_bytes());
        out.extend_from_slice(&self.blocks.to_le_bytes());
        put_checksum(&mut out);
        out
    }

    /// Reads the 20 bytes.
    pub fn decode(bytes: &[u8; SNAPSHOT_FOOTER_REST_BYTES]) -> Result<Self> {
        const WHAT: &str = "snapshot footer";
        check(WHAT, bytes)?;
        let mut r = Reader::new(bytes);
        Ok(Self { records: r.u64(WHAT)?, blocks: r.u64(WHAT)? })
    }
}

fn put_checksum(out: &mut Vec<u8>) {
    let crc = crc32c::crc32c(out);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// Verifies that the last four bytes are the checksum of those before.
fn check(what: &'static str, bytes: &[u8]) -> Result<()> {
    let mut r = Reader::new(bytes);
    let body = r.take(bytes.len().saturating_sub(4), what)?;
    compare(what, r.u32(what)?, crc32c::crc32c(body))
}

fn compare(what: &'static str, stored: u32, computed: u32) -> Result<()> {
    if stored == computed {
        Ok(())
    } else {
        Err(DecodeError::BadChecksum { what, stored, computed })
    }
}

fn zero(value: u32) -> Result<()> {
    match value {
        0 => Ok(()),
        _ => Err(DecodeError::Invalid { what: "reserved field", value: i128::from(value) }),
    }
}

fn limit(what: &'static str, value: usize, max: usize) -> Result<()> {
    if value <= max { Ok(()) } else { Err(DecodeError::Invalid { what, value: value as i128 }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        let digest = (0xd1, FeatureLevel(1));
        let header = SnapshotHeader::new(ClusterId(0xc1), AppliedIndex(77), digest, b"meta");
        let mut out = SnapshotHeader { software: Software::new("1.2.3"), ..header }.encode();
        out.extend_from_slice(b"meta");
        for number in 0..2u8 {
            let mut payload = Vec::new();
            put_record(&mut payload, &[1, number], b"value");
            put_record(&mut payload, &[2, number], b"");
            out.extend(SnapshotPart::Block(SnapshotBlock::new(&payload, 2)).encode());
            out.extend(payload);
        }
        let file_crc = crc32c::crc32c(&out);
        out.extend(SnapshotPart::Footer { file_crc }.encode());
        out.extend(SnapshotTotals { records: 4, blocks: 2 }.encode());
        out
    }

    /// Reads a file as a reader must, and returns its records.
    fn read(bytes: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut r = Reader::new(bytes);
        let mut array = [0; SNAPSHOT_HEADER_BYTES];
        array.copy_from_slice(r.take(SNAPSHOT_HEADER_BYTES, "header")?);
        let header = SnapshotHeader::decode(&array)?;
        header.check_meta(r.take(header.meta_length(), "meta")?)?;
        let (mut records, mut totals) = (Vec::new(), SnapshotTotals::default());
        loop {
            let so_far = bytes.len() - r.remaining();
            let mut array = [0; SNAPSHOT_BLOCK_HEADER_BYTES];
            array.copy_from_slice(r.take(SNAPSHOT_BLOCK_HEADER_BYTES, "block header")?);
            match SnapshotPart::decode(&array)? {
                SnapshotPart::Block(block) => {
                    let payload = r.take(block.payload_length(), "payload")?;
                    for (key, value) in block.records(payload)? {
                        records.push((key.to_vec(), value.to_vec()));
                    }
                    totals.blocks += 1;
                    totals.records += u64::from(block.record_count());
                }
                SnapshotPart::Footer { file_crc } => {
                    compare("file", file_crc, crc32c::crc32c(&bytes[..so_far]))?;
                    let mut array = [0; SNAPSHOT_FOOTER_REST_BYTES];
                    array.copy_from_slice(r.take(SNAPSHOT_FOOTER_REST_BYTES, "footer")?);
                    assert_eq!(SnapshotTotals::decode(&array)?, totals);
                    r.finish("snapshot")?;
                    return Ok(records);
                }
            }
        }
    }

    #[test]
    fn the_golden_snapshot_is_read_and_written_byte_for_byte() {
        crate::golden::check("snapshot_v4.bin", &file());
        let records = read(&file()).unwrap();
        assert_eq!(records.len(), 4);
        assert_eq!(records[2], (vec![1, 1], b"value".to_vec()));
    }

    #[test]
    fn a_snapshot_of_another_version_or_a_higher_level_is_named_with_the_ottla_that_wrote_it() {
        let with = |at: usize, value: u16| {
            let mut bytes = [0; SNAPSHOT_HEADER_BYTES];
            bytes.copy_from_slice(&file()[..SNAPSHOT_HEADER_BYTES]);
            bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
            let crc = crc32c::crc32c(&bytes[..80]);
            bytes[80..].copy_from_slice(&crc.to_le_bytes());
            let error = SnapshotHeader::decode(&bytes).unwrap_err();
            assert!(error.is_of_another_version());
            let line = error.to_string();
            assert!(line.ends_with("(written by ottla 1.2.3)"), "{line}");
            line
        };
        assert!(with(4, 3).contains("version 3, which was never released"));
        assert!(with(4, 5).contains("format version 5"));
        assert!(with(6, 2).contains("feature level 2") && with(6, 2).contains("up to 1"));
    }

    #[test]
    fn a_cut_or_a_flip_anywhere_is_an_error() {
        let bytes = file();
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).is_err(), "cut {cut}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&flipped).is_err(), "bit {bit}");
        }
    }
}
