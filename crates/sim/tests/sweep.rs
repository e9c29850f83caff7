//! The sweep with a real controller and a real directory: what is left in the bucket is what is
//! referenced, or may still be.

#![allow(clippy::unwrap_used, reason = "what tests are made of fails as they do")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_control_api::CreateTopicRequest;
use ottla_control_plane::service::{Controller, ControllerOptions};
use ottla_env::{Clock, Random, delay};
use ottla_format::command::{
    AbandonObject, CommitBatch, CommitObject, CommitObjects, ObjectOutcome, RegisterBroker,
};
use ottla_model::{
    Attempt, BrokerAuthor, BrokerId, BytePosition, ClusterId, ObjectName, ObjectSeq, PartitionId,
    PartitionIndex, ProcessNonce, TimestampMs, TopicId, TopicName,
};
use ottla_object_io::{Payload, Store, StoreOptions, keys};
use ottla_storage::sweep::{Sweep, SweepOptions, SweepParts};
use ottla_telemetry::Metrics;

const TOPIC: TopicId = TopicId(5);
const FIRST: ProcessNonce = ProcessNonce(11);
const OPTIONS: SweepOptions = SweepOptions {
    interval: Duration::from_millis(20),
    orphan_age: Duration::ZERO,
    share_percent: 25,
};

struct Node {
    controller: Controller,
    store: Arc<dyn Store>,
    sweep: Sweep,
}

impl Node {
    async fn start(directory: &Path) -> Self {
        let metrics = Metrics::new();
        let mut options = ControllerOptions::new(directory, BrokerId(1));
        options.condemned_delay = Duration::from_millis(50);
        let (clock, random) = (Clock::system(), Random::system());
        let controller = Controller::start(options, clock.clone(), random.clone(), metrics.clone())
            .await
            .unwrap();
        let url = format!("file://{}", directory.join("objects").display());
        let store: Arc<dyn Store> =
            ottla_object_io::open(&url, &StoreOptions::default(), random, metrics.clone()).unwrap();
        let parts = SweepParts {
            cluster: controller.cluster_id(),
            store: store.clone(),
            control: controller.sweep_api(),
            clock,
            metrics,
        };
        Self { controller, store, sweep: Sweep::start(parts, OPTIONS) }
    }

    async fn stop(self) {
        self.sweep.stop().await;
        self.controller.stop().await;
    }

    fn cluster(&self) -> ClusterId {
        self.controller.cluster_id()
    }

    async fn register(&self, nonce: ProcessNonce) -> BrokerAuthor {
        let request = RegisterBroker { broker: BrokerId(1), nonce, profile: Default::default() };
        self.controller.api().register_broker(request).await.unwrap().author
    }

    async fn put(&self, name: ObjectName) {
        let payload = Payload::checksummed(vec![Bytes::from_static(b"an object")]);
        self.store.put(&keys::object(self.cluster(), &name), payload).await.unwrap();
    }

    async fn there(&self) -> BTreeSet<ObjectName> {
        let entries = self.store.list(&format!("{}/wal", self.cluster())).await.unwrap();
        let name = |key: &str| keys::object_name(self.cluster(), key).unwrap();
        entries.iter().map(|entry| name(&entry.key)).collect()
    }

    /// Waits until the bucket holds exactly this.
    async fn comes_to_hold(&self, wanted: &[ObjectName]) {
        let wanted: BTreeSet<ObjectName> = wanted.iter().copied().collect();
        let waiting = async {
            while self.there().await != wanted {
                delay(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(20), waiting).await.is_err() {
            panic!("the bucket holds {:?}, not {wanted:?}", self.there().await);
        }
    }
}

fn name(author: BrokerAuthor, seq: u64, attempt: u32) -> ObjectName {
    ObjectName::wal(author, FIRST, ObjectSeq(seq), Attempt(attempt))
}

fn commit(author: BrokerAuthor, seq: u64, attempt: u32) -> CommitObjects {
    let batch = CommitBatch {
        partition: PartitionId { topic: TOPIC, index: PartitionIndex(0) },
        position: BytePosition(0),
        length: 9,
        last_offset_delta: 0,
        max_timestamp: TimestampMs(1),
        producer: None,
    };
    let object = CommitObject {
        seq: ObjectSeq(seq),
        attempt: Attempt(attempt),
        size: 9,
        batches: vec![batch],
    };
    CommitObjects { author, frontier: ObjectSeq(seq), objects: vec![object] }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bucket_holds_what_is_referenced_or_may_still_be() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path()).await;
    let api = node.controller.api();
    let author = node.register(FIRST).await;
    let topic = CreateTopicRequest {
        id: TOPIC,
        name: TopicName::new("topic").unwrap(),
        partitions: 1,
        replication_factor: 1,
        configs: Default::default(),
    };
    api.create_topic(topic).await.unwrap();

    // Object 0 has two attempts, 1 is abandoned, 2 is committed, 3 is not decided.
    for (seq, attempt) in [(0, 0), (0, 1), (1, 0), (2, 0), (3, 0)] {
        node.put(name(author, seq, attempt)).await;
    }
    let foreign = ObjectName::wal(author, ProcessNonce(99), ObjectSeq(0), Attempt(0));
    node.put(foreign).await;
    let outcomes = api.commit_objects(commit(author, 0, 1)).await.unwrap();
    assert!(matches!(outcomes[0], ObjectOutcome::Committed(_)));
    let abandon = AbandonObject { author, frontier: ObjectSeq(1), seq: ObjectSeq(1) };
    assert_eq!(api.abandon_object(abandon).await.unwrap(), ObjectOutcome::Abandoned);
    api.commit_objects(commit(author, 2, 0)).await.unwrap();
    let (zero, two, three) = (name(author, 0, 1), name(author, 2, 0), name(author, 3, 0));
    node.comes_to_hold(&[zero, two, three, foreign]).await;

    // A restart changes nothing; a late attempt that arrives now goes, too.
    node.stop().await;
    let node = Node::start(directory.path()).await;
    node.put(name(author, 1, 7)).await;
    node.comes_to_hold(&[zero, two, three, foreign]).await;

    // A newer run of the broker ends the old one: what it left can never be committed.
    let api = node.controller.api();
    node.register(ProcessNonce(12)).await;
    node.comes_to_hold(&[zero, two, foreign]).await;
    assert_eq!(api.commit_objects(commit(author, 3, 0)).await.unwrap(), [ObjectOutcome::Fenced]);

    // With its topic, everything goes that is this cluster's, and is forgotten.
    assert!(api.delete_topic(TOPIC).await.unwrap());
    node.comes_to_hold(&[foreign]).await;
    let forgotten = async {
        while node.controller.state().condemned(TimestampMs(i64::MAX), 1).objects > 0 {
            delay(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), forgotten).await.expect("objects are forgotten");
    node.stop().await;
}
