//! A node inside the test's process, with an object store and a control plane that can be made to
//! fail, and a wall clock that can be moved.
//!
//! The objects are in memory and outlive the node, so it can be killed and started again. It sweeps
//! all the time with short delays: whatever faults leave behind is gone soon after them, and
//! [`FaultyNode::come_to_rest`] waits for that.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ottla::{Node, NodeOptions, Seams};
use ottla_config::Sources;
use ottla_control_plane::service::faulty::{Faults, FaultyControlPlane};
use ottla_env::{Clock, Random, delay};
use ottla_model::{ClusterId, TimestampMs};
use ottla_object_io::faults::{FaultRates, FaultStore};
use ottla_object_io::{Store, keys};
use ottla_tests::{Scratch, ports};
use tokio::runtime::Runtime;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};

/// A start or an orderly stop that takes longer has failed.
const CHANGE_WITHIN: Duration = Duration::from_secs(60);
/// After the last fault, everything is decided and swept within this time.
const REST_WITHIN: Duration = Duration::from_secs(60);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// The settings of every faulty node, below those of the test: sweeps that do not wait.
const SETTINGS: [(&str, &str); 4] = [
    ("OTTLA__SWEEP__INTERVAL", "200ms"),
    ("OTTLA__SWEEP__CONDEMNED_DELAY", "1s"),
    ("OTTLA__SWEEP__ORPHAN_AGE", "2s"),
    ("OTTLA__KAFKA__GROUP_INITIAL_REBALANCE_DELAY", "100ms"),
];

/// See the module.
pub struct FaultyNode {
    options: NodeOptions,
    bootstrap: String,
    random: Random,
    store: Arc<FaultStore>,
    clock: Clock,
    running: Option<Running>,
}

struct Running {
    node: Node,
    control: Arc<FaultyControlPlane>,
    runtime: OwnRuntime,
}

/// What a node runs on; ending it is a crash. Dropped without waiting, because tests are async.
struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    /// Ends it, and waits for what blocks.
    async fn end(mut self) -> Result<()> {
        if let Some(runtime) = self.0.take() {
            spawn_blocking(move || runtime.shutdown_timeout(CHANGE_WITHIN)).await?;
        }
        Ok(())
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl FaultyNode {
    /// Starts a node without faults. `charging`: its store costs money by the request, as S3 does,
    /// so that reads are hedged and few small objects are written.
    pub async fn start(
        scratch: &Scratch,
        charging: bool,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let port = ports::free()?;
        let listen = format!("127.0.0.1:{port}");
        let environment = SETTINGS.iter().chain(settings);
        let sources = Sources {
            file: None,
            environment: environment
                .map(|(name, value)| (OsString::from(name), OsString::from(value)))
                .collect(),
            flags: vec![
                ("data-dir", scratch.path().join("node").display().to_string()),
                ("kafka-listen", listen.clone()),
                ("admin-listen", "127.0.0.1:0".to_owned()),
                ("object-store", "memory:".to_owned()),
            ],
        };
        let random = Random::seeded(u64::from(port));
        let inner = ottla_object_io::memory();
        let store = if charging {
            FaultStore::charging(inner, random.clone())
        } else {
            FaultStore::new(inner, random.clone())
        };
        let mut node = Self {
            options: NodeOptions::new(&sources.load()?.config)?,
            bootstrap: listen,
            random,
            store,
            clock: Clock::movable(),
            running: None,
        };
        node.start_again().await?;
        Ok(node)
    }

    /// Starts it again after [`FaultyNode::kill`], without faults of the control plane.
    pub async fn start_again(&mut self) -> Result<()> {
        ensure!(self.running.is_none(), "it runs already");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("faulty-node")
            .enable_all()
            .build()?;
        let (control_out, control_in) = std::sync::mpsc::channel();
        let (store, random) = (Arc::clone(&self.store), self.random.clone());
        let seams = Seams {
            store: Box::new(move |_| store),
            control: Box::new(move |inner| {
                let control = FaultyControlPlane::new(inner, random, Faults::default());
                // Nobody listens only when the start was given up.
                let _ = control_out.send(Arc::clone(&control));
                control
            }),
            clock: self.clock.clone(),
            ..Seams::default()
        };
        let options = self.options.clone();
        let starting = runtime.spawn(async move { Node::start(&options, seams).await });
        // From here on it is not dropped as it is, which must not happen inside a task.
        let runtime = OwnRuntime(Some(runtime));
        let node = timeout(CHANGE_WITHIN, starting).await.context("the start hangs")???;
        let control = control_in.recv().context("the control plane's seam was not used")?;
        self.running = Some(Running { node, control, runtime });
        Ok(())
    }

    /// Ends it as a crash would: nothing is told to anybody.
    pub async fn kill(&mut self) -> Result<()> {
        let Running { node, control, runtime } = self.running()?;
        drop((node, control));
        runtime.end().await
    }

    /// Ends it in order.
    pub async fn stop(&mut self) -> Result<()> {
        let Running { node, control, runtime } = self.running()?;
        drop(control);
        timeout(CHANGE_WITHIN, node.stop()).await.context("the stop hangs")?;
        runtime.end().await
    }

    fn running(&mut self) -> Result<Running> {
        self.running.take().context("it does not run")
    }

    fn node(&self) -> Result<&Node> {
        Ok(&self.running.as_ref().context("it does not run")?.node)
    }

    /// What clients are given to connect to.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Its object store.
    pub fn store(&self) -> &FaultStore {
        &self.store
    }

    /// What goes wrong between the broker and the control plane from now on.
    pub fn set_control_faults(&self, faults: Faults) -> Result<()> {
        let running = self.running.as_ref().context("it does not run")?;
        running.control.set_faults(faults);
        Ok(())
    }

    /// Delivers the calls to the control plane that were held back; how many those were.
    pub async fn release_calls(&self) -> Result<usize> {
        let running = self.running.as_ref().context("it does not run")?;
        Ok(running.control.release().await)
    }

    /// Its wall clock, to be moved.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The time of its replicated state.
    pub fn replicated_time(&self) -> Result<TimestampMs> {
        Ok(self.node()?.controller().state().time())
    }

    /// The time that it stamps records with.
    pub fn append_time(&self) -> Result<TimestampMs> {
        Ok(self.node()?.controller().state().append_time())
    }

    /// The generation of a consumer group and its members; 0 and nobody before the first.
    pub fn group(&self, id: &str) -> Result<(i32, Vec<String>)> {
        let group = self.node()?.controller().state().group(&id.into());
        let Some(metadata) = group.and_then(|group| group.metadata) else {
            return Ok((0, Vec::new()));
        };
        let members = metadata.members.iter().map(|member| member.member_id.to_string());
        Ok((metadata.generation, members.collect()))
    }

    /// Whether no part of the node has ended by itself.
    pub async fn is_whole(&self) -> bool {
        match self.node() {
            Ok(node) => timeout(Duration::ZERO, node.ended()).await.is_err(),
            Err(_) => false,
        }
    }

    /// The sum of a metric over those of its series whose labels contain `labels`.
    pub fn metric(&self, name: &str, labels: &str) -> Result<f64> {
        let mut sum = 0.0;
        for line in self.node()?.metrics().render().lines() {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let (found, found_labels) = series.split_once('{').unwrap_or((series, ""));
            if found == name && found_labels.contains(labels) {
                sum += value.parse::<f64>()?;
            }
        }
        Ok(sum)
    }

    /// The cluster that it is of.
    pub fn cluster(&self) -> Result<ClusterId> {
        Ok(self.node()?.controller().cluster_id())
    }

    /// Committed objects, live and condemned.
    pub fn objects(&self) -> Result<usize> {
        Ok(self.node()?.controller().state().objects().len())
    }

    /// Nothing fails any more.
    pub fn end_faults(&self) -> Result<()> {
        self.store.set_rates(FaultRates::default());
        self.store.set_outage(false);
        self.store.set_write_capacity(None);
        self.set_control_faults(Faults::default())
    }

    /// Waits until nothing is buffered and the bucket holds exactly the objects that records are
    /// in, and checks the promises of the state. To be called when there are no more faults.
    pub async fn come_to_rest(&self) -> Result<()> {
        self.store.settle().await;
        let begin = Instant::now();
        loop {
            let unrest = self.unrest().await?;
            if unrest.is_empty() {
                break;
            }
            ensure!(begin.elapsed() < REST_WITHIN, "after {REST_WITHIN:?}: {unrest}");
            delay(LOOK).await;
        }
        ensure!(self.is_whole().await, "a part of the node has ended");
        self.node()?.controller().state().check()?;
        Ok(())
    }

    /// What is not at rest; empty when everything is.
    async fn unrest(&self) -> Result<String> {
        let buffered = self.metric("ottla_buffer_bytes", "")?;
        if buffered != 0.0 {
            return Ok(format!("{buffered} bytes are buffered"));
        }
        let state = self.node()?.controller().state();
        let mut there = BTreeSet::new();
        for folder in keys::object_folders(state.cluster()) {
            for entry in self.store.list(&folder).await? {
                let name = keys::object_name(state.cluster(), &entry.key);
                there.insert(name.with_context(|| format!("a strange key: {}", entry.key))?);
            }
        }
        let wanted: BTreeSet<_> = state
            .objects()
            .iter()
            .filter(|(_, object)| object.references > 0)
            .map(|(_, object)| object.name)
            .collect();
        let missing: Vec<_> = wanted.difference(&there).collect();
        ensure!(missing.is_empty(), "I-LIVE: objects with records are missing: {missing:?}");
        let left: Vec<_> = there.difference(&wanted).take(3).collect();
        if left.is_empty() {
            return Ok(String::new());
        }
        Ok(format!(
            "{} objects, {} with records; among the others {left:?}",
            there.len(),
            wanted.len()
        ))
    }
}
