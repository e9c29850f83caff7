//! The content of a Raft log, in our own types: log ids, memberships, entries, and the small record
//! of Raft's own state that a snapshot and a checkpoint carry beside the replicated state.
//!
//! ```text
//! log id       varint term, varint node, varint index
//! member       varint node, text address
//! membership   list of (list of varint node)   one voter set, two while they change
//!              list of member                  ascending node; members in no voter set learn only
//! entry        log id, u8 kind, payload
//!                kind 0 blank       nothing
//!                kind 1 command     the encoded command, up to the end
//!                kind 2 membership  a membership
//! applied      u8 version = 1
//!              option log id                   the last applied entry
//!              option log id                   the entry that brought the membership
//!              membership
//! ```
//!
//! None of these carries a checksum: the frame, the snapshot or the checkpoint around it does.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::codec::{DecodeError, Reader, Result, put_flag, put_text, put_varint};
use crate::command::Command;

/// The version of [`AppliedRecord`] that is written.
const APPLIED_VERSION: u8 = 2;
/// The one before, which is still read: without [`AppliedRecord::installed`].
const APPLIED_VERSION_1: u8 = 1;

/// Names one entry of the log: the leader that proposed it (its Raft term and node) and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogId {
    /// The leader's Raft term.
    pub term: u64,
    /// The leader.
    pub node: u64,
    /// The place, from 0, without gaps.
    pub index: u64,
}

impl std::fmt::Display for LogId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (term {} of node {})", self.index, self.term, self.node)
    }
}

/// The nodes of the control plane, and which of them vote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// One set of voters; two while the membership changes.
    pub voters: Vec<BTreeSet<u64>>,
    /// Every node with the address of its internal listener. One that is in no voter set learns.
    pub members: BTreeMap<u64, String>,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub id: LogId,
    /// Its content.
    pub payload: Payload,
}

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: a new leader's first entry.
    Blank,
    /// An encoded command of the state machine.
    Command(Bytes),
    /// A new membership.
    Membership(Membership),
}

/// How far a state has come in the log, and the membership at that point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppliedRecord {
    /// The last applied entry.
    pub last: Option<LogId>,
    /// The entry that brought the membership.
    pub membership_id: Option<LogId>,
    /// The membership.
    pub membership: Membership,
    /// Everything up to here came in the snapshot of another node: this node's log need not have
    /// held it.
    pub installed: Option<LogId>,
}

impl LogId {
    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.term);
        put_varint(out, self.node);
        put_varint(out, self.index);
    }

    /// Reads one.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            term: reader.varint("log id term")?,
            node: reader.varint("log id node")?,
            index: reader.varint("log id index")?,
        })
    }

    /// Appends the encoding of a log id that may be missing.
    pub fn encode_option(id: Option<&Self>, out: &mut Vec<u8>) {
        put_flag(out, id.is_some());
        if let Some(id) = id {
            id.encode(out);
        }
    }

    /// Reads a log id that may be missing.
    pub fn decode_option(reader: &mut Reader<'_>) -> Result<Option<Self>> {
        if reader.flag("log id presence")? { Self::decode(reader).map(Some) } else { Ok(None) }
    }
}

impl Membership {
    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.voters.len() as u64);
        for set in &self.voters {
            put_varint(out, set.len() as u64);
            for node in set {
                put_varint(out, *node);
            }
        }
        put_varint(out, self.members.len() as u64);
        for (node, address) in &self.members {
            put_varint(out, *node);
            put_text(out, address);
        }
    }

    /// Reads one. Nodes out of order are refused, so that a membership has one encoding.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let mut voters = Vec::new();
        for _ in 0..reader.count(1, "voter sets")? {
            let mut set = BTreeSet::new();
            for _ in 0..reader.count(1, "voters")? {
                let node = reader.varint("voter")?;
                if set.last().is_some_and(|last| *last >= node) {
                    return Err(DecodeError::Invalid { what: "voter", value: i128::from(node) });
                }
                set.insert(node);
            }
            voters.push(set);
        }
        let mut members = BTreeMap::new();
        for _ in 0..reader.count(2, "members")? {
            let node = reader.varint("member")?;
            if members.last_key_value().is_some_and(|(last, _)| *last >= node) {
                return Err(DecodeError::Invalid { what: "member", value: i128::from(node) });
            }
            members.insert(node, reader.text("member address")?.to_owned());
        }
        Ok(Self { voters, members })
    }
}

impl Entry {
    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.id.encode(out);
        match &self.payload {
            Payload::Blank => out.push(0),
            Payload::Command(bytes) => {
                out.push(1);
                out.extend_from_slice(bytes);
            }
            Payload::Membership(membership) => {
                out.push(2);
                membership.encode(out);
            }
        }
    }

    /// Says whether this version of Ottla knows the entry's command; see [`Command::check_known`].
    ///
    /// # Errors
    /// When it does not.
    pub fn check_known(&self) -> Result<()> {
        match &self.payload {
            Payload::Command(bytes) => Command::check_known(bytes),
            Payload::Blank | Payload::Membership(_) => Ok(()),
        }
    }

    /// Reads one that fills `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let id = LogId::decode(&mut reader)?;
        let payload = match reader.u8("entry kind")? {
            0 => Payload::Blank,
            1 => {
                let length = reader.remaining();
                Payload::Command(Bytes::copy_from_slice(reader.take(length, "command")?))
            }
            2 => Payload::Membership(Membership::decode(&mut reader)?),
            kind => {
                return Err(DecodeError::Unknown { what: "entry kind", value: kind.into() });
            }
        };
        reader.finish("entry")?;
        Ok(Self { id, payload })
    }
}

impl AppliedRecord {
    /// The encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![APPLIED_VERSION];
        LogId::encode_option(self.last.as_ref(), &mut out);
        LogId::encode_option(self.membership_id.as_ref(), &mut out);
        self.membership.encode(&mut out);
        LogId::encode_option(self.installed.as_ref(), &mut out);
        out
    }

    /// Reads one that fills `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8("applied record version")?;
        if version != APPLIED_VERSION && version != APPLIED_VERSION_1 {
            return Err(DecodeError::UnsupportedVersion {
                what: "applied record",
                found: u16::from(version),
                supported: u16::from(APPLIED_VERSION),
            });
        }
        let record = Self {
            last: LogId::decode_option(&mut reader)?,
            membership_id: LogId::decode_option(&mut reader)?,
            membership: Membership::decode(&mut reader)?,
            installed: match version {
                APPLIED_VERSION_1 => None,
                _ => LogId::decode_option(&mut reader)?,
            },
        };
        reader.finish("applied record")?;
        Ok(record)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn id(term: u64, index: u64) -> LogId {
        LogId { term, node: 7, index }
    }

    pub(crate) fn membership() -> Membership {
        Membership {
            voters: vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 300])],
            members: BTreeMap::from([
                (1, "a:9093".to_owned()),
                (2, String::new()),
                (300, "c:9093".to_owned()),
                (301, "learner:9093".to_owned()),
            ]),
        }
    }

    #[test]
    fn entries_round_trip_and_refuse_a_cut_inside_their_id_or_membership() {
        for payload in [
            Payload::Blank,
            Payload::Command(Bytes::from_static(b"command")),
            Payload::Membership(membership()),
        ] {
            let entry = Entry { id: id(3, 1 << 40), payload };
            let mut out = Vec::new();
            entry.encode(&mut out);
            assert_eq!(Entry::decode(&out).unwrap(), entry);
            let cut_can_show = match &entry.payload {
                Payload::Command(bytes) => out.len() - bytes.len(),
                _ => out.len(),
            };
            for cut in 0..cut_can_show {
                assert!(Entry::decode(&out[..cut]).is_err(), "cut at {cut} of {entry:?}");
            }
        }
    }

    #[test]
    fn applied_records_round_trip_and_refuse_every_cut() {
        let record = AppliedRecord {
            last: Some(id(2, 9)),
            membership_id: Some(id(1, 0)),
            membership: membership(),
            installed: Some(id(2, 7)),
        };
        let out = record.encode();
        assert_eq!(AppliedRecord::decode(&out).unwrap(), record);
        for cut in 0..out.len() {
            assert!(AppliedRecord::decode(&out[..cut]).is_err());
        }
        let none = AppliedRecord::default();
        assert_eq!(AppliedRecord::decode(&none.encode()).unwrap(), none);
    }

    #[test]
    fn an_applied_record_of_the_first_version_was_not_installed() {
        let record = AppliedRecord {
            last: Some(id(2, 9)),
            membership_id: Some(id(1, 0)),
            membership: membership(),
            installed: None,
        };
        let mut first = record.encode();
        first[0] = APPLIED_VERSION_1;
        assert_eq!(first.pop(), Some(0));
        assert_eq!(AppliedRecord::decode(&first).unwrap(), record);
    }

    #[test]
    fn members_out_of_order_are_refused() {
        assert!(Membership::decode(&mut Reader::new(&[1, 2, 5, 4, 0])).is_err());
        assert!(Membership::decode(&mut Reader::new(&[0, 2, 5, 0, 5, 0])).is_err());
    }
}
