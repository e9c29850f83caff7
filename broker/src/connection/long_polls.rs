//! The end of a connection's long polls, before their time is over.
//!
//! Answers leave in the order of the requests, so a Fetch that waits for records also holds up the
//! answers behind it. When one of them needs memory that others may want, the Fetch in front answers
//! with what there is. Its maximum wait is a maximum, and Kafka would not have begun the request behind.

use tokio::sync::watch;

/// Notifies the fetches of one connection that wait for records. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct LongPolls(watch::Sender<Ends>);

#[derive(Debug, Default)]
struct Ends {
    /// The client left or the broker stops: no Fetch waits any more.
    all: bool,
    /// How often the fetches that waited were ended.
    times: u64,
}

/// The wait of one Fetch.
#[derive(Debug)]
pub(crate) struct LongPoll {
    polls: LongPolls,
    /// How often fetches were ended before this one began.
    before: u64,
}

impl LongPolls {
    pub fn new() -> Self {
        Self(watch::Sender::new(Ends::default()))
    }

    /// A Fetch begins, before the requests behind it do.
    pub fn begin(&self) -> LongPoll {
        LongPoll { polls: self.clone(), before: self.0.borrow().times }
    }

    /// Ends those that wait, and those to come.
    pub fn end(&self) {
        self.0.send_modify(|ends| ends.all = true);
    }

    /// Ends those that have begun.
    pub fn end_begun(&self) {
        self.0.send_modify(|ends| ends.times += 1);
    }
}

impl LongPoll {
    /// Waits for the end of this one. Safe to cancel, and to wait for again.
    pub async fn ended(&self) {
        let ended = |ends: &Ends| ends.all || ends.times > self.before;
        // Fails only when the sender is gone, and the sender is ours.
        let _ = self.polls.0.subscribe().wait_for(ended).await;
    }
}
