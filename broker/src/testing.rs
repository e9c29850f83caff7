//! A world for tests of a whole broker: a control plane in memory, a store in memory, and a client.

mod client;

pub use client::{Client, batch, batch_with};

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use ottla_control_api::view::{
    Change, ClusterView, Extent, ObjectRef, PartitionSnapshot, TopicInfo, WatchEvent,
};
use ottla_control_api::{
    Answering, BrokerInfo, CallError, ControlPlane, CreateTopicRequest, ExtentPage, FindExtents,
    GroupState, OpError, PartitionBounds, Registration, TimestampQuery,
};
use ottla_env::{Clock, Random};
use ottla_format::command::{
    AbandonObject, AllocateProducerIds, BatchOutcome, BatchRefusal, CommitBatch, CommitObjects,
    CommitOffsets, CreatePartitions, CreatePartitionsRefusal, CreateTopicRefusal, Fenced,
    ObjectOutcome, PutGroup, RegisterBroker, RegisterRefusal,
};
use ottla_model::{
    AppliedIndex, BrokerAuthor, BrokerEpoch, ClusterId, GroupId, ObjectId, ObjectName, Offset,
    PartitionId, PartitionIndex, ProcessNonce, ProducerId, TimestampMs, TopicId,
};
use ottla_storage::cache::Cache;
use ottla_storage::write::WriteOptions;
use ottla_telemetry::Metrics;
use tokio::sync::mpsc;

use crate::{Broker, BrokerOptions, Parts};

/// The append time of topics with log-append time.
pub const APPEND_TIME: TimestampMs = TimestampMs(77_000);

/// The wall clock of tests.
pub const NOW: TimestampMs = TimestampMs(1_000_000_000);

/// A control plane that applies commands as they come. It knows no producers: those are tested with
/// the real one. Clones share the state.
#[derive(Clone, Default)]
pub struct FakeControl(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    applied: u64,
    broker: Option<(BrokerInfo, ProcessNonce)>,
    fenced_for_good: bool,
    topics: BTreeMap<TopicId, Arc<TopicInfo>>,
    partitions: BTreeMap<PartitionId, (PartitionBounds, Vec<Arc<Extent>>)>,
    groups: BTreeMap<GroupId, GroupState>,
    next_id: u64,
    watchers: Vec<mpsc::Sender<WatchEvent>>,
    commits_panic: bool,
    next_renewal_hangs: bool,
    /// Commits wait here while they are held back.
    held: Option<Vec<tokio::sync::oneshot::Sender<()>>>,
}

impl Inner {
    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn emit(&mut self, changes: Vec<Change>) {
        self.applied += 1;
        let applied = AppliedIndex(self.applied);
        let changes: Arc<[Change]> = changes.into();
        self.watchers.retain(|watcher| {
            watcher.try_send(WatchEvent::Changes { applied, changes: changes.clone() }).is_ok()
        });
    }

    fn lives(&self, author: BrokerAuthor) -> bool {
        self.broker.as_ref().is_some_and(|(broker, _)| broker.author == author)
    }

    fn grow(&mut self, topic: Arc<TopicInfo>) {
        let mut changes = vec![Change::Topic(topic.clone())];
        for index in 0..topic.partitions {
            let partition = PartitionId { topic: topic.id, index: PartitionIndex(index) };
            let (bounds, _) = self.partitions.entry(partition).or_default();
            changes.push(Change::Partition { partition, bounds: *bounds, extents: Vec::new() });
        }
        self.topics.insert(topic.id, topic);
        self.emit(changes);
    }

    fn append(&mut self, object: &Arc<ObjectRef>, batch: &CommitBatch) -> BatchOutcome {
        let Some(topic) = self.topics.get(&batch.partition.topic) else {
            return BatchOutcome::Refused(BatchRefusal::UnknownPartition);
        };
        let log_append = topic.configs.get("message.timestamp.type").map(String::as_str);
        let append_time = (log_append == Some("LogAppendTime")).then_some(APPEND_TIME);
        let Some((bounds, extents)) = self.partitions.get_mut(&batch.partition) else {
            return BatchOutcome::Refused(BatchRefusal::UnknownPartition);
        };
        let base_offset = bounds.high_watermark;
        let extent = Arc::new(Extent {
            base_offset,
            last_offset: base_offset.plus(i64::from(batch.last_offset_delta)),
            position: batch.position,
            length: u64::from(batch.length),
            max_timestamp: append_time.unwrap_or(batch.max_timestamp),
            append_time,
            object: object.clone(),
        });
        bounds.high_watermark = extent.last_offset.plus(1);
        bounds.last_stable = bounds.high_watermark;
        extents.push(extent.clone());
        let (partition, bounds) = (batch.partition, *bounds);
        self.emit(vec![Change::Partition { partition, bounds, extents: vec![extent] }]);
        BatchOutcome::Appended { base_offset, append_time, log_start: Offset::ZERO }
    }
}

impl FakeControl {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Fences the broker as the end of its session does.
    pub fn fence(&self) {
        self.lock().broker = None;
    }

    /// Fences the broker as a newer process with its id does.
    pub fn replace(&self) {
        self.lock().fenced_for_good = true;
        self.fence();
    }

    /// Commits get no answer until [`FakeControl::let_commits_go`].
    pub fn hold_commits(&self) {
        self.lock().held = Some(Vec::new());
    }

    /// The next renewal of the session is never answered.
    pub fn hang_next_renewal(&self) {
        self.lock().next_renewal_hangs = true;
    }

    /// Whether that renewal has come.
    pub fn renewal_hangs(&self) -> bool {
        !self.lock().next_renewal_hangs
    }

    /// Commits panic in the task that makes them.
    pub fn break_commits(&self) {
        self.lock().commits_panic = true;
    }

    pub fn let_commits_go(&self) {
        self.lock().held = None;
    }

    pub fn committed_offset(&self, group: &str) -> Option<i64> {
        let inner = self.lock();
        let offsets = &inner.groups.get(&GroupId::from(group))?.offsets;
        offsets.values().next().map(|committed| committed.offset.0)
    }

    fn page(&self, partition: PartitionId, keep: impl Fn(&Extent) -> bool) -> ExtentPage {
        let inner = self.lock();
        match inner.partitions.get(&partition) {
            None => ExtentPage { bounds: None, extents: Vec::new() },
            Some((bounds, extents)) => ExtentPage {
                bounds: Some(*bounds),
                extents: extents.iter().filter(|extent| keep(extent)).cloned().collect(),
            },
        }
    }
}

#[async_trait]
impl ControlPlane for FakeControl {
    async fn register_broker(
        &self,
        request: RegisterBroker,
    ) -> Result<Registration, OpError<RegisterRefusal>> {
        let mut inner = self.lock();
        if inner.fenced_for_good {
            return Err(OpError::Refused(RegisterRefusal::ReplacedByNewer));
        }
        let author = BrokerAuthor { broker: request.broker, epoch: BrokerEpoch(inner.next_id()) };
        let info = BrokerInfo {
            author,
            az: request.az,
            host: request.host,
            port: request.port,
            draining: false,
        };
        inner.broker = Some((info.clone(), request.nonce));
        inner.emit(vec![Change::Broker(info)]);
        Ok(Registration {
            cluster: ClusterId(1),
            author,
            applied: AppliedIndex(inner.applied),
            session_ms: 300,
        })
    }

    async fn renew_session(&self, author: BrokerAuthor) -> Result<(), OpError<Fenced>> {
        let hangs = std::mem::take(&mut self.lock().next_renewal_hangs);
        if hangs {
            std::future::pending::<()>().await;
        }
        if self.lock().lives(author) { Ok(()) } else { Err(OpError::Refused(Fenced)) }
    }

    async fn drain_broker(&self, _: BrokerAuthor) -> Result<(), CallError> {
        Ok(())
    }

    async fn leave(&self, _: BrokerAuthor) -> Result<(), CallError> {
        self.fence();
        Ok(())
    }

    fn commit_objects(&self, request: CommitObjects) -> Answering<Vec<ObjectOutcome>> {
        let panics = self.lock().commits_panic;
        assert!(!panics, "commits are broken");
        let mut inner = self.lock();
        let wait = inner.held.as_mut().map(|held| {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            held.push(sender);
            receiver
        });
        let outcomes = request.objects.iter().map(|object| {
            if !inner.lives(request.author) {
                return ObjectOutcome::Fenced;
            }
            let nonce = inner.broker.as_ref().unwrap().1;
            let name = ObjectName {
                author: request.author,
                nonce,
                seq: object.seq,
                attempt: object.attempt,
            };
            let id = ObjectId(inner.next_id());
            let reference = Arc::new(ObjectRef { id, name, size: object.size });
            let appended = object.batches.iter().map(|batch| inner.append(&reference, batch));
            ObjectOutcome::Committed(appended.collect())
        });
        let outcomes: Vec<_> = outcomes.collect();
        drop(inner);
        Box::pin(async move {
            if let Some(wait) = wait {
                let _ = wait.await;
            }
            Ok(outcomes)
        })
    }

    fn abandon_object(&self, _: AbandonObject) -> Answering<ObjectOutcome> {
        Box::pin(async { Ok(ObjectOutcome::Abandoned) })
    }

    async fn create_topic(
        &self,
        request: CreateTopicRequest,
    ) -> Result<TopicId, OpError<CreateTopicRefusal>> {
        let mut inner = self.lock();
        if let Some(old) = inner.topics.values().find(|topic| topic.name == request.name) {
            return Err(OpError::Refused(CreateTopicRefusal::Exists(old.id)));
        }
        inner.grow(Arc::new(TopicInfo {
            id: request.id,
            name: request.name,
            partitions: request.partitions,
            replication_factor: request.replication_factor,
            configs: request.configs,
        }));
        Ok(request.id)
    }

    async fn delete_topic(&self, topic: TopicId) -> Result<bool, CallError> {
        let mut inner = self.lock();
        let existed = inner.topics.remove(&topic).is_some();
        inner.partitions.retain(|partition, _| partition.topic != topic);
        inner.emit(vec![Change::TopicDeleted(topic)]);
        Ok(existed)
    }

    async fn create_partitions(
        &self,
        request: CreatePartitions,
    ) -> Result<(), OpError<CreatePartitionsRefusal>> {
        let mut inner = self.lock();
        let Some(topic) = inner.topics.get(&request.topic) else {
            return Err(OpError::Refused(CreatePartitionsRefusal::UnknownTopic));
        };
        let grown = TopicInfo { partitions: request.total, ..TopicInfo::clone(topic) };
        inner.grow(Arc::new(grown));
        Ok(())
    }

    async fn allocate_producer_ids(
        &self,
        request: AllocateProducerIds,
    ) -> Result<ProducerId, OpError<Fenced>> {
        let mut inner = self.lock();
        if !inner.lives(request.author) {
            return Err(OpError::Refused(Fenced));
        }
        Ok(ProducerId(inner.next_id() as i64 * 1_000_000))
    }

    async fn commit_offsets(
        &self,
        request: CommitOffsets,
    ) -> Result<Vec<PartitionId>, OpError<Fenced>> {
        let mut inner = self.lock();
        inner.groups.entry(request.group).or_default().offsets.extend(request.offsets);
        Ok(Vec::new())
    }

    async fn put_group(&self, request: PutGroup) -> Result<(), OpError<Fenced>> {
        let mut inner = self.lock();
        inner.groups.entry(request.group).or_default().metadata = Some(request.metadata);
        Ok(())
    }

    async fn group(&self, group: &GroupId) -> Result<Option<GroupState>, CallError> {
        Ok(self.lock().groups.get(group).cloned())
    }

    async fn find_extents(&self, request: FindExtents) -> Result<ExtentPage, CallError> {
        Ok(self.page(request.partition, |extent| extent.last_offset >= request.from))
    }

    async fn find_timestamp(
        &self,
        partition: PartitionId,
        query: TimestampQuery,
    ) -> Result<ExtentPage, CallError> {
        let mut page = match query {
            TimestampQuery::AtOrAfter(time) => {
                self.page(partition, |extent| extent.max_timestamp >= time)
            }
            TimestampQuery::Max => {
                let all = self.page(partition, |_| true);
                let largest = all.extents.iter().map(|extent| extent.max_timestamp).max();
                self.page(partition, |extent| Some(extent.max_timestamp) == largest)
            }
        };
        page.extents.truncate(1);
        Ok(page)
    }

    async fn partition_bounds(
        &self,
        partition: PartitionId,
    ) -> Result<Option<PartitionBounds>, CallError> {
        Ok(self.page(partition, |_| false).bounds)
    }

    fn watch(&self) -> mpsc::Receiver<WatchEvent> {
        let (sender, receiver) = mpsc::channel(10_000);
        let mut inner = self.lock();
        let view = ClusterView {
            applied: AppliedIndex(inner.applied),
            brokers: inner.broker.iter().map(|(broker, _)| broker.clone()).collect(),
            topics: inner.topics.values().cloned().collect(),
            partitions: inner
                .partitions
                .iter()
                .map(|(partition, (bounds, _))| PartitionSnapshot {
                    partition: *partition,
                    bounds: *bounds,
                })
                .collect(),
        };
        sender.try_send(WatchEvent::Reset(Arc::new(view))).unwrap();
        inner.watchers.push(sender);
        receiver
    }
}

/// A running broker with its control plane.
pub struct World {
    pub broker: Broker,
    pub control: FakeControl,
    pub metrics: Arc<Metrics>,
}

impl World {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut BrokerOptions)) -> Self {
        let mut options = BrokerOptions {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            group_initial_rebalance_delay: std::time::Duration::ZERO,
            ..BrokerOptions::default()
        };
        change(&mut options);
        let control = FakeControl::default();
        let metrics = Metrics::new();
        let store = ottla_object_io::memory();
        let parts = Parts {
            control: Arc::new(control.clone()),
            cache: Cache::with_default_size(&metrics),
            cluster: ClusterId(1),
            write: WriteOptions::for_store(&*store),
            store,
            clock: Clock::manual(NOW),
            random: Random::seeded(1),
            metrics: metrics.clone(),
        };
        let broker = Broker::start(options, parts).await.unwrap();
        Self { broker, control, metrics }
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.broker.local_address()).await
    }
}
