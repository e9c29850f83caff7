//! The replicated state as the rest of the node shares it: openraft's worker applies entries to
//! it, readers take copies of it, watchers are told what changes.
//!
//! One lock guards the state and its watchers together, so that a watcher begins with a view and
//! then gets every change after it, once and in order. The lock is held for the apply of a bounded
//! group of entries, or for a copy, which is cheap; never across an await, never for I/O.
//!
//! An apply that panics leaves half of an entry's work, with a digest that agrees. Nothing is read from
//! the state after that: every function here panics in turn, but for [`Machine::close_watches`]. So no
//! answer comes from it, and no checkpoint, on which a start would apply the entry once more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ottla_control_api::view::{Change, WatchEvent};
use ottla_env::VitalTasks;
use ottla_format::raft_entry::AppliedRecord;
use ottla_model::AppliedIndex;
use tokio::sync::{mpsc, watch};

use super::watchers::Watchers;
use crate::state::State;
use crate::state::dirty::DirtyKeys;

/// The state of this node; cheap to clone.
#[derive(Clone, Debug)]
pub struct Machine {
    inner: Arc<Mutex<Inner>>,
    applied: watch::Sender<AppliedIndex>,
    /// Notices when an apply panics.
    vital: VitalTasks,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) state: State,
    /// How far the log was applied, with what openraft needs to know at that point.
    pub(super) record: AppliedRecord,
    /// The last entry that was more than a tick. Not replicated: a start takes all of its state for
    /// it.
    pub(super) worked: AppliedIndex,
    watchers: Watchers,
}

impl Machine {
    /// Begins with a state that was loaded, or an empty one.
    pub fn new(state: State, record: AppliedRecord) -> Self {
        let worked = state.applied();
        let applied = watch::Sender::new(worked);
        let inner = Inner { state, record, worked, watchers: Watchers::default() };
        Self { inner: Arc::new(Mutex::new(inner)), applied, vital: VitalTasks::default() }
    }

    /// A copy of the state as it is now.
    pub fn state(&self) -> State {
        self.lock().state.clone()
    }

    /// A copy of the state with the place in the log it belongs to.
    pub fn snapshot(&self) -> (State, AppliedRecord) {
        let inner = self.lock();
        (inner.state.clone(), inner.record.clone())
    }

    /// Asks the state something small, in place.
    pub fn with<T>(&self, ask: impl FnOnce(&State) -> T) -> T {
        ask(&self.lock().state)
    }

    /// The last applied entry that was more than a tick: an older copy that lacks only ticks has
    /// lost nothing.
    pub fn worked(&self) -> AppliedIndex {
        self.lock().worked
    }

    /// How far the log was applied.
    pub fn record(&self) -> AppliedRecord {
        self.lock().record.clone()
    }

    /// A copy for the checkpoint with the keys that changed since the last one.
    pub fn cut_checkpoint(&self) -> (State, DirtyKeys, AppliedRecord) {
        let mut inner = self.lock();
        let (state, dirty) = inner.state.cut_checkpoint();
        (state, dirty, inner.record.clone())
    }

    /// What the checkpoint holds is unknown: all of it must be written.
    pub fn lost_checkpoint(&self) {
        self.lock().state.lost_checkpoint();
    }

    /// Follows how far the state is.
    pub fn applied(&self) -> watch::Receiver<AppliedIndex> {
        self.applied.subscribe()
    }

    /// Follows the changes, from a view on. See [`ottla_control_api::ControlPlane::watch`].
    pub fn watch(&self) -> mpsc::Receiver<WatchEvent> {
        let mut inner = self.lock();
        let Inner { state, watchers, .. } = &mut *inner;
        watchers.add(state)
    }

    /// Ends all watches.
    pub fn close_watches(&self) {
        // After a panic, too: the process ends, and whoever follows is told.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).watchers.close();
    }

    /// Watchers that fell behind and have room again get a fresh view.
    pub fn refresh_watchers(&self) {
        let mut inner = self.lock();
        let Inner { state, watchers, .. } = &mut *inner;
        watchers.refresh(state);
    }

    /// See [`State::break_a_promise`].
    #[cfg(test)]
    pub fn break_a_promise(&self, partition: ottla_model::PartitionId) {
        self.lock().state.break_a_promise(partition);
    }

    /// Held during an apply. openraft, whose task it is, would miss the task only with the next entry.
    pub(super) fn applying(&self) -> impl Drop + use<> {
        self.vital.guard("the state machine")
    }

    /// Waits until an apply has panicked, and names the state machine. Pends for ever otherwise.
    pub async fn failed(&self) -> &'static str {
        self.vital.failed().await
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no apply has panicked")
    }

    /// Tells everyone what a group of entries changed. The lock is still held: it is `inner`.
    pub(super) fn publish(&self, inner: &mut Inner, changes: Vec<Change>) {
        let Inner { state, watchers, .. } = inner;
        watchers.tell(state, changes);
        self.applied.send_replace(state.applied());
    }

    /// Replaces the whole state; everyone starts from a view again.
    pub(super) fn replace(&self, state: State, record: AppliedRecord) {
        let mut inner = self.lock();
        inner.worked = state.applied();
        inner.state = state;
        inner.record = record;
        let Inner { state, watchers, .. } = &mut *inner;
        watchers.reset(state);
        self.applied.send_replace(state.applied());
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use ottla_model::ClusterId;

    use super::*;

    #[test]
    fn what_a_panicking_apply_left_is_neither_read_nor_cut_for_the_checkpoint() {
        let machine = Machine::new(State::new(ClusterId(1)), AppliedRecord::default());
        let (_, dirty, _) = machine.cut_checkpoint();
        assert!(!dirty.is_empty());
        let apply = || {
            let _inner = machine.lock();
            panic!("half of an entry is applied");
        };
        assert!(catch_unwind(AssertUnwindSafe(apply)).is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| machine.cut_checkpoint())).is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| machine.state())).is_err());
        machine.close_watches();
    }
}
