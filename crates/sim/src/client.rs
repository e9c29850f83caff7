//! Producers, as librdkafka and the Java client behave: the same batch with the same sequence again
//! until it is acknowledged, up to five on their way, sent again in order.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::noop_waker;
use ottla_env::Random;
use ottla_format::command::BatchRefusal;
use ottla_model::{
    BatchProducer, Offset, PartitionId, PartitionIndex, ProducerEpoch, ProducerId, Sequence,
    TopicId,
};
use ottla_storage::write::{AppendBatch, AppendOutcome, AppendRequest, AppendTicket, ConnectionId};

use crate::Defect;
use crate::batch::{Identity, build};
use crate::checker::{Broken, Kind};
use crate::world::World;

/// How many batches an idempotent producer has on their way.
const PIPELINE: usize = 5;
/// Batches of each producer until it is done.
const BATCHES: u64 = 14;

#[derive(Clone, Copy, Debug)]
struct Batch {
    number: u64,
    records: i32,
    sequence: Sequence,
}

#[derive(Debug)]
struct InFlight {
    batch: Batch,
    attempt: u64,
    ticket: AppendTicket,
    /// What a defect makes the broker say.
    forced: Option<AppendOutcome>,
}

#[derive(Debug)]
struct Connection {
    broker: usize,
    in_flight: VecDeque<InFlight>,
}

/// A producer that writes to one partition.
#[derive(Debug)]
pub(crate) struct Client {
    id: u64,
    kind: Kind,
    partition: PartitionIndex,
    /// Waits until nothing is on its way before it sends something again, and then sends all of it
    /// (librdkafka); else it sends again while later batches are on their way, but only the first
    /// of those that are not acknowledged (Java).
    drains: bool,
    /// To be sent again, by number.
    waiting: VecDeque<Batch>,
    next_number: u64,
    next_sequence: Sequence,
    connection: Option<Connection>,
    /// The broker it goes to, when it never goes to another.
    home: Option<usize>,
    /// The topic it sends to; the first one.
    topic: Option<TopicId>,
    /// It has sent to two topics of the same name.
    strayed: bool,
    /// Its topic was made anew under it and it cannot go on; with Kafka it could not either.
    fatal: bool,
}

impl Client {
    /// Two idempotent producers and a plain one. They may share a partition.
    pub(crate) fn all(random: &Random, partitions: i32, brokers: usize) -> Vec<Self> {
        // In half of the worlds nobody moves, as in a cluster of one broker.
        let stay = random.chance(0.5);
        let kinds = [Kind::Idempotent, Kind::Idempotent, Kind::Plain];
        let client = |(id, kind)| Self {
            id,
            kind,
            partition: PartitionIndex(random.below(partitions as u64) as i32),
            drains: random.chance(0.5),
            waiting: VecDeque::new(),
            next_number: 0,
            // Some begin just before the wrap.
            next_sequence: Sequence(if random.chance(0.2) { i32::MAX - 4 } else { 0 }),
            connection: None,
            home: stay.then(|| random.below(brokers as u64) as usize),
            topic: None,
            strayed: false,
            fatal: false,
        };
        (0..).zip(kinds).map(client).collect()
    }

    pub(crate) fn is_done(&self) -> bool {
        let in_flight = self.connection.as_ref().is_some_and(|c| !c.in_flight.is_empty());
        self.fatal || (self.next_number >= BATCHES && self.waiting.is_empty() && !in_flight)
    }

    /// Whether it may go to any broker.
    pub(crate) fn moves(&self) -> bool {
        self.home.is_none()
    }

    fn again(&mut self, batch: Batch) {
        let at = self.waiting.partition_point(|other| other.number < batch.number);
        self.waiting.insert(at, batch);
    }

    fn disconnect(&mut self) {
        for entry in self.connection.take().into_iter().flat_map(|c| c.in_flight) {
            self.again(entry.batch);
        }
    }

    fn may_send(&self) -> bool {
        if self.fatal {
            return false;
        }
        let in_flight = self.connection.as_ref().map_or(0, |c| c.in_flight.len());
        let pipeline = if self.kind == Kind::Idempotent { PIPELINE } else { 1 };
        if self.waiting.is_empty() {
            // Never further ahead of its first unacknowledged batch than a partition remembers of a
            // producer: beyond that Kafka, too, cannot tell a duplicate.
            let first = self.unacknowledged().min().unwrap_or(self.next_number);
            self.next_number < BATCHES && self.next_number < first + pipeline as u64
        } else {
            in_flight < pipeline && self.may_send_again()
        }
    }

    fn on_their_way(&self) -> impl Iterator<Item = u64> {
        self.connection.iter().flat_map(|c| &c.in_flight).map(|other| other.batch.number)
    }

    fn unacknowledged(&self) -> impl Iterator<Item = u64> {
        self.on_their_way().chain(self.waiting.iter().map(|batch| batch.number))
    }

    fn may_send_again(&self) -> bool {
        let Some(next) = self.waiting.front().map(|batch| batch.number) else { return false };
        let mut on_their_way = self.on_their_way();
        if self.drains {
            on_their_way.all(|number| number < next)
        } else {
            on_their_way.all(|number| number > next)
        }
    }

    fn next_batch(&mut self, random: &Random) -> Batch {
        if let Some(batch) = self.waiting.pop_front() {
            return batch;
        }
        let records = 1 + random.below(3) as i32;
        let batch = Batch { number: self.next_number, records, sequence: self.next_sequence };
        self.next_number += 1;
        self.next_sequence = self.next_sequence.plus(records);
        batch
    }
}

impl World {
    /// A client sends its next batch, and the broker takes it in.
    pub(crate) fn send(&mut self, at: usize) {
        if !self.clients[at].may_send() {
            return;
        }
        let Some(current) = self.topic else { return };
        if self.clients[at].connection.is_none() {
            let any = self.below(self.brokers.len());
            let broker = self.clients[at].home.unwrap_or(any);
            if self.brokers[broker].writer.is_none() {
                return;
            }
            self.clients[at].connection = Some(Connection { broker, in_flight: VecDeque::new() });
        }
        let Some(broker) = self.clients[at].connection.as_ref().map(|c| c.broker) else { return };
        // The broker's view may be a moment behind.
        let behind = !self.healed && self.random.chance(0.2);
        let topic = self.former_topic.filter(|_| behind).unwrap_or(current);

        let batch = self.clients[at].next_batch(&self.random);
        let Client { id, kind, partition: index, .. } = self.clients[at];
        let first = *self.clients[at].topic.get_or_insert(topic);
        self.clients[at].strayed |= first != topic;
        let attempt = self.next_attempt;
        self.next_attempt += 1;
        let partition = PartitionId { topic, index };
        let records = batch.records;
        let identity = Identity { partition, client: id, number: batch.number, attempt, records };
        let producer = (kind == Kind::Idempotent).then_some(BatchProducer {
            id: ProducerId(id as i64),
            epoch: ProducerEpoch(0),
            base_sequence: batch.sequence,
        });
        self.checker.sent(identity, kind);
        self.visit("batch appended");
        self.note(|| format!("client {id} sends {identity:?} to broker {}", broker + 1));

        let now = self.now();
        let built = build(&identity, producer);
        let request = AppendRequest {
            arrival: now,
            // Of no effect here; clients lose patience by a step.
            timeout: Duration::ZERO,
            connection: ConnectionId(id),
            waiting_on_connection: Arc::new(AtomicU32::new(1)),
            reservation: None,
            batches: vec![AppendBatch { partition, batch: built, linger: None }],
        };
        let broker = &mut self.brokers[broker];
        let Some(writer) = &mut broker.writer else { return };
        let forced = forced_by_sequence(self.defect, &mut broker.seen, &identity, kind);
        let ticket = writer.append(request, now);
        broker.open.push(attempt);
        if let Some(connection) = &mut self.clients[at].connection {
            connection.in_flight.push_back(InFlight { batch, attempt, ticket, forced });
        }
    }

    /// A client looks at the first answer of its connection.
    pub(crate) fn hear_answer(&mut self, at: usize) -> Result<(), Broken> {
        let Some(connection) = &mut self.clients[at].connection else { return Ok(()) };
        let Some(first) = connection.in_flight.front_mut() else { return Ok(()) };
        let waker = noop_waker();
        let polled = Pin::new(&mut first.ticket).poll(&mut Context::from_waker(&waker));
        let outcome = match (first.forced, polled) {
            (Some(forced), _) => forced,
            (None, Poll::Ready(outcomes)) => match outcomes.first() {
                Some(outcome) => *outcome,
                None => return Err("a ticket without an outcome".to_owned()),
            },
            (None, Poll::Pending) => return Ok(()),
        };
        self.resolve(at, outcome)
    }

    /// The first batch of a connection has its answer.
    fn resolve(&mut self, at: usize, outcome: AppendOutcome) -> Result<(), Broken> {
        let Some(connection) = &mut self.clients[at].connection else { return Ok(()) };
        let Some(InFlight { batch, attempt, .. }) = connection.in_flight.pop_front() else {
            return Ok(());
        };
        let id = self.clients[at].id;
        self.note(|| format!("client {id} is told {outcome:?} of send {attempt}"));
        self.visit(match outcome {
            AppendOutcome::Stored { .. } => "told stored",
            AppendOutcome::NotStored => "told not stored",
            AppendOutcome::Undecided => "told undecided",
            AppendOutcome::Fenced => "told fenced",
            AppendOutcome::Refused(BatchRefusal::UnknownPartition) => "told unknown partition",
            AppendOutcome::Refused(_) => "told out of order",
        });
        self.checker.told(attempt, outcome)?;
        let client = &mut self.clients[at];
        match outcome {
            AppendOutcome::Stored { .. } => return Ok(()),
            AppendOutcome::Refused(BatchRefusal::OutOfOrderSequence) => {
                // Another one has to be stored first; unless there is none.
                let earlier = client.waiting.front().is_some_and(|b| b.number < batch.number)
                    || client.connection.as_ref().is_some_and(|c| {
                        c.in_flight.iter().any(|other| other.batch.number < batch.number)
                    });
                if !earlier && client.strayed {
                    // A later batch was the first to reach the new topic.
                    client.fatal = true;
                    client.disconnect();
                    self.visit("producer lost its order with its topic");
                    return Ok(());
                }
                if !earlier {
                    let what = format!("client {id}: its first batch {batch:?} is out of order");
                    return Err(format!("I-ORDER: {what}"));
                }
            }
            AppendOutcome::Refused(BatchRefusal::StaleProducerEpoch) => {
                return Err(format!("I-IDEM: client {id} has one epoch, and it is stale"));
            }
            _ => {}
        }
        client.again(batch);
        // A broker whose run is over is left.
        if outcome == AppendOutcome::Fenced && self.random.chance(0.5) {
            self.clients[at].disconnect();
        }
        Ok(())
    }

    /// A client's time is up: for its first request, or with the broker.
    pub(crate) fn lose_patience(&mut self, at: usize) {
        if self.random.chance(0.5) {
            // The broker says so itself; this cannot fail, since nothing is claimed.
            self.visit("request timed out");
            let _ = self.resolve(at, AppendOutcome::Undecided);
        } else {
            self.visit("connection lost");
            self.clients[at].disconnect();
        }
    }

    /// A broker is gone.
    pub(crate) fn disconnect_all(&mut self, broker: usize) {
        for client in &mut self.clients {
            if client.connection.as_ref().is_some_and(|c| c.broker == broker) {
                client.disconnect();
            }
        }
    }

    /// A defect answers sends before their time.
    pub(crate) fn tell_by_force(&mut self, attempts: &[u64], outcome: AppendOutcome) {
        let connections = self.clients.iter_mut().filter_map(|c| c.connection.as_mut());
        for entry in connections.flat_map(|c| &mut c.in_flight) {
            if attempts.contains(&entry.attempt) {
                entry.forced = Some(outcome);
            }
        }
    }
}

/// [`Defect::SequenceBeforeWrite`]: what was seen before is taken for a duplicate.
fn forced_by_sequence(
    defect: Option<Defect>,
    seen: &mut std::collections::BTreeMap<(i32, u64), u64>,
    identity: &Identity,
    kind: Kind,
) -> Option<AppendOutcome> {
    if defect != Some(Defect::SequenceBeforeWrite) || kind == Kind::Plain {
        return None;
    }
    let key = (identity.partition.index.0, identity.client);
    let highest = seen.insert(key, identity.number);
    let before = highest.filter(|highest| identity.number <= *highest)?;
    seen.insert(key, before);
    let base_offset = Offset(identity.number as i64);
    Some(AppendOutcome::Stored { base_offset, append_time: None, log_start: Offset(0) })
}
