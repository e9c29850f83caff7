//! The control plane for brokers in the same process.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use openraft::ReadPolicy;
use openraft::errors::RaftError;
use ottla_control_api::view::WatchEvent;
use ottla_control_api::{
    Answering, CallError, Condemned, ControlPlane, CreateTopicRequest, ExtentPage, FindExtents,
    GroupState, ObjectStanding, OpError, PartitionBounds, Registration, SweepControl,
    TimestampQuery,
};
use ottla_format::command::{
    AbandonObject, AllocateProducerIds, Answer, CommandBody, CommitObjects, CommitOffsets,
    CreatePartitions, CreatePartitionsRefusal, CreateTopic, CreateTopicRefusal, Fenced,
    LevelRefusal, ObjectOutcome, PutGroup, RegisterBroker, RegisterRefusal, StepTime,
};
use ottla_format::feature_level::{FeatureLevel, NEWEST};
use ottla_model::{
    BrokerAuthor, ClusterId, GroupId, ObjectId, ObjectName, PartitionId, ProducerId, TimestampMs,
    TopicId,
};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::proposer::{Answered, Proposer};
use super::replicated_clock::ReplicatedClock;
use super::sessions::Sessions;
use crate::limits::CALL_DEADLINE;
use crate::raft::{Machine, Raft};
use crate::state::State;

/// See the module.
#[derive(Debug)]
pub struct LocalControlPlane {
    pub(super) cluster: ClusterId,
    pub(super) raft: Raft,
    pub(super) machine: Machine,
    pub(super) proposer: Proposer,
    pub(super) sessions: Arc<Mutex<Sessions>>,
    pub(super) clock: Arc<Mutex<ReplicatedClock>>,
    /// How long a condemned object stays.
    pub(super) condemned_delay: Duration,
    pub(super) stopping: watch::Receiver<bool>,
}

impl LocalControlPlane {
    fn propose(
        &self,
        body: CommandBody,
    ) -> impl Future<Output = Result<Answered, CallError>> + Send + 'static {
        self.proposer.propose(body)
    }

    pub(super) async fn accept_loss(&self) -> Result<(), CallError> {
        match self.propose(CommandBody::AcceptLoss).await?.1 {
            Answer::Done => Ok(()),
            other => Err(nonsense(&other)),
        }
    }

    /// Sets the feature level of a cluster that has none yet to the newest one that this version knows.
    pub(super) async fn set_first_feature_level(&self) -> Result<(), CallError> {
        match self.machine.with(|state| state.feature_level()) {
            FeatureLevel::NONE => self.raise_feature_level(NEWEST).await,
            _ => Ok(()),
        }
    }

    /// Raises the feature level. A lower one than the present changes nothing.
    pub(super) async fn raise_feature_level(&self, to: FeatureLevel) -> Result<(), CallError> {
        match self.propose(CommandBody::RaiseFeatureLevel { to }).await?.1 {
            Answer::FeatureLevel(Ok(())) => {
                tracing::info!(feature_level = to.0, "the cluster has a new feature level");
                Ok(())
            }
            Answer::FeatureLevel(Err(LevelRefusal::Lower { current })) => {
                tracing::warn!(
                    asked = to.0,
                    current = current.0,
                    "a feature level is never lowered"
                );
                Ok(())
            }
            other => Err(nonsense(&other)),
        }
    }

    /// Has records stamped with the machine's time from now on, when that is not so already.
    pub(super) async fn accept_clock_step(&self) -> Result<(), CallError> {
        let clock = || self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(wall) = clock().wall_when_off() else { return Ok(()) };
        let step = StepTime { wall, is_accepted: true };
        match self.propose(CommandBody::StepTime(step)).await?.1 {
            Answer::TimeStepped(true) => {}
            other => return Err(nonsense(&other)),
        }
        let offset_ms = self.machine.with(|state| state.wall_offset_ms());
        clock().set_wall_offset(offset_ms);
        tracing::warn!(offset_ms, "time was stepped to the wall clock, as the settings accept it");
        Ok(())
    }

    fn renew(&self, author: BrokerAuthor) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.renew(author, Instant::now());
    }

    /// A copy of the state that includes everything that was answered before this call, by any
    /// leader.
    async fn current(&self) -> Result<State, CallError> {
        let confirmed = self.raft.ensure_linearizable(ReadPolicy::ReadIndex);
        match timeout(CALL_DEADLINE, confirmed).await {
            Ok(Ok(_)) => Ok(self.machine.state()),
            Ok(Err(RaftError::APIError(error))) => Err(CallError::Unavailable(error.to_string())),
            Ok(Err(RaftError::Fatal(_))) if *self.stopping.borrow() => Err(CallError::ShuttingDown),
            Ok(Err(RaftError::Fatal(fatal))) => Err(CallError::Unavailable(fatal.to_string())),
            Err(_) => {
                Err(CallError::Unavailable("leadership could not be confirmed in time".to_owned()))
            }
        }
    }
}

/// The state machine answered a command with the answer of another: a defect.
fn nonsense(answer: &Answer) -> CallError {
    CallError::Internal(format!("unexpected answer {answer:?}"))
}

#[async_trait]
impl ControlPlane for LocalControlPlane {
    async fn register_broker(
        &self,
        request: RegisterBroker,
    ) -> Result<Registration, OpError<RegisterRefusal>> {
        let broker = request.broker;
        let (applied, answer) = self.propose(CommandBody::RegisterBroker(request)).await?;
        match answer {
            Answer::Registered(Ok(epoch)) => {
                let author = BrokerAuthor { broker, epoch };
                self.renew(author);
                let period = self.sessions.lock().unwrap_or_else(PoisonError::into_inner).period();
                let session_ms = u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
                Ok(Registration { cluster: self.cluster, author, applied, session_ms })
            }
            Answer::Registered(Err(refusal)) => Err(OpError::Refused(refusal)),
            other => Err(nonsense(&other).into()),
        }
    }

    async fn renew_session(&self, author: BrokerAuthor) -> Result<(), OpError<Fenced>> {
        if !self.current().await?.is_living(author) {
            return Err(OpError::Refused(Fenced));
        }
        self.renew(author);
        Ok(())
    }

    async fn drain_broker(&self, author: BrokerAuthor) -> Result<(), CallError> {
        match self.propose(CommandBody::DrainBroker(author)).await?.1 {
            Answer::Done => Ok(()),
            other => Err(nonsense(&other)),
        }
    }

    async fn leave(&self, author: BrokerAuthor) -> Result<(), CallError> {
        match self.propose(CommandBody::FenceBroker(author)).await?.1 {
            Answer::Done => Ok(()),
            other => Err(nonsense(&other)),
        }
    }

    fn commit_objects(&self, request: CommitObjects) -> Answering<Vec<ObjectOutcome>> {
        let objects = request.objects.len();
        let proposed = self.propose(CommandBody::CommitObjects(request));
        Box::pin(async move {
            match proposed.await?.1 {
                Answer::Commits(outcomes) if outcomes.len() == objects => Ok(outcomes),
                other => Err(nonsense(&other)),
            }
        })
    }

    fn abandon_object(&self, request: AbandonObject) -> Answering<ObjectOutcome> {
        let proposed = self.propose(CommandBody::AbandonObject(request));
        Box::pin(async move {
            match proposed.await?.1 {
                Answer::Commits(mut outcomes) if outcomes.len() == 1 => Ok(outcomes.remove(0)),
                other => Err(nonsense(&other)),
            }
        })
    }

    async fn create_topic(
        &self,
        request: CreateTopicRequest,
    ) -> Result<TopicId, OpError<CreateTopicRefusal>> {
        let CreateTopicRequest { id, name, partitions, replication_factor, configs } = request;
        let create = CreateTopic { id, name, partitions, replication_factor, configs };
        match self.propose(CommandBody::CreateTopic(create)).await?.1 {
            Answer::TopicCreated(Ok(())) => Ok(id),
            Answer::TopicCreated(Err(refusal)) => Err(OpError::Refused(refusal)),
            other => Err(nonsense(&other).into()),
        }
    }

    async fn delete_topic(&self, topic: TopicId) -> Result<bool, CallError> {
        match self.propose(CommandBody::DeleteTopic(topic)).await?.1 {
            Answer::TopicDeleted(existed) => Ok(existed),
            other => Err(nonsense(&other)),
        }
    }

    async fn create_partitions(
        &self,
        request: CreatePartitions,
    ) -> Result<(), OpError<CreatePartitionsRefusal>> {
        match self.propose(CommandBody::CreatePartitions(request)).await?.1 {
            Answer::PartitionsCreated(result) => result.map_err(OpError::Refused),
            other => Err(nonsense(&other).into()),
        }
    }

    async fn allocate_producer_ids(
        &self,
        request: AllocateProducerIds,
    ) -> Result<ProducerId, OpError<Fenced>> {
        match self.propose(CommandBody::AllocateProducerIds(request)).await?.1 {
            Answer::ProducerIds(result) => result.map_err(OpError::Refused),
            other => Err(nonsense(&other).into()),
        }
    }

    async fn commit_offsets(
        &self,
        request: CommitOffsets,
    ) -> Result<Vec<PartitionId>, OpError<Fenced>> {
        match self.propose(CommandBody::CommitOffsets(request)).await?.1 {
            Answer::OffsetsCommitted(result) => result.map_err(OpError::Refused),
            other => Err(nonsense(&other).into()),
        }
    }

    async fn put_group(&self, request: PutGroup) -> Result<(), OpError<Fenced>> {
        match self.propose(CommandBody::PutGroup(request)).await?.1 {
            Answer::GroupStored(result) => result.map_err(OpError::Refused),
            other => Err(nonsense(&other).into()),
        }
    }

    async fn group(&self, group: &GroupId) -> Result<Option<GroupState>, CallError> {
        Ok(self.current().await?.group(group))
    }

    async fn groups_with_members(
        &self,
        after: Option<GroupId>,
        max: usize,
    ) -> Result<Vec<GroupId>, CallError> {
        Ok(self.current().await?.groups_with_members(after.as_ref(), max))
    }

    async fn find_extents(&self, request: FindExtents) -> Result<ExtentPage, CallError> {
        Ok(self.current().await?.find_extents(&request))
    }

    async fn find_timestamp(
        &self,
        partition: PartitionId,
        query: TimestampQuery,
    ) -> Result<ExtentPage, CallError> {
        Ok(self.current().await?.find_timestamp(partition, query))
    }

    async fn partition_bounds(
        &self,
        partition: PartitionId,
    ) -> Result<Option<PartitionBounds>, CallError> {
        Ok(self.current().await?.bounds(partition))
    }

    fn watch(&self) -> mpsc::Receiver<WatchEvent> {
        self.machine.watch()
    }
}

#[async_trait]
impl SweepControl for LocalControlPlane {
    async fn condemned(&self, max: usize) -> Result<Condemned, CallError> {
        // Before the state, so that it is not beyond it.
        let worked = self.machine.worked();
        let state = self.current().await?;
        // The time that a command would be stamped with: it goes on while nothing is written.
        let now = {
            let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
            clock.observe(Instant::now())
        };
        let delay_ms = i64::try_from(self.condemned_delay.as_millis()).unwrap_or(i64::MAX);
        let until = TimestampMs(now.0.saturating_sub(delay_ms));
        Ok(Condemned { applied: worked, ..state.condemned(until, max) })
    }

    async fn standings(&self, names: Vec<ObjectName>) -> Result<Vec<ObjectStanding>, CallError> {
        let state = self.current().await?;
        // Walks all objects of a copy: off the threads that serve.
        tokio::task::spawn_blocking(move || state.standings(&names))
            .await
            .map_err(|error| CallError::Internal(error.to_string()))
    }

    async fn forget_objects(&self, objects: Vec<ObjectId>) -> Result<(), CallError> {
        match self.propose(CommandBody::ForgetObjects(objects)).await?.1 {
            Answer::Done => Ok(()),
            other => Err(nonsense(&other)),
        }
    }
}
