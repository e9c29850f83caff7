//! The Raft log on disk: a sequence of segment files, each a header and frames.
//!
//! ```text
//! segment file
//!   0   4  magic "OTRL"
//!   4   2  version = 2
//!   6   2  zero
//!   8  24  version of Ottla that writes it (see software)
//!  32  16  cluster id
//!  48   8  node: its Raft id
//!  56   8  start: the log position of this file's first byte
//!  64   4  CRC-32C of bytes 0..64
//!  68      frames, without gaps
//!
//! frame
//!   0   4  CRC-32C of bytes 4..32
//!   4   1  kind
//!   5   3  zero
//!   8   4  body length
//!  12   4  CRC-32C of the body
//!  16   8  position: the log position of this frame's first byte
//!  24   8  synced: everything below this log position was on disk before the frame was written
//!  32      body
//!
//! bodies
//!   kind 1 entry       an entry (see raft_entry)
//!   kind 2 truncated   option log id: entries after it are void
//!   kind 3 committed   log id: entries up to it are committed
//!   kind 4 purged      log id: entries up to it are in a snapshot and need not be here
//!   kind 5 synced      nothing; written for its `synced` when the log falls idle
//! ```
//!
//! A *log position* counts bytes from the first byte of the first segment, headers included, and
//! never starts again: the end of one segment is the start of the next. A frame says its own
//! position, so that old bytes or bytes of another file in its place are never taken for it, and
//! so that intact frames can be found again behind damaged ones. Both parts of a frame have a
//! checksum of their own: the length is verified before it is used.
//!
//! One version of Ottla writes a segment; another one begins the next. So whatever stands in a segment
//! that a reader does not know, the header says who knows it. Header and checksum stay in their places
//! in all versions.
//!
//! `synced` is what tells a torn tail from damage. Frames above every recorded `synced` may be
//! missing or torn after a power loss, and nobody was told that they are safe; a bad frame below
//! one was once on disk and is damage.

use ottla_model::ClusterId;

use crate::codec::{DecodeError, Reader, Result, check_version};
use crate::raft_entry::{Entry, LogId};
use crate::software::Software;

/// The first bytes of a segment.
pub const SEGMENT_MAGIC: [u8; 4] = *b"OTRL";
/// The only version that is written and read. Version 1, which was never released, did not say who
/// wrote it.
pub const SEGMENT_VERSION: u16 = 2;
/// Length of a segment's header.
pub const SEGMENT_HEADER_BYTES: usize = 68;
/// Length of a frame without its body.
pub const FRAME_HEADER_BYTES: usize = 32;
/// The longest body a writer may write or a reader accepts: far above the largest command, far
/// below what a damaged length could ask for.
pub const FRAME_BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes from the start of the log's first segment.
pub type LogPosition = u64;

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The version of Ottla that writes the segment.
    pub software: Software,
    /// The cluster the log belongs to.
    pub cluster: ClusterId,
    /// The node whose log it is, by its Raft id.
    pub node: u64,
    /// Position of the file's first byte.
    pub start: LogPosition,
}

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// An entry was appended.
    Entry(Entry),
    /// Entries after this one (all, if `None`) are void.
    Truncated(Option<LogId>),
    /// Entries up to this one are committed.
    Committed(LogId),
    /// Entries up to this one are in a snapshot.
    Purged(LogId),
    /// Nothing but what its header says about synced bytes.
    Synced,
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The kind of its body, not yet checked.
    pub kind: u8,
    /// Length of its body.
    pub body_bytes: u32,
    /// Checksum of its body.
    pub body_crc: u32,
    /// Where it stands.
    pub position: LogPosition,
    /// Everything below was on disk before this frame was written.
    pub synced: LogPosition,
}

impl SegmentHeader {
    /// The encoding.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut out = [0; SEGMENT_HEADER_BYTES];
        out[0..4].copy_from_slice(&SEGMENT_MAGIC);
        out[4..6].copy_from_slice(&SEGMENT_VERSION.to_le_bytes());
        out[8..32].copy_from_slice(&self.software.to_bytes());
        out[32..48].copy_from_slice(&self.cluster.0.to_le_bytes());
        out[48..56].copy_from_slice(&self.node.to_le_bytes());
        out[56..64].copy_from_slice(&self.start.to_le_bytes());
        let crc = crc32c::crc32c(&out[0..64]);
        out[64..68].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the header that `bytes` begin with.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let header = reader.take(SEGMENT_HEADER_BYTES, "raft log segment header")?;
        let (covered, crc) = header.split_at(SEGMENT_HEADER_BYTES - 4);
        let mut reader = Reader::new(covered);
        let magic = reader.take(4, "magic")?;
        if magic != SEGMENT_MAGIC {
            let mut found = [0; 4];
            found.copy_from_slice(magic);
            return Err(DecodeError::BadMagic { what: "a raft log segment", found });
        }
        // The checksum comes before the version: a flipped bit there is damage, not a new format.
        check_crc("raft log segment header", covered, Reader::new(crc).u32("checksum")?)?;
        let version = reader.u16("version")?;
        let reserved = reader.u16("reserved")?;
        let software = Software::read(&mut reader);
        if let Err(error) = check_version("the raft log", version, SEGMENT_VERSION) {
            return Err(software.map_or(error.clone(), |software| error.written_by(software)));
        }
        if reserved != 0 {
            return Err(DecodeError::Invalid { what: "reserved", value: i128::from(reserved) });
        }
        Ok(Self {
            software: software?,
            cluster: ClusterId(reader.u128("cluster")?),
            node: reader.u64("node")?,
            start: reader.u64("start")?,
        })
    }
}

impl Frame {
    /// Appends the frame as it stands at `position`. The body must not be longer than
    /// [`FRAME_BODY_BYTES_MAX`]; the writer checks that when it accepts an entry.
    pub fn encode(&self, position: LogPosition, synced: LogPosition, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + FRAME_HEADER_BYTES, 0);
        let kind = match self {
            Self::Entry(entry) => {
                entry.encode(out);
                1
            }
            Self::Truncated(after) => {
                LogId::encode_option(after.as_ref(), out);
                2
            }
            Self::Committed(id) => {
                id.encode(out);
                3
            }
            Self::Purged(id) => {
                id.encode(out);
                4
            }
            Self::Synced => 5,
        };
        let (head, body) = out[start..].split_at_mut(FRAME_HEADER_BYTES);
        head[4] = kind;
        head[8..12].copy_from_slice(&(body.len() as u32).to_le_bytes());
        head[12..16].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
        head[16..24].copy_from_slice(&position.to_le_bytes());
        head[24..32].copy_from_slice(&synced.to_le_bytes());
        let crc = crc32c::crc32c(&head[4..]);
        head[0..4].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads the frame that `bytes` begin with, which must stand at `position`. Returns it with
    /// its header and its whole length.
    pub fn decode(bytes: &[u8], position: LogPosition) -> Result<(FrameHeader, Self, usize)> {
        let header = FrameHeader::decode(bytes)?;
        if header.position != position {
            return Err(DecodeError::Invalid {
                what: "frame position",
                value: i128::from(header.position),
            });
        }
        let length = FRAME_HEADER_BYTES + header.body_bytes as usize;
        let mut reader = Reader::new(bytes);
        reader.take(FRAME_HEADER_BYTES, "frame header")?;
        let body = reader.take(header.body_bytes as usize, "frame body")?;
        check_crc("frame body", body, header.body_crc)?;
        Ok((header, Self::decode_body(header.kind, body)?, length))
    }

    /// Whether `bytes` begin with a frame for `position` that is as it was written, whether or not
    /// this version understands what it says.
    pub fn is_whole(bytes: &[u8], position: LogPosition) -> bool {
        let Ok(header) = FrameHeader::decode(bytes) else { return false };
        let body = FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + header.body_bytes as usize;
        header.position == position
            && bytes.get(body).is_some_and(|body| crc32c::crc32c(body) == header.body_crc)
    }

    fn decode_body(kind: u8, body: &[u8]) -> Result<Self> {
        if kind == 1 {
            return Entry::decode(body).map(Self::Entry);
        }
        let mut reader = Reader::new(body);
        let frame = match kind {
            2 => Self::Truncated(LogId::decode_option(&mut reader)?),
            3 => Self::Committed(LogId::decode(&mut reader)?),
            4 => Self::Purged(LogId::decode(&mut reader)?),
            5 => Self::Synced,
            kind => {
                return Err(DecodeError::Unknown { what: "frame kind", value: kind.into() });
            }
        };
        reader.finish("frame body")?;
        Ok(frame)
    }
}

impl FrameHeader {
    /// Reads the header that `bytes` begin with; its checksum is verified, its kind is not.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let crc = reader.u32("frame checksum")?;
        let covered = reader.take(FRAME_HEADER_BYTES - 4, "frame header")?;
        check_crc("frame header", covered, crc)?;
        let mut reader = Reader::new(covered);
        let kind = reader.u8("frame kind")?;
        let reserved = reader.take(3, "reserved")?;
        if reserved != [0; 3] {
            let value = i128::from(reserved[0]);
            return Err(DecodeError::Invalid { what: "reserved", value });
        }
        let body_bytes = reader.u32("body length")?;
        if body_bytes as usize > FRAME_BODY_BYTES_MAX {
            let value = i128::from(body_bytes);
            return Err(DecodeError::Invalid { what: "frame body length", value });
        }
        Ok(Self {
            kind,
            body_bytes,
            body_crc: reader.u32("body checksum")?,
            position: reader.u64("position")?,
            synced: reader.u64("synced")?,
        })
    }

    /// The first intact frame header in `bytes`, the first of which stands at `position`. Used to
    /// look behind a bad frame.
    pub fn find(bytes: &[u8], position: LogPosition) -> Option<(usize, Self)> {
        (0..bytes.len().saturating_sub(FRAME_HEADER_BYTES - 1)).find_map(|at| {
            let candidate = bytes.get(at..at + FRAME_HEADER_BYTES)?;
            // The cheap test first: a frame here would say this very position.
            let said = Reader::new(candidate.get(16..24)?).u64("position").ok()?;
            if position.checked_add(at as u64) != Some(said) {
                return None;
            }
            Self::decode(candidate).ok().map(|header| (at, header))
        })
    }
}

fn check_crc(what: &'static str, covered: &[u8], stored: u32) -> Result<()> {
    let computed = crc32c::crc32c(covered);
    if computed == stored {
        Ok(())
    } else {
        Err(DecodeError::BadChecksum { what, stored, computed })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::raft_entry::Payload;
    use crate::raft_entry::tests::{id, membership};

    fn header() -> SegmentHeader {
        let cluster = ClusterId(0x0123_4567_89ab_cdef << 64 | 5);
        SegmentHeader { software: Software::new("1.2.3"), cluster, node: 1, start: 4096 }
    }

    fn frames() -> Vec<Frame> {
        vec![
            Frame::Purged(id(1, 4)),
            Frame::Committed(id(1, 4)),
            Frame::Entry(Entry { id: id(2, 5), payload: Payload::Blank }),
            Frame::Entry(Entry { id: id(2, 6), payload: Payload::Membership(membership()) }),
            Frame::Truncated(Some(id(2, 5))),
            Frame::Entry(Entry {
                id: id(3, 6),
                payload: Payload::Command(Bytes::from_static(b"a command of the state machine")),
            }),
            Frame::Synced,
            Frame::Truncated(None),
        ]
    }

    fn segment() -> Vec<u8> {
        let mut out = header().encode().to_vec();
        for frame in frames() {
            let position = header().start + out.len() as u64;
            frame.encode(position, header().start, &mut out);
        }
        out
    }

    fn decode_all(bytes: &[u8]) -> Result<Vec<Frame>> {
        let header = SegmentHeader::decode(bytes)?;
        let mut at = SEGMENT_HEADER_BYTES;
        let mut frames = Vec::new();
        while at < bytes.len() {
            let (_, frame, length) = Frame::decode(&bytes[at..], header.start + at as u64)?;
            frames.push(frame);
            at += length;
        }
        Ok(frames)
    }

    #[test]
    fn segments_round_trip() {
        let bytes = segment();
        assert_eq!(SegmentHeader::decode(&bytes).unwrap(), header());
        assert_eq!(decode_all(&bytes).unwrap(), frames());
    }

    #[test]
    fn the_golden_segment_is_read_and_written_byte_for_byte() {
        crate::golden::check("raft_log_v2.bin", &segment());
        assert_eq!(decode_all(&segment()).unwrap(), frames());
    }

    #[test]
    fn a_cut_at_any_byte_gives_the_frames_before_it_and_an_error() {
        let bytes = segment();
        let mut boundaries = vec![SEGMENT_HEADER_BYTES];
        let mut at = SEGMENT_HEADER_BYTES;
        while at < bytes.len() {
            at += Frame::decode(&bytes[at..], header().start + at as u64).unwrap().2;
            boundaries.push(at);
        }
        for cut in 0..bytes.len() {
            assert_eq!(decode_all(&bytes[..cut]).is_ok(), boundaries.contains(&cut), "cut {cut}");
        }
    }

    #[test]
    fn a_flip_of_any_bit_is_an_error() {
        let bytes = segment();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_all(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_frame_at_another_position_is_refused() {
        let mut out = Vec::new();
        Frame::Synced.encode(100, 0, &mut out);
        assert!(Frame::decode(&out, 100).is_ok());
        assert!(Frame::decode(&out, 101).is_err());
    }

    #[test]
    fn intact_frames_are_found_behind_garbage() {
        let mut out = vec![0xa5; 77];
        Frame::Synced.encode(1000 + 77, 1000, &mut out);
        let (at, header) = FrameHeader::find(&out, 1000).unwrap();
        assert_eq!((at, header.synced), (77, 1000));
        assert!(FrameHeader::find(&out, 999).is_none());
        assert!(FrameHeader::find(&out[..100], 1000).is_none());
    }

    #[test]
    fn a_newer_version_is_named_with_the_ottla_that_wrote_it() {
        let mut bytes = header().encode();
        bytes[4] = 3;
        let crc = crc32c::crc32c(&bytes[..64]);
        bytes[64..].copy_from_slice(&crc.to_le_bytes());
        let error = SegmentHeader::decode(&bytes).unwrap_err();
        assert!(error.is_of_another_version());
        let line = error.to_string();
        assert!(line.contains("format version 3") && line.contains("ottla 1.2.3"), "{line}");
    }
}
