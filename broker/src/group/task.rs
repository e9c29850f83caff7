//! One loaded group at work: its state machine, its timer, its writes.
//!
//! A task per group, because a group is a sequence: requests are taken one by one, and writes leave
//! in the order they were decided on. Requests go on while a write is on its way (a slow control
//! plane must not make members look dead), so a heartbeat is never behind a commit.
//!
//! The task ends when the broker stops (after its writes), when it was fenced, and when the group
//! has no members and no requests for a while. What waits then loses its way back, which its caller
//! takes as "not the coordinator": members look for the coordinator and join again.

use std::collections::BTreeMap;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{debug, info};

use super::error::GroupError;
use super::limits::UNLOAD_AFTER;
use super::message::{Answer, Effect, Request, Ticket};
use super::registry::Registry;
use super::state::Group;
use super::writes::{GroupWriter, WriteQueue, Written};

/// A request on its way to its group.
pub(super) struct Envelope {
    pub request: Request,
    pub reply: oneshot::Sender<Answer>,
}

/// A loaded group and all it needs.
pub(super) struct GroupTask {
    pub group: Group,
    pub inbox: mpsc::Receiver<Box<Envelope>>,
    pub stop: watch::Receiver<bool>,
    pub writer: GroupWriter,
    pub registry: Arc<Registry>,
}

type Writing = Pin<Box<dyn Future<Output = Written> + Send>>;

/// What happens next to a group.
enum Event {
    Request(Box<Envelope>),
    Written(Written),
    Due,
    Idle,
    Stop,
}

impl GroupTask {
    /// Serves the group until it leaves memory.
    pub async fn run(mut self) {
        let mut desk = Desk::default();
        let mut writing: Option<Writing> = None;
        let mut quiet_since = Instant::now();
        let mut stopping = *self.stop.borrow();
        loop {
            if writing.is_none() {
                writing =
                    desk.writes.start_next(&self.writer).map(|write| Box::pin(write) as Writing);
            }
            if stopping && writing.is_none() {
                return;
            }
            let idle_at =
                (self.group.is_idle() && writing.is_none()).then(|| quiet_since + UNLOAD_AFTER);
            let due_at = self.group.wake_at();
            let event = tokio::select! {
                written = finish(&mut writing) => Event::Written(written),
                envelope = self.inbox.recv(), if !stopping => match envelope {
                    Some(envelope) => Event::Request(envelope),
                    // Nobody can reach this task any more.
                    None => Event::Stop,
                },
                () = at(due_at), if !stopping => Event::Due,
                () = at(idle_at), if !stopping => Event::Idle,
                () = stopped(&mut self.stop), if !stopping => Event::Stop,
            };
            let now = Instant::now();
            match event {
                Event::Request(envelope) => {
                    quiet_since = now;
                    let ticket = desk.take(envelope.reply);
                    let effects = self.group.handle(now, ticket, envelope.request);
                    desk.perform(now, effects);
                }
                Event::Written(written) => {
                    writing = None;
                    if written.is_fenced() {
                        info!(group = %self.writer.group, "this broker was fenced; the group is let go");
                        return;
                    }
                    match written {
                        Written::Metadata(purpose, result) => {
                            let effects = self.group.stored(now, purpose, result);
                            desk.perform(now, effects);
                        }
                        Written::Offsets(results) => desk.answer_commits(results),
                    }
                }
                Event::Due => {
                    let effects = self.group.tick(now);
                    desk.perform(now, effects);
                }
                Event::Idle => {
                    let (group, author) = (&self.writer.group, self.writer.author);
                    if self.registry.remove_if_unused(group, author, &self.inbox) {
                        debug!(%group, "the group leaves memory");
                        return;
                    }
                    quiet_since = now;
                }
                Event::Stop => stopping = true,
            }
        }
    }
}

/// The requests that wait for an answer, and the writes that wait for their turn.
#[derive(Default)]
struct Desk {
    replies: BTreeMap<Ticket, oneshot::Sender<Answer>>,
    last_ticket: u64,
    writes: WriteQueue,
}

impl Desk {
    fn take(&mut self, reply: oneshot::Sender<Answer>) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.replies.insert(ticket, reply);
        ticket
    }

    fn perform(&mut self, now: Instant, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Answer(ticket, answer) => self.answer(ticket, answer),
                Effect::Store(purpose, metadata) => {
                    self.writes.push_metadata(now, purpose, metadata);
                }
                Effect::Commit(ticket, offsets) => {
                    if let Err(error) = self.writes.push_offsets(now, ticket, offsets) {
                        self.answer(ticket, Answer::Commit(Err(error)));
                    }
                }
            }
        }
    }

    fn answer_commits(
        &mut self,
        results: Vec<(Ticket, Result<Vec<ottla_model::PartitionId>, GroupError>)>,
    ) {
        for (ticket, result) in results {
            self.answer(ticket, Answer::Commit(result));
        }
    }

    /// Whose connection is gone does not read it.
    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        if let Some(reply) = self.replies.remove(&ticket) {
            let _ = reply.send(answer);
        }
    }
}

/// The end of the write on its way; never, when there is none.
async fn finish(writing: &mut Option<Writing>) -> Written {
    match writing {
        Some(write) => write.await,
        None => pending().await,
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => pending().await,
    }
}

/// Waits for the broker to stop; its disappearance counts.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
