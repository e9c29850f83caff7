//! The objects that the sweep may delete: a pure function of the state.
//!
//! **Condemned** objects lost their last reference by a command, at a replicated time; the caller
//! says up to which time their delay is over.
//!
//! **Orphans** are found by a listing and judged here, by name. Committed means: under exactly this
//! name, the attempt included. A WAL object that is not committed can still become so only while its
//! sequence is undecided and its run lives. Both ends are final, so the judgement is.
//!
//! A merged object that is not committed is foreign. This state gives out no merge jobs, so it cannot
//! say of any lease that it is over; what it never gave out, others may still need, and only what it
//! knows to be final may go. Its name has what a judgement will need: a job, and the nonce by which a
//! lease of this state differs from one of a lost future.
//!
//! A run is known by its epoch *and* its process start. A control plane that was restored from an
//! older copy gives the epochs after the copy once more, to other process starts; the objects of
//! the first ones may hold acknowledged records and are left alone.

use std::collections::BTreeSet;

use ottla_control_api::{Condemned, CondemnedObject, ObjectStanding, SweepMark};
use ottla_format::state::BrokerStatus;
use ottla_model::{BrokerAuthor, ObjectName, ObjectOrigin, ObjectSeq, ProcessNonce, TimestampMs};

use super::State;

impl State {
    /// Objects that are condemned since `until` or longer, oldest first and at most `max`.
    pub fn condemned(&self, until: TimestampMs, max: usize) -> Condemned {
        let condemned = self.objects.condemned();
        let due = condemned.iter().take_while(|(at, _)| *at <= until).take(max);
        let due = due.filter_map(|(_, id)| {
            let entry = self.objects.get(*id)?;
            Some(CondemnedObject { id: *id, name: entry.name, size: entry.size })
        });
        Condemned {
            due: due.collect(),
            condemned: condemned.len() as u64,
            objects: self.objects.len() as u64,
            applied: self.applied,
            mark: self.sweep_mark(),
        }
    }

    fn sweep_mark(&self) -> SweepMark {
        let entries = || self.brokers.iter().map(|(_, broker)| broker.entry());
        SweepMark {
            epochs: self.books.counters.next_broker_epoch.0,
            fenced: entries().filter(|entry| entry.status == BrokerStatus::Fenced).count() as u64,
            decided: entries().map(|entry| entry.next.0).fold(0, u64::wrapping_add),
        }
    }

    /// How objects stand, in the order of their names. Costs one walk over all objects, whatever
    /// the number of names.
    pub fn standings(&self, names: &[ObjectName]) -> Vec<ObjectStanding> {
        let asked: BTreeSet<&ObjectName> = names.iter().collect();
        let objects = self.objects.iter().map(|(_, entry)| &entry.name);
        let committed: BTreeSet<&ObjectName> =
            objects.filter(|name| asked.contains(name)).collect();
        let standing = |name| {
            if committed.contains(name) {
                ObjectStanding::Committed
            } else {
                self.standing_of_uncommitted(name)
            }
        };
        names.iter().map(standing).collect()
    }

    fn standing_of_uncommitted(&self, name: &ObjectName) -> ObjectStanding {
        match name.origin {
            ObjectOrigin::Wal { author, nonce, seq } => self.standing_in_run(author, nonce, seq),
            ObjectOrigin::Merged { .. } => ObjectStanding::Foreign,
        }
    }

    fn standing_in_run(
        &self,
        author: BrokerAuthor,
        nonce: ProcessNonce,
        seq: ObjectSeq,
    ) -> ObjectStanding {
        let Some(run) = self.brokers.get(author.broker).map(|broker| broker.entry()) else {
            return ObjectStanding::Foreign;
        };
        if author.epoch == run.epoch && nonce == run.nonce {
            let over = run.status == BrokerStatus::Fenced;
            return if over || seq < run.next {
                ObjectStanding::Orphan
            } else {
                ObjectStanding::Undecided
            };
        }
        let earlier = nonce == run.nonce || run.replaced.contains(&nonce);
        if author.epoch < run.epoch && earlier {
            ObjectStanding::Orphan
        } else {
            ObjectStanding::Foreign
        }
    }
}
