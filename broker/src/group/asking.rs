//! From a request to its group, which may be in memory, in the control plane, or nowhere.
//!
//! A group is in memory while it has members or ids that were given out, and for a while after a
//! commit. Only the join of a new member and a commit without membership make one that did not
//! exist. Any other request about a group that is not in memory has the group looked up in the
//! control plane: one with members is loaded; about others there is nothing to remember, and the
//! request is answered as by a group without members, which is what Kafka does. So requests about
//! groups that do not exist cost a read each, a few at a time, and no memory.
//!
//! When there is no room for a new group, one that is stored may still have it: new groups never use
//! all ([`Standing`]).

use ottla_control_api::{CallErrorKind, ControlPlane, GroupState};
use ottla_env::Random;
use ottla_model::{BrokerAuthor, GroupId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, warn};

use super::budget::{NO_CLIENT, Standing};
use super::error::GroupError;
use super::message::{Answer, Effect, Request, Ticket};
use super::registry::{Admission, Entry, InMemory, InUse, Loading, NoEntry, Predecessor};
use super::service::Groups;
use super::state::Group;
use super::task::{Envelope, GroupTask};
use super::writes::GroupWriter;
use super::{limits, names, sizes};

/// Where a request finds its group.
enum Found {
    /// In memory.
    Entry(Entry),
    /// In the control plane only, without members; or nowhere.
    Stored(GroupState),
}

fn has_members(stored: &GroupState) -> bool {
    stored.metadata.as_ref().is_some_and(|metadata| !metadata.members.is_empty())
}

fn is_stored(stored: &GroupState) -> bool {
    stored.metadata.is_some() || !stored.offsets.is_empty()
}

impl Groups {
    pub(super) async fn ask(
        &self,
        group: &GroupId,
        request: Request,
    ) -> Result<Answer, GroupError> {
        names::check(group, &request)?;
        let me = self.author.author();
        if self.is_elsewhere(group, me) {
            self.registry.release(group);
            return Err(GroupError::NotCoordinator);
        }
        let client = request.client().unwrap_or(NO_CLIENT);
        let held = self.reserve(client, sizes::request(&request));
        let held = held.ok_or(GroupError::NotAvailable)?;
        let (reply, answer) = oneshot::channel();
        let in_use = InUse::default();
        let mut envelope = Box::new(Envelope { request, reply, held, in_use });
        for _ in 0..limits::LOOKUPS_MAX {
            let entry = match self.find(group, me, &envelope.request).await? {
                Found::Entry(entry) => entry,
                Found::Stored(stored) => return self.answer_alone(group, stored, envelope.request),
            };
            let Entry { requests, mut loading, in_use, .. } = entry;
            match timeout(limits::LOAD_WAIT, loading.wait_for(|l| *l == Loading::Done)).await {
                Err(_) => return Err(GroupError::Loading),
                Ok(Err(_)) => {
                    // Its task could not load it, or ended between our look-up and now.
                    self.registry.remove_closed(group);
                    continue;
                }
                Ok(Ok(_)) => {}
            }
            envelope.in_use = in_use;
            match requests.send(envelope).await {
                Ok(()) => {
                    // The entry's is the only sender that lasts: a task without one ends.
                    drop(requests);
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

    async fn find(
        &self,
        group: &GroupId,
        me: BrokerAuthor,
        request: &Request,
    ) -> Result<Found, GroupError> {
        let with_members = Admission { client: NO_CLIENT, standing: Standing::Member };
        match self.registry.find(group, me).map_err(refused)? {
            InMemory::Yes(entry) => return Ok(Found::Entry(entry)),
            InMemory::Released => return self.start(group, me, with_members).map(Found::Entry),
            InMemory::No => {}
        }
        let client = request.client().unwrap_or(NO_CLIENT);
        if request.makes_group() {
            let admission = Admission { client, standing: Standing::NewGroup };
            match self.start(group, me, admission) {
                // One that is stored has a part that new ones cannot use.
                Err(GroupError::NotAvailable) => {}
                started => return started.map(Found::Entry),
            }
        }
        let stored = self.look_up(group).await?;
        if has_members(&stored) {
            return self.start(group, me, with_members).map(Found::Entry);
        }
        if !request.makes_group() {
            return Ok(Found::Stored(stored));
        }
        if is_stored(&stored) {
            let admission = Admission { client, standing: Standing::StoredGroup };
            return self.start(group, me, admission).map(Found::Entry);
        }
        warn!(%group, %client, "no memory for another group");
        Err(GroupError::NotAvailable)
    }

    /// Whether another broker coordinates a group.
    pub(super) fn is_elsewhere(&self, group: &GroupId, me: BrokerAuthor) -> bool {
        self.coordinator(group).is_ok_and(|other| other.author.broker != me.broker)
    }

    /// A group in memory; its task is started if there is none.
    pub(super) fn start(
        &self,
        group: &GroupId,
        author: BrokerAuthor,
        admission: Admission,
    ) -> Result<Entry, GroupError> {
        let start = |predecessor| {
            let (requests, inbox) = mpsc::channel(limits::REQUESTS_WAITING_MAX);
            let (loaded, loading) = watch::channel(Loading::Running);
            let task = self.clone().run_group(group.clone(), author, predecessor, inbox, loaded);
            let in_use = InUse::default();
            (Entry { author, requests, in_use, loading }, task)
        };
        self.registry.get_or_start(group, author, admission, start).map_err(refused)
    }

    /// A group as it is stored, read when it is its turn.
    async fn look_up(&self, group: &GroupId) -> Result<GroupState, GroupError> {
        let deadline = Instant::now() + limits::LOAD_WAIT;
        let mut stop = self.stop.subscribe();
        let read = async {
            let turn = timeout_at(deadline, self.lookups.acquire()).await;
            let _turn = turn.map_err(|_| GroupError::Loading)?;
            read_group(&*self.control, &self.random, group, deadline).await
        };
        tokio::select! {
            stored = read => stored,
            _ = stop.wait_for(|stop| *stop) => Err(GroupError::NotCoordinator),
        }
    }

    /// Answers a request to a group without members, of which nothing stays in memory.
    fn answer_alone(
        &self,
        group: &GroupId,
        stored: GroupState,
        request: Request,
    ) -> Result<Answer, GroupError> {
        let (now, budget) = (Instant::now(), self.memory.groups.clone());
        let mut group = Group::load(group.clone(), self.options, budget, stored, now);
        let effects = group.handle(now, Ticket(0), request);
        let answers = effects.into_iter().filter_map(|effect| match effect {
            Effect::Answer(_, answer) => Some(answer),
            Effect::Store(..) | Effect::Commit(..) => None,
        });
        answers.last().ok_or(GroupError::Internal)
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
        let Self { control, random, registry, options, memory, .. } = self;
        let budget = memory.groups;
        let group = Group::load(id.clone(), options, budget.clone(), stored, Instant::now());
        debug!(group = %id, state = ?group.state(), generation = group.generation(), "group loaded");
        loaded.send_replace(Loading::Done);
        let writer = GroupWriter { control, random, author, group: id, budget };
        GroupTask { group, inbox, stop, writer, registry }.run().await;
        // `loaded` lives until here: its end tells callers that the task is gone.
        drop(loaded);
    }
}

fn refused(none: NoEntry) -> GroupError {
    match none {
        NoEntry::Full => GroupError::NotAvailable,
        NoEntry::Stopped => GroupError::NotCoordinator,
    }
}

/// Reads a group, trying again until `deadline`. A group nothing is stored of is an empty one.
pub(super) async fn read_group(
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
                CallErrorKind::Unsupported | CallErrorKind::Internal => {
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
