//! The service over a control plane that misbehaves. Time stands still unless everybody waits; then
//! it jumps to the next timer.

mod members;
mod moving;
mod storing;
mod takeover;
mod unknown;

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_control_api::BrokerInfo;
use ottla_env::Random;
use ottla_format::command::CommittedOffset;
use ottla_model::{BrokerAuthor, GroupId, Offset, PartitionId, PartitionIndex, TopicId};
use ottla_telemetry::Metrics;
use ottla_test_kit::FakeControl;
use ottla_test_kit::values::broker;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::author;
use super::machine::{CLIENT, member, new_member, sync};
use crate::group::{
    Commit, GroupError, GroupMemory, GroupOptions, Groups, Heartbeat, Join, JoinRefused, Joined,
    Leave, Leaving, limits,
};
use crate::registration::AuthorSource;

struct World {
    control: FakeControl,
    author: watch::Sender<BrokerAuthor>,
    brokers: Arc<std::sync::Mutex<Vec<BrokerInfo>>>,
    memory: GroupMemory,
    groups: Groups,
}

impl World {
    fn new() -> Self {
        Self::on(FakeControl::default(), 1)
    }

    /// A run of the broker over what an earlier one left.
    fn on(control: FakeControl, epoch: u64) -> Self {
        let (author, source) = watch::channel(author(epoch));
        let brokers = Arc::new(std::sync::Mutex::new(vec![broker(1, "")]));
        let seen = brokers.clone();
        let memory = GroupMemory::new(&Metrics::new());
        let groups = Groups::new(
            Arc::new(control.clone()),
            AuthorSource::new(source),
            Arc::new(move || seen.lock().unwrap().clone()),
            Random::seeded(7),
            GroupOptions::default(),
            memory.clone(),
        );
        Self { control, author, brokers, memory, groups }
    }

    fn spawn_join(&self, join: Join) -> JoinHandle<Result<Joined, JoinRefused>> {
        let groups = self.groups.clone();
        tokio::spawn(async move { groups.join(&group(), join).await })
    }

    async fn member_id(&self, name: &str) -> Arc<str> {
        self.member_id_in(&group(), name).await
    }

    async fn member_id_in(&self, group: &GroupId, name: &str) -> Arc<str> {
        let refused = self.groups.join(group, new_member(name)).await.unwrap_err();
        assert_eq!(refused.error, GroupError::MemberIdRequired);
        refused.member_id
    }

    /// A stable group of one member, generation 1.
    async fn alone(&self) -> Arc<str> {
        self.alone_in(&group()).await
    }

    async fn alone_in(&self, group: &GroupId) -> Arc<str> {
        let id = self.member_id_in(group, "a").await;
        self.groups.join(group, member(&id)).await.unwrap();
        self.groups.sync(group, sync(&id, 1, &[(&id, "all")])).await.unwrap();
        id
    }

    async fn heartbeat(&self, member_id: &str, generation: i32) -> Result<(), GroupError> {
        let member_id = member_id.into();
        let heartbeat = Heartbeat { member_id, instance_id: None, generation };
        self.groups.heartbeat(&group(), heartbeat).await
    }

    async fn fetch(
        &self,
        group: &GroupId,
    ) -> Result<BTreeMap<PartitionId, CommittedOffset>, GroupError> {
        self.groups.fetch(group, Instant::now() + limits::LOAD_WAIT).await
    }

    async fn commit(&self, offset: i64) -> Result<Vec<PartitionId>, GroupError> {
        self.groups.commit(&group(), simple(&[(0, offset)])).await
    }

    async fn leave(&self, member_id: &str) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        let leaving = Leaving { member_id: member_id.into(), instance_id: None, reason: None };
        self.groups.leave(&group(), Leave { members: vec![leaving], client: CLIENT }).await
    }
}

fn group() -> GroupId {
    GroupId::from("g")
}

fn partition(index: i32) -> PartitionId {
    PartitionId { topic: TopicId(1), index: PartitionIndex(index) }
}

fn offset(offset: i64) -> CommittedOffset {
    CommittedOffset { offset: Offset(offset), leader_epoch: 1, metadata: "".into() }
}

/// A commit by a client without group membership.
fn simple(offsets: &[(i32, i64)]) -> Commit {
    Commit {
        member_id: "".into(),
        instance_id: None,
        generation: -1,
        knows_group_not_found: true,
        offsets: offsets.iter().map(|(p, o)| (partition(*p), offset(*o))).collect(),
        answer_bytes: 0,
        client: CLIENT,
    }
}
