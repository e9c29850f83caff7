//! One loaded group at work: its state machine, its timer, its writes.
//!
//! A task per group, because a group is a sequence: requests are taken one by one, and writes leave
//! in the order they were decided on. Requests go on while a write is on its way (a slow control
//! plane must not make members look dead), so a heartbeat is never behind a commit.
//!
//! The task ends when the broker stops (after its writes), when it was fenced, and when the group
//! has no members and no requests for a while. A pending request then loses its way back, which its
//! caller takes as "not the coordinator": members look for the coordinator and join again.

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;

use ottla_storage::write::Reservation;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{debug, info};

use super::error::GroupError;
use super::limits::UNLOAD_AFTER;
use super::message::{Answer, Effect, Request, Ticket};
use super::registry::{InUse, Registry};
use super::state::Group;
use super::writes::{GroupWriter, WriteQueue, Written};

/// A request on its way to its group.
pub(super) struct Envelope {
    pub request: Request,
    pub reply: oneshot::Sender<Answer>,
    /// The memory of the request.
    pub held: Reservation,
    /// Keeps the group in memory until the request is handled.
    pub in_use: InUse,
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

/// The next event of a group.
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
        let mut backlog = Backlog::default();
        let mut writing: Option<Writing> = None;
        let mut quiet_since = Instant::now();
        let mut idle_since = None;
        let mut in_use = None;
        let mut stopping = *self.stop.borrow();
        loop {
            if writing.is_none() {
                writing =
                    backlog.writes.start_next(&self.writer).map(|write| Box::pin(write) as Writing);
            }
            if stopping && writing.is_none() {
                return;
            }
            let is_idle = self.group.is_idle() && writing.is_none();
            let idle = is_idle.then_some(quiet_since);
            if idle != idle_since {
                self.registry.note_idle(&self.writer.group, self.writer.author, idle);
                idle_since = idle;
            }
            // Handled, and the registry knows whether the group is idle now.
            drop(in_use.take());
            let idle_at = idle.map(|since| since + UNLOAD_AFTER);
            let due_at = self.group.wake_at();
            let event = match stopping {
                true => Event::Written(finish(&mut writing).await),
                false => self.next_event(&mut writing, due_at, idle_at).await,
            };
            let now = Instant::now();
            match event {
                Event::Request(envelope) => {
                    quiet_since = now;
                    let Envelope { request, reply, held, in_use: handling } = *envelope;
                    in_use = Some(handling);
                    // Other requests are charged to the group; a commit is kept by its request.
                    let held = matches!(request, Request::Commit(_)).then_some(held);
                    let ticket = backlog.add(reply, held);
                    let effects = self.group.handle(now, ticket, request);
                    self.perform(&mut backlog, now, effects);
                }
                Event::Written(written) => {
                    writing = None;
                    if written.is_fenced() {
                        info!(group = %self.writer.group, "this broker was fenced; the group is released");
                        return;
                    }
                    match written {
                        Written::Metadata(purpose, result) => {
                            let effects = self.group.stored(now, purpose, result);
                            self.perform(&mut backlog, now, effects);
                        }
                        Written::Offsets(results) => backlog.answer_commits(results),
                    }
                }
                Event::Due => {
                    let effects = self.group.tick(now);
                    self.perform(&mut backlog, now, effects);
                }
                Event::Idle => {
                    let (group, author) = (&self.writer.group, self.writer.author);
                    if self.registry.remove_if_unused(group, author) {
                        debug!(%group, "the group leaves memory");
                        return;
                    }
                    quiet_since = now;
                }
                Event::Stop => stopping = true,
            }
        }
    }

    async fn next_event(
        &mut self,
        writing: &mut Option<Writing>,
        due_at: Option<Instant>,
        idle_at: Option<Instant>,
    ) -> Event {
        tokio::select! {
            written = finish(writing) => Event::Written(written),
            envelope = self.inbox.recv() => match envelope {
                Some(envelope) => Event::Request(envelope),
                // Nobody can reach this task any more.
                None => Event::Stop,
            },
            () = at(due_at) => Event::Due,
            () = at(idle_at) => Event::Idle,
            () = stopped(&mut self.stop) => Event::Stop,
        }
    }

    /// Performs effects, and those of writes that there is no room for.
    fn perform(&mut self, backlog: &mut Backlog, now: Instant, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Answer(ticket, answer) => backlog.answer(ticket, answer),
                Effect::Store(purpose, metadata) => {
                    let writes = &mut backlog.writes;
                    let pushed = writes.push_metadata(now, &self.writer, purpose, metadata);
                    if let Err(purpose) = pushed {
                        let refused = Err(GroupError::NotAvailable);
                        effects.extend(self.group.stored(now, purpose, refused));
                    }
                }
                Effect::Commit(ticket, offsets) => {
                    if let Err(error) = backlog.writes.push_offsets(now, ticket, offsets) {
                        backlog.answer(ticket, Answer::Commit(Err(error)));
                    }
                }
            }
        }
    }
}

/// The requests that wait for an answer, and the writes that wait for their turn.
#[derive(Default)]
struct Backlog {
    waiting: BTreeMap<Ticket, Waiting>,
    last_ticket: u64,
    writes: WriteQueue,
}

/// A request that waits for its answer.
struct Waiting {
    reply: oneshot::Sender<Answer>,
    /// Given back with the answer.
    _held: Option<Reservation>,
}

impl Backlog {
    fn add(&mut self, reply: oneshot::Sender<Answer>, held: Option<Reservation>) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.waiting.insert(ticket, Waiting { reply, _held: held });
        ticket
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
        if let Some(waiting) = self.waiting.remove(&ticket) {
            let _ = waiting.reply.send(answer);
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
