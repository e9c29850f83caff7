//! Broker ids, their newest run, and the outcomes of its objects (I-FENCE).
//!
//! An epoch is never given twice and the newest run of an id is the only one that can live, so one
//! entry per id is enough: a command is refused unless it carries exactly the epoch of a run that
//! is not fenced.

use std::sync::Arc;

use imbl::OrdMap;
use ottla_control_api::BrokerInfo;
use ottla_control_api::view::Change;
use ottla_format::command::{ObjectOutcome, RegisterBroker, RegisterRefusal};
use ottla_format::state::{BrokerEntry, BrokerStatus, StateKey, put_outcome};
use ottla_model::{BrokerAuthor, BrokerEpoch, BrokerId, ObjectSeq};

use super::books::Books;
use super::changes::Changes;
use super::promise::promise;
use super::semantics::{OUTCOMES_KEPT_MAX, REPLACED_NONCES_MAX};

/// A broker id with its newest run. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Broker {
    pub(super) entry: BrokerEntry,
    /// The outcomes of the sequences from the frontier on, without a hole, up to the next
    /// undecided.
    pub(super) outcomes: OrdMap<ObjectSeq, ObjectOutcome>,
}

/// Where an object stands in its writer's sequence.
pub(super) enum Place {
    /// It is the one to be decided.
    Next,
    /// What to answer, without a change.
    Known(ObjectOutcome),
}

impl Broker {
    /// The run.
    pub fn entry(&self) -> &BrokerEntry {
        &self.entry
    }

    /// The outcomes that are kept.
    pub fn outcomes(&self) -> &OrdMap<ObjectSeq, ObjectOutcome> {
        &self.outcomes
    }

    fn info(&self, broker: BrokerId) -> BrokerInfo {
        BrokerInfo {
            author: BrokerAuthor { broker, epoch: self.entry.epoch },
            profile: Arc::clone(&self.entry.profile),
            draining: self.entry.status == BrokerStatus::Draining,
        }
    }

    pub(super) fn place(&self, seq: ObjectSeq) -> Place {
        let next = self.entry.next;
        if seq == next && self.outcomes.len() < OUTCOMES_KEPT_MAX {
            return Place::Next;
        }
        Place::Known(if seq < self.entry.frontier {
            ObjectOutcome::BelowFrontier
        } else {
            let kept = self.outcomes.get(&seq).cloned();
            kept.unwrap_or(ObjectOutcome::NotYet { next })
        })
    }

    /// Keeps the outcome of the object that was next.
    pub(super) fn decided(
        &mut self,
        broker: BrokerId,
        seq: ObjectSeq,
        outcome: ObjectOutcome,
        books: &mut Books,
    ) {
        promise("I-ORDER", seq == self.entry.next, || {
            format!("broker {broker} had object {seq} decided and {} is next", self.entry.next)
        });
        books.digest.add(&StateKey::Outcome(broker, seq), |out| put_outcome(out, &outcome));
        self.outcomes.insert(seq, outcome);
        self.entry.next = seq.next();
    }

    /// The writer holds all outcomes below `frontier`. A frontier beyond what is decided is
    /// nonsense and counts up to there.
    fn advance_frontier(&mut self, broker: BrokerId, frontier: ObjectSeq, books: &mut Books) {
        self.entry.frontier = self.entry.frontier.max(frontier.min(self.entry.next));
        while let Some((seq, outcome)) = self.outcomes.get_min().cloned() {
            if seq >= self.entry.frontier {
                break;
            }
            books.digest.remove(&StateKey::Outcome(broker, seq), |out| {
                put_outcome(out, &outcome);
            });
            self.outcomes.remove(&seq);
        }
    }

    fn drop_outcomes(&mut self, broker: BrokerId, books: &mut Books) {
        for (seq, outcome) in std::mem::take(&mut self.outcomes) {
            books.digest.remove(&StateKey::Outcome(broker, seq), |out| {
                put_outcome(out, &outcome);
            });
        }
    }

    fn open(&self, broker: BrokerId, books: &mut Books) {
        books.digest.remove(&StateKey::Broker(broker), |out| self.entry.put(out));
    }

    /// Enters the changed run in the books; it was taken out when it was opened for the change.
    pub(super) fn close(&self, broker: BrokerId, books: &mut Books) {
        let BrokerEntry { status, frontier, next, epoch, .. } = self.entry;
        let kept = match status {
            BrokerStatus::Fenced => 0,
            BrokerStatus::Live | BrokerStatus::Draining => next.0.saturating_sub(frontier.0),
        };
        let is_right = self.outcomes.len() as u64 == kept
            && frontier <= next
            && epoch < books.counters.next_broker_epoch;
        promise("I-FENCE", is_right, || {
            format!("broker {broker} keeps {} outcomes: {:?}", self.outcomes.len(), self.entry)
        });
        books.digest.add(&StateKey::Broker(broker), |out| self.entry.put(out));
        books.dirty.broker(broker);
    }
}

/// All broker ids. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Brokers(pub(super) OrdMap<BrokerId, Arc<Broker>>);

/// Opens the run of an author that lives, with its frontier moved; the caller closes it.
pub(super) fn living_mut<'a>(
    brokers: &'a mut Brokers,
    author: BrokerAuthor,
    frontier: ObjectSeq,
    books: &mut Books,
) -> Option<&'a mut Broker> {
    brokers.living(author)?;
    let broker = Arc::make_mut(brokers.0.get_mut(&author.broker)?);
    broker.open(author.broker, books);
    broker.advance_frontier(author.broker, frontier, books);
    Some(broker)
}

impl Brokers {
    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = (BrokerId, &Broker)> {
        self.0.iter().map(|(id, broker)| (*id, &**broker))
    }

    /// One of them.
    pub fn get(&self, broker: BrokerId) -> Option<&Broker> {
        self.0.get(&broker).map(|broker| &**broker)
    }

    /// The run of an author, when it is not over.
    pub fn living(&self, author: BrokerAuthor) -> Option<&Broker> {
        self.get(author.broker).filter(|broker| {
            broker.entry.epoch == author.epoch && broker.entry.status != BrokerStatus::Fenced
        })
    }

    /// The runs that live.
    pub fn infos(&self) -> impl Iterator<Item = BrokerInfo> {
        self.iter()
            .filter(|(_, broker)| broker.entry.status != BrokerStatus::Fenced)
            .map(|(id, broker)| broker.info(id))
    }

    pub(super) fn load(&mut self, broker: BrokerId, entry: BrokerEntry) {
        self.0.insert(broker, Arc::new(Broker { entry, outcomes: OrdMap::new() }));
    }

    pub(super) fn broker_mut(&mut self, broker: BrokerId) -> Option<&mut Broker> {
        self.0.get_mut(&broker).map(Arc::make_mut)
    }

    pub(super) fn register(
        &mut self,
        register: &RegisterBroker,
        books: &mut Books,
        changes: &mut Changes,
    ) -> Result<BrokerEpoch, RegisterRefusal> {
        let RegisterBroker { broker: id, nonce, ref profile } = *register;
        let mut replaced = Vec::new();
        if let Some(old) = self.get(id) {
            if old.entry.nonce == nonce && old.entry.status != BrokerStatus::Fenced {
                return Ok(old.entry.epoch);
            }
            if old.entry.replaced.contains(&nonce) {
                return Err(RegisterRefusal::ReplacedByNewer);
            }
            replaced.clone_from(&old.entry.replaced);
            if old.entry.nonce != nonce {
                replaced.push(old.entry.nonce);
            }
            let surplus = replaced.len().saturating_sub(REPLACED_NONCES_MAX);
            replaced.drain(..surplus);
        }
        if let Some(old) = self.0.get_mut(&id).map(Arc::make_mut) {
            old.open(id, books);
            old.drop_outcomes(id, books);
        }
        let epoch = books.counters.next_broker_epoch;
        books.counters.next_broker_epoch = BrokerEpoch(epoch.0 + 1);
        let entry = BrokerEntry {
            epoch,
            nonce,
            profile: Arc::clone(profile),
            status: BrokerStatus::Live,
            next: ObjectSeq(0),
            frontier: ObjectSeq(0),
            replaced,
        };
        let broker = Broker { entry, outcomes: OrdMap::new() };
        broker.close(id, books);
        changes.push(Change::Broker(broker.info(id)));
        self.0.insert(id, Arc::new(broker));
        Ok(epoch)
    }

    /// Ends a run. Nothing undecided of it can be decided any more.
    pub(super) fn fence(&mut self, author: BrokerAuthor, books: &mut Books, changes: &mut Changes) {
        if let Some(broker) = living_mut(self, author, ObjectSeq(0), books) {
            broker.drop_outcomes(author.broker, books);
            broker.entry.status = BrokerStatus::Fenced;
            broker.close(author.broker, books);
            changes.push(Change::BrokerGone(author.broker));
        }
    }

    /// Forgets every id with its runs: nothing of theirs is accepted, known or decided any more.
    /// Epochs go on where they were.
    pub(super) fn forget_all(&mut self, books: &mut Books, changes: &mut Changes) {
        for (id, mut broker) in std::mem::take(&mut self.0) {
            let broker = Arc::make_mut(&mut broker);
            broker.open(id, books);
            broker.drop_outcomes(id, books);
            books.dirty.broker(id);
            if broker.entry.status != BrokerStatus::Fenced {
                changes.push(Change::BrokerGone(id));
            }
        }
    }

    /// Takes a run out of what clients see.
    pub(super) fn drain(&mut self, author: BrokerAuthor, books: &mut Books, changes: &mut Changes) {
        let drains = |broker: &Broker| broker.entry.status == BrokerStatus::Live;
        if !self.living(author).is_some_and(drains) {
            return;
        }
        if let Some(broker) = living_mut(self, author, ObjectSeq(0), books) {
            broker.entry.status = BrokerStatus::Draining;
            broker.close(author.broker, books);
            changes.push(Change::Broker(broker.info(author.broker)));
        }
    }
}
