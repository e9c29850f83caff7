//! The judgement of bytes: torn tails are cut, damage is refused.

use std::sync::Arc;

use bytes::Bytes;
use ottla_format::command_kind::CommandKind;
use ottla_format::raft_entry::{Entry, LogId, Payload};
use ottla_format::raft_log::{FRAME_HEADER_BYTES, Frame, SEGMENT_HEADER_BYTES, SegmentHeader};
use ottla_format::software::Software;
use ottla_format::vote::VoteRecord;
use ottla_model::ClusterId;

use super::files::LogDirectory;
use super::index::LogEntry;
use super::journal::Write;
use super::memory_files::MemoryDirectory;
use super::recovery::{AppliedElsewhere, Recovered, Recovery, Refusal};
use super::{LogIdentity, LogOptions, VOTE_FILE, open, segment_name};
use crate::limits::LOG_POSITION_MAX;

const IDENTITY: LogIdentity = LogIdentity { cluster: ClusterId(5), node: 1 };

fn id(index: u64) -> LogId {
    LogId { term: 1, node: 1, index }
}

fn entry(index: u64) -> Frame {
    // The head of a command of a known kind.
    let tick = [CommandKind::Tick as u8, 1, 0];
    let payload = Payload::Command(Bytes::from([&tick[..], &[index as u8; 7]].concat()));
    Frame::Entry(Entry { id: id(index), payload })
}

fn header(start: u64) -> SegmentHeader {
    let LogIdentity { cluster, node } = IDENTITY;
    SegmentHeader { software: Software::new("1.2.3"), cluster, node, start }
}

/// A segment; each frame comes with whether everything before it was synced.
fn segment(start: u64, frames: &[(bool, Frame)]) -> Vec<u8> {
    let header = header(start);
    let mut out = header.encode().to_vec();
    let mut synced = start;
    for (marks, frame) in frames {
        let position = start + out.len() as u64;
        if *marks {
            synced = position;
        }
        frame.encode(position, synced, &mut out);
    }
    out
}

fn recover(segments: &[&[u8]], elsewhere: AppliedElsewhere) -> Result<Recovered, Refusal> {
    let mut recovery = Recovery::new(IDENTITY);
    let mut start = 0;
    for (at, bytes) in segments.iter().enumerate() {
        recovery.segment(start, bytes, at + 1 == segments.len())?;
        start += bytes.len() as u64;
    }
    recovery.finish(elsewhere)
}

fn indexes(log: &Recovered) -> Vec<u64> {
    log.entries.iter().map(|entry| entry.id.index).collect()
}

fn alone(bytes: &[u8]) -> Result<Recovered, Refusal> {
    recover(&[bytes], AppliedElsewhere::default())
}

#[test]
fn a_cut_at_any_byte_above_the_synced_position_is_a_torn_tail() {
    let synced = segment(0, &[(false, entry(0)), (false, entry(1))]);
    let whole =
        segment(0, &[(false, entry(0)), (false, entry(1)), (true, entry(2)), (false, entry(3))]);
    for cut in synced.len()..whole.len() {
        let log = alone(&whole[..cut]).unwrap();
        assert!(indexes(&log).starts_with(&[0, 1]), "cut at {cut}");
        let good = log.segments[0].end + log.torn_bytes;
        assert_eq!(good, cut as u64);
    }
}

#[test]
fn a_file_that_begins_behind_the_end_of_any_log_is_refused() {
    for start in [u64::MAX, u64::MAX - 100, LOG_POSITION_MAX + 1] {
        let header = header(start);
        for bytes in [&header.encode()[..], &[0x5a; 300], &[]] {
            let refused = Recovery::new(IDENTITY).segment(start, bytes, true);
            let Err(Refusal::Damaged { segment, offset: 0, .. }) = refused else {
                panic!("{start}: {refused:?}");
            };
            assert_eq!(segment, start);
        }
    }
}

#[test]
fn zeros_and_garbage_behind_the_last_frame_are_a_torn_tail() {
    for fill in [0u8, 0xff, 0x5a] {
        let mut bytes = segment(0, &[(false, entry(0)), (true, Frame::Synced)]);
        bytes.extend(vec![fill; 5000]);
        let log = alone(&bytes).unwrap();
        assert_eq!((indexes(&log), log.torn_bytes), (vec![0], 5000));
    }
}

#[test]
fn any_flipped_bit_below_the_synced_position_is_refused() {
    let covered = segment(0, &[(false, entry(0)), (false, entry(1)), (true, entry(2))]).len();
    let whole = segment(
        0,
        &[(false, entry(0)), (false, entry(1)), (true, entry(2)), (true, Frame::Synced)],
    );
    for bit in 0..covered * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(alone(&bytes), Err(Refusal::Damaged { .. })), "bit {bit}");
    }
}

#[test]
fn a_flipped_bit_in_the_tail_is_never_taken_for_an_entry() {
    let whole = segment(0, &[(false, entry(0)), (true, entry(1)), (false, entry(2))]);
    for bit in SEGMENT_HEADER_BYTES * 8..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(log) = alone(&bytes) {
            assert!(indexes(&log).len() < 3, "bit {bit}");
            assert!([0, 1, 2].starts_with(&indexes(&log)), "bit {bit}");
        }
    }
}

#[test]
fn a_whole_frame_of_a_kind_that_is_not_known_is_no_torn_tail() {
    let mut bytes = segment(0, &[(false, entry(0)), (false, entry(1))]);
    let last = segment(0, &[(false, entry(0))]).len();
    let header = &mut bytes[last..last + FRAME_HEADER_BYTES];
    header[4] = 99;
    let crc = crc32c::crc32c(&header[4..]);
    header[..4].copy_from_slice(&crc.to_le_bytes());
    let refusal = alone(&bytes).unwrap_err();
    let Refusal::Newer { segment: 0, source } = refusal else { panic!("{refusal:?}") };
    assert!(source.to_string().ends_with("(written by ottla 1.2.3)"), "{source}");
}

#[test]
fn a_command_or_level_that_is_not_known_is_refused_with_the_ottla_that_wrote_it() {
    let command = |bytes: &[u8]| {
        let payload = Payload::Command(Bytes::copy_from_slice(bytes));
        let entry = Frame::Entry(Entry { id: id(1), payload });
        let refusal = alone(&segment(0, &[(false, self::entry(0)), (false, entry)])).unwrap_err();
        let Refusal::Newer { segment: 0, source } = refusal else { panic!("{refusal:?}") };
        let line = source.to_string();
        assert!(line.ends_with("(written by ottla 1.2.3)"), "{line}");
        line
    };
    assert!(command(&[200, 1, 0]).contains("command kind 200 is not known"));
    assert!(command(&[1, 9, 0]).contains("register_broker has format version 9"));
    let raise = [CommandKind::RaiseFeatureLevel as u8, 1, 0, 99];
    assert!(command(&raise).contains("feature level 99"));
}

#[test]
fn a_segment_says_which_ottla_wrote_it() {
    let mut other = header(0).encode().to_vec();
    let at = other.len() as u64;
    entry(0).encode(at, 0, &mut other);
    assert_eq!(alone(&other).unwrap().segments[0].software, Software::new("1.2.3"));
}

/// After an upgrade: what the newer version writes is not under the name of the older one.
#[test]
fn another_ottla_goes_on_in_a_segment_of_its_own() {
    let directory = MemoryDirectory::default();
    let put = |name: &str, bytes: &[u8]| {
        let file = directory.create(name).unwrap();
        file.write_at(bytes, 0).unwrap();
    };
    let older = segment(0, &[(false, entry(0))]);
    put(&segment_name(0), &older);
    let LogIdentity { cluster, node } = IDENTITY;
    let vote = VoteRecord { cluster, node, term: 1, candidate: 1, committed: true };
    put(VOTE_FILE, &vote.encode());
    let directory: Arc<dyn LogDirectory> = Arc::new(directory);
    for index in 1..3 {
        let elsewhere = AppliedElsewhere::default();
        let log = open(directory.clone(), IDENTITY, LogOptions::default(), elsewhere).unwrap();
        let mut journal = log.journal;
        let Frame::Entry(entry) = entry(index) else { panic!("no entry") };
        let entry = Arc::new(LogEntry { entry, command: None });
        journal.write(&[Write::Append(vec![(0, entry)])]).unwrap();
        let written_by: Vec<Software> = journal.segments().iter().map(|s| s.software).collect();
        assert_eq!(written_by, [Software::new("1.2.3"), Software::THIS], "write {index}");
        assert_eq!(journal.segments()[1].start, older.len() as u64);
    }
}

#[test]
fn damage_in_a_segment_that_is_not_the_last_is_refused() {
    let mut first = segment(0, &[(false, entry(0)), (false, entry(1))]);
    let second = segment(first.len() as u64, &[(false, entry(2))]);
    let last = first.len() - 1;
    first[last] ^= 1;
    let refusal = recover(&[&first, &second], AppliedElsewhere::default()).unwrap_err();
    assert!(
        matches!(refusal, Refusal::Damaged { segment: 0, offset, .. } if offset > SEGMENT_HEADER_BYTES as u64)
    );
}

#[test]
fn a_segment_torn_within_its_header_is_dropped() {
    let first = segment(0, &[(false, entry(0))]);
    for length in 0..SEGMENT_HEADER_BYTES {
        let second = segment(first.len() as u64, &[])[..length].to_vec();
        let log = recover(&[&first, &second], AppliedElsewhere::default()).unwrap();
        assert_eq!(log.torn_segment, Some(first.len() as u64));
        assert_eq!(log.segments.len(), 1);
    }
}

#[test]
fn a_tail_that_was_applied_elsewhere_is_damage() {
    let whole = segment(0, &[(false, entry(0)), (false, entry(1))]);
    let cut = &whole[..whole.len() - 1];
    let applied = |snapshot, checkpoint| AppliedElsewhere { snapshot, checkpoint, installed: None };
    assert!(recover(&[cut], applied(None, Some(0))).is_ok());
    assert!(recover(&[cut], applied(None, Some(1))).is_err());
    assert!(recover(&[cut], applied(Some(1), None)).is_err());
    // Not when it came from another node: this log never promised it.
    let installed = AppliedElsewhere { installed: Some(7), ..applied(Some(7), Some(6)) };
    assert!(recover(&[cut], installed).is_ok());
}

#[test]
fn a_log_that_ends_below_the_checkpoint_is_damage_and_below_a_snapshot_is_not() {
    let whole = segment(0, &[(false, entry(0))]);
    let applied = |snapshot, checkpoint| AppliedElsewhere { snapshot, checkpoint, installed: None };
    assert!(recover(&[&whole], applied(None, Some(1))).is_err());
    assert!(recover(&[&whole], applied(Some(7), Some(5))).is_ok());
    assert!(recover(&[], applied(None, Some(1))).is_err());
}

#[test]
fn truncations_void_entries_and_purges_drop_them() {
    let frames = [entry(0), entry(1), entry(2), Frame::Truncated(Some(id(0))), entry(1), entry(2)];
    let log = alone(&segment(0, &frames.clone().map(|frame| (false, frame)))).unwrap();
    assert_eq!(indexes(&log), [0, 1, 2]);
    let mut frames = frames.to_vec();
    frames.extend([Frame::Purged(id(1)), Frame::Committed(id(2)), entry(3)]);
    let frames: Vec<_> = frames.into_iter().map(|frame| (false, frame)).collect();
    let log = alone(&segment(0, &frames)).unwrap();
    assert_eq!((indexes(&log), log.purged, log.committed), (vec![2, 3], Some(id(1)), Some(id(2))));
}

#[test]
fn the_first_segments_may_be_missing_only_up_to_the_last_purge() {
    let frames = [(false, entry(5)), (false, entry(6)), (false, Frame::Purged(id(4)))];
    let log = {
        let mut recovery = Recovery::new(IDENTITY);
        recovery.segment(1000, &segment(1000, &frames), true).unwrap();
        recovery.finish(AppliedElsewhere::default()).unwrap()
    };
    assert_eq!(indexes(&log), [5, 6]);
    let mut recovery = Recovery::new(IDENTITY);
    recovery.segment(1000, &segment(1000, &frames[..2]), true).unwrap();
    assert!(recovery.finish(AppliedElsewhere::default()).is_err());
}

#[test]
fn a_missing_segment_in_the_middle_is_refused() {
    let first = segment(0, &[(false, entry(0))]);
    let mut recovery = Recovery::new(IDENTITY);
    recovery.segment(0, &first, false).unwrap();
    let third = segment(1000, &[(false, entry(2))]);
    assert!(matches!(recovery.segment(1000, &third, true), Err(Refusal::Damaged { .. })));
}

#[test]
fn a_log_of_another_node_is_refused() {
    let bytes = segment(0, &[(false, entry(0))]);
    let mut recovery = Recovery::new(LogIdentity { node: 2, ..IDENTITY });
    assert!(matches!(recovery.segment(0, &bytes, true), Err(Refusal::Foreign { .. })));
}

#[test]
fn nothing_is_taken_for_committed_that_the_log_does_not_hold() {
    let frames = [(false, entry(0)), (false, Frame::Committed(id(3)))];
    let log = alone(&segment(0, &frames)).unwrap();
    assert_eq!(log.committed, Some(id(0)));
}
