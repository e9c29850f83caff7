//! openraft's view of the Raft log.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::type_config::alias::{EntryOf, LogIdOf, VoteOf};
use openraft::{OptionalSend, RaftLogReader};

use super::types::{
    TypeConfig, log_entry, log_id, raft_entry, raft_log_id, raft_vote, vote_record,
};
use crate::raft_log::{LogIdentity, RaftLog};

/// The log and vote of this node; also the reader.
#[derive(Clone, Debug)]
pub struct LogStore {
    log: RaftLog,
    identity: LogIdentity,
}

impl LogStore {
    /// Shows a log to openraft.
    pub fn new(log: RaftLog, identity: LogIdentity) -> Self {
        Self { log, identity }
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<EntryOf<TypeConfig>>, io::Error> {
        let entries = self.log.read(indexes(&range)).await?;
        entries.iter().map(|entry| raft_entry(entry)).collect()
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<TypeConfig>>, io::Error> {
        Ok(self.log.vote().as_ref().map(raft_vote))
    }
}

fn indexes(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(index) => *index,
        Bound::Excluded(index) => index.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(index) => index.saturating_add(1),
        Bound::Excluded(index) => *index,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let (purged, last) = self.log.ends();
        Ok(LogState {
            last_purged_log_id: purged.map(raft_log_id),
            last_log_id: last.map(raft_log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<TypeConfig>) -> Result<(), io::Error> {
        self.log.save_vote(vote_record(vote, self.identity)).await
    }

    async fn save_committed(
        &mut self,
        committed: Option<LogIdOf<TypeConfig>>,
    ) -> Result<(), io::Error> {
        self.log.note_committed(committed.as_ref().map(log_id));
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogIdOf<TypeConfig>>, io::Error> {
        Ok(self.log.committed().map(raft_log_id))
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = EntryOf<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().map(log_entry).collect();
        self.log.append(entries, Box::new(|result| callback.io_completed(result))).await
    }

    async fn truncate_after(
        &mut self,
        last_log_id: Option<LogIdOf<TypeConfig>>,
    ) -> Result<(), io::Error> {
        self.log.truncate_after(last_log_id.as_ref().map(log_id)).await
    }

    async fn purge(&mut self, id: LogIdOf<TypeConfig>) -> Result<(), io::Error> {
        self.log.purge(log_id(&id)).await
    }
}
