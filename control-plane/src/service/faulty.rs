//! A control plane whose network is bad, for tests: calls are late, lost before or after they take
//! effect, made twice, or held back until they are let go, long after their caller has gone on.
//! Callers must come out right whatever it does. Only commits and abandonments are ever held: what
//! other calls do may rely on their order.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ottla_control_api::view::WatchEvent;
use ottla_control_api::{
    Answering, CallError, ControlPlane, CreateTopicRequest, ExtentPage, FindExtents, GroupState,
    OpError, PartitionBounds, Registration, TimestampQuery,
};
use ottla_env::Random;
use ottla_format::command::{
    AbandonObject, AllocateProducerIds, CommitObjects, CommitOffsets, CreatePartitions,
    CreatePartitionsRefusal, CreateTopicRefusal, Fenced, ObjectOutcome, PutGroup, RegisterBroker,
    RegisterRefusal,
};
use ottla_model::{BrokerAuthor, GroupId, PartitionId, ProducerId, TopicId};
use tokio::sync::mpsc;

/// How often what goes wrong; shares from 0.0 to 1.0, drawn for each call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The call is lost on its way there: unavailable, no effect.
    pub lost_request: f64,
    /// The answer is lost on its way back: unknown outcome, full effect.
    pub lost_answer: f64,
    /// The call arrives twice; the second answer is given.
    pub doubled: f64,
    /// A commit or an abandonment is held on its way there: unknown outcome, and the effect comes
    /// with [`FaultyControlPlane::release`].
    pub held: f64,
    /// The answer is late by up to this.
    pub delay_max: Duration,
}

impl Faults {
    /// There is no leader: every call is unavailable, none has an effect.
    pub const AWAY: Self = Self {
        lost_request: 1.0,
        lost_answer: 0.0,
        doubled: 0.0,
        held: 0.0,
        delay_max: Duration::ZERO,
    };
}

/// See the module.
pub struct FaultyControlPlane {
    inner: Arc<dyn ControlPlane>,
    random: Random,
    faults: Mutex<Faults>,
    /// In the order of the calls.
    held: Mutex<Vec<Held>>,
}

/// A call that was not yet delivered.
type Held = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

#[derive(Clone, Copy)]
struct Fate {
    lost_request: bool,
    lost_answer: bool,
    doubled: bool,
    held: bool,
    delay: Duration,
}

impl FaultyControlPlane {
    /// Puts a bad network before `inner`.
    pub fn new(inner: Arc<dyn ControlPlane>, random: Random, faults: Faults) -> Arc<Self> {
        let held = Mutex::default();
        Arc::new(Self { inner, random, faults: Mutex::new(faults), held })
    }

    /// Delivers what was held, one after the other; how many calls that were. Nobody hears their
    /// answers.
    pub async fn release(&self) -> usize {
        let held = std::mem::take(&mut *self.held.lock().unwrap_or_else(PoisonError::into_inner));
        let count = held.len();
        for deliver in held {
            deliver().await;
        }
        count
    }

    /// What goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    fn draw(&self) -> Fate {
        let faults = *self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let micros = u64::try_from(faults.delay_max.as_micros()).unwrap_or(u64::MAX);
        Fate {
            lost_request: self.random.chance(faults.lost_request),
            lost_answer: self.random.chance(faults.lost_answer),
            doubled: self.random.chance(faults.doubled),
            held: self.random.chance(faults.held),
            delay: Duration::from_micros(self.random.below(micros.saturating_add(1))),
        }
    }

    async fn call<T, E: From<CallError>, F: Future<Output = Result<T, E>>>(
        &self,
        call: impl Fn() -> F,
    ) -> Result<T, E> {
        let fate = self.draw();
        if fate.lost_request {
            return Err(lost_request().into());
        }
        if fate.doubled {
            // The second one is answered, also when this one failed.
            let _ = call().await;
        }
        let answer = call().await;
        deliver(fate, answer).await
    }

    /// Hands over in the caller's order; only the answer is touched later.
    fn hand_over<T: Send + 'static>(
        &self,
        call: impl Fn() -> Answering<T> + Send + 'static,
    ) -> Answering<T> {
        let fate = self.draw();
        if fate.lost_request {
            return Box::pin(async { Err(lost_request()) });
        }
        if fate.held {
            let late: Held = Box::new(move || {
                let answer = call();
                Box::pin(async move { drop(answer.await) })
            });
            self.held.lock().unwrap_or_else(PoisonError::into_inner).push(late);
            let unknown = Err(CallError::OutcomeUnknown("the request is held".to_owned()));
            return Box::pin(deliver(fate, unknown));
        }
        let first = fate.doubled.then(&call);
        let answer = call();
        Box::pin(async move {
            if let Some(first) = first {
                let _ = first.await;
            }
            deliver(fate, answer.await).await
        })
    }
}

async fn deliver<T, E: From<CallError>>(fate: Fate, answer: Result<T, E>) -> Result<T, E> {
    if !fate.delay.is_zero() {
        ottla_env::delay(fate.delay).await;
    }
    if fate.lost_answer {
        return Err(CallError::OutcomeUnknown("the answer was lost".to_owned()).into());
    }
    answer
}

fn lost_request() -> CallError {
    CallError::Unavailable("the request was lost".to_owned())
}

#[async_trait]
impl ControlPlane for FaultyControlPlane {
    async fn register_broker(
        &self,
        request: RegisterBroker,
    ) -> Result<Registration, OpError<RegisterRefusal>> {
        self.call(|| self.inner.register_broker(request.clone())).await
    }

    async fn renew_session(&self, author: BrokerAuthor) -> Result<(), OpError<Fenced>> {
        self.call(|| self.inner.renew_session(author)).await
    }

    async fn drain_broker(&self, author: BrokerAuthor) -> Result<(), CallError> {
        self.call(|| self.inner.drain_broker(author)).await
    }

    async fn leave(&self, author: BrokerAuthor) -> Result<(), CallError> {
        self.call(|| self.inner.leave(author)).await
    }

    fn commit_objects(&self, request: CommitObjects) -> Answering<Vec<ObjectOutcome>> {
        let inner = self.inner.clone();
        self.hand_over(move || inner.commit_objects(request.clone()))
    }

    fn abandon_object(&self, request: AbandonObject) -> Answering<ObjectOutcome> {
        let inner = self.inner.clone();
        self.hand_over(move || inner.abandon_object(request))
    }

    async fn create_topic(
        &self,
        request: CreateTopicRequest,
    ) -> Result<TopicId, OpError<CreateTopicRefusal>> {
        self.call(|| self.inner.create_topic(request.clone())).await
    }

    async fn delete_topic(&self, topic: TopicId) -> Result<bool, CallError> {
        self.call(|| self.inner.delete_topic(topic)).await
    }

    async fn create_partitions(
        &self,
        request: CreatePartitions,
    ) -> Result<(), OpError<CreatePartitionsRefusal>> {
        self.call(|| self.inner.create_partitions(request)).await
    }

    async fn allocate_producer_ids(
        &self,
        request: AllocateProducerIds,
    ) -> Result<ProducerId, OpError<Fenced>> {
        self.call(|| self.inner.allocate_producer_ids(request)).await
    }

    async fn commit_offsets(
        &self,
        request: CommitOffsets,
    ) -> Result<Vec<PartitionId>, OpError<Fenced>> {
        self.call(|| self.inner.commit_offsets(request.clone())).await
    }

    async fn put_group(&self, request: PutGroup) -> Result<(), OpError<Fenced>> {
        self.call(|| self.inner.put_group(request.clone())).await
    }

    async fn group(&self, group: &GroupId) -> Result<Option<GroupState>, CallError> {
        self.call(|| self.inner.group(group)).await
    }

    async fn groups_with_members(
        &self,
        after: Option<GroupId>,
        max: usize,
    ) -> Result<Vec<GroupId>, CallError> {
        self.call(|| self.inner.groups_with_members(after.clone(), max)).await
    }

    #[expect(clippy::disallowed_methods, reason = "passes on what the read path asks")]
    async fn find_extents(&self, request: FindExtents) -> Result<ExtentPage, CallError> {
        self.call(|| self.inner.find_extents(request)).await
    }

    #[expect(clippy::disallowed_methods, reason = "passes on what the read path asks")]
    async fn find_timestamp(
        &self,
        partition: PartitionId,
        query: TimestampQuery,
    ) -> Result<ExtentPage, CallError> {
        self.call(|| self.inner.find_timestamp(partition, query)).await
    }

    #[expect(clippy::disallowed_methods, reason = "passes on what the read path asks")]
    async fn partition_bounds(
        &self,
        partition: PartitionId,
    ) -> Result<Option<PartitionBounds>, CallError> {
        self.call(|| self.inner.partition_bounds(partition)).await
    }

    fn watch(&self) -> mpsc::Receiver<WatchEvent> {
        self.inner.watch()
    }
}
