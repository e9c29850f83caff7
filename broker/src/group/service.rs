//! The door to all groups of a broker.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ottla_control_api::{BrokerInfo, ControlPlane};
use ottla_env::Random;
use ottla_format::command::CommittedOffset;
use ottla_model::{GroupId, PartitionId};
use ottla_storage::write::Reservation;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::asking::read_group;
use super::budget::GroupMemory;
use super::error::GroupError;
use super::message::{
    Answer, Commit, Heartbeat, Join, JoinRefused, Joined, Leave, Request, Sync, Synced,
};
use super::options::GroupOptions;
use super::placement::coordinator_of;
use super::registry::Registry;
use super::{limits, names, sizes};
use crate::registration::AuthorSource;

/// Gives the brokers that clients may be sent to, as this broker sees them now: those that live and
/// do not drain.
pub type ServingBrokers = Arc<dyn Fn() -> Vec<BrokerInfo> + Send + std::marker::Sync>;

/// The group coordinator of one broker; cheap to clone. See the module's essay.
#[derive(Clone)]
pub struct Groups {
    pub(super) control: Arc<dyn ControlPlane>,
    pub(super) author: AuthorSource,
    brokers: ServingBrokers,
    pub(super) random: Random,
    pub(super) options: GroupOptions,
    pub(super) memory: GroupMemory,
    pub(super) registry: Arc<Registry>,
    /// Look-ups of groups that are not in memory ([`limits::LOOKUPS_AT_ONCE`]).
    pub(super) lookups: Arc<Semaphore>,
    pub(super) stop: Arc<watch::Sender<bool>>,
}

/// The brokers that groups are spread over.
#[derive(Clone, Debug)]
pub struct Coordinators(Vec<BrokerInfo>);

impl Coordinators {
    /// The broker that coordinates a group.
    pub fn of(&self, group: &GroupId) -> Result<&BrokerInfo, GroupError> {
        names::check_group_id(group)?;
        coordinator_of(group, &self.0).ok_or(GroupError::NotAvailable)
    }
}

impl Groups {
    /// A coordinator without any group in memory; each is loaded when it is first asked for, or by
    /// [`Groups::take_over`].
    pub fn new(
        control: Arc<dyn ControlPlane>,
        author: AuthorSource,
        brokers: ServingBrokers,
        random: Random,
        options: GroupOptions,
        memory: GroupMemory,
    ) -> Self {
        let registry = Arc::new(Registry::new(memory.groups.clone()));
        let lookups = Arc::new(Semaphore::new(limits::LOOKUPS_AT_ONCE));
        let stop = Arc::new(watch::Sender::new(false));
        Self { control, author, brokers, random, options, memory, registry, lookups, stop }
    }

    /// The broker that coordinates a group.
    pub fn coordinator(&self, group: &GroupId) -> Result<BrokerInfo, GroupError> {
        self.coordinators().of(group).cloned()
    }

    /// The brokers of now, to find the coordinators of many groups.
    pub fn coordinators(&self) -> Coordinators {
        Coordinators((self.brokers)())
    }

    /// JoinGroup. Answered when the next generation begins, which can take the longest rebalance
    /// timeout of the members.
    pub async fn join(&self, group: &GroupId, mut join: Join) -> Result<Joined, JoinRefused> {
        let member_id = join.member_id.clone();
        let refused = |error| JoinRefused { error, member_id: member_id.clone() };
        join.fresh_id = self.fresh_member_id(&join);
        names::shorten_reason(&mut join.reason);
        // Before its group is loaded, or made.
        join.check_session(&self.options).map_err(refused)?;
        match self.ask(group, Request::Join(join)).await {
            Ok(Answer::Join(result)) => result,
            Ok(_) => Err(refused(GroupError::Internal)),
            Err(error) => Err(refused(error)),
        }
    }

    /// SyncGroup. Answered when the leader's assignment is stored.
    pub async fn sync(&self, group: &GroupId, sync: Sync) -> Result<Synced, GroupError> {
        match self.ask(group, Request::Sync(sync)).await? {
            Answer::Sync(result) => result,
            _ => Err(GroupError::Internal),
        }
    }

    /// Heartbeat.
    pub async fn heartbeat(&self, group: &GroupId, heartbeat: Heartbeat) -> Result<(), GroupError> {
        match self.ask(group, Request::Heartbeat(heartbeat)).await? {
            Answer::Heartbeat(result) => result,
            _ => Err(GroupError::Internal),
        }
    }

    /// LeaveGroup: one result per member, in order.
    pub async fn leave(
        &self,
        group: &GroupId,
        mut leave: Leave,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        leave.members.iter_mut().for_each(|member| names::shorten_reason(&mut member.reason));
        match self.ask(group, Request::Leave(leave)).await? {
            Answer::Leave(result) => result,
            _ => Err(GroupError::Internal),
        }
    }

    /// OffsetCommit: returns the partitions that do not exist; all others are stored.
    pub async fn commit(
        &self,
        group: &GroupId,
        commit: Commit,
    ) -> Result<Vec<PartitionId>, GroupError> {
        if sizes::offsets(&commit.offsets) > limits::OFFSET_COMMIT_BYTES_MAX {
            return Err(GroupError::CommitTooLarge);
        }
        match self.ask(group, Request::Commit(commit)).await? {
            Answer::Commit(result) => result,
            _ => Err(GroupError::Internal),
        }
    }

    /// OffsetFetch: all committed offsets of a group, as the control plane has them now. Never
    /// answered from this broker's memory, and by any broker: a committed offset is found wherever
    /// the coordinator is, and however it moves (G1). `deadline` is that of the request, which may
    /// ask for many groups.
    pub async fn fetch(
        &self,
        group: &GroupId,
        deadline: Instant,
    ) -> Result<BTreeMap<PartitionId, CommittedOffset>, GroupError> {
        names::check_group_id(group)?;
        let state = read_group(&*self.control, &self.random, group, deadline).await?;
        Ok(state.offsets)
    }

    /// Memory for what a request keeps while it waits; `None` when its client or all of them have
    /// too much waiting.
    pub fn reserve(&self, client: IpAddr, bytes: usize) -> Option<Reservation> {
        self.memory.requests.try_reserve(client, bytes)
    }

    /// How many groups are in memory.
    pub fn loaded(&self) -> usize {
        self.registry.len()
    }

    /// Lets all groups go: what is being written ends first, members that wait are told to look for
    /// another coordinator. Requests that come later are told the same.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let mut tasks = self.registry.close();
        while tasks.join_next().await.is_some() {}
    }

    /// An id for a member without one: its instance id or client id and a random UUID, as Kafka's.
    fn fresh_member_id(&self, join: &Join) -> Arc<str> {
        let name = join.instance_id.as_ref().unwrap_or(&join.client_id);
        let name = &name[..name.floor_char_boundary(limits::MEMBER_ID_NAME_BYTES_MAX)];
        let bits = self.random.u128().to_be_bytes();
        let uuid = uuid::Builder::from_random_bytes(bits).into_uuid();
        format!("{name}-{uuid}").into()
    }
}
