//! A controller over a real directory: restarts by every way, damage, the API's promises.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ottla_control_api::view::{Change, WatchEvent};
use ottla_control_api::{
    CallError, CallErrorKind, ControlPlane, CreateTopicRequest, FindExtents, OpError, Registration,
};
use ottla_env::{Clock, Random};
use ottla_format::command::{
    AllocateProducerIds, BatchOutcome, CommitBatch, CommitObject, CommitObjects,
    CreateTopicRefusal, Fenced, ObjectOutcome, RegisterBroker,
};
use ottla_format::raft_entry::{Entry, LogId, Payload};
use ottla_format::raft_log::{Frame, SEGMENT_HEADER_BYTES, SegmentHeader};
use ottla_model::{
    AppliedIndex, Attempt, Az, BrokerAuthor, BrokerId, BytePosition, ObjectSeq, Offset,
    PartitionId, PartitionIndex, ProcessNonce, TimestampMs, TopicId, TopicName,
};
use ottla_telemetry::Metrics;

use super::faulty::{Faults, FaultyControlPlane};
use super::{Controller, ControllerOptions, StartError};
use crate::raft_log::LogOptions;

const TOPIC: TopicId = TopicId(77);
const PARTITION: PartitionId = PartitionId { topic: TOPIC, index: PartitionIndex(0) };

fn options(data_dir: &Path) -> ControllerOptions {
    ControllerOptions::new(data_dir, 1)
}

async fn start(options: ControllerOptions) -> Result<Controller, StartError> {
    Controller::start(options, Clock::system(), Random::system(), Metrics::new()).await
}

async fn register(api: &Arc<dyn ControlPlane>, nonce: u64) -> Registration {
    let request = RegisterBroker {
        broker: BrokerId(1),
        nonce: ProcessNonce(nonce),
        az: Az("a".to_owned()),
        host: "localhost".to_owned(),
        port: 9092,
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
fn commit(author: BrokerAuthor, seq: u64, frontier: u64) -> CommitObjects {
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

fn base_offset(outcomes: &[ObjectOutcome]) -> i64 {
    match outcomes {
        [ObjectOutcome::Committed(batches)] => match batches[0] {
            BatchOutcome::Appended { base_offset, .. } => base_offset.0,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// Registers, makes a topic and commits `count` objects, waiting for none before the last.
async fn fill(controller: &Controller, nonce: u64, count: u64) {
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
async fn kill(controller: Controller, data_dir: &Path) -> PathBuf {
    let copy = data_dir.with_extension(format!("killed{}", Random::system().u64()));
    copy_tree(data_dir, &copy);
    controller.stop().await;
    copy
}

fn copy_tree(from: &Path, to: &Path) {
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

fn last_segment(data_dir: &Path) -> PathBuf {
    let mut segments: Vec<_> = std::fs::read_dir(data_dir.join("controller/raft"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    segments.sort();
    segments.pop().unwrap()
}

/// The digest over the content only: a restart adds a blank entry of the new leader.
async fn restarted(data_dir: &Path) -> (Controller, u128) {
    let began = tokio::time::Instant::now();
    let controller = start(options(data_dir)).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let digest = controller.digest().1;
    assert_eq!(digest, controller.state().recompute_digest());
    (controller, digest)
}

struct Life {
    folder: tempfile::TempDir,
    /// The data directory as a kill left it.
    killed: PathBuf,
    digest: u128,
    end: i64,
}

/// A first start, some work, a kill.
async fn life(snapshot: bool) -> Life {
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

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_replay_gives_the_same_digest() {
    for snapshot in [false, true] {
        let Life { folder: _folder, killed, digest, end } = life(snapshot).await;
        // Log only, or snapshot and log: the checkpoint had no time to be written, or is deleted.
        std::fs::remove_dir_all(killed.join("controller/checkpoint")).unwrap();
        let (controller, after) = restarted(&killed).await;
        assert_eq!(after, digest);
        // A clean stop writes the checkpoint: the next start goes by it.
        controller.stop().await;
        let (controller, after) = restarted(&killed).await;
        assert_eq!(after, digest);
        fill(&controller, 9, 5).await;
        let more = controller.digest().1;
        let again = kill(controller, &killed).await;
        // Checkpoint and log.
        let (controller, after) = restarted(&again).await;
        assert_eq!(after, more);
        let bounds = controller.api().partition_bounds(PARTITION).await.unwrap().unwrap();
        assert_eq!(bounds.high_watermark, Offset(end + 50));
        controller.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_lets_the_log_go_and_a_restart_needs_both() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    options.log = LogOptions { segment_bytes: 2_000, ..LogOptions::default() };
    options.snapshot_entries = 20;
    let controller = start(options.clone()).await.unwrap();
    fill(&controller, 1, 100).await;
    controller.snapshot().await.unwrap();
    let first = folder.path().join(format!("controller/raft/{:016x}.log", 0));
    let mut nonce = 2;
    while first.exists() {
        fill(&controller, nonce, 10).await;
        controller.snapshot().await.unwrap();
        nonce += 1;
    }
    let digest = controller.digest().1;
    controller.stop().await;
    std::fs::remove_dir_all(folder.path().join("controller/checkpoint")).unwrap();
    // Damage to the newest snapshot costs nothing: the log goes back to the one before.
    let mut snapshots: Vec<_> = std::fs::read_dir(folder.path().join("controller/snapshots"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    snapshots.sort();
    let newest = snapshots.pop().unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    let controller = start(options.clone()).await.unwrap();
    assert_eq!(controller.digest().1, digest);
    controller.stop().await;
    assert!(!newest.exists() && newest.with_extension("damaged").exists());
    std::fs::remove_dir_all(folder.path().join("controller/checkpoint")).unwrap();
    let controller = start(options.clone()).await.unwrap();
    assert_eq!(controller.digest().1, digest);
    controller.stop().await;
    // Without its snapshots the log's rest is worth nothing, and the node says so.
    std::fs::remove_dir_all(folder.path().join("controller/snapshots")).unwrap();
    std::fs::remove_dir_all(folder.path().join("controller/checkpoint")).unwrap();
    let error = start(options).await.unwrap_err().to_string();
    assert!(error.contains("the log begins after entry"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupted_checkpoint_is_rebuilt() {
    let folder = tempfile::tempdir().unwrap();
    let controller = start(options(folder.path())).await.unwrap();
    fill(&controller, 1, 30).await;
    let digest = controller.digest().1;
    controller.stop().await;
    let checkpoint = folder.path().join("controller/checkpoint");
    for entry in std::fs::read_dir(&checkpoint).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let mut bytes = std::fs::read(&path).unwrap();
            let step = (bytes.len() / 50).max(1);
            for at in (0..bytes.len()).step_by(step) {
                bytes[at] ^= 0x55;
            }
            std::fs::write(&path, bytes).unwrap();
        }
    }
    let (controller, after) = restarted(folder.path()).await;
    assert_eq!(after, digest);
    controller.stop().await;
}

/// What follows the last frame of a segment when a further entry is written.
fn next_frame(segment: &[u8]) -> Vec<u8> {
    let start = SegmentHeader::decode(segment).unwrap().start;
    let (mut at, mut last, mut synced) = (SEGMENT_HEADER_BYTES, None, 0);
    while at < segment.len() {
        let (header, frame, length) = Frame::decode(&segment[at..], start + at as u64).unwrap();
        if let Frame::Entry(entry) = frame {
            last = Some(entry.id);
        }
        synced = header.synced;
        at += length;
    }
    let last = last.unwrap();
    let id = LogId { index: last.index + 1, ..last };
    let mut out = Vec::new();
    Frame::Entry(Entry { id, payload: Payload::Blank }).encode(start + at as u64, synced, &mut out);
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_torn_at_any_byte_is_dropped_and_all_that_was_acknowledged_is_there() {
    let Life { folder: _folder, killed, digest, .. } = life(false).await;
    std::fs::remove_dir_all(killed.join("controller/checkpoint")).unwrap();
    let segment = last_segment(&killed);
    let whole = std::fs::read(&segment).unwrap();
    let next = next_frame(&whole);
    let garbage: Vec<u8> = (0..5_000u32).map(|at| at as u8).collect();
    let tails = (0..=next.len()).map(|cut| &next[..cut]).chain([garbage.as_slice()]);
    for (at, tail) in tails.enumerate() {
        std::fs::write(&segment, [whole.as_slice(), tail].concat()).unwrap();
        let copy = killed.with_extension(format!("torn{at}"));
        copy_tree(&killed, &copy);
        let (controller, after) = restarted(&copy).await;
        assert_eq!(after, digest, "a tail of {} bytes", tail.len());
        controller.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_the_middle_of_the_log_is_refused() {
    let Life { folder: _folder, killed, .. } = life(false).await;
    std::fs::remove_dir_all(killed.join("controller/checkpoint")).unwrap();
    let first = killed.join("controller/raft").join(format!("{:016x}.log", 0));
    let mut bytes = std::fs::read(&first).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&first, bytes).unwrap();
    let error = start(options(&killed)).await.unwrap_err();
    assert!(matches!(error, StartError::Log(_)));
    let error = error.to_string();
    assert!(error.contains("0000000000000000.log is damaged at byte"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_cut_below_the_checkpoint_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let controller = start(options(folder.path())).await.unwrap();
    fill(&controller, 1, 30).await;
    controller.stop().await;
    let segment = last_segment(folder.path());
    let bytes = std::fs::read(&segment).unwrap();
    std::fs::write(&segment, &bytes[..bytes.len() / 2]).unwrap();
    let error = start(options(folder.path())).await.unwrap_err().to_string();
    assert!(error.contains("damaged"), "{error}");
}

/// What was acknowledged after the snapshot would be gone, and nobody told.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_log_is_refused_although_a_snapshot_is_there() {
    for vote_is_left in [false, true] {
        let Life { folder: _folder, killed, .. } = life(true).await;
        // A checkpoint is ahead of the snapshot, and refuses by itself.
        std::fs::remove_dir_all(killed.join("controller/checkpoint")).unwrap();
        let raft = killed.join("controller/raft");
        let vote = std::fs::read(raft.join("vote")).unwrap();
        std::fs::remove_dir_all(&raft).unwrap();
        if vote_is_left {
            std::fs::create_dir(&raft).unwrap();
            std::fs::write(raft.join("vote"), vote).unwrap();
        }
        let error = start(options(&killed)).await.unwrap_err().to_string();
        assert!(error.contains("missing"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_refused_with_the_first_ones_pid() {
    let folder = tempfile::tempdir().unwrap();
    let controller = start(options(folder.path())).await.unwrap();
    let error = start(options(folder.path())).await.unwrap_err();
    assert!(
        matches!(error, StartError::Locked { pid: Some(pid), .. } if pid == std::process::id())
    );
    assert!(error.to_string().contains(&format!("process {}", std::process::id())));
    controller.stop().await;
    start(options(folder.path())).await.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_nodes_directory_and_a_lost_or_damaged_identity_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    start(options(folder.path())).await.unwrap().stop().await;
    let mut other = options(folder.path());
    other.node_id = 2;
    assert!(matches!(start(other).await, Err(StartError::OtherNode { found: 1, .. })));
    let identity = folder.path().join("controller/identity");
    let bytes = std::fs::read(&identity).unwrap();
    let mut newer = bytes.clone();
    newer[4] = 9;
    let crc = crc32c::crc32c(&newer[..32]);
    newer[32..].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&identity, newer).unwrap();
    let error = start(options(folder.path())).await.unwrap_err().to_string();
    assert!(error.contains("format version 9"), "{error}");
    std::fs::remove_file(&identity).unwrap();
    assert!(matches!(start(options(folder.path())).await, Err(StartError::IdentityMissing { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_are_proposed_in_the_order_of_the_calls() {
    let folder = tempfile::tempdir().unwrap();
    let controller = start(options(folder.path())).await.unwrap();
    // `fill` hands all over before it reads an answer, and expects offsets in order.
    fill(&controller, 1, 500).await;
    assert!(controller.state().check().is_ok());
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_shows_every_commit_once_and_ends_with_the_controller() {
    let folder = tempfile::tempdir().unwrap();
    let controller = start(options(folder.path())).await.unwrap();
    let mut events = controller.api().watch();
    fill(&controller, 1, 50).await;
    let registered = controller.digest().0;
    let mut offsets = Vec::new();
    let mut applied = AppliedIndex(0);
    assert!(matches!(events.recv().await, Some(WatchEvent::Reset(_))));
    while applied < registered {
        match events.recv().await.unwrap() {
            WatchEvent::Reset(_) => panic!("not behind"),
            WatchEvent::Changes { applied: now, changes } => {
                applied = now;
                for change in changes.iter() {
                    if let Change::Partition { extents, .. } = change {
                        offsets.extend(extents.iter().map(|extent| extent.base_offset.0));
                    }
                }
            }
        }
    }
    assert_eq!(offsets, (0..50).map(|at| at * 10).collect::<Vec<_>>());
    controller.stop().await;
    while events.recv().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_include_everything_that_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let controller = start(options(folder.path())).await.unwrap();
    fill(&controller, 1, 3).await;
    let api = controller.api();
    let find = FindExtents { partition: PARTITION, from: Offset(15), max_bytes: 1 };
    let page = api.find_extents(find).await.unwrap();
    assert_eq!(page.extents.len(), 1);
    assert_eq!(page.extents[0].base_offset, Offset(10));
    assert_eq!(page.bounds.unwrap().high_watermark, Offset(30));
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_broker_is_fenced_and_a_renewing_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    options.session = Duration::from_millis(1_500);
    let controller = start(options).await.unwrap();
    let api = controller.api();
    let registration = register(&api, 1).await;
    assert_eq!(registration.session_ms, 1_500);
    for _ in 0..8 {
        ottla_env::delay(Duration::from_millis(400)).await;
        api.renew_session(registration.author).await.unwrap();
    }
    let mut events = api.watch();
    loop {
        match events.recv().await.unwrap() {
            WatchEvent::Changes { changes, .. }
                if changes.contains(&Change::BrokerGone(BrokerId(1))) =>
            {
                break;
            }
            _ => {}
        }
    }
    assert_eq!(api.renew_session(registration.author).await, Err(OpError::Refused(Fenced)));
    assert_eq!(
        api.commit_objects(commit(registration.author, 0, 0)).await.unwrap(),
        [ObjectOutcome::Fenced]
    );
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_controller_writes_no_log() {
    let folder = tempfile::tempdir().unwrap();
    let controller = start(options(folder.path())).await.unwrap();
    let author = register(&controller.api(), 1).await.author;
    // The marker of the last entry.
    ottla_env::delay(Duration::from_millis(300)).await;
    let (segment, applied) = (last_segment(folder.path()), controller.digest().0);
    let length = std::fs::metadata(&segment).unwrap().len();
    for _ in 0..4 {
        controller.api().renew_session(author).await.unwrap();
        ottla_env::delay(Duration::from_millis(400)).await;
    }
    assert_eq!(std::fs::metadata(&segment).unwrap().len(), length);
    assert_eq!(controller.digest().0, applied);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_stop_calls_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let controller = start(options(folder.path())).await.unwrap();
    let api = controller.api();
    let author = register(&api, 1).await.author;
    controller.stop().await;
    let error = api.commit_objects(commit(author, 0, 0)).await.unwrap_err();
    assert_eq!(error.kind(), CallErrorKind::ShuttingDown);
    assert_eq!(api.partition_bounds(PARTITION).await, Err(CallError::ShuttingDown));
    assert!(api.watch().recv().await.is_none());
}

/// Repeats a call until it gets an answer.
async fn until_known<T>(mut call: impl AsyncFnMut() -> Result<T, CallError>) -> T {
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => assert!(
                matches!(error.kind(), CallErrorKind::Retry | CallErrorKind::RetryUnknown),
                "{error}"
            ),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_and_doubled_calls_change_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let controller = start(options(folder.path())).await.unwrap();
    let faults = Faults {
        lost_request: 0.2,
        lost_answer: 0.3,
        doubled: 0.2,
        delay_max: Duration::from_micros(500),
    };
    let good = controller.api();
    let author = register(&good, 1).await.author;
    let api: Arc<dyn ControlPlane> =
        FaultyControlPlane::new(good.clone(), Random::seeded(4), faults);
    let created = until_known(async || {
        let request = CreateTopicRequest {
            id: TOPIC,
            name: TopicName::new("events").unwrap(),
            partitions: 1,
            replication_factor: 1,
            configs: BTreeMap::new(),
        };
        match api.create_topic(request).await {
            Ok(id) => Ok(id),
            Err(OpError::Call(error)) => Err(error),
            Err(OpError::Refused(CreateTopicRefusal::Exists(id))) => panic!("exists: {id}"),
            Err(OpError::Refused(other)) => panic!("{other:?}"),
        }
    })
    .await;
    assert_eq!(created, TOPIC);
    for seq in 0..100 {
        let outcomes =
            until_known(async || api.commit_objects(commit(author, seq, seq)).await).await;
        assert_eq!(base_offset(&outcomes), 10 * seq as i64);
    }
    let bounds = good.partition_bounds(PARTITION).await.unwrap().unwrap();
    assert_eq!(bounds.high_watermark, Offset(1_000));
    let again = until_known(async || {
        match api.allocate_producer_ids(AllocateProducerIds { author, count: 10 }).await {
            Ok(first) => Ok(first),
            Err(OpError::Call(error)) => Err(error),
            Err(OpError::Refused(Fenced)) => panic!("fenced"),
        }
    })
    .await;
    assert!(again.0 >= 0, "blocks may be lost, never given twice");
    assert!(controller.state().check().is_ok());
    controller.stop().await;
}
