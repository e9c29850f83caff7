//! The history, and what must be true of it.
//!
//! The checker hears what producers send and what they are told, reads what the control plane says
//! of extents, and reads the bucket. It knows the promises and nothing of how they are kept: no
//! sequence numbers, no frontier, no outcome of an object.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ottla_control_api::FindExtents;
use ottla_control_api::view::{Extent, ExtentBytes, ObjectRange, ObjectRef};
use ottla_control_plane::state::State;
use ottla_format::object::decode_object;
use ottla_model::{BrokerAuthor, ObjectOrigin, Offset, PartitionId, TopicId};
use ottla_object_io::keys;
use ottla_storage::write::AppendOutcome;
use ottla_wire::batch::walk;

use crate::batch::{Identity, read};
use crate::bucket::Bucket;
use crate::plane::{CLUSTER, RunEvent};

/// A promise that was broken, and how.
pub type Broken = String;

/// How a producer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Several batches on their way, each stored once.
    Idempotent,
    /// One batch on its way; stored again when the outcome was unknown or an error.
    Plain,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    identity: Identity,
    kind: Kind,
    /// It was told that this send is certainly not stored.
    denied: bool,
    /// Where it was found.
    stored: Option<Offset>,
}

/// A piece of an object that an extent points to.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub partition: PartitionId,
    pub key: String,
    position: usize,
    length: usize,
    crc: u32,
}

/// What was found in a partition. A partition that is gone keeps its history.
#[derive(Debug, Default)]
struct Log {
    next: i64,
    /// By base offset.
    batches: BTreeMap<i64, Identity>,
    /// The highest batch number of each idempotent producer.
    highest: BTreeMap<u64, u64>,
    /// The highest acknowledged batch of each plain producer, with its offset.
    acknowledged: BTreeMap<u64, (u64, i64)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    sent: BTreeMap<u64, Sent>,
    logs: BTreeMap<PartitionId, Log>,
    /// Pieces of partitions that exist, by key.
    pieces: BTreeMap<String, Vec<Piece>>,
    topics: BTreeSet<TopicId>,
    living: BTreeMap<i32, BrokerAuthor>,
    /// How often what was checked.
    pub evaluated: BTreeMap<&'static str, u64>,
}

fn broken<T>(promise: &str, what: String) -> Result<T, Broken> {
    Err(format!("{promise}: {what}"))
}

impl Checker {
    fn count(&mut self, promise: &'static str) {
        *self.evaluated.entry(promise).or_default() += 1;
    }

    /// A producer sends a batch.
    pub(crate) fn sent(&mut self, identity: Identity, kind: Kind) {
        let sent = Sent { identity, kind, denied: false, stored: None };
        self.sent.insert(identity.attempt, sent);
    }

    /// A producer was told what became of a send.
    pub(crate) fn told(&mut self, attempt: u64, outcome: AppendOutcome) -> Result<(), Broken> {
        let Some(sent) = self.sent.get_mut(&attempt) else { return Ok(()) };
        let identity = sent.identity;
        match outcome {
            AppendOutcome::Stored { base_offset, .. } => {
                let kind = sent.kind;
                self.acknowledged(identity, kind, base_offset)
            }
            AppendOutcome::NotStored | AppendOutcome::Fenced | AppendOutcome::Refused(_) => {
                sent.denied = true;
                match sent.stored {
                    Some(at) => broken(
                        "D6",
                        format!("{identity:?} is stored at {at}, and told {outcome:?}"),
                    ),
                    None => Ok(()),
                }
            }
            AppendOutcome::Undecided => Ok(()),
        }
    }

    /// I-ACK, I-IDEM: what is acknowledged at an offset is there.
    fn acknowledged(&mut self, told: Identity, kind: Kind, at: Offset) -> Result<(), Broken> {
        self.count("I-ACK");
        let log = self.logs.entry(told.partition).or_default();
        let Some(found) = log.batches.get(&at.0) else {
            return broken("I-ACK", format!("{told:?} is acknowledged at {at}; nothing is there"));
        };
        let same = found.client == told.client && found.number == told.number;
        if !same || (kind == Kind::Plain && found.attempt != told.attempt) {
            return broken(
                "I-ACK",
                format!("{told:?} is acknowledged at {at}; {found:?} is there"),
            );
        }
        if kind == Kind::Plain
            && let Some((number, last)) = log.acknowledged.insert(told.client, (told.number, at.0))
            && (number >= told.number || last >= at.0)
        {
            let what = format!("{told:?} is acknowledged at {at}, {number} before it at {last}");
            return broken("I-ORDER", what);
        }
        Ok(())
    }

    /// Runs began and ended.
    pub(crate) fn runs(&mut self, events: Vec<RunEvent>) {
        for event in events {
            match event {
                RunEvent::Began(author) => {
                    self.living.insert(author.broker.0, author);
                }
                RunEvent::Ended(author) => {
                    if self.living.get(&author.broker.0) == Some(&author) {
                        self.living.remove(&author.broker.0);
                    }
                }
            }
        }
    }

    /// Reads what is new in the control plane and what changed in the bucket.
    pub(crate) fn observe(&mut self, state: &State, bucket: &mut Bucket) -> Result<(), Broken> {
        let view = state.view();
        let topics: BTreeSet<TopicId> = view.topics.iter().map(|topic| topic.id).collect();
        if topics != self.topics {
            for pieces in self.pieces.values_mut() {
                pieces.retain(|piece| topics.contains(&piece.partition.topic));
            }
            self.topics = topics;
        }
        for shown in view.partitions {
            let next = self.logs.entry(shown.partition).or_default().next;
            if shown.bounds.high_watermark.0 < next {
                return broken("I-FWD", format!("{}: {:?}", shown.partition, shown.bounds));
            }
            if shown.bounds.high_watermark.0 > next {
                self.read_new(state, bucket, shown.partition, next)?;
                let read = self.logs.entry(shown.partition).or_default().next;
                if read != shown.bounds.high_watermark.0 {
                    return broken("I-DENSE", format!("{} ends at {read}", shown.partition));
                }
            }
        }
        for key in std::mem::take(&mut bucket.touched) {
            for piece in self.pieces.get(&key).into_iter().flatten() {
                check_piece(piece, bucket)?;
            }
            self.count("I-LIVE");
        }
        Ok(())
    }

    fn read_new(
        &mut self,
        state: &State,
        bucket: &Bucket,
        partition: PartitionId,
        from: i64,
    ) -> Result<(), Broken> {
        let find = FindExtents { partition, from: Offset(from), max_bytes: u64::MAX };
        for extent in state.find_extents(&find).extents {
            self.count("I-DENSE");
            let log = self.logs.entry(partition).or_default();
            if extent.base_offset.0 != log.next {
                return broken("I-DENSE", format!("{partition}: {extent:?} after {}", log.next));
            }
            match &extent.bytes {
                ExtentBytes::Inline(run) => self.read_run(partition, run)?,
                ExtentBytes::Object(range) => {
                    self.read_range(bucket, partition, range, &extent)?;
                }
            }
            let end = self.logs.entry(partition).or_default().next - 1;
            if end != extent.last_offset.0 {
                return broken("I-DENSE", format!("{extent:?} holds records up to {end}"));
            }
        }
        Ok(())
    }

    /// Enters the batches of an extent that refers to an object, and the piece of it that must stay.
    fn read_range(
        &mut self,
        bucket: &Bucket,
        partition: PartitionId,
        range: &ObjectRange,
        extent: &Extent,
    ) -> Result<(), Broken> {
        let name = &range.object.name;
        if let ObjectOrigin::Wal { author, .. } = name.origin {
            if self.living.get(&author.broker.0) != Some(&author) {
                return broken("I-FENCE", format!("{author:?} is over and added {extent:?}"));
            }
            self.count("I-FENCE");
        }
        let key = keys::object(CLUSTER, name);
        let bytes = object(bucket, &key, &range.object)?;
        let (position, length) = (range.position.0 as usize, range.length as usize);
        let Some(run) = bytes.get(position..position + length) else {
            return broken("I-ONE", format!("{extent:?} lies outside of its object"));
        };
        self.read_run(partition, run)?;
        let crc = crc32c::crc32c(run);
        let piece = Piece { partition, key: key.clone(), position, length, crc };
        self.pieces.entry(key).or_default().push(piece);
        Ok(())
    }

    /// I-ONE, I-IDEM, I-ORDER: enters the batches that follow in a partition.
    fn read_run(&mut self, partition: PartitionId, run: &[u8]) -> Result<(), Broken> {
        for batch in walk(run) {
            let (_, bytes) = batch.map_err(|error| format!("I-ONE: {partition}: {error}"))?;
            let found = read(bytes).map_err(|error| format!("I-ONE: {partition}: {error}"))?;
            self.count("I-IDEM");
            self.count("I-ONE");
            let log = self.logs.entry(partition).or_default();
            let at = log.next;
            let Some(sent) = self.sent.get_mut(&found.attempt) else {
                return broken("D6", format!("{found:?} was never sent"));
            };
            if sent.identity != found || found.partition != partition {
                return broken("I-ONE", format!("{found:?} was sent as {:?}", sent.identity));
            }
            if sent.denied {
                return broken(
                    "D6",
                    format!("{found:?} is stored at {at}, and was told otherwise"),
                );
            }
            if let Some(before) = sent.stored.replace(Offset(at)) {
                return broken("I-IDEM", format!("{found:?} is stored at {before} and at {at}"));
            }
            if sent.kind == Kind::Idempotent {
                let highest = log.highest.insert(found.client, found.number);
                match highest {
                    Some(highest) if found.number <= highest => {
                        let what = format!("{found:?} at {at} follows number {highest}");
                        return broken("I-IDEM or I-ORDER", what);
                    }
                    Some(highest) if found.number != highest + 1 => {
                        let what = format!("{found:?} at {at} follows number {highest}");
                        return broken("I-ORDER", what);
                    }
                    _ => {}
                }
            }
            log.batches.insert(at, found);
            log.next += i64::from(found.records);
        }
        self.count("I-ORDER");
        Ok(())
    }

    /// A piece that a reader may keep for a while.
    pub(crate) fn some_piece(&self, draw: impl FnOnce(u64) -> u64) -> Option<Piece> {
        let count: usize = self.pieces.values().map(Vec::len).sum();
        let at = if count == 0 { return None } else { draw(count as u64) as usize };
        self.pieces.values().flatten().nth(at).cloned()
    }

    /// I-LIVE, I-ONE: somebody reads a piece, a while after it was found.
    pub(crate) fn read_later(&mut self, piece: &Piece, bucket: &Bucket) -> Result<(), Broken> {
        self.count("I-LIVE");
        self.count("I-ONE");
        check_piece(piece, bucket)
    }

    /// O3: after everything came to rest, the bucket holds what is referenced and nothing else.
    pub(crate) fn bucket_is_clean(&self, bucket: &Bucket) -> Result<(), Broken> {
        let used = self.pieces.iter().filter(|(_, pieces)| !pieces.is_empty());
        let used: BTreeSet<&String> = used.map(|(key, _)| key).collect();
        match bucket.objects.keys().find(|key| !used.contains(key)) {
            Some(key) => broken("O3", format!("{key} is left in the bucket")),
            None => Ok(()),
        }
    }

    /// How many batches are stored, over all partitions that ever were.
    pub(crate) fn stored(&self) -> u64 {
        self.logs.values().map(|log| log.batches.len() as u64).sum()
    }
}

/// I-LIVE, I-ONE: a piece is there, and is what it was.
fn check_piece(piece: &Piece, bucket: &Bucket) -> Result<(), Broken> {
    let Some(bytes) = bucket.get(&piece.key) else {
        return broken("I-LIVE", format!("{} is gone and in use", piece.key));
    };
    match bytes.get(piece.position..piece.position + piece.length) {
        Some(run) if crc32c::crc32c(run) == piece.crc => Ok(()),
        _ => broken("I-ONE", format!("{} was changed", piece.key)),
    }
}

/// A whole object, verified against its own checksums and the name it was committed under.
fn object<'a>(bucket: &'a Bucket, key: &str, named: &ObjectRef) -> Result<&'a Bytes, Broken> {
    let Some(bytes) = bucket.get(key) else {
        return broken("I-ACK", format!("{key} is committed and not in the bucket"));
    };
    match decode_object(bytes) {
        Err(error) => broken("I-ACK", format!("{key} is committed and damaged: {error}")),
        Ok((header, _)) if !header.belongs_to(CLUSTER, &named.name) => {
            broken("I-ONE", format!("{key} is another object: {header:?}"))
        }
        Ok(_) if bytes.len() as u64 != named.size => {
            broken("I-ONE", format!("{key} has not the length of its commit"))
        }
        Ok(_) => Ok(bytes),
    }
}
