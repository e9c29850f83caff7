//! A controller over a real directory, its work, and what a kill leaves of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ottla_control_api::{ControlPlane, CreateTopicRequest, Registration};
use ottla_env::{Clock, Random};
use ottla_format::command::{
    BatchOutcome, CommitBatch, CommitObject, CommitObjects, ObjectOutcome, RegisterBroker,
};
use ottla_model::{
    Attempt, BrokerAuthor, BrokerId, BytePosition, ObjectSeq, PartitionId, PartitionIndex,
    ProcessNonce, TimestampMs, TopicId, TopicName,
};
use ottla_telemetry::Metrics;

use crate::raft_log::LogOptions;
use crate::service::{Controller, ControllerOptions, StartError};

pub(super) const TOPIC: TopicId = TopicId(77);
pub(super) const PARTITION: PartitionId = PartitionId { topic: TOPIC, index: PartitionIndex(0) };

pub(super) fn options(data_dir: &Path) -> ControllerOptions {
    ControllerOptions::new(data_dir, BrokerId(1))
}

pub(super) async fn start(options: ControllerOptions) -> Result<Controller, StartError> {
    Controller::start(options, Clock::system(), Random::system(), Metrics::new()).await
}

pub(super) async fn register(api: &Arc<dyn ControlPlane>, nonce: u64) -> Registration {
    let request = RegisterBroker {
        broker: BrokerId(1),
        nonce: ProcessNonce(nonce),
        profile: Default::default(),
    };
    api.register_broker(request).await.unwrap()
}

async fn create_topic(api: &Arc<dyn ControlPlane>) {
    let request = CreateTopicRequest {
        id: TOPIC,
        name: TopicName::new("events").unwrap(),
        partitions: 4,
        replication_factor: 1,
        configs: BTreeMap::new(),
    };
    assert_eq!(api.create_topic(request).await.unwrap(), TOPIC);
}

/// One object with one batch of ten records.
pub(super) fn commit(author: BrokerAuthor, seq: u64, frontier: u64) -> CommitObjects {
    let batch = CommitBatch {
        partition: PARTITION,
        position: BytePosition(64),
        length: 500,
        last_offset_delta: 9,
        max_timestamp: TimestampMs(1_700_000_000_000),
        producer: None,
    };
    let object = CommitObject {
        seq: ObjectSeq(seq),
        attempt: Attempt(0),
        size: 1_000,
        batches: vec![batch],
    };
    CommitObjects { author, frontier: ObjectSeq(frontier), objects: vec![object] }
}

pub(super) fn base_offset(outcomes: &[ObjectOutcome]) -> i64 {
    match outcomes {
        [ObjectOutcome::Committed(batches)] => match batches[0] {
            BatchOutcome::Appended { base_offset, .. } => base_offset.0,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// Registers, makes a topic and commits `count` objects, waiting for none before the last.
#[expect(clippy::disallowed_methods, reason = "asks as the read path does")]
pub(super) async fn fill(controller: &Controller, nonce: u64, count: u64) {
    let api = controller.api();
    let author = register(&api, nonce).await.author;
    if controller.state().bounds(PARTITION).is_none() {
        create_topic(&api).await;
    }
    let first = api.partition_bounds(PARTITION).await.unwrap().unwrap().high_watermark.0;
    let answers: Vec<_> =
        (0..count).map(|seq| api.commit_objects(commit(author, seq, 0))).collect();
    for (seq, answer) in answers.into_iter().enumerate() {
        assert_eq!(base_offset(&answer.await.unwrap()), first + 10 * seq as i64);
    }
}

/// Ends a controller as a killed process would: nothing is written any more. What a process leaves
/// in memory of the operating system stays, as it does on a real kill.
pub(super) async fn kill(controller: Controller, data_dir: &Path) -> PathBuf {
    let copy = data_dir.with_extension(format!("killed{}", Random::system().u64()));
    copy_tree(data_dir, &copy);
    controller.stop().await;
    copy
}

pub(super) fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub(super) fn last_segment(data_dir: &Path) -> PathBuf {
    let mut segments: Vec<_> = std::fs::read_dir(data_dir.join("controller/raft"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    segments.sort();
    segments.pop().unwrap()
}

/// The digest over the content only: a restart adds a blank entry of the new leader.
pub(super) async fn restarted(data_dir: &Path) -> (Controller, u128) {
    let began = tokio::time::Instant::now();
    let controller = start(options(data_dir)).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let digest = controller.digest().1;
    assert_eq!(digest, controller.state().recompute_digest());
    (controller, digest)
}

pub(super) struct Life {
    pub(super) folder: tempfile::TempDir,
    /// The data directory as a kill left it.
    pub(super) killed: PathBuf,
    pub(super) digest: u128,
    pub(super) end: i64,
}

/// A first start, some work, a kill.
pub(super) async fn life(snapshot: bool) -> Life {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let mut options = options(&data_dir);
    options.log = LogOptions { segment_bytes: 2_000, ..LogOptions::default() };
    let controller = start(options).await.unwrap();
    fill(&controller, 1, 50).await;
    if snapshot {
        controller.snapshot().await.unwrap();
        fill(&controller, 2, 20).await;
    }
    let digest = controller.digest().1;
    let end = controller.state().bounds(PARTITION).unwrap().high_watermark.0;
    let killed = kill(controller, &data_dir).await;
    Life { folder, killed, digest, end }
}
