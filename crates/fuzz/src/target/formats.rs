//! What outlives a process. The examples are the golden files of the formats.
//!
//! What a format reads without error it must also write, and read again as the same: a value that
//! only damage makes must not bring down who writes it into the next snapshot.

use ottla_env::Random;
use ottla_format::checkpoint::CheckpointHead;
use ottla_format::codec::Reader;
use ottla_format::command::Command;
use ottla_format::node_identity::NodeIdentity;
use ottla_format::object::{OBJECT_HEADER_BYTES, OBJECT_TRAILER_BYTES, decode_object};
use ottla_format::raft_entry::{AppliedRecord, Entry, LogId, Membership, Payload};
use ottla_format::raft_log::{
    FRAME_HEADER_BYTES, Frame, FrameHeader, SEGMENT_HEADER_BYTES, SegmentHeader,
};
use ottla_format::snapshot::{
    SNAPSHOT_BLOCK_HEADER_BYTES, SNAPSHOT_FOOTER_REST_BYTES, SNAPSHOT_HEADER_BYTES, SnapshotHeader,
    SnapshotPart, SnapshotTotals,
};
use ottla_format::state::StateRecord;
use ottla_format::vote::VoteRecord;
use ottla_model::ObjectName;

use super::{Inputs, Target, Verdict};
use crate::stored::golden;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "object",
        read: read_object,
        examples: |_| golden("object"),
        reseal: Some(seal_object),
    },
    Target { name: "object-name", read: read_name, examples: names, reseal: None },
    Target {
        name: "raft-log",
        read: read_segment,
        examples: |_| golden("raft_log"),
        reseal: Some(seal_segment),
    },
    Target { name: "raft-entry", read: read_entry, examples: entries, reseal: None },
    Target { name: "applied", read: read_applied, examples: applied, reseal: None },
    Target { name: "vote", read: read_vote, examples: |_| golden("vote"), reseal: Some(seal_end) },
    Target {
        name: "identity",
        read: read_identity,
        examples: |_| golden("node_identity"),
        reseal: Some(seal_end),
    },
    Target {
        name: "snapshot",
        read: read_snapshot,
        examples: |_| golden("snapshot"),
        reseal: Some(seal_snapshot),
    },
    Target {
        name: "checkpoint",
        read: read_head,
        examples: |_| golden("checkpoint_head"),
        reseal: Some(seal_end),
    },
    Target { name: "command", read: read_command, examples: commands, reseal: None },
    Target { name: "state", read: read_state, examples: state, reseal: None },
];

/// Writes the CRC-32C of all that is before the last four bytes into these.
fn seal_end(bytes: &mut [u8]) {
    if let Some((covered, crc)) = bytes.split_last_chunk_mut() {
        *crc = crc32c::crc32c(covered).to_le_bytes();
    }
}

/// A little-endian number at `at`; 0 where there is none.
fn number(bytes: &[u8], at: usize) -> usize {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    field.map_or(0, |field| u32::from_le_bytes(*field) as usize)
}

fn read_object(bytes: &[u8]) -> Verdict {
    let (header, _) = decode_object(bytes)?;
    assert_eq!(bytes[..OBJECT_HEADER_BYTES], header.encode());
    Ok(())
}

fn seal_object(bytes: &mut [u8]) {
    if let Some(header) = bytes.first_chunk_mut::<OBJECT_HEADER_BYTES>() {
        seal_end(header);
    }
    let Some((before, trailer)) = bytes.split_last_chunk_mut::<OBJECT_TRAILER_BYTES>() else {
        return;
    };
    let from = number(trailer, 0);
    if let Some(footer) = before.get_mut(from..) {
        trailer[8..12].copy_from_slice(&(footer.len() as u32).to_le_bytes());
        seal_end(footer);
    }
    seal_end(&mut trailer[..16]);
}

fn names(_: &Random) -> Inputs {
    let names = [
        "3-7-0000000000000abc-4.2",
        "0-1-ffffffffffffffff-18446744073709551615.0",
        "job7-0000000000000abc-4.2",
    ];
    Ok(names.map(|name| name.as_bytes().to_vec()).to_vec())
}

fn read_name(bytes: &[u8]) -> Verdict {
    let text = std::str::from_utf8(bytes)?;
    let name = ObjectName::parse(text).ok_or("not the name of an object")?;
    assert_eq!(name.to_string(), text);
    Ok(())
}

fn read_segment(bytes: &[u8]) -> Verdict {
    let header = SegmentHeader::decode(bytes)?;
    assert_eq!(bytes[..SEGMENT_HEADER_BYTES], header.encode());
    let mut at = SEGMENT_HEADER_BYTES;
    while at < bytes.len() {
        let position = header.start.checked_add(at as u64).ok_or("start")?;
        let rest = &bytes[at..];
        let found = Frame::decode(rest, position);
        assert!(found.is_err() || Frame::is_whole(rest, position));
        // As recovery does: intact frames behind a bad one are found.
        let (found, frame, length) = found.inspect_err(|_| {
            FrameHeader::find(rest, position);
        })?;
        let mut again = Vec::new();
        frame.encode(position, found.synced, &mut again);
        assert_eq!(Frame::decode(&again, position).map(|(_, frame, _)| frame), Ok(frame));
        at += length;
    }
    Ok(())
}

fn seal_segment(bytes: &mut [u8]) {
    let Some((header, mut rest)) = bytes.split_first_chunk_mut::<SEGMENT_HEADER_BYTES>() else {
        return;
    };
    seal_end(header);
    let mut position = number(header, 56) as u64 + SEGMENT_HEADER_BYTES as u64;
    while let Some((head, body)) = rest.split_first_chunk_mut::<FRAME_HEADER_BYTES>() {
        let length = number(head, 8).min(body.len());
        let (body, behind) = body.split_at_mut(length);
        head[8..12].copy_from_slice(&(length as u32).to_le_bytes());
        head[12..16].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
        head[16..24].copy_from_slice(&position.to_le_bytes());
        let crc = crc32c::crc32c(&head[4..]);
        head[..4].copy_from_slice(&crc.to_le_bytes());
        position += (FRAME_HEADER_BYTES + length) as u64;
        rest = behind;
    }
}

fn membership() -> Membership {
    let voters = vec![[1, 2, 3].into(), [3, 700].into()];
    let members = [(1, "10.0.0.1:9093".to_owned()), (700, "localhost:1".to_owned())].into();
    Membership { voters, members }
}

fn entries(random: &Random) -> Inputs {
    let commands = commands(random)?.into_iter().map(|command| Payload::Command(command.into()));
    let others = [Payload::Blank, Payload::Membership(membership())];
    let encoded = |payload| {
        let mut out = Vec::new();
        Entry { id: LogId { term: 1, node: 300, index: 70_000 }, payload }.encode(&mut out);
        out
    };
    Ok(commands.chain(others).map(encoded).collect())
}

fn read_entry(bytes: &[u8]) -> Verdict {
    let entry = Entry::decode(bytes)?;
    let mut again = Vec::new();
    entry.encode(&mut again);
    assert_eq!(Entry::decode(&again), Ok(entry));
    Ok(())
}

fn applied(_: &Random) -> Inputs {
    let last = Some(LogId { term: 9, node: 1, index: 1 << 40 });
    let moved =
        AppliedRecord { last, membership_id: last, membership: membership(), installed: last };
    Ok([AppliedRecord::default(), moved].map(|record| record.encode()).to_vec())
}

fn read_applied(bytes: &[u8]) -> Verdict {
    let record = AppliedRecord::decode(bytes)?;
    assert_eq!(AppliedRecord::decode(&record.encode()), Ok(record));
    Ok(())
}

fn read_vote(bytes: &[u8]) -> Verdict {
    assert_eq!(bytes, VoteRecord::decode(bytes)?.encode());
    Ok(())
}

fn read_identity(bytes: &[u8]) -> Verdict {
    assert_eq!(bytes, NodeIdentity::decode(bytes)?.encode());
    Ok(())
}

fn read_snapshot(bytes: &[u8]) -> Verdict {
    let (header, rest) = bytes.split_first_chunk::<SNAPSHOT_HEADER_BYTES>().ok_or("header")?;
    let header = SnapshotHeader::decode(header)?;
    let (meta, mut rest) = rest.split_at_checked(header.meta_length()).ok_or("meta")?;
    header.check_meta(meta)?;
    loop {
        let (head, behind) =
            rest.split_first_chunk::<SNAPSHOT_BLOCK_HEADER_BYTES>().ok_or("block header")?;
        match SnapshotPart::decode(head)? {
            SnapshotPart::Block(block) => {
                let (payload, behind) =
                    behind.split_at_checked(block.payload_length()).ok_or("payload")?;
                for (key, value) in block.records(payload)? {
                    // The records of the golden file are none of the state.
                    let _ = StateRecord::decode(key, value);
                }
                rest = behind;
            }
            SnapshotPart::Footer { .. } => {
                let totals = behind.first_chunk::<SNAPSHOT_FOOTER_REST_BYTES>().ok_or("footer")?;
                SnapshotTotals::decode(totals)?;
                return Ok(());
            }
        }
    }
}

fn seal_snapshot(bytes: &mut [u8]) {
    let Some((header, rest)) = bytes.split_first_chunk_mut::<SNAPSHOT_HEADER_BYTES>() else {
        return;
    };
    let (meta, mut rest) = rest.split_at_mut(number(header, 72).min(rest.len()));
    header[72..76].copy_from_slice(&(meta.len() as u32).to_le_bytes());
    header[76..80].copy_from_slice(&crc32c::crc32c(meta).to_le_bytes());
    seal_end(header);
    while let Some((head, behind)) = rest.split_first_chunk_mut::<SNAPSHOT_BLOCK_HEADER_BYTES>() {
        let length = number(head, 0).min(behind.len());
        let (payload, behind) = behind.split_at_mut(length);
        head[..4].copy_from_slice(&(length as u32).to_le_bytes());
        head[8..12].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
        seal_end(head);
        if length == 0 {
            return seal_end(behind);
        }
        rest = behind;
    }
}

fn read_head(bytes: &[u8]) -> Verdict {
    let head = CheckpointHead::decode(bytes)?;
    assert_eq!(CheckpointHead::decode(&head.encode()), Ok(head));
    Ok(())
}

/// The parts of golden files that have their lengths before them.
fn parts(format: &str) -> Inputs {
    let mut parts = Vec::new();
    for file in golden(format)? {
        let mut reader = Reader::new(&file);
        while let Ok(part) = reader.bytes("part") {
            parts.push(part.to_vec());
        }
    }
    Ok(parts)
}

fn commands(_: &Random) -> Inputs {
    parts("commands")
}

fn read_command(bytes: &[u8]) -> Verdict {
    let command = Command::decode(bytes)?;
    let mut again = Vec::new();
    command.encode(&mut again);
    assert_eq!(Command::decode(&again), Ok(command));
    Ok(())
}

/// A key with its length before it, and a value.
fn state(_: &Random) -> Inputs {
    let pair = |pair: &[Vec<u8>]| [&[pair[0].len() as u8][..], &pair[0], &pair[1]].concat();
    Ok(parts("state")?.chunks_exact(2).map(pair).collect())
}

fn read_state(bytes: &[u8]) -> Verdict {
    let (length, rest) = bytes.split_first().ok_or("key length")?;
    let (key, value) = rest.split_at_checked(usize::from(*length)).ok_or("key")?;
    let record = StateRecord::decode(key, value)?;
    let (key, mut again) = (record.key().to_bytes(), Vec::new());
    record.put_value(&mut again);
    assert_eq!(StateRecord::decode(&key, &again), Ok(record));
    Ok(())
}
