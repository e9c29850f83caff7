//! `ottla server`: the parts of a node put together, run, and taken apart.
//!
//! # Order
//!
//! Settings, logs, controller (which locks the data directory for this process and replays its
//! log), admin listener (alive, not ready), object store (claimed for the cluster), broker. The
//! broker opens its listener when it has caught up and is registered; then the compactor's sweep
//! starts, the node is ready and the banner is printed. A signal takes the parts down: the broker
//! drains while the controller still commits for it, then the others end.
//!
//! # Failure
//!
//! Whatever stops a start is one line on standard error: what, where, what to do. A part that ends
//! by itself while the node runs is a defect or a fenced node; the process ends with it, because a
//! node that lost a part serves nobody well and a restart is safe at any moment.

mod banner;
mod bucket;
mod limits;
mod node;
mod options;
mod signals;

use anyhow::Context as _;
use ottla_config::Config;
use ottla_telemetry::logs;

use crate::exit::Failure;
use options::NodeOptions;

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
    let ended = runtime.block_on(node::run(options));
    // Whatever still runs now is a read or a write whose outcome nobody waits for.
    runtime.shutdown_background();
    ended
}
