//! Commit and abandon: how objects become part of their partitions, each exactly once and in the
//! seal order of its writer.
//!
//! A broker run's objects are decided in sequence: number `next` is the only one that can be. A
//! lower one has its outcome kept and is answered with it, whatever is asked and whatever attempt
//! it names; below the frontier it is refused; a higher one is told to wait. So commands may be
//! repeated, reordered, delayed and answered twice without effect, and after an abandon no commit
//! of the object can ever succeed.

use std::sync::Arc;

use ottla_control_api::view::{Extent, ObjectRef};
use ottla_format::command::{
    AbandonObject, BatchOutcome, BatchRefusal, CommitBatch, CommitObject, CommitObjects,
    ObjectOutcome,
};
use ottla_format::state::{ObjectEntry, ObjectStatus};
use ottla_model::{BrokerAuthor, ObjectId, ObjectName, ProcessNonce};

use super::State;
use super::books::Books;
use super::brokers::{Place, living_mut};
use super::changes::Changes;
use super::objects::Objects;
use super::partition::Run;
use super::reads::shown_extent;
use super::topics::Topics;

impl State {
    pub(super) fn commit_objects(
        &mut self,
        commit: &CommitObjects,
        changes: &mut Changes,
    ) -> Vec<ObjectOutcome> {
        let Self { books, topics, objects, brokers, .. } = self;
        let Some(broker) = living_mut(brokers, commit.author, commit.frontier, books) else {
            return vec![ObjectOutcome::Fenced; commit.objects.len()];
        };
        let nonce = broker.entry().nonce;
        let mut decisions = Decisions { author: commit.author, nonce, topics, objects, changes };
        let outcomes = commit.objects.iter().map(|object| match broker.place(object.seq) {
            Place::Known(outcome) => outcome,
            Place::Next => {
                let outcome = decisions.commit(object, books);
                broker.decided(commit.author.broker, object.seq, outcome.clone(), books);
                outcome
            }
        });
        let outcomes = outcomes.collect();
        broker.close(commit.author.broker, books);
        outcomes
    }

    pub(super) fn abandon_object(&mut self, abandon: &AbandonObject) -> ObjectOutcome {
        let Self { books, brokers, .. } = self;
        let AbandonObject { author, frontier, seq } = *abandon;
        let Some(broker) = living_mut(brokers, author, frontier, books) else {
            return ObjectOutcome::Fenced;
        };
        let outcome = match broker.place(seq) {
            Place::Known(outcome) => outcome,
            Place::Next => {
                broker.decided(author.broker, seq, ObjectOutcome::Abandoned, books);
                ObjectOutcome::Abandoned
            }
        };
        broker.close(author.broker, books);
        outcome
    }
}

/// What deciding an object works on.
struct Decisions<'a> {
    author: BrokerAuthor,
    nonce: ProcessNonce,
    topics: &'a mut Topics,
    objects: &'a mut Objects,
    changes: &'a mut Changes,
}

impl Decisions<'_> {
    fn commit(&mut self, object: &CommitObject, books: &mut Books) -> ObjectOutcome {
        let id = books.counters.next_object;
        books.counters.next_object = ObjectId(id.0 + 1);
        let CommitObject { seq, attempt, size, ref batches } = *object;
        let name = ObjectName::wal(self.author, self.nonce, seq, attempt);
        let shown = Arc::new(ObjectRef { id, name, size });

        let mut outcomes = Vec::with_capacity(batches.len());
        let mut entry =
            ObjectEntry { name, size, live_bytes: 0, references: 0, status: ObjectStatus::Live };
        for batches in batches.chunk_by(|a, b| a.partition.topic == b.partition.topic) {
            self.append_to_topic(batches, &shown, &mut entry, books, &mut outcomes);
        }
        if entry.references == 0 {
            entry.status = ObjectStatus::Condemned { at: books.counters.time };
        }
        self.objects.insert(id, entry, books);
        ObjectOutcome::Committed(Arc::from(outcomes))
    }

    /// Appends batches of one topic, counting what points into the object.
    fn append_to_topic(
        &mut self,
        batches: &[CommitBatch],
        object: &Arc<ObjectRef>,
        entry: &mut ObjectEntry,
        books: &mut Books,
        outcomes: &mut Vec<BatchOutcome>,
    ) {
        const UNKNOWN: BatchOutcome = BatchOutcome::Refused(BatchRefusal::UnknownPartition);
        let mut topic = batches.first().and_then(|b| self.topics.topic_mut(b.partition.topic));
        for batches in batches.chunk_by(|a, b| a.partition.index == b.partition.index) {
            let Some(first) = batches.first() else { continue };
            let id = first.partition;
            let Some((topic, partition)) = topic.as_mut().and_then(|t| t.partition_mut(id.index))
            else {
                outcomes.extend(batches.iter().map(|_| UNKNOWN));
                continue;
            };
            let run =
                Run { partition: id, object: object.id, log_append: topic.log_append, batches };
            let next_before = partition.next_offset;
            partition.append(run, books, outcomes);
            topic.expiry.watch(id, partition);

            let added: Vec<Arc<Extent>> = partition
                .extents
                .from_offset(next_before)
                .filter_map(|extent| {
                    entry.references += 1;
                    entry.live_bytes += extent.length();
                    shown_extent(extent, |_| Some(Arc::clone(object))).map(Arc::new)
                })
                .collect();
            if !added.is_empty() {
                self.changes.partition(id, partition.bounds(), added);
            }
        }
    }
}
