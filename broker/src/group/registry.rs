//! The groups in memory and the tasks that own them.
//!
//! A group's entry is the only lasting way to its task: requests take a copy of the entry's sender
//! under the lock and give it back once the request is in. So an idle task can tell, under the same
//! lock, that nobody is about to send to it, and leave without losing a request.
//!
//! A group that is let go (another broker's now, or this one registered anew) may still be writing.
//! Its successor here waits for the end of that before it reads the group, so that there is never
//! more than one task at work on a group, however often it comes and goes.
//!
//! The lock is held for a look-up or a removal, never across an await.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ottla_model::{BrokerAuthor, GroupId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::limits::GROUPS_LOADED_MAX;
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
    /// Closed when the task has ended.
    pub loading: watch::Receiver<Loading>,
}

/// A task that was let go and may not have ended yet.
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
#[derive(Default)]
pub(super) struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    entries: BTreeMap<GroupId, Entry>,
    /// Those that were let go and have no successor yet; at most as many as tasks run.
    leaving: BTreeMap<GroupId, Predecessor>,
    tasks: JoinSet<()>,
    stopped: bool,
}

impl Inner {
    /// Takes a group's entry away, which ends its task.
    fn let_go(&mut self, group: &GroupId) {
        let Some(entry) = self.entries.remove(group) else { return };
        self.leaving.retain(|_, predecessor| !predecessor.has_ended());
        self.leaving.insert(group.clone(), Predecessor(entry.loading));
    }
}

/// Why there is no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoEntry {
    /// [`GROUPS_LOADED_MAX`] are in memory.
    Full,
    /// The broker stops.
    Stopped,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entry of a group that was loaded under `author`. Otherwise `start` makes one, with the
    /// task behind it; an entry under another author is dropped, and its task with it.
    pub fn get_or_start<T>(
        &self,
        group: &GroupId,
        author: BrokerAuthor,
        start: impl FnOnce(Option<Predecessor>) -> (Entry, T),
    ) -> Result<Entry, NoEntry>
    where
        T: Future<Output = ()> + Send + 'static,
    {
        let mut inner = self.lock();
        if inner.stopped {
            return Err(NoEntry::Stopped);
        }
        match inner.entries.get(group) {
            Some(entry) if entry.author == author && !entry.requests.is_closed() => {
                return Ok(entry.clone());
            }
            Some(_) => inner.let_go(group),
            None => {}
        }
        if inner.entries.len() >= GROUPS_LOADED_MAX {
            return Err(NoEntry::Full);
        }
        // Collect what ended, so that the set is not larger than what runs.
        while inner.tasks.try_join_next().is_some() {}
        let predecessor = inner.leaving.remove(group);
        let (entry, task) = start(predecessor);
        inner.tasks.spawn(task);
        inner.entries.insert(group.clone(), entry.clone());
        Ok(entry)
    }

    /// Lets a group go; its task ends.
    pub fn remove(&self, group: &GroupId) {
        self.lock().let_go(group);
    }

    /// Removes the entry of a task that ended.
    pub fn remove_closed(&self, group: &GroupId) {
        let mut inner = self.lock();
        if inner.entries.get(group).is_some_and(|entry| entry.requests.is_closed()) {
            inner.entries.remove(group);
        }
    }

    /// Removes the caller's own entry if no request is in its inbox or on its way there.
    pub fn remove_if_unused(
        &self,
        group: &GroupId,
        author: BrokerAuthor,
        inbox: &mpsc::Receiver<Box<Envelope>>,
    ) -> bool {
        let mut inner = self.lock();
        let Some(entry) = inner.entries.get(group) else { return true };
        let is_own = entry.author == author;
        if !is_own || entry.requests.strong_count() > 1 || !inbox.is_empty() {
            return false;
        }
        inner.entries.remove(group);
        true
    }

    /// No new tasks from now on; returns those that run.
    pub fn close(&self) -> JoinSet<()> {
        let mut inner = self.lock();
        inner.stopped = true;
        inner.entries.clear();
        std::mem::take(&mut inner.tasks)
    }

    /// How many groups are in memory and served.
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }
}
