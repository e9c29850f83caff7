//! A node: its parts started, watched and stopped.

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use ottla_broker::{Broker, Parts, StartError};
use ottla_control_plane::service::{Controller, ControllerOptions, StartError as ControllerError};
use ottla_env::{Clock, Random, net};
use ottla_object_io::Store;
use ottla_storage::cache::Cache;
use ottla_storage::sweep::{Sweep, SweepParts};
use ottla_telemetry::Metrics;
use tokio::time::timeout;

use super::banner::Banner;
use super::bucket;
use super::limits::DRAIN_MAX;
use super::options::NodeOptions;
use super::signals::Signals;
use crate::admin::{Admin, Phase};
use crate::exit::Failure;
use crate::output;

/// Runs a node until a signal or a failure ends it.
pub async fn run(options: NodeOptions) -> Result<(), Failure> {
    let mut signals = Signals::watch().context("cannot watch for signals")?;
    let node = tokio::select! {
        started = Node::start(&options) => started?,
        // Nothing was promised to anybody yet.
        name = signals.next() => {
            tracing::info!("{name} during the start: ending");
            return Ok(());
        }
    };
    output::print(&node.banner(&options))?;
    let failed = tokio::select! {
        name = signals.next() => {
            tracing::info!("{name}: draining; a second signal ends the process at once");
            None
        }
        end = node.broker.ended() => Some(Failure::new(end)),
        // Without its log the node can decide nothing more, so there is nothing to drain for.
        reason = node.controller.failed() => {
            return Err(Failure::new(format!("the control plane failed: {reason}")));
        }
    };
    let impatient = tokio::spawn(signals.exit_on_next());
    let stopped = timeout(DRAIN_MAX, node.stop()).await;
    impatient.abort();
    match (failed, stopped) {
        (Some(failure), _) => Err(failure),
        (None, Ok(())) => Ok(()),
        (None, Err(_)) => Err(Failure::new(format!("the drain took more than {DRAIN_MAX:?}"))),
    }
}

/// The running parts, in the order of their start.
struct Node {
    controller: Controller,
    admin: Admin,
    broker: Broker,
    sweep: Sweep,
}

impl Node {
    /// Starts the parts. When one does not start, those before it end with the process.
    async fn start(options: &NodeOptions) -> Result<Self> {
        let metrics = Metrics::new();
        let (clock, random) = (Clock::system(), Random::system());
        // First of all, because it locks the data directory: a second process must hear of the
        // first one, not of the ports that it holds.
        let controller = start_controller(options, &clock, &random, &metrics).await?;
        let admin = open_admin(options, &metrics).await?;
        let store = ottla_object_io::open(
            &options.store_url,
            &options.store,
            random.clone(),
            Arc::clone(&metrics),
        )?;
        bucket::claim(&*store, &options.store_url, &controller, &random).await?;
        let store = store as Arc<dyn Store>;
        let sweep = SweepParts {
            cluster: controller.cluster_id(),
            store: Arc::clone(&store),
            control: controller.sweep_api(),
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
        };
        let parts = Parts {
            control: controller.api(),
            cluster: controller.cluster_id(),
            write: options.write.for_store(&*store),
            cache: Cache::new(options.cache_bytes, &metrics),
            store,
            clock,
            random,
            metrics,
        };
        let broker = Broker::start(options.broker.clone(), parts).await.map_err(not_started)?;
        let sweep = Sweep::start(sweep, options.sweep);
        admin.set_phase(Phase::Ready);
        Ok(Self { controller, admin, broker, sweep })
    }

    fn banner(&self, options: &NodeOptions) -> String {
        let (host, port) = &options.broker.advertise;
        let port = if *port == 0 { self.broker.local_address().port() } else { *port };
        Banner {
            kafka: &ottla_config::HostPort { host: host.clone(), port },
            admin: &self.admin.address(),
            data_dir: &options.data_dir,
            object_store: &options.store_url,
            cluster: self.controller.cluster_id(),
            node: options.broker.node_id.0,
        }
        .text()
    }

    /// Stops the parts: the broker first, while the controller still commits what it flushes.
    async fn stop(self) {
        self.admin.set_phase(Phase::Draining);
        self.broker.drain().await;
        self.sweep.stop().await;
        self.controller.stop().await;
        self.admin.stop().await;
        tracing::info!("stopped");
    }
}

async fn start_controller(
    options: &NodeOptions,
    clock: &Clock,
    random: &Random,
    metrics: &Arc<Metrics>,
) -> Result<Controller> {
    let node_id = u64::try_from(options.broker.node_id.0).context("node.id is negative")?;
    let mut controller = ControllerOptions::new(&options.data_dir, node_id);
    controller.address = options.rpc_listen.to_string();
    controller.condemned_delay = options.condemned_delay;
    Controller::start(controller, clock.clone(), random.clone(), Arc::clone(metrics)).await.map_err(
        |error| match error {
            ControllerError::Directory { .. } => {
                anyhow!("{error} (choose another place with --data-dir)")
            }
            other => anyhow!("{other}"),
        },
    )
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
