//! A node under load, and what must hold in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, ensure};
use ottla_env::delay;
use ottla_tests::history::{self, Kind};
use ottla_tests::load::{Load, Manner};
use ottla_tests::real_clients::{self, RealClients};
use ottla_tests::{Scratch, topic};
use tokio::time::Instant;

use crate::node::FaultyNode;

/// What the raw producers write to, each to a partition of its own.
const RAW: &str = "raw";
const KINDS: [Kind; 4] = [Kind::Idempotent, Kind::Idempotent, Kind::Once, Kind::Retrying];
/// The idempotent ones among them, and librdkafka's.
pub const IDEMPOTENT_PRODUCERS: usize = 3;
/// Raw producers leave some of the machine to librdkafka, and outlast every outage.
const MANNER: Manner = Manner {
    pace: Duration::from_millis(10),
    padding_max: 600,
    patience: Duration::from_secs(150),
    finish_within: Duration::from_secs(60),
};
/// What [`Clients::start_bulk`] writes to.
const BULK: &str = "bulk";
/// Enough batches in flight to fill what one address may have of the smallest budget.
const BULK_KINDS: [Kind; 8] = [Kind::Idempotent; 8];
const BULK_MANNER: Manner = Manner { pace: Duration::from_secs(1), padding_max: 60_000, ..MANNER };
/// How long a workload runs without faults, before and after.
pub const CALM: Duration = Duration::from_secs(1);
/// Fewer records stored than this would show nothing.
const STORED_MIN: usize = 200;
/// Throughput is counted over so long.
const COUNTED: Duration = Duration::from_secs(2);
/// After a fault the throughput is back within this time.
const BACK_WITHIN: Duration = Duration::from_secs(60);
/// So much of it.
const BACK_SHARE: f64 = 0.9;

/// All clients of a test.
pub struct Clients {
    real: RealClients,
    /// With their topics.
    raw: Vec<(&'static str, Load)>,
    bootstrap: String,
}

impl Clients {
    /// Starts them, and lets them run for a moment.
    pub async fn start(bootstrap: &str) -> Result<Self> {
        let real = RealClients::start(bootstrap).await?;
        let mut clients = Self { real, raw: Vec::new(), bootstrap: bootstrap.to_owned() };
        clients.start_raw(RAW, &KINDS, MANNER).await?;
        delay(CALM).await;
        Ok(clients)
    }

    /// Adds producers of large batches.
    pub async fn start_bulk(&mut self) -> Result<()> {
        self.start_raw(BULK, &BULK_KINDS, BULK_MANNER).await
    }

    async fn start_raw(
        &mut self,
        topic: &'static str,
        kinds: &[Kind],
        manner: Manner,
    ) -> Result<()> {
        topic::create(&self.bootstrap, topic, kinds.len() as i32).await?;
        let load = Load::start_with(&self.bootstrap, topic, kinds, 7, manner);
        self.raw.push((topic, load));
        Ok(())
    }

    /// Reads everything once more, and compares it with what others saw.
    pub async fn read_again(&self) -> Result<()> {
        self.real.read_again().await
    }

    /// Records per second that librdkafka's producers are told are stored.
    pub async fn stored_per_second(&self) -> f64 {
        let (before, begin) = (self.real.stored(), Instant::now());
        delay(COUNTED).await;
        (self.real.stored() - before) as f64 / begin.elapsed().as_secs_f64()
    }

    /// Waits until records are stored as fast as before, for longer than a backlog takes; how long
    /// that took.
    pub async fn come_back(&self, before: f64) -> Result<Duration> {
        let begin = Instant::now();
        let mut enough = 0;
        loop {
            let now = self.stored_per_second().await;
            enough = if now >= BACK_SHARE * before { enough + 1 } else { 0 };
            if enough == 2 {
                return Ok(begin.elapsed());
            }
            let late = begin.elapsed() > BACK_WITHIN;
            ensure!(!late, "{now:.0} records/s after {BACK_WITHIN:?}, {before:.0} before");
        }
    }

    /// Ends them, and checks everything that they were told and saw.
    pub async fn finish(self, scratch: &Scratch) -> Result<real_clients::Report> {
        let Self { real, raw, bootstrap } = self;
        let mut histories = Vec::new();
        for (topic, load) in raw {
            let history = load.stop().await?;
            history::write(&scratch.path().join(format!("{topic}.jsonl")), &history)?;
            histories.push((topic, history));
        }
        let report = real.stop().await?;
        for (topic, history) in histories {
            let partitions: BTreeSet<i32> = history.iter().map(|one| one.partition).collect();
            let mut log = BTreeMap::new();
            for partition in partitions {
                log.insert(partition, topic::read(&bootstrap, topic, partition).await?);
            }
            let found = history::anomalies(&history, &log);
            let first = found[..found.len().min(20)].join("\n");
            ensure!(found.is_empty(), "{topic}: {} anomalies:\n{first}", found.len());
        }
        ensure!(report.stored >= STORED_MIN, "only {} records were stored", report.stored);
        Ok(report)
    }
}

/// A node in this process under load.
pub struct Round {
    scratch: Scratch,
    pub node: FaultyNode,
    pub clients: Clients,
}

impl Round {
    /// Without settings of its own, on a store that does not charge.
    pub async fn start(name: &str) -> Result<Self> {
        Self::start_with(name, false, &[]).await
    }

    /// See [`FaultyNode::start`].
    pub async fn start_with(name: &str, charging: bool, settings: &[(&str, &str)]) -> Result<Self> {
        let scratch = Scratch::new(name)?;
        let node = FaultyNode::start(&scratch, charging, settings).await?;
        let clients = Clients::start(node.bootstrap()).await?;
        Ok(Self { scratch, node, clients })
    }

    /// Ends the faults and the load, and checks everything.
    pub async fn finish(self) -> Result<Ended> {
        let Self { scratch, node, clients } = self;
        node.end_faults()?;
        delay(CALM).await;
        let report = clients.finish(&scratch).await?;
        node.come_to_rest().await?;
        Ok(Ended { scratch, node, report })
    }
}

/// A node at rest, everything checked.
pub struct Ended {
    scratch: Scratch,
    pub node: FaultyNode,
    pub report: real_clients::Report,
}

impl Ended {
    pub async fn close(mut self) -> Result<()> {
        self.node.stop().await?;
        self.scratch.done();
        Ok(())
    }
}
