//! A controller: starts its parts in order, and stops them in the reverse.
//!
//! # Start
//!
//! lock and identity · newest snapshot · checkpoint, if it is ahead of the snapshot · the log, which
//! must reach back to the state and not end below it · openraft, which applies what was known to be
//! committed · an election at once when this is the only voter (the log's rest is committed by the
//! new leader's first entry) · ready when the log is applied.
//!
//! # Stop
//!
//! No more calls; openraft; watches; a last checkpoint; the log's writer, with everything durable;
//! the lock. Being killed instead loses nothing; the next start replays a few seconds more.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::WaitError;
use ottla_control_api::{CallError, ControlPlane, SweepControl};
use ottla_env::{Clock, DiskTurns, Random, VitalTasks};
#[cfg(test)]
use ottla_format::command::CommandBody;
use ottla_format::feature_level::{FeatureLevel, NEWEST};
use ottla_format::raft_entry::Membership;
use ottla_model::{AppliedIndex, BrokerId, ClusterId};
use ottla_telemetry::Metrics;
use tokio::time::Instant;

use super::data_dir::DataDirectory;
use super::error::StartError;
use super::lead::lead;
use super::replicated_clock::is_step_accepted;
use super::restore::{Restored, restore};
use super::serving::{Foundation, Serving};
use crate::checkpoint::{CheckpointSource, Cut, WriteBehind};
use crate::limits::{
    CONDEMNED_DELAY, LOCK_PAUSE, LOCK_WAIT_MAX, OFFSETS_RETENTION, SESSION, SNAPSHOT_ASKED_AGAIN,
    SNAPSHOT_DEADLINE, SNAPSHOT_ENTRIES,
};
use crate::raft::{LogStore, Machine, Raft, StateMachine};
use crate::raft_log::{LogOptions, LogWriter, RaftLog};

/// How a controller runs.
#[derive(Clone, Debug)]
pub struct ControllerOptions {
    /// The process's data directory; the controller uses `controller/` in it.
    pub data_dir: PathBuf,
    /// The process's id, as brokers have it. Raft has another number for this node, which is in the
    /// data directory.
    pub node_id: BrokerId,
    /// Where other controllers reach it: what they connect to, not what it listens on.
    pub address: String,
    /// A broker that is silent for this long is fenced.
    pub session: Duration,
    /// Sizes of the log.
    pub log: LogOptions,
    /// Entries after which a snapshot is written.
    pub snapshot_entries: u64,
    /// How long the offsets of a group without members are kept.
    pub offsets_retention: Duration,
    /// Raise the cluster's feature level to this at the start.
    pub raise_feature_level_to: Option<FeatureLevel>,
    /// Seconds since 1970: a start within a day from then steps time to the wall clock.
    pub accept_clock_step_at: Option<u64>,
    /// How long a condemned object stays in the bucket. Less than the default breaks I-LIVE for
    /// readers that are slow: for tests.
    pub condemned_delay: Duration,
    /// Of the data directory's disk: shared with whatever else reads and syncs on it.
    pub disk: DiskTurns,
}

impl ControllerOptions {
    /// The defaults, for a data directory and a node.
    pub fn new(data_dir: impl Into<PathBuf>, node_id: BrokerId) -> Self {
        Self {
            data_dir: data_dir.into(),
            node_id,
            address: String::new(),
            session: SESSION,
            log: LogOptions::default(),
            snapshot_entries: SNAPSHOT_ENTRIES,
            offsets_retention: OFFSETS_RETENTION,
            raise_feature_level_to: None,
            accept_clock_step_at: None,
            condemned_delay: CONDEMNED_DELAY,
            disk: DiskTurns::default(),
        }
    }
}

/// A controller whose files are open and read, before it writes anything.
#[derive(Debug)]
pub struct OpenedController {
    options: ControllerOptions,
    metrics: Arc<Metrics>,
    vital: VitalTasks,
    restored: Restored,
}

/// A running controller.
#[derive(Debug)]
pub struct Controller {
    cluster: ClusterId,
    raft: Raft,
    log: RaftLog,
    machine: Machine,
    serving: Serving,
    /// Notices when one of the tasks, or the checkpoint's, panics.
    vital: VitalTasks,
    checkpoint: WriteBehind,
    writer: LogWriter,
    /// Unlocked last.
    _directory: DataDirectory,
}

impl Controller {
    /// Starts a controller and waits until it leads and has applied its log.
    ///
    /// # Errors
    /// One line for the person who starts it. Nothing is left running.
    pub async fn start(
        options: ControllerOptions,
        clock: Clock,
        random: Random,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StartError> {
        OpenedController::open(options, &random, metrics).await?.start(clock).await
    }

    /// What brokers in this process talk to.
    pub fn api(&self) -> Arc<dyn ControlPlane> {
        self.serving.api.clone()
    }

    /// What the sweep in this process talks to.
    pub fn sweep_api(&self) -> Arc<dyn SweepControl> {
        self.serving.api.clone()
    }

    /// The cluster.
    pub fn cluster_id(&self) -> ClusterId {
        self.cluster
    }

    /// How far the state is, and its digest there. Nodes at the same index have the same digest.
    pub fn digest(&self) -> (AppliedIndex, u128) {
        self.machine.with(|state| (state.applied(), state.digest()))
    }

    /// The nodes of the control plane, by their Raft ids, with the addresses they are reached at.
    pub fn membership(&self) -> Membership {
        self.machine.record().membership
    }

    /// A copy of the state, for checks and inspection.
    pub fn state(&self) -> crate::state::State {
        self.machine.state()
    }

    /// Breaks a promise of the state, which the next commit to the partition notices.
    #[cfg(test)]
    pub(super) fn break_a_promise(&self, partition: ottla_model::PartitionId) {
        self.machine.break_a_promise(partition);
    }

    /// Writes a snapshot now, and waits until it was read back and the log was told.
    ///
    /// # Errors
    /// When the node has stopped, or the snapshot does not get done in time.
    pub async fn snapshot(&self) -> Result<(), StartError> {
        let raft = |error: String| StartError::Raft(error);
        let upto = self.machine.record().last.map(|id| id.index);
        let began = Instant::now();
        loop {
            // Not heard while an older one is being written: then it is asked for once more.
            self.raft.trigger().snapshot().await.map_err(|fatal| raft(fatal.to_string()))?;
            let written = self
                .raft
                .wait(Some(SNAPSHOT_ASKED_AGAIN))
                .metrics(|m| m.snapshot.map(|id| id.index) >= upto, "a snapshot")
                .await;
            match written {
                Ok(_) => return Ok(()),
                Err(WaitError::Timeout(..)) if began.elapsed() < SNAPSHOT_DEADLINE => {}
                Err(error) => return Err(raft(error.to_string())),
            }
        }
    }

    /// Goes on from this state although it is an older copy: what the cluster did after the copy is
    /// given up for good. For before the first broker registers; may be repeated.
    ///
    /// # Errors
    /// When the outcome is unknown.
    pub async fn accept_loss(&self) -> Result<(), CallError> {
        self.serving.api.accept_loss().await
    }

    /// Puts a command into the log as if another leader had.
    #[cfg(test)]
    pub(super) async fn propose_unchecked(&self, body: CommandBody) -> Result<(), CallError> {
        self.serving.api.proposer.propose(body).await.map(|_| ())
    }

    /// Waits until the controller has failed by itself (a disk that is full or broken, a defect),
    /// and says why. The process should exit then. Pends for ever otherwise.
    pub async fn failed(&self) -> String {
        tokio::select! {
            // Raft says the same in more words.
            fatal = self.raft_failed() => self.log.failure().unwrap_or(fatal),
            task = self.machine.failed() => format!("{task} failed; the lines before say how"),
            task = self.vital.failed() => format!("{task} failed; the lines before say how"),
        }
    }

    async fn raft_failed(&self) -> String {
        let mut metrics = self.raft.metrics();
        loop {
            let running = metrics.borrow_watched().running_state.clone();
            if let Err(fatal) = running {
                return fatal.to_string();
            }
            if metrics.changed().await.is_err() {
                return "the Raft node is gone".to_owned();
            }
        }
    }

    /// Does what must be in the log before anything else of this start.
    async fn settle(
        &self,
        raise_to: Option<FeatureLevel>,
        is_clock_step_accepted: bool,
    ) -> Result<(), StartError> {
        let api = &self.serving.api;
        api.set_first_feature_level().await.map_err(StartError::FeatureLevel)?;
        if let Some(level) = raise_to {
            api.raise_feature_level(level).await.map_err(StartError::FeatureLevel)?;
        }
        if is_clock_step_accepted {
            api.accept_clock_step().await.map_err(StartError::ClockStep)?;
        }
        Ok(())
    }

    /// Stops. Calls in flight end with "shutting down" or an unknown outcome.
    pub async fn stop(self) {
        self.serving.end().await;
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "the Raft node ended badly");
        }
        self.machine.close_watches();
        self.checkpoint.stop().await;
        self.writer.stop().await;
    }
}

impl OpenedController {
    /// Locks the data directory and reads what is in it.
    ///
    /// # Errors
    /// One line for the person who starts it. Nothing is left running.
    pub async fn open(
        options: ControllerOptions,
        random: &Random,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StartError> {
        let vital = VitalTasks::default();
        let give_up_at = Instant::now() + LOCK_WAIT_MAX;
        loop {
            let restoring = {
                let (options, random) = (options.clone(), random.clone());
                let (metrics, vital) = (metrics.clone(), vital.clone());
                tokio::task::spawn_blocking(move || restore(&options, &random, metrics, &vital))
            };
            match restoring.await.map_err(|error| StartError::Raft(error.to_string()))? {
                Ok(restored) => return Ok(Self { options, metrics, vital, restored }),
                Err(StartError::Locked { .. }) if Instant::now() < give_up_at => {
                    ottla_env::delay(LOCK_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The cluster.
    pub fn cluster_id(&self) -> ClusterId {
        self.restored.identity.cluster
    }

    /// The last entry that the files hold, applied or not.
    pub fn last_entry(&self) -> AppliedIndex {
        AppliedIndex(self.restored.last_entry)
    }

    /// Closes the files again, unchanged.
    pub async fn close(self) {
        self.restored.writer.stop().await;
    }

    /// Waits until the controller leads and has applied its log.
    ///
    /// # Errors
    /// One line for the person who starts it. Nothing is left running.
    pub async fn start(self, clock: Clock) -> Result<Controller, StartError> {
        let Self { options, metrics, vital, restored } = self;
        let raise_to = options.raise_feature_level_to;
        if let Some(level) = raise_to.filter(|level| *level > NEWEST) {
            restored.writer.stop().await;
            return Err(StartError::UnknownFeatureLevel { level });
        }
        let is_clock_step_accepted = is_step_accepted(options.accept_clock_step_at, clock.now());
        let Restored { directory, identity, state, record, log, writer, .. } = restored;
        let Restored { snapshots, newest, checkpoint, .. } = restored;

        let machine = Machine::new(state, record);
        let store = LogStore::new(log.clone(), identity);
        let segments_filled = log.segments_filled();
        let state_machine =
            StateMachine::new(machine.clone(), log.clone(), snapshots, newest, metrics.clone());
        let raft = match lead(&options, identity, store, state_machine, &machine).await {
            Ok(raft) => raft,
            Err(error) => {
                writer.stop().await;
                return Err(error);
            }
        };

        let checkpoint = WriteBehind::start(checkpoint, Arc::new(Source(machine.clone())), &vital);
        let cluster = identity.cluster;
        let foundation =
            Foundation { cluster, raft: raft.clone(), machine: machine.clone(), segments_filled };
        let serving = Serving::start(foundation, &options, clock, metrics, &vital);
        let (applied, digest, feature_level) =
            machine.with(|state| (state.applied(), state.digest(), state.feature_level()));
        tracing::info!(
            %cluster,
            applied = applied.0,
            feature_level = feature_level.0,
            digest = format_args!("{digest:032x}"),
            "the control plane is ready"
        );
        let controller = Controller {
            cluster,
            raft,
            log,
            machine,
            serving,
            vital,
            checkpoint,
            writer,
            _directory: directory,
        };
        match controller.settle(raise_to, is_clock_step_accepted).await {
            Ok(()) => Ok(controller),
            Err(error) => {
                controller.stop().await;
                Err(error)
            }
        }
    }
}

/// Gives the checkpoint what it writes.
struct Source(Machine);

impl CheckpointSource for Source {
    fn cut(&self) -> Cut {
        let (state, dirty, record) = self.0.cut_checkpoint();
        Cut { state, dirty, meta: record.encode() }
    }

    fn lost(&self) {
        self.0.lost_checkpoint();
    }
}
