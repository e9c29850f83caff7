//! A failed batch takes its successors with it.
//!
//! An idempotent producer has several batches on the way. When one is abandoned while later ones
//! are not, the state machine usually refuses the later ones, because their sequences do not
//! follow. But a producer it does not know may start at any sequence: it would accept the later
//! one, and then refuse the retry of the first. librdkafka, besides, takes the success of a later
//! sequence as proof that the earlier one was stored. So every later batch of the same (topic id,
//! partition, producer id, producer epoch) on this broker is answered "not stored" as well, until
//! the client sends the first failed sequence again. I-ORDER rests on this.
//!
//! **What came before it** is let in all the time, and does not end the failure. A client that was
//! told "undecided" of a batch that *is* stored sends that one again first, and sends nothing else
//! until it is acknowledged: turned away, it would wait for ever.
//!
//! **Walk in order.** The table is consulted once per batch, in seal order and, within a buffer, in
//! arrival order: first for what was buffered when the failure was decided, then for each batch
//! that arrives. A batch that arrived *before* the decision can already be the client's second try
//! (its first was answered "undecided"): it ends the failure like one that comes later, and what
//! follows it is kept.
//!
//! **Beyond an epoch.** A fence fails whatever a writer holds, and the writer of the next broker
//! epoch would meet the successors. So the writers of a process share one table; a writer that ends
//! notes in it, in order, everything it could not say "stored" of, and everything it turns away.
//!
//! **Forgetting.** The client may take its retry to another broker; this one would then wait for a
//! sequence that never comes. After [`FAILED_PRODUCERS_KEPT`], longer than any client keeps a
//! batch, nothing from before the failure can arrive any more, and the state machine's own check
//! is enough. The table is bounded; the oldest entry goes first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ottla_model::{BatchProducer, PartitionId, ProducerEpoch, ProducerId, Sequence};
use tokio::time::Instant;

use crate::limits::{FAILED_PRODUCERS_KEPT, FAILED_PRODUCERS_MAX};

/// A producer on a partition: what batches of one order belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stream {
    partition: PartitionId,
    producer: ProducerId,
    epoch: ProducerEpoch,
}

/// The table that the writers of a process share. Locked after the intake, never before it.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedFailed(Arc<Mutex<FailedProducers>>);

impl SharedFailed {
    pub(crate) fn lock(&self) -> MutexGuard<'_, FailedProducers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first failed sequence of each producer that has one.
#[derive(Debug, Default)]
pub(crate) struct FailedProducers {
    first: BTreeMap<Stream, (Sequence, Instant)>,
    /// Oldest first. An entry counts only while the map has its time: others were replaced.
    ages: VecDeque<(Instant, Stream)>,
}

impl FailedProducers {
    /// Notes batches that failed together, in seal and arrival order: the first of each producer
    /// counts, unless an earlier sequence is noted already. (After a fence, answers that were on
    /// their way come in any order.)
    pub(crate) fn record(
        &mut self,
        batches: impl Iterator<Item = (PartitionId, BatchProducer)>,
        now: Instant,
    ) {
        let mut object = BTreeMap::new();
        for (partition, producer) in batches {
            let stream = Stream { partition, producer: producer.id, epoch: producer.epoch };
            object.entry(stream).or_insert(producer.base_sequence);
        }
        for (stream, sequence) in object {
            if self.first.get(&stream).is_some_and(|(noted, _)| noted.precedes(sequence)) {
                continue;
            }
            self.first.insert(stream, (sequence, now));
            self.ages.push_back((now, stream));
        }
        while self.ages.len() > FAILED_PRODUCERS_MAX {
            self.forget_oldest();
        }
    }

    /// Notes a batch that was turned away. It comes after all that is noted already.
    pub(crate) fn turned_away(
        &mut self,
        partition: PartitionId,
        producer: Option<BatchProducer>,
        now: Instant,
    ) {
        let Some(BatchProducer { id, epoch, base_sequence }) = producer else { return };
        let stream = Stream { partition, producer: id, epoch };
        if !self.first.contains_key(&stream) {
            self.record([(partition, BatchProducer { id, epoch, base_sequence })].into_iter(), now);
        }
    }

    /// Whether a batch may be stored. A batch that begins with its producer's first failed
    /// sequence may, and ends the failure; one from before it may, too.
    pub(crate) fn admit(
        &mut self,
        partition: PartitionId,
        producer: Option<BatchProducer>,
        now: Instant,
    ) -> bool {
        if self.ages.is_empty() {
            return true;
        }
        while self.ages.front().is_some_and(|(since, _)| *since + FAILED_PRODUCERS_KEPT <= now) {
            self.forget_oldest();
        }
        let Some(producer) = producer else { return true };
        let stream = Stream { partition, producer: producer.id, epoch: producer.epoch };
        match self.first.get(&stream) {
            None => true,
            Some((first, _)) if *first == producer.base_sequence => {
                self.first.remove(&stream);
                true
            }
            Some((first, _)) => producer.base_sequence.precedes(*first),
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((since, stream)) = self.ages.pop_front()
            && self.first.get(&stream).is_some_and(|(_, noted)| *noted == since)
        {
            self.first.remove(&stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use ottla_model::{PartitionIndex, TopicId};

    use super::*;

    fn partition(index: i32) -> PartitionId {
        PartitionId { topic: TopicId(1), index: PartitionIndex(index) }
    }

    fn producer(id: i64, epoch: i16, sequence: i32) -> BatchProducer {
        BatchProducer {
            id: ProducerId(id),
            epoch: ProducerEpoch(epoch),
            base_sequence: Sequence(sequence),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn successors_fail_until_the_first_failed_sequence_comes_again() {
        let (mut failed, now) = (FailedProducers::default(), Instant::now());
        let p = partition(0);
        failed.record([(p, producer(7, 0, 10)), (p, producer(7, 0, 15))].into_iter(), now);
        assert!(!failed.admit(p, Some(producer(7, 0, 15)), now));
        assert!(!failed.admit(p, Some(producer(7, 0, 20)), now));
        assert!(failed.admit(p, Some(producer(7, 0, 10)), now));
        assert!(failed.admit(p, Some(producer(7, 0, 15)), now));
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_before_the_failure_is_let_in_and_does_not_end_it() {
        let (mut failed, now) = (FailedProducers::default(), Instant::now());
        let p = partition(0);
        failed.record([(p, producer(7, 0, 10))].into_iter(), now);
        assert!(failed.admit(p, Some(producer(7, 0, 5)), now), "stored, and not known to be");
        assert!(!failed.admit(p, Some(producer(7, 0, 15)), now));
        failed.record([(p, producer(8, 0, 2))].into_iter(), now);
        assert!(failed.admit(p, Some(producer(8, 0, i32::MAX)), now), "the sequence wrapped");
    }

    #[tokio::test(start_paused = true)]
    async fn others_are_not_concerned() {
        let (mut failed, now) = (FailedProducers::default(), Instant::now());
        failed.record([(partition(0), producer(7, 0, 10))].into_iter(), now);
        assert!(failed.admit(partition(0), None, now), "plain producers have no order to keep");
        assert!(failed.admit(partition(1), Some(producer(7, 0, 15)), now));
        assert!(failed.admit(partition(0), Some(producer(8, 0, 15)), now));
        assert!(failed.admit(partition(0), Some(producer(7, 1, 15)), now), "a newer epoch");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_turned_away_counts_after_what_failed_before() {
        let (mut failed, now) = (FailedProducers::default(), Instant::now());
        let p = partition(0);
        failed.turned_away(p, Some(producer(7, 0, 12)), now);
        failed.turned_away(p, Some(producer(7, 0, 13)), now);
        assert!(!failed.admit(p, Some(producer(7, 0, 13)), now));
        failed.record([(p, producer(7, 0, 10))].into_iter(), now);
        failed.turned_away(p, Some(producer(7, 0, 11)), now);
        assert!(!failed.admit(p, Some(producer(7, 0, 12)), now));
        assert!(failed.admit(p, Some(producer(7, 0, 10)), now));
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_failure_does_not_hide_an_earlier_one() {
        let (mut failed, now) = (FailedProducers::default(), Instant::now());
        let p = partition(0);
        failed.record([(p, producer(7, 0, 10))].into_iter(), now);
        failed.record([(p, producer(7, 0, 14))].into_iter(), now);
        assert!(!failed.admit(p, Some(producer(7, 0, 13)), now));
        assert!(!failed.admit(p, Some(producer(7, 0, 14)), now));
        assert!(failed.admit(p, Some(producer(7, 0, 10)), now));
        assert!(failed.admit(p, Some(producer(7, 0, 13)), now));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_forgotten_when_no_old_batch_can_arrive_any_more() {
        let (mut failed, now) = (FailedProducers::default(), Instant::now());
        let p = partition(0);
        failed.record([(p, producer(7, 0, 10))].into_iter(), now);
        let later = now + FAILED_PRODUCERS_KEPT;
        failed.record([(p, producer(8, 0, 1))].into_iter(), later);
        assert!(failed.admit(p, Some(producer(7, 0, 99)), later));
        assert!(!failed.admit(p, Some(producer(8, 0, 99)), later));
        assert_eq!((failed.first.len(), failed.ages.len()), (1, 1));
    }
}
