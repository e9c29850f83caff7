//! Who follows the state. Each follower has a bounded channel. One that does not keep up loses
//! what did not fit, and gets a whole view instead as soon as its channel is empty enough: it
//! never slows the state down and never misses a change without knowing.

use std::sync::Arc;

use ottla_control_api::view::{Change, WatchEvent};
use ottla_model::AppliedIndex;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::limits::WATCH_EVENTS;
use crate::state::State;

/// All followers.
#[derive(Debug, Default)]
pub struct Watchers {
    all: Vec<Watcher>,
    /// Up to where changes were told last.
    told: AppliedIndex,
    closed: bool,
}

#[derive(Debug)]
struct Watcher {
    events: mpsc::Sender<WatchEvent>,
    /// It missed something.
    behind: bool,
}

impl Watchers {
    /// A new follower of `state`. Its channel is closed at once when the node is stopping.
    pub fn add(&mut self, state: &State) -> mpsc::Receiver<WatchEvent> {
        let (events, receiver) = mpsc::channel(WATCH_EVENTS);
        if !self.closed {
            let mut watcher = Watcher { events, behind: true };
            watcher.catch_up(state, &mut None);
            self.all.push(watcher);
        }
        receiver
    }

    /// Tells what changed; `state` includes it.
    ///
    /// # Panics
    /// When the state is not further than the last time: a follower would take the changes for known.
    pub fn tell(&mut self, state: &State, changes: Vec<Change>) {
        let applied = state.applied();
        // The first entry of a log has index 0, which is "nothing applied", too.
        let is_next = applied > self.told || (applied, self.told) == Default::default();
        assert!(is_next, "the changes up to {applied:?} come behind {:?}", self.told);
        self.told = applied;
        if self.all.is_empty() {
            return;
        }
        let changes: Arc<[Change]> = changes.into();
        let mut view = None;
        self.all.retain_mut(|watcher| {
            if watcher.behind {
                return watcher.catch_up(state, &mut view);
            }
            match watcher.events.try_send(WatchEvent::Changes { applied, changes: changes.clone() })
            {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    watcher.behind = true;
                    true
                }
                Err(TrySendError::Closed(_)) => false,
            }
        });
    }

    /// Gives those that fell behind a view, where there is room by now.
    pub fn refresh(&mut self, state: &State) {
        let mut view = None;
        self.all.retain_mut(|watcher| !watcher.behind || watcher.catch_up(state, &mut view));
    }

    /// Everyone starts from `state` again.
    pub fn reset(&mut self, state: &State) {
        self.told = state.applied();
        for watcher in &mut self.all {
            watcher.behind = true;
        }
        self.refresh(state);
    }

    /// Ends all watches.
    pub fn close(&mut self) {
        self.closed = true;
        self.all.clear();
    }
}

impl Watcher {
    /// Sends a view if it fits; `false` when the follower is gone. The view is made once for all
    /// that need it. Half of the channel must be free: a view into the last free place would be
    /// followed by the next loss.
    fn catch_up(&mut self, state: &State, view: &mut Option<WatchEvent>) -> bool {
        if self.events.is_closed() {
            return false;
        }
        if self.events.capacity() * 2 < self.events.max_capacity() {
            return true;
        }
        let view = view.get_or_insert_with(|| WatchEvent::Reset(Arc::new(state.view())));
        match self.events.try_send(view.clone()) {
            Ok(()) => self.behind = false,
            Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Closed(_)) => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use ottla_format::command::{Command, CommandBody};
    use ottla_model::{ClusterId, TimestampMs};

    use super::*;

    fn step(state: &mut State, watchers: &mut Watchers) {
        let command = Command { time: TimestampMs(1), body: CommandBody::Tick };
        let applied = state.apply(AppliedIndex(state.applied().0 + 1), &command);
        watchers.tell(state, applied.changes);
    }

    fn applied(event: &WatchEvent) -> (bool, u64) {
        match event {
            WatchEvent::Reset(view) => (true, view.applied.0),
            WatchEvent::Changes { applied, .. } => (false, applied.0),
        }
    }

    #[test]
    fn a_watch_begins_with_a_view_and_gets_every_change_once() {
        let (mut state, mut watchers) = (State::new(ClusterId(1)), Watchers::default());
        step(&mut state, &mut watchers);
        let mut events = watchers.add(&state);
        step(&mut state, &mut watchers);
        step(&mut state, &mut watchers);
        let got: Vec<_> =
            std::iter::from_fn(|| events.try_recv().ok()).map(|e| applied(&e)).collect();
        assert_eq!(got, [(true, 1), (false, 2), (false, 3)]);
    }

    #[test]
    fn a_slow_follower_gets_a_view_instead_of_what_it_missed() {
        let (mut state, mut watchers) = (State::new(ClusterId(1)), Watchers::default());
        let mut events = watchers.add(&state);
        for _ in 0..WATCH_EVENTS + 10 {
            step(&mut state, &mut watchers);
        }
        let mut last = 0;
        for _ in 0..WATCH_EVENTS {
            last = applied(&events.try_recv().unwrap()).1;
        }
        assert!(events.try_recv().is_err());
        watchers.refresh(&state);
        step(&mut state, &mut watchers);
        let (reset, at) = applied(&events.try_recv().unwrap());
        assert!(reset && at > last + 1);
        assert_eq!(applied(&events.try_recv().unwrap()), (false, at + 1));
    }

    #[test]
    fn closing_ends_every_watch() {
        let (state, mut watchers) = (State::new(ClusterId(1)), Watchers::default());
        let mut before = watchers.add(&state);
        watchers.close();
        assert!(before.try_recv().is_ok(), "what was sent is still there");
        assert!(before.blocking_recv().is_none());
        assert!(watchers.add(&state).blocking_recv().is_none());
    }
}
