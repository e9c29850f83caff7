//! F28: the power fails at every single operation on a controller's files, and again at every
//! operation of the start after it. With any part of the changes that were not synced, every
//! acknowledged entry is there, and the state is the one that the log makes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use ottla_format::command::{Command, CommandBody, CreateTopic};
use ottla_format::raft_entry::{AppliedRecord, Entry, LogId, Membership, Payload};
use ottla_format::vote::VoteRecord;
use ottla_model::{AppliedIndex, ClusterId, TimestampMs, TopicId, TopicName};

use super::StartError;
use super::restore::{Recovered, recover};
use crate::raft_log::memory_files::{Fault, Loss, MemoryDirectory};
use crate::raft_log::{LogEntry, LogIdentity, LogOptions, Write};
use crate::snapshot::Snapshots;
use crate::state::State;

const IDENTITY: LogIdentity = LogIdentity { cluster: ClusterId(5), node: 1 };
/// Small, so that a short life fills many segments.
const OPTIONS: LogOptions = LogOptions { segment_bytes: 600, cache_bytes: 0 };

/// What a controller does with its files.
#[derive(Clone, Copy, Debug)]
enum Step {
    Vote(u64),
    /// So many entries with one sync.
    Append(u64),
    /// Writes a snapshot of what is applied.
    Snapshot,
    /// Lets the log go up to the snapshot before the newest.
    Purge,
    /// Takes over the state of another node, so many entries ahead.
    Install(u64),
    Marker,
}

use Step::{Append, Install, Marker, Purge, Snapshot, Vote};

const ALONE: &[Step] = &[
    Vote(1),
    Append(1),
    Append(3),
    Marker,
    Append(6),
    Snapshot,
    Append(4),
    Marker,
    Vote(2),
    Append(1),
    Append(5),
    Snapshot,
    Purge,
    Append(1),
    Append(8),
    Marker,
    Snapshot,
    Purge,
    Append(2),
    Vote(3),
    Append(7),
    Snapshot,
    Purge,
    Marker,
    Append(1),
];

const FOLLOWER: &[Step] = &[
    Vote(1),
    Append(4),
    Snapshot,
    Append(3),
    Install(9),
    Append(2),
    Marker,
    Snapshot,
    Purge,
    Append(5),
    Vote(4),
    Install(30),
    Append(1),
];

fn id(index: u64) -> LogId {
    LogId { term: 1, node: 1, index }
}

/// The command of an index is always the same, and no two leave the same state.
fn command(index: u64) -> Command {
    let body = CommandBody::CreateTopic(CreateTopic {
        id: TopicId(u128::from(index) + 1),
        name: TopicName::new(&format!("topic-{index}")).unwrap(),
        partitions: 1,
        replication_factor: 1,
        configs: BTreeMap::new(),
    });
    Command { time: TimestampMs(index as i64), body }
}

fn log_entry(index: u64) -> LogEntry {
    let mut bytes = Vec::new();
    command(index).encode(&mut bytes);
    let payload = Payload::Command(bytes.into());
    LogEntry { entry: Entry { id: id(index), payload }, command: None }
}

fn apply(state: &mut State, index: u64) {
    state.apply(AppliedIndex(index), &command(index));
}

/// The states after each index.
struct Oracle {
    digests: Vec<u128>,
    voters: &'static [u64],
}

impl Oracle {
    fn new(steps: &[Step], voters: &'static [u64]) -> Self {
        let entries: u64 =
            steps.iter().map(|step| if let Append(n) | Install(n) = step { *n } else { 0 }).sum();
        let mut state = State::new(IDENTITY.cluster);
        let mut digests = vec![];
        for index in 0..=entries {
            apply(&mut state, index);
            digests.push(state.digest());
        }
        Self { digests, voters }
    }

    fn record(&self, last: u64) -> AppliedRecord {
        let voters: BTreeSet<u64> = self.voters.iter().copied().collect();
        let members = voters.iter().map(|id| (*id, String::new())).collect();
        let membership = Membership { voters: vec![voters], members };
        AppliedRecord {
            last: Some(id(last)),
            membership_id: Some(id(0)),
            membership,
            installed: None,
        }
    }

    fn state(&self, last: u64) -> State {
        let mut state = State::new(IDENTITY.cluster);
        (0..=last).for_each(|index| apply(&mut state, index));
        state
    }
}

fn raft(disk: &MemoryDirectory) -> Arc<MemoryDirectory> {
    Arc::new(disk.directory("raft/"))
}

fn snapshots(disk: &MemoryDirectory) -> Snapshots {
    Snapshots::new(Arc::new(disk.directory("snapshots/")), IDENTITY.cluster)
}

fn start(disk: &MemoryDirectory) -> Result<Recovered, StartError> {
    recover(raft(disk), &snapshots(disk), IDENTITY, OPTIONS, None)
}

/// What was promised: so many entries (index 0 first), and this vote.
#[derive(Clone, Copy, Debug, Default)]
struct Promised {
    entries: u64,
    vote: u64,
}

/// Lives until the end or the first error.
fn live(disk: &MemoryDirectory, steps: &[Step], oracle: &Oracle) -> (Promised, Option<io::Error>) {
    let mut promised = Promised::default();
    let mut run = || -> io::Result<()> {
        let mut journal = start(disk).map_err(io::Error::other)?.log.journal;
        let mut snapshot = None;
        let mut purgeable = None;
        let mut installed = None;
        for step in steps {
            match *step {
                Vote(term) => {
                    let vote = VoteRecord {
                        cluster: IDENTITY.cluster,
                        node: 1,
                        term,
                        candidate: 1,
                        committed: true,
                    };
                    journal.write(&[Write::Vote(vote)])?;
                    promised.vote = term;
                }
                Append(count) => {
                    let indexes = promised.entries..promised.entries + count;
                    let entries = indexes.map(|index| (0, Arc::new(log_entry(index)))).collect();
                    journal.write(&[Write::Append(entries)])?;
                    promised.entries += count;
                    journal.note_committed(Some(id(promised.entries - 1)));
                }
                Snapshot | Install(_) => {
                    if let Install(ahead) = *step {
                        promised.entries += ahead;
                    }
                    let last = promised.entries - 1;
                    let mut record = oracle.record(last);
                    if let Install(_) = step {
                        installed = Some(id(last));
                    }
                    record.installed = installed;
                    let write = snapshots(disk).write(&oracle.state(last), &record.encode());
                    if let (Err(_), Install(ahead)) = (&write, *step) {
                        promised.entries -= ahead;
                    }
                    write.map_err(io::Error::other)?;
                    if let Install(_) = step {
                        journal.write(&[Write::Purge(id(last))])?;
                    }
                    purgeable = snapshot.replace(last);
                }
                Purge => {
                    if let Some(upto) = purgeable {
                        journal.write(&[Write::Purge(id(upto))])?;
                    }
                }
                Marker => journal.write_marker()?,
            }
        }
        Ok(())
    };
    let error = run().err();
    (promised, error)
}

/// Checks a start, and that the node can go on from it.
fn check(disk: &MemoryDirectory, promised: Promised, oracle: &Oracle) -> Result<(), String> {
    let found = start(disk).map_err(|error| error.to_string())?;
    let applied = found.record.last.map(|id| id.index);
    let mut state = found.state;
    let mut entries = applied.map_or(0, |index| index + 1);
    let rest = found.log.entries_from(&*raft(disk), entries);
    for entry in rest.map_err(|error| error.to_string())? {
        let index = entry.entry.id.index;
        if index != entries {
            return Err(format!("entry {index} instead of {entries}"));
        }
        if entry.entry != log_entry(index).entry {
            return Err(format!("entry {index} is another"));
        }
        apply(&mut state, index);
        entries += 1;
    }
    if entries < promised.entries {
        return Err(format!("{entries} entries of {}", promised.entries));
    }
    if entries > 0 && state.digest() != oracle.digests[entries as usize - 1] {
        return Err(format!("another state after {entries} entries"));
    }
    let vote = found.log.vote.map_or(0, |vote| vote.term);
    if vote < promised.vote {
        return Err(format!("vote {vote} after {}", promised.vote));
    }
    let ends = found.log.ends().1.map(|id| id.index);
    let mut journal = found.log.journal;
    if let Some(applied) = applied
        && ends < Some(applied)
    {
        // So does openraft at its start: a snapshot was installed, and the log not yet told.
        journal.write(&[Write::Purge(id(applied))]).map_err(|error| error.to_string())?;
    }
    let next = vec![(0, Arc::new(log_entry(entries)))];
    if entries < oracle.digests.len() as u64 && vote > 0 {
        journal.write(&[Write::Append(next)]).map_err(|error| error.to_string())?;
        let again = start(&disk.after(Loss::All)).map_err(|error| format!("again: {error}"))?;
        let last = again.log.ends().1.map(|id| id.index);
        if last != Some(entries) {
            return Err(format!("then ends at {last:?} instead of {entries}"));
        }
    }
    Ok(())
}

/// How much was tried.
#[derive(Debug, Default)]
struct Tried {
    points: u64,
    losses: u64,
    second_points: u64,
    second_losses: u64,
}

fn crash_everywhere(steps: &[Step], voters: &'static [u64]) -> Tried {
    let oracle = Oracle::new(steps, voters);
    let operations = {
        let disk = MemoryDirectory::default();
        let (promised, error) = live(&disk, steps, &oracle);
        assert!(error.is_none(), "{error:?}");
        let operations = disk.operations();
        check(&disk, promised, &oracle).unwrap();
        operations
    };
    let mut tried = Tried::default();
    for at in 0..operations {
        let disk = MemoryDirectory::with_fault(at, Fault::Crash);
        let (promised, error) = live(&disk, steps, &oracle);
        assert!(error.is_some(), "operation {at} was not reached");
        tried.points += 1;
        for loss in disk.losses(4) {
            tried.losses += 1;
            let left = || disk.after(loss);
            let result = check(&left(), promised, &oracle);
            assert_eq!(result, Ok(()), "power lost at operation {at}, {loss:?}");
            let starting = {
                let left = left();
                start(&left).unwrap();
                left.operations()
            };
            for second in 0..starting {
                let left = left();
                left.fail_at(second, Fault::Crash);
                assert!(start(&left).is_err());
                tried.second_points += 1;
                for again in left.losses(1) {
                    tried.second_losses += 1;
                    let result = check(&left.after(again), promised, &oracle);
                    let place = format!("operation {at}, {loss:?}, then {second}, {again:?}");
                    assert_eq!(result, Ok(()), "power lost at {place}");
                }
            }
        }
    }
    tried
}

#[test]
#[allow(clippy::print_stderr, reason = "how much was tried is part of the result")]
fn f28_power_lost_at_any_operation_and_again_during_recovery_loses_nothing_acknowledged() {
    for (name, steps, voters) in
        [("the only voter", ALONE, [1].as_slice()), ("one of two", FOLLOWER, &[1, 2])]
    {
        let tried = crash_everywhere(steps, voters);
        eprintln!("{name}: {tried:?}");
        assert!(tried.points > 80 && tried.second_points > 1_000, "{tried:?}");
    }
}
