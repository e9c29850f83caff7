//! openraft's view of the replicated state and its snapshots.
//!
//! Apply is synchronous and holds the state's lock for a bounded group of entries. A snapshot is
//! built from a copy, beside apply. Before a snapshot counts, everything it holds is durable in the
//! log: a node that applied an entry it could still lose would otherwise find its log torn below
//! its own snapshot, and could not tell that from damage.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::type_config::alias::{LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use ottla_format::codec::check_feature_level;
use ottla_format::command::{Command, CommandBody};
use ottla_format::raft_entry::{AppliedRecord, LogId, Membership};
use ottla_model::AppliedIndex;
use ottla_telemetry::Metrics;
use tokio::time::Instant;

use super::command_counters::CommandCounters;
use super::machine::Machine;
use super::state_gauges::StateGauges;
use super::types::{TypeConfig, applied_record, log_id, membership, raft_applied};
use crate::limits::APPLY_GROUP;
use crate::raft_log::RaftLog;
use crate::snapshot::{SnapshotInfo, Snapshots};
use crate::state::State;

/// A snapshot that was read back, in the directory of the node that wrote it.
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    snapshots: Snapshots,
    info: SnapshotInfo,
}

/// The state machine of one node.
#[derive(Debug)]
pub struct StateMachine {
    machine: Machine,
    log: RaftLog,
    snapshots: Snapshots,
    metrics: Arc<Metrics>,
    commands: CommandCounters,
    gauges: StateGauges,
    /// The newest snapshot; shared with the builder, which replaces it.
    newest: Arc<Mutex<Option<SnapshotInfo>>>,
}

impl StateMachine {
    /// Shows a state to openraft. `newest` is the newest snapshot on disk.
    pub fn new(
        machine: Machine,
        log: RaftLog,
        snapshots: Snapshots,
        newest: Option<SnapshotInfo>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let newest = Arc::new(Mutex::new(newest));
        let commands = CommandCounters::new(&metrics);
        let gauges = StateGauges::new(&metrics);
        Self { machine, log, snapshots, metrics, commands, gauges, newest }
    }

    fn current(&self) -> Option<SnapshotInfo> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Applies a group of entries under one hold of the lock, tells the watchers, then answers.
    fn apply_group(&self, group: Vec<Step>) {
        let _applying = self.machine.applying();
        let began = Instant::now();
        let mut answers = Vec::with_capacity(group.len());
        {
            let mut inner = self.machine.lock();
            let mut changes = Vec::new();
            for Step { id, content, responder } in group {
                let index = AppliedIndex(id.index);
                if content.is_work() {
                    inner.worked = index;
                }
                let answer = match content {
                    Content::Blank => {
                        inner.state.skip_to(index);
                        None
                    }
                    Content::Membership(membership) => {
                        inner.state.skip_to(index);
                        inner.record.membership_id = Some(id);
                        inner.record.membership = membership;
                        None
                    }
                    Content::Command(command) => {
                        let applied = inner.state.apply(index, &command);
                        self.commands.count(command.body.kind());
                        changes.extend(applied.changes);
                        Some(applied.answer)
                    }
                };
                inner.record.last = Some(id);
                answers.push((responder, answer));
            }
            self.gauges.show(inner.state.applied(), inner.state.size());
            self.machine.publish(&mut inner, changes);
        }
        self.metrics.raft.apply_seconds.time(began.elapsed());
        for (responder, answer) in answers {
            if let Some(responder) = responder {
                responder.send(answer);
            }
        }
    }
}

/// One entry, ready to be applied.
struct Step {
    id: LogId,
    content: Content,
    responder: Option<openraft::storage::ApplyResponder<TypeConfig>>,
}

enum Content {
    Blank,
    Membership(Membership),
    Command(Arc<Command>),
}

impl Content {
    /// Whether it is more than a tick, which an idle cluster writes too.
    fn is_work(&self) -> bool {
        !matches!(self, Self::Command(command) if matches!(command.body, CommandBody::Tick))
    }
}

fn step((entry, responder): EntryResponder<TypeConfig>) -> io::Result<Step> {
    let content = match &entry.payload {
        EntryPayload::Blank => Content::Blank,
        EntryPayload::Membership(raft) => Content::Membership(membership(raft)),
        EntryPayload::Normal(proposal) => Content::Command(known(proposal.command()?)?),
    };
    Ok(Step { id: log_id(&entry.log_id), content, responder })
}

/// A raise beyond what this version knows ends the node: it cannot know what follows.
fn known(command: Arc<Command>) -> io::Result<Arc<Command>> {
    if let CommandBody::RaiseFeatureLevel { to } = command.body {
        check_feature_level(to).map_err(io::Error::other)?;
    }
    Ok(command)
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogIdOf<TypeConfig>>, StoredMembershipOf<TypeConfig>), io::Error> {
        raft_applied(&self.machine.record())
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut groups = entries.ready_chunks(APPLY_GROUP);
        while let Some(group) = groups.next().await {
            let steps: io::Result<Vec<Step>> =
                group.into_iter().map(|entry| entry.and_then(step)).collect();
            self.apply_group(steps?);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        let (state, record) = self.machine.snapshot();
        Builder {
            state,
            record,
            log: self.log.clone(),
            snapshots: self.snapshots.clone(),
            metrics: self.metrics.clone(),
            newest: self.newest.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<TypeConfig>,
        snapshot: SnapshotFile,
    ) -> Result<(), io::Error> {
        let mut record = applied_record(meta.last_log_id, &meta.last_membership);
        record.installed = record.last;
        let from = snapshot.snapshots;
        let name = snapshot.info.name;
        let state = blocking(move || from.load(&name).map(|(_, state)| state)).await?;
        self.log.barrier().await?;
        let info = write(&self.snapshots, state.clone(), &record).await?;
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(info);
        self.machine.replace(state, record);
        self.machine.lost_checkpoint();
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<TypeConfig, SnapshotFile>>, io::Error> {
        self.current().map(|info| shown(&self.snapshots, info)).transpose()
    }
}

/// Writes a snapshot of a copy of the state.
#[derive(Debug)]
pub struct Builder {
    state: State,
    record: AppliedRecord,
    log: RaftLog,
    snapshots: Snapshots,
    metrics: Arc<Metrics>,
    newest: Arc<Mutex<Option<SnapshotInfo>>>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, SnapshotFile>, io::Error> {
        self.log.barrier().await?;
        let info = write(&self.snapshots, self.state.clone(), &self.record).await?;
        tracing::info!(snapshot = info.name, bytes = info.length, "wrote a snapshot");
        self.metrics.raft.snapshots.inc();
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(info.clone());
        shown(&self.snapshots, info)
    }
}

async fn write(
    snapshots: &Snapshots,
    state: State,
    record: &AppliedRecord,
) -> io::Result<SnapshotInfo> {
    let (snapshots, meta) = (snapshots.clone(), record.encode());
    blocking(move || snapshots.write(&state, &meta)).await
}

async fn blocking<T: Send + 'static, E: std::error::Error + Send + Sync + 'static>(
    step: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> io::Result<T> {
    let result = tokio::task::spawn_blocking(step).await.map_err(io::Error::other)?;
    result.map_err(io::Error::other)
}

/// What a snapshot's meta says, as openraft wants it.
fn shown(
    snapshots: &Snapshots,
    info: SnapshotInfo,
) -> io::Result<SnapshotOf<TypeConfig, SnapshotFile>> {
    let record = AppliedRecord::decode(&info.meta)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let (last_log_id, last_membership) = raft_applied(&record)?;
    Ok(SnapshotOf::<TypeConfig, SnapshotFile> {
        meta: SnapshotMetaOf::<TypeConfig> { last_log_id, last_membership },
        snapshot: SnapshotFile { snapshots: snapshots.clone(), info },
    })
}

#[cfg(test)]
mod tests {
    use ottla_model::TimestampMs;

    use super::*;

    #[test]
    fn a_tick_is_no_work_and_every_other_entry_is() {
        let command = |body| Content::Command(Arc::new(Command { time: TimestampMs(1), body }));
        assert!(!command(CommandBody::Tick).is_work());
        assert!(command(CommandBody::AcceptLoss).is_work());
        assert!(Content::Blank.is_work());
    }
}
