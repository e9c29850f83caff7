//! The calls.

use std::sync::Arc;

use async_trait::async_trait;
use ottla_control_api::view::{Change, TopicInfo, WatchEvent};
use ottla_control_api::{
    Answering, BrokerInfo, CallError, ControlPlane, CreateTopicRequest, ExtentPage, FindExtents,
    GroupState, OpError, PartitionBounds, Registration, TimestampQuery,
};
use ottla_format::command::{
    AbandonObject, AllocateProducerIds, CommitObjects, CommitOffsets, CreatePartitions,
    CreatePartitionsRefusal, CreateTopicRefusal, Fenced, ObjectOutcome, PutGroup, RegisterBroker,
    RegisterRefusal,
};
use ottla_model::{
    BrokerAuthor, BrokerEpoch, ClusterId, GroupId, PartitionId, ProducerId, TopicId,
};
use tokio::sync::mpsc;

use super::FakeControl;
use super::state::State;

/// Short, so that a broker renews its session while a test runs.
const SESSION_MS: u64 = 300;

#[async_trait]
impl ControlPlane for FakeControl {
    async fn register_broker(
        &self,
        request: RegisterBroker,
    ) -> Result<Registration, OpError<RegisterRefusal>> {
        self.present()?;
        register(&mut self.state(), request).map_err(OpError::Refused)
    }

    async fn renew_session(&self, author: BrokerAuthor) -> Result<(), OpError<Fenced>> {
        let hangs = std::mem::take(&mut self.script().next_renewal_hangs);
        if hangs {
            std::future::pending::<()>().await;
        }
        self.present()?;
        living(&self.state(), author).map_err(OpError::Refused)
    }

    async fn drain_broker(&self, _: BrokerAuthor) -> Result<(), CallError> {
        self.present()
    }

    async fn leave(&self, _: BrokerAuthor) -> Result<(), CallError> {
        self.present()?;
        self.state().fence();
        Ok(())
    }

    fn commit_objects(&self, request: CommitObjects) -> Answering<Vec<ObjectOutcome>> {
        let wait = self.script().held.as_mut().map(|held| {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            held.push(sender);
            receiver
        });
        let CommitObjects { author, objects, .. } = request;
        let outcomes = self
            .change(|state| objects.iter().map(|object| state.commit(author, object)).collect());
        Box::pin(async move {
            if let Some(wait) = wait {
                // An error is the end of the wait: nobody sends.
                let _ = wait.await;
            }
            outcomes
        })
    }

    fn abandon_object(&self, _: AbandonObject) -> Answering<ObjectOutcome> {
        let answer = self.change(|_| ObjectOutcome::Abandoned);
        Box::pin(async { answer })
    }

    async fn create_topic(
        &self,
        request: CreateTopicRequest,
    ) -> Result<TopicId, OpError<CreateTopicRefusal>> {
        self.change(|state| create_topic(state, request))?.map_err(OpError::Refused)
    }

    async fn delete_topic(&self, topic: TopicId) -> Result<bool, CallError> {
        self.change(|state| {
            let existed = state.topics.remove(&topic).is_some();
            state.partitions.retain(|partition, _| partition.topic != topic);
            state.emit(vec![Change::TopicDeleted(topic)]);
            existed
        })
    }

    async fn create_partitions(
        &self,
        request: CreatePartitions,
    ) -> Result<(), OpError<CreatePartitionsRefusal>> {
        self.change(|state| match state.topics.get(&request.topic) {
            None => Err(CreatePartitionsRefusal::UnknownTopic),
            Some(topic) => {
                let grown = TopicInfo { partitions: request.total, ..TopicInfo::clone(topic) };
                state.grow(Arc::new(grown));
                Ok(())
            }
        })?
        .map_err(OpError::Refused)
    }

    async fn allocate_producer_ids(
        &self,
        request: AllocateProducerIds,
    ) -> Result<ProducerId, OpError<Fenced>> {
        self.change(|state| {
            living(state, request.author)?;
            Ok(ProducerId(state.next_id() as i64 * 1_000_000))
        })?
        .map_err(OpError::Refused)
    }

    async fn commit_offsets(
        &self,
        request: CommitOffsets,
    ) -> Result<Vec<PartitionId>, OpError<Fenced>> {
        // As a real call does: whoever is ready goes first.
        tokio::task::yield_now().await;
        let written = format!("offsets {}", request.offsets.len());
        self.change(|state| {
            living(state, request.author)?;
            self.script().group_writes.push(written);
            Ok(commit_offsets(state, request))
        })?
        .map_err(OpError::Refused)
    }

    async fn put_group(&self, request: PutGroup) -> Result<(), OpError<Fenced>> {
        tokio::task::yield_now().await;
        let PutGroup { author, group, kind, metadata } = request;
        self.change(|state| {
            living(state, author)?;
            let written =
                format!("generation {} of {}", metadata.generation, metadata.members.len());
            self.script().group_writes.push(written);
            let stored = state.groups.entry(group).or_default();
            (stored.kind, stored.metadata) = (kind, Some(metadata));
            Ok(())
        })?
        .map_err(OpError::Refused)
    }

    async fn group(&self, group: &GroupId) -> Result<Option<GroupState>, CallError> {
        tokio::task::yield_now().await;
        self.script().group_reads += 1;
        self.present()?;
        Ok(self.state().groups.get(group).cloned())
    }

    async fn groups_with_members(
        &self,
        after: Option<GroupId>,
        max: usize,
    ) -> Result<Vec<GroupId>, CallError> {
        tokio::task::yield_now().await;
        self.present()?;
        let state = self.state();
        let attended = state.groups.iter().filter(|(_, group)| {
            group.metadata.as_ref().is_some_and(|metadata| !metadata.members.is_empty())
        });
        let behind = attended.map(|(id, _)| id).filter(|id| after.as_ref() < Some(*id));
        Ok(behind.take(max).cloned().collect())
    }

    async fn find_extents(&self, request: FindExtents) -> Result<ExtentPage, CallError> {
        self.script().finds += 1;
        self.question().await?;
        let FindExtents { partition, from, max_bytes } = request;
        Ok(self.state().page(partition, max_bytes, |extent| extent.last_offset >= from))
    }

    async fn find_timestamp(
        &self,
        partition: PartitionId,
        query: TimestampQuery,
    ) -> Result<ExtentPage, CallError> {
        self.question().await?;
        let state = self.state();
        Ok(match query {
            TimestampQuery::AtOrAfter(time) => {
                state.page(partition, 0, |extent| extent.max_timestamp >= time)
            }
            TimestampQuery::Max => {
                let all = state.page(partition, u64::MAX, |_| true);
                let max = all.extents.iter().map(|extent| extent.max_timestamp).max();
                state.page(partition, 0, |extent| Some(extent.max_timestamp) == max)
            }
        })
    }

    async fn partition_bounds(
        &self,
        partition: PartitionId,
    ) -> Result<Option<PartitionBounds>, CallError> {
        self.question().await?;
        Ok(self.state().partitions.get(&partition).map(|(bounds, _)| *bounds))
    }

    fn watch(&self) -> mpsc::Receiver<WatchEvent> {
        self.state().watch()
    }
}

fn living(state: &State, author: BrokerAuthor) -> Result<(), Fenced> {
    if state.lives(author) { Ok(()) } else { Err(Fenced) }
}

fn register(state: &mut State, request: RegisterBroker) -> Result<Registration, RegisterRefusal> {
    if state.replaced {
        return Err(RegisterRefusal::ReplacedByNewer);
    }
    let author = BrokerAuthor { broker: request.broker, epoch: BrokerEpoch(state.next_id()) };
    let RegisterBroker { profile, nonce, .. } = request;
    let info = BrokerInfo { author, profile, draining: false };
    state.broker = Some((info.clone(), nonce));
    let applied = state.emit(vec![Change::Broker(info)]);
    Ok(Registration { cluster: ClusterId(1), author, applied, session_ms: SESSION_MS })
}

fn create_topic(
    state: &mut State,
    request: CreateTopicRequest,
) -> Result<TopicId, CreateTopicRefusal> {
    if let Some(old) = state.topics.values().find(|topic| topic.name == request.name) {
        return Err(CreateTopicRefusal::Exists(old.id));
    }
    let CreateTopicRequest { id, name, partitions, replication_factor, configs } = request;
    state.grow(Arc::new(TopicInfo { id, name, partitions, replication_factor, configs }));
    Ok(id)
}

/// Returns the partitions that it has not.
fn commit_offsets(state: &mut State, request: CommitOffsets) -> Vec<PartitionId> {
    let group = state.groups.entry(request.group).or_default();
    let (missing, known): (Vec<_>, Vec<_>) =
        request.offsets.into_iter().partition(|(partition, _)| state.missing.contains(partition));
    group.offsets.extend(known);
    missing.into_iter().map(|(partition, _)| partition).collect()
}
