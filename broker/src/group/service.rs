//! The door to all groups of a broker.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_control_api::{BrokerInfo, CallErrorKind, ControlPlane, GroupState};
use ottla_env::Random;
use ottla_format::command::CommittedOffset;
use ottla_model::{BrokerAuthor, GroupId, PartitionId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, warn};

use super::error::GroupError;
use super::limits;
use super::message::{
    Answer, Commit, Heartbeat, Join, JoinRefused, Joined, Leaving, Request, Sync, Synced,
};
use super::options::GroupOptions;
use super::placement::coordinator_of;
use super::registry::{Entry, Loading, NoEntry, Predecessor, Registry};
use super::state::Group;
use super::task::{Envelope, GroupTask};
use super::writes::{GroupWriter, offsets_bytes};
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
    random: Random,
    options: GroupOptions,
    pub(super) registry: Arc<Registry>,
    stop: Arc<watch::Sender<bool>>,
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
    ) -> Self {
        let registry = Arc::new(Registry::default());
        let stop = Arc::new(watch::Sender::new(false));
        Self { control, author, brokers, random, options, registry, stop }
    }

    /// The broker that coordinates a group; `None` when no broker is alive.
    pub fn coordinator(&self, group: &GroupId) -> Option<BrokerInfo> {
        coordinator_of(group, &(self.brokers)()).cloned()
    }

    /// JoinGroup. Answered when the next generation begins, which can take the longest rebalance
    /// timeout of the members.
    pub async fn join(&self, group: &GroupId, mut join: Join) -> Result<Joined, JoinRefused> {
        let member_id = join.member_id.clone();
        let refused = |error| JoinRefused { error, member_id: member_id.clone() };
        if group.as_str().is_empty() {
            return Err(refused(GroupError::InvalidGroupId));
        }
        join.fresh_id = self.fresh_member_id(&join);
        match self.ask(group, Request::Join(join)).await {
            Ok(Answer::Join(result)) => result,
            Ok(_) => Err(refused(GroupError::Internal)),
            Err(error) => Err(refused(error)),
        }
    }

    /// SyncGroup. Answered when the leader's assignment is stored.
    pub async fn sync(&self, group: &GroupId, sync: Sync) -> Result<Synced, GroupError> {
        check_group_id(group)?;
        match self.ask(group, Request::Sync(sync)).await? {
            Answer::Sync(result) => result,
            _ => Err(GroupError::Internal),
        }
    }

    /// Heartbeat.
    pub async fn heartbeat(&self, group: &GroupId, heartbeat: Heartbeat) -> Result<(), GroupError> {
        check_group_id(group)?;
        match self.ask(group, Request::Heartbeat(heartbeat)).await? {
            Answer::Heartbeat(result) => result,
            _ => Err(GroupError::Internal),
        }
    }

    /// LeaveGroup: one result per member, in order.
    pub async fn leave(
        &self,
        group: &GroupId,
        leaving: Vec<Leaving>,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        check_group_id(group)?;
        match self.ask(group, Request::Leave(leaving)).await? {
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
        if offsets_bytes(&commit.offsets) > limits::OFFSET_COMMIT_BYTES_MAX {
            return Err(GroupError::CommitTooLarge);
        }
        match self.ask(group, Request::Commit(commit)).await? {
            Answer::Commit(result) => result,
            _ => Err(GroupError::Internal),
        }
    }

    /// OffsetFetch: all committed offsets of a group, as the control plane has them now. Never
    /// answered from this broker's memory, and by any broker: a committed offset is found wherever
    /// the coordinator is, and however it moves (G1).
    pub async fn fetch(
        &self,
        group: &GroupId,
    ) -> Result<BTreeMap<PartitionId, CommittedOffset>, GroupError> {
        let deadline = Instant::now() + limits::LOAD_WAIT;
        let state = read_group(&*self.control, &self.random, group, deadline).await?;
        Ok(state.offsets)
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
        let name: String = name.chars().take(limits::MEMBER_ID_NAME_CHARS_MAX).collect();
        let bits = self.random.u128().to_be_bytes();
        let uuid = uuid::Builder::from_random_bytes(bits).into_uuid();
        format!("{name}-{uuid}").into()
    }

    async fn ask(&self, group: &GroupId, request: Request) -> Result<Answer, GroupError> {
        let me = self.author.author();
        if self.is_elsewhere(group, me) {
            self.registry.remove(group);
            return Err(GroupError::NotCoordinator);
        }
        let (reply, answer) = oneshot::channel();
        let mut envelope = Box::new(Envelope { request, reply });
        for _ in 0..limits::LOOKUPS_MAX {
            let entry = self.entry(group, me)?;
            let mut loading = entry.loading;
            match timeout(limits::LOAD_WAIT, loading.wait_for(|l| *l == Loading::Done)).await {
                Err(_) => return Err(GroupError::Loading),
                Ok(Err(_)) => {
                    // Its task could not load it, or ended between our look-up and now.
                    self.registry.remove_closed(group);
                    continue;
                }
                Ok(Ok(_)) => {}
            }
            match entry.requests.send(envelope).await {
                Ok(()) => {
                    drop(entry.requests);
                    // The task ended without an answer: it was fenced, or the broker stops.
                    return answer.await.map_err(|_| GroupError::NotCoordinator);
                }
                Err(mpsc::error::SendError(unsent)) => {
                    self.registry.remove_closed(group);
                    envelope = unsent;
                }
            }
        }
        Err(GroupError::NotAvailable)
    }

    /// Whether another broker coordinates a group.
    pub(super) fn is_elsewhere(&self, group: &GroupId, me: BrokerAuthor) -> bool {
        self.coordinator(group).is_some_and(|other| other.author.broker != me.broker)
    }

    pub(super) fn entry(&self, group: &GroupId, author: BrokerAuthor) -> Result<Entry, GroupError> {
        let start = |predecessor| {
            let (requests, inbox) = mpsc::channel(limits::REQUESTS_WAITING_MAX);
            let (loaded, loading) = watch::channel(Loading::Running);
            let task = self.clone().run_group(group.clone(), author, predecessor, inbox, loaded);
            (Entry { author, requests, loading }, task)
        };
        self.registry.get_or_start(group, author, start).map_err(|none| match none {
            NoEntry::Full => {
                warn!(%group, "too many groups are active on this broker");
                GroupError::NotAvailable
            }
            NoEntry::Stopped => GroupError::NotCoordinator,
        })
    }

    /// The whole life of a group's task: load it, serve it.
    async fn run_group(
        self,
        id: GroupId,
        author: BrokerAuthor,
        predecessor: Option<Predecessor>,
        inbox: mpsc::Receiver<Box<Envelope>>,
        loaded: watch::Sender<Loading>,
    ) {
        if let Some(predecessor) = predecessor {
            predecessor.ended().await;
        }
        let deadline = Instant::now() + limits::LOAD_TIMEOUT;
        let mut stop = self.stop.subscribe();
        let stored = tokio::select! {
            stored = read_group(&*self.control, &self.random, &id, deadline) => stored,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let Ok(stored) = stored else { return };
        let group = Group::load(id.clone(), self.options, stored, Instant::now());
        debug!(group = %id, state = ?group.state(), generation = group.generation(), "group loaded");
        loaded.send_replace(Loading::Done);
        let Self { control, random, registry, .. } = self;
        let writer = GroupWriter { control, random, author, group: id };
        GroupTask { group, inbox, stop, writer, registry }.run().await;
        // `loaded` lives until here: its end tells callers that the task is gone.
        drop(loaded);
    }
}

/// Members need a group with a name; offsets alone can be stored under the empty one.
fn check_group_id(group: &GroupId) -> Result<(), GroupError> {
    if group.as_str().is_empty() { Err(GroupError::InvalidGroupId) } else { Ok(()) }
}

/// Reads a group, trying again until `deadline`. A group nothing is stored of is an empty one.
async fn read_group(
    control: &dyn ControlPlane,
    random: &Random,
    group: &GroupId,
    deadline: Instant,
) -> Result<GroupState, GroupError> {
    let attempts = async {
        let mut pause = limits::RETRY_PAUSE_FIRST;
        loop {
            let error = match control.group(group).await {
                Ok(state) => return Ok(state.unwrap_or_default()),
                Err(error) => error,
            };
            match error.kind() {
                CallErrorKind::Retry | CallErrorKind::RetryUnknown => {}
                CallErrorKind::ShuttingDown => return Err(GroupError::NotCoordinator),
                CallErrorKind::Internal => {
                    warn!(%group, %error, "a group could not be read");
                    return Err(GroupError::Internal);
                }
            }
            ottla_env::delay(random.jitter(pause)).await;
            pause = (pause * 2).min(limits::RETRY_PAUSE_MAX);
        }
    };
    timeout_at(deadline, attempts).await.unwrap_or(Err(GroupError::Loading))
}
