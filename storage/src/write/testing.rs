//! What tests of the write path share: batches, and a control plane that loses answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ottla_control_api::{
    Answering, CallError, ControlPlane, CreateTopicRequest, ExtentPage, FindExtents, GroupState,
    OpError, PartitionBounds, Registration, TimestampQuery, view::WatchEvent,
};
use ottla_env::Random;
use ottla_format::command::{
    AbandonObject, AllocateProducerIds, BatchOutcome, BatchRefusal, CommitBatch, CommitObject,
    CommitObjects, CommitOffsets, CreatePartitions, CreatePartitionsRefusal, CreateTopicRefusal,
    Fenced, ObjectOutcome, PutGroup, RegisterBroker, RegisterRefusal,
};
use ottla_model::{
    Attempt, BatchProducer, BrokerAuthor, BrokerEpoch, BrokerId, GroupId, ObjectSeq, Offset,
    PartitionId, PartitionIndex, ProducerEpoch, ProducerId, Sequence, TopicId,
};
use ottla_wire::limits::RECORD_BYTES_MIN;
use ottla_wire::verify::{ReceivedBatch, RecordRules, VerifiedBatch};
use tokio::sync::mpsc;

use super::{AppendBatch, AppendOutcome};

pub(crate) const AUTHOR: BrokerAuthor = BrokerAuthor { broker: BrokerId(1), epoch: BrokerEpoch(5) };

pub(crate) fn partition(index: i32) -> PartitionId {
    PartitionId { topic: TopicId(77), index: PartitionIndex(index) }
}

/// A producer's batch, identified by producer id and base sequence.
pub(crate) fn producer(id: i64, sequence: i32) -> BatchProducer {
    BatchProducer { id: ProducerId(id), epoch: ProducerEpoch(0), base_sequence: Sequence(sequence) }
}

/// The bytes of a batch with `body` bytes of records, whose header says `records`.
pub(crate) fn batch_bytes(producer: Option<BatchProducer>, records: i32, body: usize) -> Bytes {
    let (id, epoch, sequence) =
        producer.map_or((-1, -1, -1), |p| (p.id.0, p.epoch.0, p.base_sequence.0));
    let mut covered = Vec::new();
    covered.extend_from_slice(&0i16.to_be_bytes());
    covered.extend_from_slice(&(records - 1).to_be_bytes());
    covered.extend_from_slice(&1_000i64.to_be_bytes());
    covered.extend_from_slice(&1_000i64.to_be_bytes());
    covered.extend_from_slice(&id.to_be_bytes());
    covered.extend_from_slice(&epoch.to_be_bytes());
    covered.extend_from_slice(&sequence.to_be_bytes());
    covered.extend_from_slice(&records.to_be_bytes());
    covered.resize(covered.len() + body, 7);
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&0i64.to_be_bytes());
    bytes.extend_from_slice(&(covered.len() as i32 + 9).to_be_bytes());
    bytes.extend_from_slice(&(-1i32).to_be_bytes());
    bytes.push(2);
    bytes.extend_from_slice(&crc32c::crc32c(&covered).to_be_bytes());
    bytes.extend_from_slice(&covered);
    bytes.into()
}

pub(crate) fn append_batch(
    partition: PartitionId,
    producer: Option<BatchProducer>,
    body: usize,
) -> AppendBatch {
    let bytes = batch_bytes(producer, 1, body.max(RECORD_BYTES_MIN));
    AppendBatch { partition, batch: unopened(bytes), linger: None }
}

/// A batch whose bytes after the header are no records.
pub(crate) fn unopened(bytes: Bytes) -> VerifiedBatch {
    let received = ReceivedBatch::read(bytes).expect("built as the format says");
    received.unopened(&RecordRules::NONE).expect("nothing is asked of it")
}

/// A model of the control plane's part: commits and abandons in sequence per epoch, outcomes kept,
/// producers' sequences checked. Small on purpose; the real one is tested where it lives.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub fenced: bool,
    next: u64,
    frontier: u64,
    outcomes: BTreeMap<u64, ObjectOutcome>,
    /// The attempt of each committed object.
    pub attempts: BTreeMap<u64, Attempt>,
    /// What each partition holds, in offset order.
    pub logs: BTreeMap<PartitionId, Vec<Option<BatchProducer>>>,
    producers: BTreeMap<(PartitionId, ProducerId, ProducerEpoch), Vec<(Sequence, Offset)>>,
    pub abandoned: Vec<ObjectSeq>,
}

impl Model {
    pub(crate) fn commit(&mut self, object: &CommitObject, frontier: ObjectSeq) -> ObjectOutcome {
        let seq = object.seq.0;
        if let Some(answer) = self.answer_without_change(seq, frontier) {
            return answer;
        }
        let outcomes = object.batches.iter().map(|batch| self.append(batch)).collect();
        self.attempts.insert(seq, object.attempt);
        self.decide(seq, ObjectOutcome::Committed(outcomes))
    }

    pub(crate) fn abandon(&mut self, seq: ObjectSeq, frontier: ObjectSeq) -> ObjectOutcome {
        if let Some(answer) = self.answer_without_change(seq.0, frontier) {
            return answer;
        }
        self.abandoned.push(seq);
        self.decide(seq.0, ObjectOutcome::Abandoned)
    }

    fn answer_without_change(&mut self, seq: u64, frontier: ObjectSeq) -> Option<ObjectOutcome> {
        if self.fenced {
            return Some(ObjectOutcome::Fenced);
        }
        self.frontier = self.frontier.max(frontier.0);
        self.outcomes = self.outcomes.split_off(&self.frontier);
        if seq < self.frontier {
            return Some(ObjectOutcome::BelowFrontier);
        }
        if let Some(known) = self.outcomes.get(&seq) {
            return Some(known.clone());
        }
        let next = ObjectSeq(self.next);
        (seq != self.next).then_some(ObjectOutcome::NotYet { next })
    }

    fn decide(&mut self, seq: u64, outcome: ObjectOutcome) -> ObjectOutcome {
        self.next = seq + 1;
        self.outcomes.insert(seq, outcome.clone());
        outcome
    }

    fn append(&mut self, batch: &CommitBatch) -> BatchOutcome {
        let log = self.logs.entry(batch.partition).or_default();
        let base_offset = Offset(log.len() as i64);
        let log_start = Offset::ZERO;
        if let Some(BatchProducer { id, epoch, base_sequence }) = batch.producer {
            let seen = self.producers.entry((batch.partition, id, epoch)).or_default();
            if let Some((_, base_offset)) = seen.iter().find(|(s, _)| *s == base_sequence) {
                let base_offset = *base_offset;
                return BatchOutcome::Duplicate { base_offset, append_time: None, log_start };
            }
            if seen.last().is_some_and(|(last, _)| !last.is_followed_by(base_sequence)) {
                return BatchOutcome::Refused(BatchRefusal::OutOfOrderSequence);
            }
            seen.push((base_sequence, base_offset));
        }
        log.push(batch.producer);
        BatchOutcome::Appended { base_offset, append_time: None, log_start }
    }

    /// Whether an answer "stored" is true.
    pub(crate) fn holds(
        &self,
        partition: PartitionId,
        producer: Option<BatchProducer>,
        outcome: AppendOutcome,
    ) -> bool {
        let AppendOutcome::Stored { base_offset, .. } = outcome else { return false };
        let log = self.logs.get(&partition);
        log.and_then(|log| log.get(base_offset.0 as usize)) == Some(&producer)
    }
}

/// How often calls go wrong, 0.0 to 1.0.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CallFaults {
    /// The call has no effect and says so.
    pub unavailable: f64,
    /// The call has no effect, and no answer comes.
    pub lost: f64,
    /// The call has its effect, and no answer comes.
    pub answer_lost: f64,
    /// The call takes effect, and is answered, up to this much later: calls overtake each other.
    pub delay: Duration,
}

/// A control plane that does what the model does, some of the time.
pub(crate) struct FakeControl {
    pub model: Arc<Mutex<Model>>,
    faults: Mutex<CallFaults>,
    random: Random,
    /// Everything that was handed over, in order.
    pub handed_over: Mutex<Vec<HandedOver>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum HandedOver {
    Commit(Vec<CommitObject>),
    Abandon(ObjectSeq),
}

impl FakeControl {
    pub(crate) fn new(random: Random) -> Arc<Self> {
        Arc::new(Self {
            model: Arc::default(),
            faults: Mutex::default(),
            random,
            handed_over: Mutex::default(),
        })
    }

    pub(crate) fn set_faults(&self, faults: CallFaults) {
        *lock(&self.faults) = faults;
    }

    pub(crate) fn model(&self) -> MutexGuard<'_, Model> {
        lock(&self.model)
    }

    pub(crate) fn handed_over(&self) -> Vec<HandedOver> {
        lock(&self.handed_over).clone()
    }

    fn call<T: Send + 'static>(
        &self,
        apply: impl FnOnce(&mut Model) -> T + Send + 'static,
    ) -> Answering<T> {
        let faults = *lock(&self.faults);
        let [before, after] = [0, 1]
            .map(|_| Duration::from_micros(self.random.below(faults.delay.as_micros() as u64 + 1)));
        let (unavailable, lost, answer_lost) = (
            self.random.chance(faults.unavailable),
            self.random.chance(faults.lost),
            self.random.chance(faults.answer_lost),
        );
        let model = self.model.clone();
        // Takes effect whether or not somebody waits for the answer, as a real call does.
        let effect = tokio::spawn(async move {
            ottla_env::delay(before).await;
            if unavailable || lost {
                return None;
            }
            Some(apply(&mut lock(&model)))
        });
        Box::pin(async move {
            let answer = effect.await.expect("the model does not panic");
            ottla_env::delay(after).await;
            match answer {
                Some(answer) if !answer_lost => Ok(answer),
                None if unavailable => Err(CallError::Unavailable("no leader".to_owned())),
                _ => Err(CallError::OutcomeUnknown("lost".to_owned())),
            }
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl ControlPlane for FakeControl {
    fn commit_objects(&self, request: CommitObjects) -> Answering<Vec<ObjectOutcome>> {
        assert_eq!(request.author, AUTHOR);
        lock(&self.handed_over).push(HandedOver::Commit(request.objects.clone()));
        self.call(move |model| {
            let CommitObjects { frontier, objects, .. } = request;
            objects.iter().map(|object| model.commit(object, frontier)).collect()
        })
    }

    fn abandon_object(&self, request: AbandonObject) -> Answering<ObjectOutcome> {
        assert_eq!(request.author, AUTHOR);
        lock(&self.handed_over).push(HandedOver::Abandon(request.seq));
        self.call(move |model| model.abandon(request.seq, request.frontier))
    }

    async fn register_broker(
        &self,
        _: RegisterBroker,
    ) -> Result<Registration, OpError<RegisterRefusal>> {
        unreachable!("the write path does not register")
    }

    async fn renew_session(&self, _: BrokerAuthor) -> Result<(), OpError<Fenced>> {
        unreachable!("the write path has no session")
    }

    async fn drain_broker(&self, _: BrokerAuthor) -> Result<(), CallError> {
        unreachable!("the write path has no session")
    }

    async fn leave(&self, _: BrokerAuthor) -> Result<(), CallError> {
        unreachable!("the write path has no session")
    }

    async fn create_topic(
        &self,
        _: CreateTopicRequest,
    ) -> Result<TopicId, OpError<CreateTopicRefusal>> {
        unreachable!("the write path makes no topics")
    }

    async fn delete_topic(&self, _: TopicId) -> Result<bool, CallError> {
        unreachable!("the write path makes no topics")
    }

    async fn create_partitions(
        &self,
        _: CreatePartitions,
    ) -> Result<(), OpError<CreatePartitionsRefusal>> {
        unreachable!("the write path makes no topics")
    }

    async fn allocate_producer_ids(
        &self,
        _: AllocateProducerIds,
    ) -> Result<ProducerId, OpError<Fenced>> {
        unreachable!("the write path takes no producer ids")
    }

    async fn commit_offsets(&self, _: CommitOffsets) -> Result<Vec<PartitionId>, OpError<Fenced>> {
        unreachable!("the write path knows no groups")
    }

    async fn put_group(&self, _: PutGroup) -> Result<(), OpError<Fenced>> {
        unreachable!("the write path knows no groups")
    }

    async fn group(&self, _: &GroupId) -> Result<Option<GroupState>, CallError> {
        unreachable!("the write path knows no groups")
    }

    async fn groups_with_members(
        &self,
        _: Option<GroupId>,
        _: usize,
    ) -> Result<Vec<GroupId>, CallError> {
        unreachable!("the write path knows no groups")
    }

    async fn find_extents(&self, _: FindExtents) -> Result<ExtentPage, CallError> {
        unreachable!("the write path does not read")
    }

    async fn find_timestamp(
        &self,
        _: PartitionId,
        _: TimestampQuery,
    ) -> Result<ExtentPage, CallError> {
        unreachable!("the write path does not read")
    }

    async fn partition_bounds(&self, _: PartitionId) -> Result<Option<PartitionBounds>, CallError> {
        unreachable!("the write path does not read")
    }

    fn watch(&self) -> mpsc::Receiver<WatchEvent> {
        unreachable!("the write path does not watch")
    }
}
