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

#[cfg(test)]
mod tests {
    use ottla_control_plane::state::{RecordDigest, StateIdentity, StateLoader};
    use ottla_format::state::{
        Counters, ExtentEntry, ExtentLocation, ObjectStatus, PartitionEntry, StateRecord,
        TopicEntry,
    };
    use ottla_model::{
        AppliedIndex, Attempt, BrokerAuthor, BrokerEpoch, BrokerId, BytePosition, ClusterId,
        ExtentFlags, JobId, JobOutput, LeaseNonce, ObjectId, ObjectSeq, Offset, PartitionId,
        PartitionIndex, ProcessNonce, TimestampMs, TopicId, TopicName,
    };

    use super::*;

    const CLUSTER: ClusterId = ClusterId(7);
    const SIZE: u64 = 1_000;

    fn wal(seq: u64) -> ObjectName {
        let author = BrokerAuthor { broker: BrokerId(1), epoch: BrokerEpoch(1) };
        ObjectName::wal(author, ProcessNonce(5), ObjectSeq(seq), Attempt(0))
    }

    fn merged(output: u32, attempt: u32) -> ObjectName {
        ObjectName::merged(JobId(3), LeaseNonce(5), JobOutput(output), Attempt(attempt))
    }

    /// A state whose one partition has an extent in each of these objects, and one by value.
    fn state(names: &[ObjectName]) -> State {
        let partition = PartitionId { topic: TopicId(1), index: PartitionIndex(0) };
        let extent = |at: usize, location| ExtentEntry {
            base_offset: Offset(at as i64),
            last_offset_delta: 0,
            max_timestamp: TimestampMs(0),
            flags: ExtentFlags::NONE,
            location,
        };
        let in_object = |at: usize| {
            let (object, position) = (ObjectId(at as u64), BytePosition(60));
            extent(at, ExtentLocation::Object { object, position, length: 900 })
        };
        let inline = extent(names.len(), ExtentLocation::Inline(vec![0; 61].into()));
        let extents: Vec<_> = (0..names.len()).map(in_object).chain([inline]).collect();
        let object = |name| ottla_format::state::ObjectEntry {
            name,
            size: SIZE,
            live_bytes: 900,
            references: 1,
            status: ObjectStatus::Live,
        };
        let objects = (0u8..).zip(names).map(|(slot, name)| (slot, object(*name)));
        let next_object = ObjectId(names.len() as u64);
        let topic = TopicEntry {
            name: TopicName::new("t").unwrap(),
            partitions: 1,
            replication_factor: 1,
            configs: BTreeMap::new(),
        };
        let bounds = PartitionEntry {
            log_start: Offset(0),
            next_offset: Offset(extents.len() as i64),
            extents: extents.len() as u64,
        };
        let records = [
            StateRecord::Counters(Counters { next_object, ..Counters::START }),
            StateRecord::Topic(partition.topic, topic),
            StateRecord::Partition(partition, bounds),
            StateRecord::Extents(partition, Offset(0), extents),
            StateRecord::Objects(0, objects.collect()),
        ];
        let mut digest = RecordDigest::default();
        records.iter().for_each(|record| digest.add(record));
        let (applied, digest) = (AppliedIndex(9), digest.sum());
        let mut loader = StateLoader::new(StateIdentity { cluster: CLUSTER, applied, digest });
        records.into_iter().for_each(|record| loader.load(record).unwrap());
        loader.finish().unwrap()
    }

    fn listed(objects: &[(ObjectName, u64)]) -> Vec<ObjectEntry> {
        let entry = |(name, size): &(ObjectName, u64)| {
            let key = keys::object(CLUSTER, name);
            ObjectEntry { key, size: *size, modified_ms: 0 }
        };
        objects.iter().map(entry).collect()
    }

    fn count<'a>(findings: &'a Findings, name: &str) -> &'a str {
        let found = findings.counts.iter().find(|(counted, _)| *counted == name);
        &found.unwrap().1
    }

    #[test]
    fn objects_of_either_origin_are_found_by_their_names() {
        let state = state(&[wal(0), merged(0, 1)]);
        let there = [(wal(0), SIZE), (merged(0, 1), SIZE), (merged(0, 0), SIZE), (wal(1), SIZE)];
        let findings = Findings::new(&state, &listed(&there));
        assert_eq!(findings.complaints(), [] as [String; 0]);
        let counts = ["live", "bytes", "orphans", "foreign", "missing"];
        assert_eq!(counts.map(|name| count(&findings, name)), ["2", "2000", "0", "2", "0"]);
    }

    #[test]
    fn a_missing_object_and_one_of_another_length_are_named_whatever_their_origin() {
        let state = state(&[wal(0), wal(1), merged(0, 1), merged(1, 0)]);
        // Another attempt is another object.
        let there = [(wal(1), 1), (merged(0, 0), SIZE), (merged(1, 0), 1)];
        let findings = Findings::new(&state, &listed(&there));
        assert_eq!(findings.missing, [wal(0), merged(0, 1)]);
        assert_eq!(findings.wrong_length, [wal(1), merged(1, 0)]);
        let complaints = findings.complaints().join("\n");
        assert!(complaints.contains("job3-0000000000000005-0.1 is missing"), "{complaints}");
    }
}
