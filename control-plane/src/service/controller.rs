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

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::impls::BasicNode;
use openraft::{Config, SnapshotPolicy};
use ottla_control_api::{ControlPlane, SweepControl};
use ottla_env::{Clock, Random, VitalTasks};
use ottla_model::{AppliedIndex, ClusterId};
use ottla_telemetry::Metrics;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::data_dir::DataDirectory;
use super::error::StartError;
use super::housekeeper::Housekeeper;
use super::local::LocalControlPlane;
use super::proposer::Proposer;
use super::replicated_clock::ReplicatedClock;
use super::restore::{Restored, restore};
use super::sessions::Sessions;
use crate::checkpoint::{CheckpointSource, Cut, WriteBehind};
use crate::limits::{CONDEMNED_DELAY, SESSION, SNAPSHOT_ENTRIES, START_DEADLINE};
use crate::raft::{LogStore, Machine, NoPeers, Raft, StateMachine};
use crate::raft_log::{LogOptions, LogWriter, RaftLog};

/// How a controller runs.
#[derive(Clone, Debug)]
pub struct ControllerOptions {
    /// The process's data directory; the controller uses `controller/` in it.
    pub data_dir: PathBuf,
    /// This controller among all of the cluster.
    pub node_id: u64,
    /// Where other controllers reach it: host and port of the internal listener.
    pub address: String,
    /// A broker that is silent for this long is fenced.
    pub session: Duration,
    /// Sizes of the log.
    pub log: LogOptions,
    /// Entries after which a snapshot is written.
    pub snapshot_entries: u64,
    /// How long a condemned object stays in the bucket. Less than the default breaks I-LIVE for
    /// readers that are slow: for tests.
    pub condemned_delay: Duration,
}

impl ControllerOptions {
    /// The defaults, for a data directory and a node.
    pub fn new(data_dir: impl Into<PathBuf>, node_id: u64) -> Self {
        Self {
            data_dir: data_dir.into(),
            node_id,
            address: String::new(),
            session: SESSION,
            log: LogOptions::default(),
            snapshot_entries: SNAPSHOT_ENTRIES,
            condemned_delay: CONDEMNED_DELAY,
        }
    }
}

/// A running controller.
#[derive(Debug)]
pub struct Controller {
    cluster: ClusterId,
    raft: Raft,
    log: RaftLog,
    machine: Machine,
    api: Arc<LocalControlPlane>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
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
        let vital = VitalTasks::default();
        let restoring = {
            let (options, metrics, vital) = (options.clone(), metrics.clone(), vital.clone());
            tokio::task::spawn_blocking(move || restore(&options, &random, metrics, &vital))
        };
        let restored = restoring.await.map_err(|error| StartError::Raft(error.to_string()))??;
        let Restored {
            directory,
            identity,
            state,
            record,
            log,
            writer,
            snapshots,
            newest,
            checkpoint,
        } = restored;

        let machine = Machine::new(state, record);
        let store = LogStore::new(log.clone(), identity);
        let segments_filled = log.segments_filled();
        let state_machine =
            StateMachine::new(machine.clone(), log.clone(), snapshots, newest, metrics.clone());
        let config = raft_config(identity.cluster, &options)?;
        let raft = match Raft::new(identity.node, config, NoPeers, store, state_machine).await {
            Ok(raft) => raft,
            Err(fatal) => {
                writer.stop().await;
                return Err(StartError::Raft(fatal.to_string()));
            }
        };
        if let Err(error) = lead(&raft, &options).await {
            // The node is given up either way.
            let _ = raft.shutdown().await;
            writer.stop().await;
            return Err(error);
        }

        let now = Instant::now();
        let (stop, stopping) = watch::channel(false);
        let time = machine.with(|state| state.time());
        let clock = Arc::new(Mutex::new(ReplicatedClock::new(clock, time, now)));
        let sessions = Arc::new(Mutex::new(Sessions::new(options.session, now)));
        let (proposer, proposing) =
            Proposer::start(raft.clone(), clock.clone(), stopping.clone(), metrics.clone(), &vital);
        let housekeeper = Housekeeper {
            raft: raft.clone(),
            machine: machine.clone(),
            proposer: proposer.clone(),
            sessions: sessions.clone(),
            clock: clock.clone(),
            segments_filled,
            snapshot: None,
            metrics,
        };
        let housekeeping = vital.spawn("the housekeeper", housekeeper.run(stopping.clone()));
        let checkpoint = WriteBehind::start(checkpoint, Arc::new(Source(machine.clone())), &vital);
        let api = Arc::new(LocalControlPlane {
            cluster: identity.cluster,
            raft: raft.clone(),
            machine: machine.clone(),
            proposer,
            sessions,
            clock,
            condemned_delay: options.condemned_delay,
            stopping,
        });
        let (applied, digest) = machine.with(|state| (state.applied(), state.digest()));
        tracing::info!(
            cluster = %identity.cluster,
            applied = applied.0,
            digest = format_args!("{digest:032x}"),
            "the control plane is ready"
        );
        Ok(Self {
            cluster: identity.cluster,
            raft,
            log,
            machine,
            api,
            stop,
            tasks: vec![proposing, housekeeping],
            vital,
            checkpoint,
            writer,
            _directory: directory,
        })
    }

    /// What brokers in this process talk to.
    pub fn api(&self) -> Arc<dyn ControlPlane> {
        self.api.clone()
    }

    /// What the sweep in this process talks to.
    pub fn sweep_api(&self) -> Arc<dyn SweepControl> {
        self.api.clone()
    }

    /// The cluster.
    pub fn cluster_id(&self) -> ClusterId {
        self.cluster
    }

    /// How far the state is, and its digest there. Nodes at the same index have the same digest.
    pub fn digest(&self) -> (AppliedIndex, u128) {
        self.machine.with(|state| (state.applied(), state.digest()))
    }

    /// A copy of the state, for checks and inspection.
    pub fn state(&self) -> crate::state::State {
        self.machine.state()
    }

    /// Writes a snapshot now, and waits until it was read back and the log was told.
    ///
    /// # Errors
    /// When the node has stopped, or the snapshot does not get done in time.
    pub async fn snapshot(&self) -> Result<(), StartError> {
        let raft = |error: String| StartError::Raft(error);
        let upto = self.machine.record().last.map(|id| id.index);
        self.raft.trigger().snapshot().await.map_err(|fatal| raft(fatal.to_string()))?;
        self.raft
            .wait(Some(START_DEADLINE))
            .metrics(|m| m.snapshot.map(|id| id.index) >= upto, "a snapshot")
            .await
            .map_err(|error| raft(error.to_string()))?;
        Ok(())
    }

    /// Waits until the controller has failed by itself (a disk that is full or broken, a defect),
    /// and says why. The process should exit then. Pends for ever otherwise.
    pub async fn failed(&self) -> String {
        tokio::select! {
            // Raft says the same in more words.
            fatal = self.raft_failed() => self.log.failure().unwrap_or(fatal),
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

    /// Stops. Calls in flight end with "shutting down" or an unknown outcome.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            // A task that panicked has nothing left to stop.
            let _ = task.await;
        }
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "the Raft node ended badly");
        }
        self.machine.close_watches();
        self.checkpoint.stop().await;
        self.writer.stop().await;
    }
}

fn raft_config(cluster: ClusterId, options: &ControllerOptions) -> Result<Arc<Config>, StartError> {
    let config = Config {
        cluster_name: cluster.to_string(),
        heartbeat_interval: 250,
        election_timeout_min: 1_000,
        election_timeout_max: 2_000,
        enable_pre_vote: Some(true),
        // A leader that restarts in its old term could give an index of that term a second
        // meaning: entries that were sent to others and not yet synced here are gone.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_entries),
        // The housekeeper purges, one snapshot later.
        max_in_snapshot_log_to_keep: u64::MAX,
        ..Config::default()
    };
    config.validate().map(Arc::new).map_err(|error| StartError::Raft(error.to_string()))
}

/// Makes a new cluster of this node, or has it elected at once when it is the only voter; waits
/// until it leads and has applied its log.
async fn lead(raft: &Raft, options: &ControllerOptions) -> Result<(), StartError> {
    let raft_error = |error: String| StartError::Raft(error);
    if !raft.is_initialized().await.map_err(|fatal| raft_error(fatal.to_string()))? {
        let node = BasicNode { addr: options.address.clone() };
        let members = BTreeMap::from([(options.node_id, node)]);
        raft.initialize(members).await.map_err(|error| raft_error(error.to_string()))?;
    } else if raft.voter_ids().eq([options.node_id]) {
        raft.trigger().elect(false).await.map_err(|fatal| raft_error(fatal.to_string()))?;
    }
    raft.wait(Some(START_DEADLINE))
        .metrics(
            |metrics| {
                let applied = metrics.last_applied;
                metrics.state.is_leader()
                    && applied.map(|id| id.leader_id.term) == Some(metrics.current_term)
                    && applied.map(|id| id.index) >= metrics.last_log_index
            },
            "leading with the whole log applied",
        )
        .await
        .map_err(|error| raft_error(error.to_string()))?;
    Ok(())
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
