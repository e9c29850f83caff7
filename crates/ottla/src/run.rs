//! `ottla server`: a node for as long as a process lives.
//!
//! Settings, logs, the node, the banner; then a signal ends it in order, a second one at once.
//! An error that stops a start is one line on standard error: what, where, what to do. When a part
//! of the node ends by itself, the process ends with it.

mod banner;
mod signals;

use anyhow::Context as _;
use ottla::{DRAIN_MAX, Ended, Node, NodeOptions, Seams};
use ottla_config::Config;
use ottla_telemetry::logs;
use tokio::time::timeout;

use crate::exit::Failure;
use crate::output;
use banner::Banner;
use signals::Signals;

/// Whether a node could be started with these settings, as far as that can be known without
/// touching anything.
pub fn check(config: &Config) -> Result<(), Failure> {
    logs::check_filter(&config.log.filter).map_err(|e| Failure::new(format!("log.filter: {e}")))?;
    NodeOptions::new(config)?;
    Ok(())
}

/// Runs a node until a signal or a failure ends it.
pub fn run(config: Config) -> Result<(), Failure> {
    check(&config)?;
    let format = match config.log.format {
        ottla_config::LogFormat::Text => logs::LogFormat::Text,
        ottla_config::LogFormat::Json => logs::LogFormat::Json,
    };
    logs::init(format, &config.log.filter).map_err(Failure::new)?;
    let options = NodeOptions::new(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("ottla")
        .build()
        .context("cannot start the runtime")?;
    let ended = runtime.block_on(until_stopped(options));
    // The tasks that still run are reads and writes whose outcome nobody waits for.
    runtime.shutdown_background();
    logs::flush();
    ended
}

/// Runs a node until a signal or a failure ends it.
async fn until_stopped(options: NodeOptions) -> Result<(), Failure> {
    let mut signals = Signals::watch().context("cannot watch for signals")?;
    let node = tokio::select! {
        started = Node::start(&options, Seams::default()) => started?,
        // Nothing was promised to anybody yet.
        name = signals.next() => {
            tracing::info!("{name} during the start: ending");
            return Ok(());
        }
    };
    output::print_beside(banner(&node, &options).text());
    let failed = tokio::select! {
        name = signals.next() => {
            tracing::info!("{name}: draining; a second signal ends the process at once");
            None
        }
        end = node.ended() => Some(end),
    };
    if let Some(end @ Ended::Controller(_)) = failed {
        return Err(Failure::new(end));
    }
    let impatient = tokio::spawn(signals.exit_on_next());
    let stopped = timeout(DRAIN_MAX, node.stop()).await;
    impatient.abort();
    match (failed, stopped) {
        (Some(end), _) => Err(Failure::new(end)),
        (None, Ok(())) => Ok(()),
        (None, Err(_)) => Err(Failure::new(format!("the drain took more than {DRAIN_MAX:?}"))),
    }
}

fn banner<'a>(node: &Node, options: &'a NodeOptions) -> Banner<'a> {
    let mut kafka = options.broker.advertise.clone();
    if kafka.port == 0 {
        kafka.port = node.kafka_address().port();
    }
    Banner {
        kafka,
        admin: node.admin_address(),
        data_dir: &options.data_dir,
        object_store: &options.store_url,
        cluster: node.cluster_id(),
        node: options.broker.node_id.0,
    }
}
