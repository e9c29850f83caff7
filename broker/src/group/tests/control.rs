//! A control plane in memory that can be told to misbehave.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use ottla_control_api::view::WatchEvent;
use ottla_control_api::{
    Answering, BrokerInfo, CallError, ControlPlane, CreateTopicRequest, ExtentPage, FindExtents,
    GroupState, OpError, PartitionBounds, Registration, TimestampQuery,
};
use ottla_env::Random;
use ottla_format::command::{
    AbandonObject, AllocateProducerIds, CommitObjects, CommitOffsets, CreatePartitions,
    CreatePartitionsRefusal, CreateTopicRefusal, Fenced, ObjectOutcome, PutGroup, RegisterBroker,
    RegisterRefusal,
};
use ottla_model::{
    Az, BrokerAuthor, BrokerEpoch, BrokerId, GroupId, PartitionId, ProducerId, TopicId,
};
use tokio::sync::mpsc;

use crate::group::{GroupOptions, Groups};
use crate::registration::AuthorSource;

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It has no effect, and the caller knows.
    Unavailable,
    /// It takes effect, and the caller does not know.
    AnswerLost,
    /// It has no effect, and the caller does not know.
    CallLost,
}

/// See the module. Clones share the state.
#[derive(Clone, Default)]
pub struct FakeControl(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    groups: BTreeMap<GroupId, GroupState>,
    faults: VecDeque<Fault>,
    missing: BTreeSet<PartitionId>,
    away: bool,
    fenced_below: u64,
    /// Names of the writes, in order of effect.
    writes: Vec<String>,
    reads: usize,
}

impl FakeControl {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    pub fn fail_next(&self, faults: &[Fault]) {
        self.lock().faults.extend(faults);
    }

    /// Nothing takes effect while it is away.
    pub fn set_away(&self, away: bool) {
        self.lock().away = away;
    }

    pub fn without_partition(&self, partition: PartitionId) {
        self.lock().missing.insert(partition);
    }

    /// Refuses every broker epoch below this one.
    pub fn fence_below(&self, epoch: u64) {
        self.lock().fenced_below = epoch;
    }

    pub fn group_now(&self, group: &str) -> GroupState {
        self.lock().groups.get(&GroupId::from(group)).cloned().unwrap_or_default()
    }

    pub fn writes(&self) -> Vec<String> {
        self.lock().writes.clone()
    }

    pub fn reads(&self) -> usize {
        self.lock().reads
    }

    fn write<T>(
        &self,
        author: BrokerAuthor,
        effect: impl FnOnce(&mut Inner) -> T,
    ) -> Result<T, OpError<Fenced>> {
        let mut inner = self.lock();
        let fault = if inner.away { Some(Fault::Unavailable) } else { inner.faults.pop_front() };
        match fault {
            Some(Fault::Unavailable) => Err(CallError::Unavailable("fault".into()).into()),
            Some(Fault::CallLost) => Err(CallError::OutcomeUnknown("fault".into()).into()),
            _ if author.epoch.0 < inner.fenced_below => Err(OpError::Refused(Fenced)),
            Some(Fault::AnswerLost) => {
                effect(&mut inner);
                Err(CallError::OutcomeUnknown("fault".into()).into())
            }
            None => Ok(effect(&mut inner)),
        }
    }
}

fn not_here<T>() -> Result<T, CallError> {
    Err(CallError::Internal("not part of this test".into()))
}

#[async_trait]
impl ControlPlane for FakeControl {
    async fn commit_offsets(
        &self,
        request: CommitOffsets,
    ) -> Result<Vec<PartitionId>, OpError<Fenced>> {
        tokio::task::yield_now().await;
        self.write(request.author, |inner| {
            inner.writes.push(format!("offsets {}", request.offsets.len()));
            let group = inner.groups.entry(request.group).or_default();
            let mut missing = Vec::new();
            for (partition, offset) in request.offsets {
                if inner.missing.contains(&partition) {
                    missing.push(partition);
                } else {
                    group.offsets.insert(partition, offset);
                }
            }
            missing
        })
    }

    async fn put_group(&self, request: PutGroup) -> Result<(), OpError<Fenced>> {
        tokio::task::yield_now().await;
        self.write(request.author, |inner| {
            let (generation, members) =
                (request.metadata.generation, request.metadata.members.len());
            inner.writes.push(format!("generation {generation} of {members}"));
            inner.groups.entry(request.group).or_default().metadata = Some(request.metadata);
        })
    }

    async fn group(&self, group: &GroupId) -> Result<Option<GroupState>, CallError> {
        tokio::task::yield_now().await;
        let mut inner = self.lock();
        inner.reads += 1;
        if inner.away {
            return Err(CallError::Unavailable("away".into()));
        }
        Ok(inner.groups.get(group).cloned())
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

    async fn find_extents(&self, _: FindExtents) -> Result<ExtentPage, CallError> {
        not_here()
    }

    async fn find_timestamp(
        &self,
        _: PartitionId,
        _: TimestampQuery,
    ) -> Result<ExtentPage, CallError> {
        not_here()
    }

    async fn partition_bounds(&self, _: PartitionId) -> Result<Option<PartitionBounds>, CallError> {
        not_here()
    }

    fn watch(&self) -> mpsc::Receiver<WatchEvent> {
        mpsc::channel(1).1
    }
}

/// Groups of broker 1 over this control plane; it is alone.
pub fn groups_over(control: &FakeControl) -> Groups {
    let author = BrokerAuthor { broker: BrokerId(1), epoch: BrokerEpoch(1) };
    let broker = BrokerInfo {
        author,
        az: Az::default(),
        host: "localhost".into(),
        port: 9092,
        draining: false,
    };
    Groups::new(
        Arc::new(control.clone()),
        AuthorSource::fixed(author),
        Arc::new(move || vec![broker.clone()]),
        Random::seeded(7),
        GroupOptions::default(),
    )
}
