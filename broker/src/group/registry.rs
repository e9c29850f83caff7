//! The groups in memory and the tasks that own them.
//!
//! A group's entry is the only lasting way to its task. Requests take a copy of the entry under the
//! lock, and with it an [`InUse`], which is dropped when the task has handled them. So it can be told
//! under the same lock that no request is on its way to an idle group, and none is lost when the
//! group leaves memory.
//!
//! A group's memory is charged as long as it has an entry. When there is no room for one more, the
//! group leaves that was without members and requests for longest: of the same client if that
//! client has its share, else of all. Which are idle the tasks say; that none of them is about to
//! get a request is checked under the lock.
//!
//! A group that is released (another broker's now, or this one registered anew) may still be writing.
//! Its successor here waits for the end of that before it reads the group, so that there is never
//! more than one task at work on a group, however often it comes and goes.
//!
//! The lock is held for a look-up or a removal, never across an await.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ottla_model::{BrokerAuthor, GroupId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::budget::{Charge, GroupBudget, Refusal, Standing};
use super::idle::IdleGroups;
use super::limits::GROUPS_LOADED_MAX;
use super::sizes;
use super::task::Envelope;

/// How far a group's task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loading {
    /// It reads the group.
    Running,
    /// It serves requests.
    Done,
}

/// The way to a group's task.
#[derive(Clone)]
pub(super) struct Entry {
    /// Under whose name the group was loaded.
    pub author: BrokerAuthor,
    pub requests: mpsc::Sender<Box<Envelope>>,
    pub in_use: InUse,
    /// Closed when the task has ended.
    pub loading: watch::Receiver<Loading>,
}

/// Says, as long as there is a copy beside the registry's, that a group must not leave memory.
#[derive(Clone, Default)]
pub(super) struct InUse(Arc<()>);

impl InUse {
    fn is_used(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// A task that was released and may not have ended yet.
pub(super) struct Predecessor(watch::Receiver<Loading>);

impl Predecessor {
    /// Waits for its end.
    pub async fn ended(mut self) {
        while self.0.changed().await.is_ok() {}
    }

    fn has_ended(&self) -> bool {
        self.0.has_changed().is_err()
    }
}

/// See the module.
pub(super) struct Registry {
    budget: GroupBudget,
    inner: Mutex<Inner>,
}

/// A group in memory.
struct Loaded {
    entry: Entry,
    charge: Charge,
    /// Since when it has neither members nor requests, as its task said last.
    idle_since: Option<Instant>,
}

#[derive(Default)]
struct Inner {
    groups: BTreeMap<GroupId, Loaded>,
    idle: IdleGroups,
    /// Groups that were released and have no successor yet; at most as many as tasks run.
    leaving: BTreeMap<GroupId, Predecessor>,
    tasks: JoinSet<()>,
    stopped: bool,
}

/// Whether a group is in memory.
pub(super) enum InMemory {
    /// It is; the way to it.
    Yes(Entry),
    /// It was until now, loaded under a registration that is over.
    Released,
    /// It is not.
    No,
}

/// Who wants a group to be in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admission {
    /// Whom the group is charged to.
    pub client: IpAddr,
    /// What is known of it. A group with members ([`Standing::Member`]) is charged whatever is free.
    pub standing: Standing,
}

/// Why there is no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoEntry {
    /// There is no room, and no group is idle.
    Full,
    /// The broker stops.
    Stopped,
}

impl Inner {
    fn find(&mut self, group: &GroupId, author: BrokerAuthor) -> InMemory {
        match self.groups.get(group) {
            Some(Loaded { entry, .. }) if entry.author == author && !entry.requests.is_closed() => {
                InMemory::Yes(entry.clone())
            }
            Some(_) => {
                self.release(group);
                InMemory::Released
            }
            None => InMemory::No,
        }
    }

    /// Takes a group's entry away, with its charge.
    fn remove(&mut self, group: &GroupId) -> Option<Entry> {
        let Loaded { entry, charge, idle_since } = self.groups.remove(group)?;
        if let Some(since) = idle_since {
            self.idle.remove(since, charge.client(), group);
        }
        Some(entry)
    }

    /// Takes a group's entry away, which ends its task.
    fn release(&mut self, group: &GroupId) {
        let Some(entry) = self.remove(group) else { return };
        self.leaving.retain(|_, predecessor| !predecessor.has_ended());
        self.leaving.insert(group.clone(), Predecessor(entry.loading));
    }

    fn note_idle(&mut self, group: &GroupId, since: Option<Instant>) {
        let Some(loaded) = self.groups.get_mut(group) else { return };
        let client = loaded.charge.client();
        if let Some(before) = std::mem::replace(&mut loaded.idle_since, since) {
            self.idle.remove(before, client, group);
        }
        if let Some(since) = since {
            self.idle.insert(since, client, group);
        }
    }

    /// Memory for one more group.
    fn admit(
        &mut self,
        group: &GroupId,
        admission: Admission,
        budget: &GroupBudget,
    ) -> Option<Charge> {
        let Admission { client, standing } = admission;
        let count_max = standing.part_of(GROUPS_LOADED_MAX);
        if self.groups.len() >= count_max {
            self.unload_longest_idle();
        }
        if self.groups.len() >= count_max {
            return None;
        }
        let bytes = sizes::group(group);
        if standing == Standing::Member {
            return Some(budget.charge(client, bytes));
        }
        match budget.try_charge(client, bytes, standing) {
            Ok(charge) => return Some(charge),
            Err(Refusal::Client) => self.unload_longest_idle_of(client.to_canonical()),
            Err(Refusal::Broker) => self.unload_longest_idle(),
        }
        budget.try_charge(client, bytes, standing).ok()
    }

    fn unload_longest_idle(&mut self) {
        let unused = self.idle.longest().find(|group| self.is_unused(group)).cloned();
        if let Some(group) = unused {
            self.release(&group);
        }
    }

    fn unload_longest_idle_of(&mut self, client: IpAddr) {
        let unused = self.idle.longest_of(client).find(|group| self.is_unused(group)).cloned();
        if let Some(group) = unused {
            self.release(&group);
        }
    }

    fn is_unused(&self, group: &GroupId) -> bool {
        self.groups.get(group).is_some_and(|loaded| !loaded.entry.in_use.is_used())
    }
}

impl Registry {
    /// No group is in memory; those that will be are charged to `budget`.
    pub fn new(budget: GroupBudget) -> Self {
        Self { budget, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entry of a group that was loaded under `author`. An entry under another author is
    /// dropped, and its task with it.
    pub fn find(&self, group: &GroupId, author: BrokerAuthor) -> Result<InMemory, NoEntry> {
        let mut inner = self.lock();
        if inner.stopped { Err(NoEntry::Stopped) } else { Ok(inner.find(group, author)) }
    }

    /// The entry of a group. When it has none, `start` makes one, with the task behind it.
    pub fn get_or_start<T>(
        &self,
        group: &GroupId,
        author: BrokerAuthor,
        admission: Admission,
        start: impl FnOnce(Option<Predecessor>) -> (Entry, T),
    ) -> Result<Entry, NoEntry>
    where
        T: Future<Output = ()> + Send + 'static,
    {
        let mut inner = self.lock();
        if inner.stopped {
            return Err(NoEntry::Stopped);
        }
        if let InMemory::Yes(entry) = inner.find(group, author) {
            return Ok(entry);
        }
        let charge = inner.admit(group, admission, &self.budget).ok_or(NoEntry::Full)?;
        // Collect what ended, so that the set is not larger than what runs.
        while inner.tasks.try_join_next().is_some() {}
        let predecessor = inner.leaving.remove(group);
        let (entry, task) = start(predecessor);
        inner.tasks.spawn(task);
        let loaded = Loaded { entry: entry.clone(), charge, idle_since: None };
        inner.groups.insert(group.clone(), loaded);
        Ok(entry)
    }

    /// A task says since when its group is idle, or that it is not.
    pub fn note_idle(&self, group: &GroupId, author: BrokerAuthor, since: Option<Instant>) {
        let mut inner = self.lock();
        if inner.groups.get(group).is_some_and(|loaded| loaded.entry.author == author) {
            inner.note_idle(group, since);
        }
    }

    /// Releases a group; its task ends.
    pub fn release(&self, group: &GroupId) {
        self.lock().release(group);
    }

    /// Removes the entry of a task that ended.
    pub fn remove_closed(&self, group: &GroupId) {
        let mut inner = self.lock();
        if inner.groups.get(group).is_some_and(|loaded| loaded.entry.requests.is_closed()) {
            inner.remove(group);
        }
    }

    /// Removes the caller's own entry if no request is on its way to it.
    pub fn remove_if_unused(&self, group: &GroupId, author: BrokerAuthor) -> bool {
        let mut inner = self.lock();
        let Some(Loaded { entry, .. }) = inner.groups.get(group) else { return true };
        if entry.author != author || entry.in_use.is_used() {
            return false;
        }
        inner.remove(group);
        true
    }

    /// No new tasks from now on; returns those that run.
    pub fn close(&self) -> JoinSet<()> {
        let mut inner = self.lock();
        inner.stopped = true;
        inner.groups.clear();
        inner.idle = IdleGroups::default();
        std::mem::take(&mut inner.tasks)
    }

    /// How many groups are in memory and served.
    pub fn len(&self) -> usize {
        self.lock().groups.len()
    }
}
