//! A life of a log, cut short at every operation of its file system: what was acknowledged is
//! there afterwards, and nothing that was never written.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use ottla_format::command_kind::CommandKind;
use ottla_format::raft_entry::{Entry, LogId, Payload};
use ottla_format::vote::VoteRecord;
use ottla_model::ClusterId;
use ottla_telemetry::Metrics;

use super::index::LogEntry;
use super::journal::{Journal, Write};
use super::memory_files::{Fault, MemoryDirectory};
use super::open::open;
use super::{AppliedElsewhere, LogIdentity, LogOptions, OpenLogError, RaftLog};
use crate::limits::LOG_IDLE;

/// The most threads that tokio starts for blocking work.
const BLOCKING_THREADS: usize = 512;

const IDENTITY: LogIdentity = LogIdentity { cluster: ClusterId(5), node: 1 };
/// Small, so that a short life fills many segments.
const OPTIONS: LogOptions = LogOptions { segment_bytes: 400, cache_bytes: 1_000 };

fn id(term: u64, index: u64) -> LogId {
    LogId { term, node: 1, index }
}

fn log_entry(term: u64, index: u64) -> LogEntry {
    // The head of a command of a known kind.
    let tick = [CommandKind::Tick as u8, 1, 0];
    let text = format!("entry {index} of term {term}");
    let payload = Payload::Command(Bytes::from([&tick[..], text.as_bytes()].concat()));
    LogEntry { entry: Entry { id: id(term, index), payload }, command: None }
}

fn append(term: u64, indexes: std::ops::Range<u64>) -> Write {
    Write::Append(indexes.map(|index| (0, Arc::new(log_entry(term, index)))).collect())
}

fn vote(term: u64) -> VoteRecord {
    VoteRecord { cluster: IDENTITY.cluster, node: 1, term, candidate: 1, committed: true }
}

/// What a log must hold: log ids from the purged one on, and the vote's term.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    purged: Option<u64>,
    entries: Vec<LogId>,
    vote: u64,
}

impl Model {
    fn apply(&mut self, write: &Write) {
        match write {
            Write::Append(entries) => self.entries.extend(entries.iter().map(|(_, e)| e.entry.id)),
            Write::Truncate(after) => {
                self.entries.retain(|id| Some(id.index) <= after.map(|after| after.index));
            }
            Write::Purge(upto) => {
                self.purged = Some(upto.index);
                self.entries.retain(|id| id.index > upto.index);
            }
            Write::Vote(vote) => self.vote = vote.term,
            Write::Barrier => {}
        }
    }
}

/// Batches as a node would write them: votes, appends, a conflict, purges.
fn life() -> Vec<Vec<Write>> {
    let mut batches = vec![
        vec![Write::Vote(vote(1)), append(1, 0..1)],
        vec![append(1, 1..4), append(1, 4..9)],
        vec![append(1, 9..14)],
        vec![Write::Truncate(Some(id(1, 10))), append(2, 11..13)],
        vec![append(2, 13..14), Write::Vote(vote(3)), append(3, 14..20)],
        vec![Write::Purge(id(1, 8))],
        vec![append(3, 20..26), Write::Barrier],
        vec![Write::Purge(id(3, 19)), append(3, 26..27)],
        vec![Write::Truncate(Some(id(3, 24)))],
    ];
    batches.extend((25..40).map(|index| vec![append(4, index..index + 1)]));
    batches
}

/// Lives until the end or the first error. Returns the models that may be found afterwards: the
/// acknowledged one and, one write further each, those of the batch in flight.
fn live(directory: &MemoryDirectory) -> (Vec<Model>, Option<io::Error>) {
    let mut acknowledged = Model::default();
    let run = |acknowledged: &mut Model| -> Result<(), (Vec<Model>, io::Error)> {
        let opened = open(Arc::new(directory.clone()), IDENTITY, OPTIONS, Default::default());
        let mut journal: Journal = match opened {
            Ok(opened) => opened.journal,
            Err(error) => return Err((Vec::new(), io::Error::other(error.to_string()))),
        };
        for batch in life() {
            let mut possible = Vec::new();
            let mut model = acknowledged.clone();
            for write in &batch {
                // Each entry of an append may be the last that arrived.
                if let Write::Append(entries) = write {
                    for count in 0..entries.len() {
                        let mut partly = model.clone();
                        partly.entries.extend(entries[..count].iter().map(|(_, e)| e.entry.id));
                        possible.push(partly);
                    }
                }
                model.apply(write);
                possible.push(model.clone());
            }
            journal.write(&batch).map_err(|error| (possible, error))?;
            *acknowledged = model;
            journal.write_marker().map_err(|error| (Vec::new(), error))?;
        }
        Ok(())
    };
    match run(&mut acknowledged) {
        Ok(()) => (vec![acknowledged], None),
        Err((mut possible, error)) => {
            possible.push(acknowledged);
            (possible, Some(error))
        }
    }
}

fn read_back(directory: &MemoryDirectory) -> Result<Model, OpenLogError> {
    let opened = open(Arc::new(directory.clone()), IDENTITY, OPTIONS, Default::default())?;
    let recovered = opened.index;
    let first = recovered.purged().map_or(0, |purged| purged.index + 1);
    let ids = (first..first + recovered.len() as u64).map(|index| recovered.id(index).unwrap());
    Ok(Model {
        purged: recovered.purged().map(|purged| purged.index),
        entries: ids.collect(),
        vote: opened.vote.map_or(0, |vote| vote.term),
    })
}

#[test]
fn a_life_without_faults_reads_back_and_uses_several_segments() {
    let directory = MemoryDirectory::default();
    let (models, error) = live(&directory);
    assert!(error.is_none());
    assert_eq!(read_back(&directory).unwrap(), models[0]);
    let segments = super::LogDirectory::list(&directory).unwrap();
    assert!(segments.len() > 3, "{segments:?}");
    assert!(!segments.contains(&super::segment_name(0)), "the purged ones are gone");
}

#[test]
fn a_power_loss_at_every_operation_loses_nothing_that_was_acknowledged() {
    let operations = {
        let directory = MemoryDirectory::default();
        live(&directory);
        directory.operations()
    };
    assert!(operations > 60);
    for at in 0..operations {
        let directory = MemoryDirectory::with_fault(at, Fault::Crash);
        let (possible, _) = live(&directory);
        for seed in 0..12 {
            let left = directory.after_power_loss(seed * 1_000 + at);
            let found = read_back(&left)
                .unwrap_or_else(|error| panic!("operation {at}, seed {seed}: {error}"));
            assert!(possible.contains(&found), "operation {at}, seed {seed}: {found:?}");
            // What was found once stays, whatever happens next.
            let again = read_back(&left.after_power_loss(seed)).unwrap();
            assert_eq!(again, found, "operation {at}, seed {seed}");
        }
    }
}

#[test]
fn an_error_at_every_operation_ends_the_journal_and_loses_nothing_that_was_acknowledged() {
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
        let mut at = 0;
        loop {
            let directory = MemoryDirectory::with_fault(at, Fault::Once(kind));
            let (possible, error) = live(&directory);
            if error.is_none() {
                break;
            }
            let found = read_back(&directory.after_power_loss(at)).unwrap();
            assert!(possible.contains(&found), "operation {at}: {found:?}");
            at += 1;
        }
        assert!(at > 60);
    }
}

#[test]
fn a_flipped_bit_in_the_middle_names_the_file_and_the_byte() {
    let directory = MemoryDirectory::default();
    live(&directory);
    let names = super::LogDirectory::list(&directory).unwrap();
    let name = names.iter().find(|name| name.ends_with(".log")).unwrap().clone();
    directory.edit(&name, |bytes| bytes[100] ^= 4);
    let error = read_back(&directory).unwrap_err().to_string();
    assert!(error.contains(&name) && error.contains("damaged at byte"), "{error}");
    assert!(error.contains("add the node under a new id"), "{error}");
}

#[test]
fn whole_frames_behind_a_torn_one_do_not_come_back() {
    let directory = MemoryDirectory::default();
    let options = LogOptions::default();
    let reopen =
        || open(Arc::new(directory.clone()), IDENTITY, options, Default::default()).unwrap();
    let mut journal = reopen().journal;
    journal.write(&[Write::Vote(vote(1)), append(1, 0..1)]).unwrap();
    let first = journal.segments()[0].end as usize;
    journal.write(&[append(1, 1..3)]).unwrap();
    // The first of two entries that were written together did not arrive, the second did.
    directory.edit(&super::segment_name(0), |bytes| bytes[first + 40] ^= 1);
    let mut opened = reopen();
    assert_eq!(opened.index.len(), 1);
    // Takes the place of the first, to the byte.
    opened.journal.write(&[append(2, 1..2)]).unwrap();
    let ids: Vec<_> = [0, 1, 2].map(|index| reopen().index.id(index)).into();
    assert_eq!(ids, [Some(id(1, 0)), Some(id(2, 1)), None]);
}

async fn start(directory: &MemoryDirectory) -> (RaftLog, super::LogWriter) {
    RaftLog::start(
        Arc::new(directory.clone()),
        IDENTITY,
        OPTIONS,
        AppliedElsewhere::default(),
        Metrics::new(),
    )
    .unwrap()
}

async fn append_and_wait(log: &RaftLog, entries: Vec<LogEntry>) -> io::Result<()> {
    let (done, durable) = tokio::sync::oneshot::channel();
    log.append(entries, Box::new(move |result| done.send(result).unwrap())).await?;
    durable.await.unwrap()
}

#[tokio::test]
async fn entries_are_readable_at_once_and_share_syncs() {
    let directory = MemoryDirectory::default();
    let (log, writer) = start(&directory).await;
    log.save_vote(vote(1)).await.unwrap();
    let before = directory.syncs();
    let mut waiting = Vec::new();
    for index in 0..100 {
        let (done, durable) = tokio::sync::oneshot::channel();
        let done = Box::new(move |result: io::Result<()>| done.send(result).unwrap());
        log.append(vec![log_entry(1, index)], done).await.unwrap();
        waiting.push(durable);
        assert_eq!(log.read(index..index + 1).await.unwrap()[0].entry, log_entry(1, index).entry);
    }
    for durable in waiting {
        durable.await.unwrap().unwrap();
    }
    // Two per segment of 400 bytes, and far fewer than one per entry otherwise.
    assert!(directory.syncs() - before < 60, "{}", directory.syncs() - before);
    // Most were dropped from memory by now.
    let all = log.read(0..1_000).await.unwrap();
    assert_eq!(all.len(), 100);
    assert!((0..100).all(|index| all[index as usize].entry == log_entry(1, index).entry));
    drop(log);
    writer.stop().await;
    assert_eq!(read_back(&directory).unwrap().entries.len(), 100);
}

#[tokio::test]
async fn an_idle_log_marks_what_is_synced_and_committed_once() {
    let directory = MemoryDirectory::default();
    let (log, writer) = start(&directory).await;
    log.save_vote(vote(1)).await.unwrap();
    append_and_wait(&log, vec![log_entry(1, 0)]).await.unwrap();
    log.note_committed(Some(id(1, 0)));
    // Wakes the writer, which then falls idle.
    log.barrier().await.unwrap();
    let before = directory.operations();
    while directory.operations() == before {
        ottla_env::delay(LOG_IDLE / 10).await;
    }
    ottla_env::delay(3 * LOG_IDLE).await;
    assert!(directory.operations() - before <= 2, "an idle log is not written to");
    drop(log);
    writer.stop().await;
    let opened = open(Arc::new(directory.clone()), IDENTITY, OPTIONS, Default::default()).unwrap();
    assert_eq!(opened.committed, Some(id(1, 0)));
}

#[tokio::test(flavor = "current_thread")]
async fn the_log_is_written_while_no_thread_of_the_runtime_is_free() {
    let directory = MemoryDirectory::default();
    let (log, _writer) = start(&directory).await;
    // As many as a runtime starts, for work that never returns.
    let runtime = tokio::runtime::Handle::current();
    let (hung, release) = std::sync::mpsc::channel::<()>();
    let release = Arc::new(std::sync::Mutex::new(release));
    for _ in 0..BLOCKING_THREADS {
        let release = release.clone();
        runtime.spawn_blocking(move || release.lock().unwrap().recv().is_err());
    }
    log.save_vote(vote(1)).await.unwrap();
    append_and_wait(&log, vec![log_entry(1, 0)]).await.unwrap();
    drop(hung);
}

#[tokio::test]
async fn a_failed_sync_is_never_tried_again() {
    for at in 0..40 {
        let directory = MemoryDirectory::with_fault(at, Fault::Once(io::ErrorKind::Other));
        let (log, _writer) = match RaftLog::start(
            Arc::new(directory.clone()),
            IDENTITY,
            OPTIONS,
            AppliedElsewhere::default(),
            Metrics::new(),
        ) {
            Ok(started) => started,
            Err(_) => continue,
        };
        let mut failed = log.save_vote(vote(1)).await.is_err();
        for index in 0..10 {
            let result = append_and_wait(&log, vec![log_entry(1, index)]).await;
            assert!(result.is_err() || !failed, "fault {at}: accepted after a failure");
            failed |= result.is_err();
        }
    }
}

#[tokio::test]
async fn a_full_disk_says_so() {
    let directory = MemoryDirectory::with_fault(12, Fault::Once(io::ErrorKind::StorageFull));
    let (log, _writer) = start(&directory).await;
    let mut last = log.save_vote(vote(1)).await;
    for index in 0..10 {
        last = append_and_wait(&log, vec![log_entry(1, index)]).await;
    }
    let error = last.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(error.to_string().contains("is full"), "{error}");
}
