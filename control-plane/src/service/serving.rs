//! The parts that a leader runs over Raft: the way in, the passing of time, and the API.

use std::sync::{Arc, Mutex};

use ottla_env::{Clock, VitalTasks};
use ottla_model::ClusterId;
use ottla_telemetry::Metrics;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::controller::ControllerOptions;
use super::housekeeper::Housekeeper;
use super::local::LocalControlPlane;
use super::proposer::Proposer;
use super::replicated_clock::ReplicatedClock;
use super::sessions::Sessions;
use crate::raft::{Machine, Raft};

/// The parts below.
pub(super) struct Foundation {
    pub cluster: ClusterId,
    pub raft: Raft,
    pub machine: Machine,
    /// Counts from before the log was applied.
    pub segments_filled: watch::Receiver<u64>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Serving {
    pub api: Arc<LocalControlPlane>,
    stop: watch::Sender<bool>,
    tasks: [JoinHandle<()>; 2],
}

impl Serving {
    /// Starts the tasks. `vital` notices when one of them panics.
    pub fn start(
        foundation: Foundation,
        options: &ControllerOptions,
        clock: Clock,
        metrics: Arc<Metrics>,
        vital: &VitalTasks,
    ) -> Self {
        let Foundation { cluster, raft, machine, segments_filled } = foundation;
        let now = Instant::now();
        let (stop, stopping) = watch::channel(false);
        let clock = machine.with(|state| ReplicatedClock::new(clock, state, now));
        let clock = Arc::new(Mutex::new(clock));
        let sessions = Arc::new(Mutex::new(Sessions::new(options.session, now)));
        let below = (raft.clone(), machine.clone());
        let (proposer, proposing) =
            Proposer::start(below, clock.clone(), stopping.clone(), metrics.clone(), vital);
        let housekeeper = Housekeeper {
            raft: raft.clone(),
            machine: machine.clone(),
            proposer: proposer.clone(),
            sessions: sessions.clone(),
            clock: clock.clone(),
            segments_filled,
            offsets_retention: options.offsets_retention,
            snapshot: None,
            metrics,
        };
        let housekeeping = vital.spawn("the housekeeper", housekeeper.run(stopping.clone()));
        let api = Arc::new(LocalControlPlane {
            cluster,
            raft,
            machine,
            proposer,
            sessions,
            clock,
            condemned_delay: options.condemned_delay,
            stopping,
        });
        Self { api, stop, tasks: [proposing, housekeeping] }
    }

    /// Ends the tasks. Calls in flight end with "shutting down" or an unknown outcome.
    pub async fn end(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            // A task that panicked has nothing left to stop.
            let _ = task.await;
        }
    }
}
