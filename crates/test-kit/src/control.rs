//! A control plane in memory that can be told to misbehave.

mod plane;
mod state;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ottla_control_api::view::{Change, ClusterView, Extent, TopicInfo, WatchEvent};
use ottla_control_api::{CallError, GroupState, PartitionBounds};
use ottla_model::{AppliedIndex, GroupId, PartitionId, TimestampMs};

use state::State;

/// The append time of topics with log-append time.
pub const APPEND_TIME: TimestampMs = TimestampMs(77_000);

/// What becomes of one call that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It has no effect, and the caller knows.
    Unavailable,
    /// It takes effect, and the caller does not know.
    AnswerLost,
    /// It has no effect, and the caller does not know.
    CallLost,
    /// It panics, in the task that makes it.
    Panic,
}

/// A control plane that applies what it is asked at once. Clones share the state.
#[derive(Clone, Debug, Default)]
pub struct FakeControl {
    state: Arc<Mutex<State>>,
    script: Arc<Mutex<Script>>,
}

/// How the next calls fail, and what was called.
#[derive(Debug, Default)]
struct Script {
    away: bool,
    faults: VecDeque<Fault>,
    next_renewal_hangs: bool,
    questions_hang: bool,
    /// Answers to commits wait for the end of these, while they are held back.
    held: Option<Vec<tokio::sync::oneshot::Sender<()>>>,
    group_writes: Vec<String>,
    group_reads: usize,
    finds: usize,
}

/// What tests say to it.
impl FakeControl {
    /// Adds a topic with empty partitions, and tells who watches; returns the index to wait for.
    pub fn add_topic(&self, topic: Arc<TopicInfo>) -> AppliedIndex {
        self.state().grow(topic)
    }

    /// Sets a partition as the leader knows it, without telling who watches.
    pub fn set(&self, partition: PartitionId, bounds: PartitionBounds, extents: Vec<Arc<Extent>>) {
        self.state().partitions.insert(partition, (bounds, extents));
    }

    /// Adds to a partition and tells who watches; returns the index to wait for.
    pub fn publish(
        &self,
        partition: PartitionId,
        bounds: PartitionBounds,
        extents: Vec<Arc<Extent>>,
    ) -> AppliedIndex {
        let mut state = self.state();
        let (known, all) = state.partitions.entry(partition).or_default();
        *known = bounds;
        all.extend(extents.iter().cloned());
        state.emit(vec![Change::Partition { partition, bounds, extents }])
    }

    /// Tells who watches of changes that its own state does not have.
    pub fn tell(&self, changes: Vec<Change>) -> AppliedIndex {
        self.state().emit(changes)
    }

    /// Tells who watches that it is too far behind and this is all there is, under the next index.
    pub fn tell_reset(&self, view: ClusterView) -> AppliedIndex {
        let mut state = self.state();
        let applied = state.next_index();
        state.send(&WatchEvent::Reset(Arc::new(ClusterView { applied, ..view })));
        applied
    }

    /// Ends every watch, as a control plane that stops does.
    pub fn close_watches(&self) {
        self.state().watchers.clear();
    }

    /// Nothing takes effect and nothing is answered while it is away.
    pub fn set_away(&self, away: bool) {
        self.script().away = away;
    }

    /// The faults of the next calls that change something, in order. Registrations and sessions
    /// are spared: a broker makes those by itself, at any time.
    pub fn fail_next(&self, faults: &[Fault]) {
        self.script().faults.extend(faults);
    }

    /// Commits get no answer until [`FakeControl::let_commits_go`].
    pub fn hold_commits(&self) {
        self.script().held = Some(Vec::new());
    }

    /// Answers the commits that were held back, and those to come.
    pub fn let_commits_go(&self) {
        self.script().held = None;
    }

    /// Questions about partitions that come while it hangs are never answered.
    pub fn hang_questions(&self, hang: bool) {
        self.script().questions_hang = hang;
    }

    /// The next renewal of the session is never answered.
    pub fn hang_next_renewal(&self) {
        self.script().next_renewal_hangs = true;
    }

    /// Whether that renewal has come.
    #[must_use]
    pub fn renewal_hangs(&self) -> bool {
        !self.script().next_renewal_hangs
    }

    /// Refuses every broker epoch below this one.
    pub fn fence_below(&self, epoch: u64) {
        self.state().fenced_below = epoch;
    }

    /// Fences the registered broker as the end of its session does.
    pub fn fence(&self) {
        self.state().fence();
    }

    /// Fences the registered broker as a newer process with its id does.
    pub fn replace(&self) {
        let mut state = self.state();
        state.replaced = true;
        state.fence();
    }

    /// Offsets of this partition are refused.
    pub fn without_partition(&self, partition: PartitionId) {
        self.state().missing.insert(partition);
    }
}

/// What it says to tests.
impl FakeControl {
    /// A group as it is stored; the empty one when it is not.
    #[must_use]
    pub fn group_now(&self, group: &str) -> GroupState {
        self.state().groups.get(&GroupId::from(group)).cloned().unwrap_or_default()
    }

    /// The writes to groups that took effect, in order: "generation 3 of 2", "offsets 5".
    #[must_use]
    pub fn group_writes(&self) -> Vec<String> {
        self.script().group_writes.clone()
    }

    /// How often a group was asked for.
    #[must_use]
    pub fn group_reads(&self) -> usize {
        self.script().group_reads
    }

    /// How often extents were asked for.
    #[must_use]
    pub fn finds(&self) -> usize {
        self.script().finds
    }
}

impl FakeControl {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call that changes something, with the fault that the script has for it.
    fn change<T>(&self, effect: impl FnOnce(&mut State) -> T) -> Result<T, CallError> {
        self.present()?;
        let fault = self.script().faults.pop_front();
        match fault {
            None => Ok(effect(&mut self.state())),
            Some(Fault::Unavailable) => Err(CallError::Unavailable("fault".to_owned())),
            Some(Fault::CallLost) => Err(CallError::OutcomeUnknown("fault".to_owned())),
            Some(Fault::Panic) => panic!("as the test wants it"),
            Some(Fault::AnswerLost) => {
                effect(&mut self.state());
                Err(CallError::OutcomeUnknown("fault".to_owned()))
            }
        }
    }

    /// What every question about a partition goes through.
    async fn question(&self) -> Result<(), CallError> {
        if self.script().questions_hang {
            std::future::pending::<()>().await;
        }
        self.present()
    }

    fn present(&self) -> Result<(), CallError> {
        if self.script().away { Err(CallError::Unavailable("away".to_owned())) } else { Ok(()) }
    }
}
