//! A control plane for tests of the read side: partitions and extents that the test sets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use ottla_control_api::view::{Change, Extent, ObjectRef, TopicInfo, WatchEvent};
use ottla_control_api::{
    Answering, CallError, ControlPlane, CreateTopicRequest, ExtentPage, FindExtents, GroupState,
    OpError, PartitionBounds, Registration, TimestampQuery,
};
use ottla_format::command::{
    AbandonObject, AllocateProducerIds, CommitObjects, CommitOffsets, CreatePartitions,
    CreatePartitionsRefusal, CreateTopicRefusal, Fenced, ObjectOutcome, PutGroup, RegisterBroker,
    RegisterRefusal,
};
use ottla_model::{
    AppliedIndex, Attempt, BrokerAuthor, BrokerEpoch, BrokerId, BytePosition, GroupId, ObjectId,
    ObjectName, ObjectSeq, Offset, PartitionId, ProcessNonce, ProducerId, TimestampMs, TopicId,
    TopicName,
};
use tokio::sync::mpsc;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct FakeControl {
    state: Mutex<State>,
}

/// A partition as the leader knows it.
type Known = (PartitionBounds, Vec<Arc<Extent>>);

#[derive(Debug, Default)]
struct State {
    partitions: BTreeMap<PartitionId, Known>,
    watch: Option<mpsc::Sender<WatchEvent>>,
    applied: u64,
    finds: usize,
    available: bool,
}

impl FakeControl {
    pub(crate) fn new() -> Arc<Self> {
        let fake = Self::default();
        fake.state().available = true;
        Arc::new(fake)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends an event to the watch.
    pub(crate) async fn send(&self, event: WatchEvent) {
        let watch = self.state().watch.clone().expect("somebody watches");
        watch.send(event).await.expect("the watcher lives");
    }

    /// Ends the watch, as a control plane that stops does.
    pub(crate) fn close(&self) {
        self.state().watch = None;
    }

    /// Sets a partition as the leader knows it, without telling the watch.
    pub(crate) fn set(
        &self,
        partition: PartitionId,
        bounds: PartitionBounds,
        extents: Vec<Arc<Extent>>,
    ) {
        self.state().partitions.insert(partition, (bounds, extents));
    }

    /// Sets a partition and tells the watch; returns the index to wait for.
    pub(crate) async fn publish(
        &self,
        partition: PartitionId,
        bounds: PartitionBounds,
        extents: Vec<Arc<Extent>>,
    ) -> AppliedIndex {
        let applied = {
            let mut state = self.state();
            let (known, all) = state.partitions.entry(partition).or_default();
            *known = bounds;
            all.extend(extents.iter().cloned());
            state.applied += 1;
            AppliedIndex(state.applied)
        };
        let changes = vec![Change::Partition { partition, bounds, extents }].into();
        self.send(WatchEvent::Changes { applied, changes }).await;
        applied
    }

    /// How often extents were asked for.
    pub(crate) fn finds(&self) -> usize {
        self.state().finds
    }

    /// Whether calls are answered.
    pub(crate) fn set_available(&self, available: bool) {
        self.state().available = available;
    }

    fn partition(&self, partition: PartitionId) -> Result<Option<Known>, CallError> {
        let state = self.state();
        if !state.available {
            return Err(CallError::Unavailable("test".to_owned()));
        }
        Ok(state.partitions.get(&partition).cloned())
    }
}

fn not_here<T>() -> Result<T, CallError> {
    Err(CallError::Internal("not part of this test".to_owned()))
}

#[async_trait]
impl ControlPlane for FakeControl {
    async fn find_extents(&self, request: FindExtents) -> Result<ExtentPage, CallError> {
        self.state().finds += 1;
        let Some((bounds, all)) = self.partition(request.partition)? else {
            return Ok(ExtentPage { bounds: None, extents: Vec::new() });
        };
        let mut bytes = 0;
        let mut extents = Vec::new();
        for extent in all.into_iter().filter(|e| e.last_offset >= request.from) {
            if bytes >= request.max_bytes && !extents.is_empty() {
                break;
            }
            bytes += extent.length;
            extents.push(extent);
        }
        Ok(ExtentPage { bounds: Some(bounds), extents })
    }

    async fn find_timestamp(
        &self,
        partition: PartitionId,
        query: TimestampQuery,
    ) -> Result<ExtentPage, CallError> {
        let Some((bounds, all)) = self.partition(partition)? else {
            return Ok(ExtentPage { bounds: None, extents: Vec::new() });
        };
        let found = match query {
            TimestampQuery::AtOrAfter(time) => all.into_iter().find(|e| e.max_timestamp >= time),
            TimestampQuery::Max => {
                let max = all.iter().map(|e| e.max_timestamp).max();
                all.into_iter().find(|e| Some(e.max_timestamp) == max)
            }
        };
        Ok(ExtentPage { bounds: Some(bounds), extents: found.into_iter().collect() })
    }

    async fn partition_bounds(
        &self,
        partition: PartitionId,
    ) -> Result<Option<PartitionBounds>, CallError> {
        Ok(self.partition(partition)?.map(|(bounds, _)| bounds))
    }

    fn watch(&self) -> mpsc::Receiver<WatchEvent> {
        let (sender, receiver) = mpsc::channel(64);
        self.state().watch = Some(sender);
        receiver
    }

    async fn register_broker(
        &self,
        _: RegisterBroker,
    ) -> Result<Registration, OpError<RegisterRefusal>> {
        Ok(not_here()?)
    }
    async fn renew_session(&self, _: BrokerAuthor) -> Result<(), OpError<Fenced>> {
        Ok(not_here()?)
    }
    async fn drain_broker(&self, _: BrokerAuthor) -> Result<(), CallError> {
        not_here()
    }
    async fn leave(&self, _: BrokerAuthor) -> Result<(), CallError> {
        not_here()
    }
    fn commit_objects(&self, _: CommitObjects) -> Answering<Vec<ObjectOutcome>> {
        Box::pin(async { not_here() })
    }
    fn abandon_object(&self, _: AbandonObject) -> Answering<ObjectOutcome> {
        Box::pin(async { not_here() })
    }
    async fn create_topic(
        &self,
        _: CreateTopicRequest,
    ) -> Result<TopicId, OpError<CreateTopicRefusal>> {
        Ok(not_here()?)
    }
    async fn delete_topic(&self, _: TopicId) -> Result<bool, CallError> {
        not_here()
    }
    async fn create_partitions(
        &self,
        _: CreatePartitions,
    ) -> Result<(), OpError<CreatePartitionsRefusal>> {
        Ok(not_here()?)
    }
    async fn allocate_producer_ids(
        &self,
        _: AllocateProducerIds,
    ) -> Result<ProducerId, OpError<Fenced>> {
        Ok(not_here()?)
    }
    async fn commit_offsets(&self, _: CommitOffsets) -> Result<Vec<PartitionId>, OpError<Fenced>> {
        Ok(not_here()?)
    }
    async fn put_group(&self, _: PutGroup) -> Result<(), OpError<Fenced>> {
        Ok(not_here()?)
    }
    async fn group(&self, _: &GroupId) -> Result<Option<GroupState>, CallError> {
        not_here()
    }
}

/// A topic's shape.
pub(crate) fn topic(id: u128, name: &str, partitions: i32) -> Arc<TopicInfo> {
    Arc::new(TopicInfo {
        id: TopicId(id),
        name: TopicName::new(name).expect("a legal name"),
        partitions,
        replication_factor: 1,
        configs: BTreeMap::new(),
    })
}

/// The name of the test writer's object `seq`.
pub(crate) fn object_name(seq: u64) -> ObjectName {
    ObjectName {
        author: BrokerAuthor { broker: BrokerId(1), epoch: BrokerEpoch(1) },
        nonce: ProcessNonce(7),
        seq: ObjectSeq(seq),
        attempt: Attempt(0),
    }
}

/// An extent without timestamps in the test writer's object `seq`.
pub(crate) fn extent(base: i64, last: i64, position: u64, length: u64, seq: u64) -> Arc<Extent> {
    Arc::new(Extent {
        base_offset: Offset(base),
        last_offset: Offset(last),
        position: BytePosition(position),
        length,
        max_timestamp: TimestampMs::NONE,
        append_time: None,
        object: Arc::new(ObjectRef {
            id: ObjectId(seq),
            name: object_name(seq),
            size: position + length,
        }),
    })
}
