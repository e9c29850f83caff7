//! The server and its store through several rounds, and what is done to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ottla_env::{Random, delay};
use tokio::time::Instant;

use super::plan::{Plan, ProcessEvent, StoreEvent, StoreKind, pick};
use super::report::Counts;
use crate::Scratch;
use crate::fault_proxy::{FaultProxy, Weather};
use crate::ottla::Ottla;
use crate::versitygw::{ACCESS_KEY, BUCKET, SECRET_KEY, Versitygw};

/// Memory for records that are not durable yet.
const BUDGET_MIB: u64 = 64;
/// Memory for cached objects: enough for all, or so little that most reads go to the store.
const CACHES_MIB: [u64; 2] = [32, 1];
/// Objects per second that a world writes to S3, at most: as few as by default, or many.
const PUT_RATES: [u64; 2] = [8, 100];
/// Log entries between two snapshots: many snapshots in a round, some, or none.
const SNAPSHOT_ENTRIES: [u64; 3] = [200, 3_000, 200_000];
/// Length of the log's files: filled many times in a round, or never.
const LOG_FILE_SIZES: [&str; 2] = ["64KiB", "64MiB"];
/// What the server may take beside these two.
const OTHER_MIB: u64 = 200;
/// Open files and sockets of the server: some for each client of a round, for the store and for the
/// data directory. More is a leak.
const DESCRIPTORS_MAX: u64 = 400;
/// Ready again within this time when the store is well. On an idle machine it is a quarter of a
/// second; here clients and checkers take the processors too.
const READY_WITHIN: Duration = Duration::from_secs(3);
/// However the store is, a server that is started again and again gets ready.
const READY_AT_ALL: Duration = Duration::from_secs(120);
/// As an orchestrator waits before it starts what ended by itself.
const RESTART_PAUSE: Duration = Duration::from_millis(300);
/// A drain takes 20 s at most, and clients and checkers take the processors.
const DRAIN_WITHIN: Duration = Duration::from_secs(40);
/// Time between two looks at the process.
const WATCH_PERIOD: Duration = Duration::from_millis(250);

/// A server, running except inside [`World::torment`], and its store.
#[derive(Debug)]
pub struct World {
    /// Its folder.
    pub scratch: Scratch,
    /// Where its objects are.
    pub kind: StoreKind,
    /// The server.
    pub server: Ottla,
    s3: Option<(Versitygw, FaultProxy)>,
    watched: Arc<Watched>,
    /// Bytes of the server's log that were looked at.
    log_read: usize,
}

/// What a look at the process from outside found.
#[derive(Debug, Default)]
struct Watched {
    pid: AtomicU32,
    resident_max: AtomicU64,
    descriptors_max: AtomicU64,
    /// How often something began or ended that was done to the store: while it is odd, the store is
    /// not well.
    store_spells: AtomicU64,
}

impl World {
    /// A fresh one, with its server up.
    pub async fn new(name: &str, kind: StoreKind, seed: u64) -> Result<Self> {
        let scratch = Scratch::new(name)?;
        let random = Random::seeded(seed);
        let cache_mib = pick(&random, &CACHES_MIB);
        let snapshot_entries = pick(&random, &SNAPSHOT_ENTRIES).to_string();
        let mut server = Ottla::new(&scratch, "ottla")?
            .env("OTTLA__PRODUCE__BUDGET_BYTES", &format!("{BUDGET_MIB}MiB"))
            .env("OTTLA__CACHE__BYTES", &format!("{cache_mib}MiB"))
            .env("OTTLA__CONTROLLER__SNAPSHOT_ENTRIES", &snapshot_entries)
            .env("OTTLA__CONTROLLER__LOG_FILE_SIZE", pick(&random, &LOG_FILE_SIZES))
            // So short that a round sees all of the sweep.
            .env("OTTLA__SWEEP__INTERVAL", "500ms")
            .env("OTTLA__SWEEP__CONDEMNED_DELAY", "3s")
            .env("OTTLA__SWEEP__ORPHAN_AGE", "3s")
            // Where most uploads fail, most objects are orphans.
            .env("OTTLA__SWEEP__SHARE_PERCENT", "100");
        let mut s3 = None;
        if kind == StoreKind::S3 {
            let gateway = Versitygw::start_new(&scratch).await?;
            let proxy = FaultProxy::start(gateway.address(), seed).await?;
            server = server
                .flag("--object-store", &format!("s3://{BUCKET}/records"))
                .env("OTTLA__PRODUCE__PUT_RATE", &pick(&random, &PUT_RATES).to_string())
                .env("OTTLA__OBJECT_STORE__ENDPOINT", &proxy.endpoint())
                .env("OTTLA__OBJECT_STORE__ALLOW_HTTP", "true")
                .env("OTTLA__OBJECT_STORE__REGION", "us-east-1")
                .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
                .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
            s3 = Some((gateway, proxy));
        }
        let watched = Arc::new(Watched::default());
        server.start().await?;
        watched.note_pid(&mut server)?;
        Ok(Self { scratch, kind, server, s3, watched, log_read: 0 })
    }

    /// Does to server and store what the plan says, for as long as it says, and leaves both up and
    /// well. Answers what must not happen.
    pub async fn torment(&mut self, plan: &Plan, counts: &mut Counts) -> Result<Vec<String>> {
        let before = self.s3.as_ref().map(|(_, proxy)| proxy.counts()).unwrap_or_default();
        let until = Instant::now() + plan.load;
        let watching = tokio::spawn(watch(self.watched.clone()));
        let mut by_store = Counts::default();
        let mut complaints = Vec::new();
        let server = Tormented { server: &mut self.server, watched: &self.watched };
        let process = server.process_events(plan, until, counts, &mut complaints);
        let (process, store) = match &mut self.s3 {
            Some((gateway, proxy)) => {
                let watched = &self.watched;
                let store = store_events(plan, until, gateway, proxy, watched, &mut by_store);
                tokio::join!(process, store)
            }
            None => (process.await, Ok(())),
        };
        watching.abort();
        store?;
        process?;
        let after = self.s3.as_ref().map(|(_, proxy)| proxy.counts()).unwrap_or_default();
        counts.store_faults += after.faults - before.faults;
        counts.outages += by_store.outages;
        self.look(counts, &mut complaints);
        Ok(complaints)
    }

    /// Takes over what was seen of the process.
    fn look(&self, counts: &mut Counts, complaints: &mut Vec<String>) {
        let resident = self.watched.resident_max.swap(0, Ordering::SeqCst);
        counts.resident_max = counts.resident_max.max(resident);
        let descriptors = self.watched.descriptors_max.swap(0, Ordering::SeqCst);
        counts.descriptors_max = counts.descriptors_max.max(descriptors);
        if descriptors > DESCRIPTORS_MAX {
            complaints.push(format!("descriptors: {descriptors}, allowed {DESCRIPTORS_MAX}"));
        }
        let allowed = (BUDGET_MIB + CACHES_MIB[0] + OTHER_MIB) << 20;
        if resident > allowed {
            complaints.push(format!("memory: {} MiB, allowed {}", resident >> 20, allowed >> 20));
        }
    }

    /// Stops or kills the server in fair weather.
    pub async fn down(&mut self, kill: bool) -> Result<()> {
        if kill {
            return self.server.kill().await;
        }
        let status = self.server.terminate(DRAIN_WITHIN).await?;
        ensure!(status.success(), "drain: SIGTERM ended it with {status}");
        Ok(())
    }

    /// Starts the server in fair weather.
    pub async fn up(&mut self) -> Result<Duration> {
        let ready = self.server.start().await?;
        self.watched.note_pid(&mut self.server)?;
        Ok(ready)
    }

    /// Lines of the server's log since the last time that must not be there.
    pub fn read_log(&mut self) -> Vec<String> {
        let log = self.server.output();
        let new = log.get(self.log_read..).unwrap_or_default();
        self.log_read = log.len();
        let bad = |line: &&str| {
            let error = line.contains("ERROR") && !EXPECTED_ERRORS.iter().any(|e| line.contains(e));
            error || line.contains("panicked")
        };
        new.lines().filter(bad).map(|line| format!("log: {line}")).collect()
    }
}

/// Errors that are right while somebody torments the store.
const EXPECTED_ERRORS: [&str; 0] = [];

/// The server while things are done to it.
struct Tormented<'a> {
    server: &'a mut Ottla,
    watched: &'a Watched,
}

impl Tormented<'_> {
    async fn process_events(
        self,
        plan: &Plan,
        until: Instant,
        counts: &mut Counts,
        complaints: &mut Vec<String>,
    ) -> Result<()> {
        let Self { server, watched } = self;
        for (pause, event) in &plan.process {
            if Instant::now() + *pause > until {
                break;
            }
            delay(*pause).await;
            server.process()?.check_running()?;
            match *event {
                ProcessEvent::Kill => {
                    server.kill().await?;
                    counts.kills += 1;
                }
                ProcessEvent::LoseCheckpoint => {
                    server.kill().await?;
                    counts.kills += 1;
                    std::fs::remove_dir_all(server.data().join("controller/checkpoint"))?;
                }
                ProcessEvent::KillTwice(after) => {
                    server.kill().await?;
                    server.spawn()?;
                    delay(after).await;
                    server.kill().await?;
                    counts.kills += 2;
                }
                ProcessEvent::Restart => {
                    let before = watched.store_spells();
                    let status = server.terminate(DRAIN_WITHIN).await.context("drain")?;
                    if watched.store_was_well_since(before) && !status.success() {
                        complaints.push(format!("drain: SIGTERM ended it with {status}"));
                    }
                    counts.restarts += 1;
                }
                ProcessEvent::Freeze(time) => {
                    server.process()?.signal("STOP").await?;
                    delay(time).await;
                    server.process()?.signal("CONT").await?;
                    counts.freezes += 1;
                    continue;
                }
            }
            bring_up(server, watched, counts, complaints).await?;
        }
        delay(until.saturating_duration_since(Instant::now())).await;
        server.process()?.check_running()
    }
}

/// Starts the server until it is ready.
async fn bring_up(
    server: &mut Ottla,
    watched: &Watched,
    counts: &mut Counts,
    complaints: &mut Vec<String>,
) -> Result<()> {
    let begin = Instant::now();
    loop {
        let before = watched.store_spells();
        let left = READY_AT_ALL.saturating_sub(begin.elapsed());
        let started = server.start_within(left).await;
        let well = watched.store_was_well_since(before);
        match started {
            Ok(ready) => {
                watched.note_pid(server)?;
                if well {
                    counts.ready_max = counts.ready_max.max(ready);
                }
                if well && ready > READY_WITHIN {
                    complaints.push(format!("slow-start: ready after {ready:?}"));
                }
                return Ok(());
            }
            Err(error) if server.is_running() => return Err(error),
            Err(error) => {
                counts.refused_starts += 1;
                if well {
                    complaints.push(format!("refused-start: {error:#}"));
                }
                if begin.elapsed() > READY_AT_ALL {
                    bail!("stuck: no start succeeds: {error:#}");
                }
                delay(RESTART_PAUSE).await;
            }
        }
    }
}

/// Does to the store what the plan says, and leaves it well.
async fn store_events(
    plan: &Plan,
    until: Instant,
    gateway: &mut Versitygw,
    proxy: &FaultProxy,
    watched: &Watched,
    counts: &mut Counts,
) -> Result<()> {
    for (pause, event) in &plan.store {
        if Instant::now() + *pause > until {
            break;
        }
        delay(*pause).await;
        watched.store_spells.fetch_add(1, Ordering::SeqCst);
        match *event {
            StoreEvent::Weather(weather, time) => {
                proxy.set(weather);
                delay(time).await;
            }
            StoreEvent::Away(time) => {
                proxy.set(Weather { away: true, ..Weather::default() });
                counts.outages += 1;
                delay(time).await;
            }
            StoreEvent::Kill(time) => {
                gateway.kill().await?;
                counts.outages += 1;
                delay(time).await;
                gateway.restart().await?;
            }
            StoreEvent::Freeze(time) => {
                gateway.process().signal("STOP").await?;
                counts.outages += 1;
                delay(time).await;
                gateway.process().signal("CONT").await?;
            }
        }
        proxy.set(Weather::default());
        watched.store_spells.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}

impl Watched {
    fn store_spells(&self) -> u64 {
        self.store_spells.load(Ordering::SeqCst)
    }

    /// Nothing was done to the store since `before`, not even a spell that began and ended meanwhile.
    fn store_was_well_since(&self, before: u64) -> bool {
        before.is_multiple_of(2) && self.store_spells() == before
    }

    fn note_pid(&self, server: &mut Ottla) -> Result<()> {
        self.pid.store(server.process()?.id()?, Ordering::SeqCst);
        Ok(())
    }
}

/// Looks at memory and descriptors of the process until aborted.
async fn watch(watched: Arc<Watched>) {
    loop {
        delay(WATCH_PERIOD).await;
        let process = format!("/proc/{}", watched.pid.load(Ordering::SeqCst));
        // A process that is being restarted has neither.
        let status = std::fs::read_to_string(format!("{process}/status")).unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        watched.resident_max.fetch_max(kib.unwrap_or_default() * 1024, Ordering::SeqCst);
        let descriptors = std::fs::read_dir(format!("{process}/fd")).map_or(0, Iterator::count);
        watched.descriptors_max.fetch_max(descriptors as u64, Ordering::SeqCst);
    }
}
