//! Opening a log: find its files, judge their bytes, cut off a torn tail, go on behind it.
//!
//! Nothing is changed before all bytes were judged. What was read may sit in the operating
//! system's memory only (a killed process leaves it there); it is synced before anyone builds on
//! it.

use std::io;
use std::sync::Arc;

use ottla_format::raft_entry::LogId;
use ottla_format::vote::VoteRecord;

use super::files::LogDirectory;
use super::index::Index;
use super::journal::Journal;
use super::recovery::{AppliedElsewhere, Recovered, Recovery, Refusal};
use super::{
    LogIdentity, LogOptions, OpenLogError, VOTE_FILE, VOTE_FILE_NEW, segment_name, segment_start,
};

/// A log that was read and can be written to.
#[derive(Debug)]
pub struct OpenedLog {
    /// For the writer.
    pub journal: Journal,
    /// For readers.
    pub index: Index,
    /// The last vote.
    pub vote: Option<VoteRecord>,
    /// What was known to be committed.
    pub committed: Option<LogId>,
}

impl OpenedLog {
    /// The last purged entry, and the last entry (the last purged one when there is none).
    pub fn ends(&self) -> (Option<LogId>, Option<LogId>) {
        (self.index.purged(), self.index.last())
    }

    /// All entries from an index on.
    #[cfg(test)]
    pub(crate) fn entries_from(
        &self,
        directory: &dyn LogDirectory,
        index: u64,
    ) -> io::Result<Vec<Arc<super::LogEntry>>> {
        let places = self.index.places(index..u64::MAX);
        super::log::read_places(directory, self.journal.segments(), places)
    }
}

/// See the module.
pub fn open(
    directory: Arc<dyn LogDirectory>,
    identity: LogIdentity,
    options: LogOptions,
    elsewhere: AppliedElsewhere,
) -> Result<OpenedLog, OpenLogError> {
    let io_error = |action, name: &str| {
        let file = directory.describe(name);
        move |source| OpenLogError::Io { action, file, source }
    };
    let names = directory.list().map_err(io_error("list", ""))?;
    let vote = if names.iter().any(|name| name == VOTE_FILE) {
        let bytes = directory.read(VOTE_FILE).map_err(io_error("read", VOTE_FILE))?;
        Some(judge_vote(&bytes, identity, &directory.describe(VOTE_FILE))?)
    } else {
        None
    };

    let mut starts: Vec<u64> = names.iter().filter_map(|name| segment_start(name)).collect();
    starts.sort_unstable();
    let mut recovery = Recovery::new(identity);
    for (at, start) in starts.iter().enumerate() {
        let name = segment_name(*start);
        let bytes = directory.read(&name).map_err(io_error("read", &name))?;
        recovery
            .segment(*start, &bytes, at + 1 == starts.len())
            .map_err(|refusal| explain(refusal, identity, directory.as_ref()))?;
    }
    let recovered = recovery
        .finish(elsewhere)
        .map_err(|refusal| explain(refusal, identity, directory.as_ref()))?;
    // The very first entry, of term 0, is written before the first vote, and applied after it.
    let last = recovered.entries.back().map(|entry| entry.id).or(recovered.purged);
    let voted = last.is_some_and(|last| last.term > 0)
        || elsewhere.snapshot.is_some()
        || elsewhere.checkpoint.is_some();
    if vote.is_none() && voted {
        return Err(OpenLogError::Damaged {
            file: directory.describe(VOTE_FILE),
            offset: 0,
            reason: "it is missing, and this node has voted before".to_owned(),
        });
    }

    settle(directory.as_ref(), &recovered).map_err(io_error("make durable", ""))?;
    if names.iter().any(|name| name == VOTE_FILE_NEW) {
        directory.remove(VOTE_FILE_NEW).map_err(io_error("remove", VOTE_FILE_NEW))?;
    }
    let index = Index::new(&recovered, options.cache_bytes);
    let journal = Journal::resume(directory.clone(), identity, options.segment_bytes, &recovered)
        .map_err(io_error("open", ""))?;
    Ok(OpenedLog { journal, index, vote, committed: recovered.committed })
}

/// Cuts off a torn tail and makes the rest durable.
fn settle(directory: &dyn LogDirectory, recovered: &Recovered) -> io::Result<()> {
    if let Some(start) = recovered.torn_segment {
        let file = segment_name(start);
        tracing::warn!(file = directory.describe(&file), "a segment torn at its begin was removed");
        directory.remove(&file)?;
    }
    if let Some(last) = recovered.segments.last() {
        let name = segment_name(last.start);
        let file = directory.open(&name)?;
        if recovered.torn_bytes > 0 {
            tracing::warn!(
                file = directory.describe(&name),
                bytes = recovered.torn_bytes,
                "cut off the end of the log, which was never acknowledged"
            );
            file.truncate(last.end - last.start)?;
        }
        file.sync()?;
    }
    directory.sync()
}

fn judge_vote(bytes: &[u8], identity: LogIdentity, file: &str) -> Result<VoteRecord, OpenLogError> {
    let file = file.to_owned();
    match VoteRecord::decode(bytes) {
        Ok(vote) if vote.cluster == identity.cluster && vote.node == identity.node => Ok(vote),
        Ok(vote) => {
            let owner = LogIdentity { cluster: vote.cluster, node: vote.node }.to_string();
            Err(OpenLogError::Foreign { file, owner, expected: identity.to_string() })
        }
        Err(source) if source.is_of_another_version() => Err(OpenLogError::Newer { file, source }),
        Err(error) => Err(OpenLogError::Damaged { file, offset: 0, reason: error.to_string() }),
    }
}

fn explain(refusal: Refusal, identity: LogIdentity, directory: &dyn LogDirectory) -> OpenLogError {
    match refusal {
        Refusal::Damaged { segment, offset, reason } => OpenLogError::Damaged {
            file: directory.describe(&segment_name(segment)),
            offset,
            reason,
        },
        Refusal::Foreign { segment, header } => OpenLogError::Foreign {
            file: directory.describe(&segment_name(segment)),
            owner: LogIdentity { cluster: header.cluster, node: header.node }.to_string(),
            expected: identity.to_string(),
        },
        Refusal::Newer { segment, source } => {
            OpenLogError::Newer { file: directory.describe(&segment_name(segment)), source }
        }
    }
}
