//! A node: its parts started, watched and stopped.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use ottla_broker::{Broker, BrokerEnd, Parts, StartError};
use ottla_control_api::ControlPlane;
use ottla_control_plane::service::{
    Controller, ControllerOptions, OpenedController, StartError as ControllerError,
};
use ottla_env::{Clock, Random, net};
use ottla_format::feature_level::FeatureLevel;
use ottla_model::ClusterId;
use ottla_object_io::Store;
use ottla_storage::cache::Cache;
use ottla_storage::sweep::{Sweep, SweepParts};
use ottla_telemetry::Metrics;

use super::bucket;
use super::older_copy::Age;
use super::options::NodeOptions;
use super::seams::{Around, Seams};
use crate::admin::{Admin, Phase};

/// A running node. To kill one as a crash would, drop the runtime that it runs on.
pub struct Node {
    // In the order of their start.
    controller: Controller,
    admin: Admin,
    broker: Broker,
    sweep: Sweep,
    metrics: Arc<Metrics>,
}

/// Which part of a node ended by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// The broker. Its pending batches can still be decided: stop the node in order.
    #[error(transparent)]
    Broker(BrokerEnd),
    /// The controller. Without its log the node decides nothing more: there is nothing to drain for.
    #[error("the control plane failed: {0}")]
    Controller(String),
    /// Another task died of a defect; the broker can still be stopped in order.
    #[error("{0} failed; the lines before say how")]
    Task(&'static str),
}

impl Node {
    /// Starts the parts; returns when clients can connect.
    ///
    /// # Errors
    /// One line for the person who starts it. The controller was stopped in order, other parts
    /// before the one that did not start end with the runtime.
    pub async fn start(options: &NodeOptions, seams: Seams) -> Result<Self> {
        let metrics = Metrics::new();
        let Seams { store: around_store, control, clock, random } = seams;
        // First of all, because it locks the data directory: a second process must hear of the
        // first one, not of the ports that it holds.
        let opened = open_controller(options, &random, &metrics).await?;
        let (store, age) =
            match look_into_store(options, around_store, &opened, &random, &metrics).await {
                Ok(found) => found,
                Err(error) => {
                    opened.close().await;
                    return Err(error);
                }
            };
        let controller = opened.start(clock.clone()).await?;
        let world = World { store, age, control, clock, random };
        match start_others(options, world, &controller, &metrics).await {
            Ok((admin, broker, sweep)) => {
                admin.set_phase(Phase::Ready);
                Ok(Self { controller, admin, broker, sweep, metrics })
            }
            Err(error) => {
                // Cut off in the middle of a write, its log would complain of the disk.
                controller.stop().await;
                Err(error)
            }
        }
    }

    /// Where Kafka clients connect.
    pub fn kafka_address(&self) -> SocketAddr {
        self.broker.local_address()
    }

    /// Where operators look.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// Which cluster it belongs to.
    pub fn cluster_id(&self) -> ClusterId {
        self.controller.cluster_id()
    }

    /// Its controller, to look into.
    pub fn controller(&self) -> &Controller {
        &self.controller
    }

    /// What it counts.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Waits until a part ends by itself.
    pub async fn ended(&self) -> Ended {
        tokio::select! {
            end = self.broker.ended() => Ended::Broker(end),
            reason = self.controller.failed() => Ended::Controller(reason),
            task = self.sweep.failed() => Ended::Task(task),
            task = self.admin.failed() => Ended::Task(task),
        }
    }

    /// Stops the parts: the broker first, while the controller still commits what it flushes. With
    /// the store or the control plane away that can take long: callers bound it.
    pub async fn stop(self) {
        self.admin.set_phase(Phase::Draining);
        self.broker.drain().await;
        self.sweep.stop().await;
        self.controller.stop().await;
        self.admin.stop().await;
        tracing::info!("stopped");
    }
}

/// What the parts over the controller work with.
struct World {
    store: Arc<dyn Store>,
    /// Of the data directory, compared with the store.
    age: Age,
    control: Around<dyn ControlPlane>,
    clock: Clock,
    random: Random,
}

/// Starts what needs the controller.
async fn start_others(
    options: &NodeOptions,
    world: World,
    controller: &Controller,
    metrics: &Arc<Metrics>,
) -> Result<(Admin, Broker, Sweep)> {
    let World { store, age, control, clock, random } = world;
    let admin = open_admin(options, metrics).await?;
    bucket::claim(&*store, &options.store_url, controller, &random).await?;
    age.settle(controller, &*store).await?;
    let sweep = SweepParts {
        cluster: controller.cluster_id(),
        store: Arc::clone(&store),
        control: controller.sweep_api(),
        clock: clock.clone(),
        metrics: Arc::clone(metrics),
    };
    let parts = Parts {
        control: control(controller.api()),
        cluster: controller.cluster_id(),
        write: options.write.for_store(&*store),
        cache: Cache::new(options.cache_bytes, metrics),
        store,
        clock,
        random,
        metrics: Arc::clone(metrics),
    };
    let broker = Broker::start(options.broker.clone(), parts).await.map_err(not_started)?;
    Ok((admin, broker, Sweep::start(sweep, options.sweep)))
}

/// Opens the store and compares what it has seen with the controller's files.
async fn look_into_store(
    options: &NodeOptions,
    around: Around<dyn Store>,
    opened: &OpenedController,
    random: &Random,
    metrics: &Arc<Metrics>,
) -> Result<(Arc<dyn Store>, Age)> {
    let (url, how) = (options.store_url.clone(), options.store.clone());
    // A directory may be on a mount that hangs: this task still hears of signals then.
    let opening = tokio::task::spawn_blocking(move || ottla_object_io::open_bare(&url, &how));
    let bare = around(opening.await.context("opening the object store failed")??);
    let (random, metrics) = (random.clone(), Arc::clone(metrics));
    let store = ottla_object_io::reliable(bare, &options.store, random, metrics);
    let age = Age::of(opened, &*store, options.accept_loss_up_to()).await?;
    Ok((store, age))
}

async fn open_controller(
    options: &NodeOptions,
    random: &Random,
    metrics: &Arc<Metrics>,
) -> Result<OpenedController> {
    let mut controller = ControllerOptions::new(&options.data_dir, options.broker.node_id);
    controller.address = options.broker.internal.to_string();
    controller.offsets_retention = options.offsets_retention;
    controller.condemned_delay = options.condemned_delay;
    let raise_to = options.controller.raise_feature_level_to;
    controller.raise_feature_level_to = raise_to.map(FeatureLevel);
    controller.accept_clock_step_at = options.controller.accept_clock_step_at;
    controller.disk = options.store.disk.clone();
    controller.log.segment_bytes = options.controller.log_file_size.0;
    controller.snapshot_entries = u64::from(options.controller.snapshot_entries);
    OpenedController::open(controller, random, Arc::clone(metrics)).await.map_err(|error| {
        match error {
            ControllerError::Directory { .. } => {
                anyhow!("{error} (choose another place with --data-dir)")
            }
            other => anyhow!("{other}"),
        }
    })
}

async fn open_admin(options: &NodeOptions, metrics: &Arc<Metrics>) -> Result<Admin> {
    let address = options.admin_listen;
    let listener = net::listen(address).await.with_context(|| {
        format!("cannot listen on {address} for HTTP (choose another with --admin-listen)")
    })?;
    Ok(Admin::start(listener, Arc::clone(metrics))?)
}

fn not_started(error: StartError) -> anyhow::Error {
    match error {
        StartError::Listen { .. } => anyhow!("{error} (choose another with --kafka-listen)"),
        other => anyhow!("{other}"),
    }
}
