//! `ottla fsck`: whether the state of a stopped node and its object store belong together.
//!
//! The controller is started as the server would start it (the data directory is locked, a torn end
//! of the log is dropped, the node elects itself), and no broker registers: what the last run left
//! is seen as it was left. The state's promises are checked, then the bucket is listed and every
//! object in it judged, and every object that records are in is looked for. Nothing is repaired, and
//! nothing in the object store changes: what is to be deleted is the sweep's work.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use ottla::{Age, NodeOptions};
use ottla_config::Config;
use ottla_control_api::ObjectStanding;
use ottla_control_plane::service::{ControllerOptions, OpenedController};
use ottla_control_plane::state::State;
use ottla_env::{Clock, Random};
use ottla_model::ObjectName;
use ottla_object_io::{ObjectEntry, StoreOptions, keys};
use ottla_telemetry::Metrics;

use crate::exit::Failure;
use crate::output::print;

/// Damaged objects that are named; more are only counted.
const NAMED_MAX: usize = 20;

/// Checks a node that is stopped, prints what there is, fails when something is damaged.
pub fn run(config: &Config) -> Result<(), Failure> {
    let options = NodeOptions::new(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let findings = runtime.block_on(look(&options))?;
    runtime.shutdown_background();
    print(&findings.table())?;
    let complaints = findings.complaints();
    if complaints.is_empty() { Ok(()) } else { Err(Failure::new(complaints.join("\n"))) }
}

async fn look(options: &NodeOptions) -> Result<Findings> {
    let identity = options.data_dir.join("controller/identity");
    ensure!(
        identity.exists(),
        "there is no node's data in {} (choose the place with --data-dir)",
        options.data_dir.display()
    );
    // A directory that is made now would be empty, and then every object is missing.
    let looking = StoreOptions { as_it_is: true, ..options.store.clone() };
    let (metrics, random) = (Metrics::new(), Random::system());
    let store =
        ottla_object_io::open(&options.store_url, &looking, random.clone(), Arc::clone(&metrics))
            .context("there are no objects to look at (choose the place with --object-store)")?;
    let controller = ControllerOptions::new(&options.data_dir, options.broker.node_id);
    let opened = OpenedController::open(controller, &random, metrics).await?;
    if let Err(older) = Age::of(&opened, &*store, options.accept_loss_up_to()).await {
        opened.close().await;
        return Err(older);
    }
    let controller = opened.start(Clock::system()).await?;
    let state = controller.state();
    let mut listed = Vec::new();
    for folder in keys::object_folders(controller.cluster_id()) {
        listed.extend(store.list(&folder).await.with_context(|| options.store_url.clone())?);
    }
    controller.stop().await;
    Ok(Findings::new(&state, &listed))
}

/// What there is.
#[derive(Debug, Default)]
struct Findings {
    /// Name and value of each count, in the order in which they are printed.
    counts: Vec<(&'static str, String)>,
    /// A promise that the state does not keep.
    violation: Option<String>,
    /// Objects with records that are not in the bucket.
    missing: Vec<ObjectName>,
    /// Objects with records and another length than the state knows.
    wrong_length: Vec<ObjectName>,
}

impl Findings {
    fn new(state: &State, listed: &[ObjectEntry]) -> Self {
        let mut found: BTreeMap<ObjectName, u64> = BTreeMap::new();
        let mut foreign = 0;
        for entry in listed {
            match keys::object_name(state.cluster(), &entry.key) {
                Some(name) => drop(found.insert(name, entry.size)),
                None => foreign += 1,
            }
        }
        let names: Vec<ObjectName> = found.keys().copied().collect();
        let standings = state.standings(&names);
        let count = |standing| standings.iter().filter(|found| **found == standing).count();
        foreign += count(ObjectStanding::Foreign);

        let (mut live, mut bytes, mut condemned) = (0_u64, 0, 0_u64);
        let (mut missing, mut wrong_length) = (Vec::new(), Vec::new());
        for (_, object) in state.objects().iter() {
            if object.references == 0 {
                condemned += 1;
                continue;
            }
            live += 1;
            bytes += object.size;
            match found.get(&object.name) {
                None => missing.push(object.name),
                Some(size) if *size != object.size => wrong_length.push(object.name),
                Some(_) => {}
            }
        }
        let counts = vec![
            ("cluster", state.cluster().to_string()),
            ("applied", state.applied().0.to_string()),
            ("digest", format!("{:032x}", state.digest())),
            ("live", live.to_string()),
            ("bytes", bytes.to_string()),
            ("condemned", condemned.to_string()),
            ("orphans", count(ObjectStanding::Orphan).to_string()),
            ("undecided", count(ObjectStanding::Undecided).to_string()),
            ("foreign", foreign.to_string()),
            ("missing", missing.len().to_string()),
            ("wrong-length", wrong_length.len().to_string()),
        ];
        let violation = state.check().err().map(|violation| violation.to_string());
        Self { counts, violation, missing, wrong_length }
    }

    fn table(&self) -> String {
        self.counts.iter().map(|(name, value)| format!("{name:<13} {value}\n")).collect()
    }

    fn complaints(&self) -> Vec<String> {
        let mut complaints: Vec<String> = self.violation.iter().cloned().collect();
        let damaged = [
            ("is missing from the bucket: the records in it are lost", &self.missing),
            ("has another length in the bucket than when it was committed", &self.wrong_length),
        ];
        for (what, names) in damaged {
            complaints.extend(names.iter().take(NAMED_MAX).map(|name| format!("{name} {what}")));
            if names.len() > NAMED_MAX {
                complaints.push(format!("and {} more", names.len() - NAMED_MAX));
            }
        }
        complaints
    }
}
