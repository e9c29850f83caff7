//! A state with short ways to do things to it.

use ottla_format::command::*;
use ottla_model::*;

use crate::state::State;

pub(super) const CLUSTER: ClusterId = ClusterId(0xc1);

pub(super) fn partition(topic: u128, index: i32) -> PartitionId {
    PartitionId { topic: TopicId(topic), index: PartitionIndex(index) }
}

pub(super) fn producer(id: i64, epoch: i16, sequence: i32) -> Option<BatchProducer> {
    Some(BatchProducer {
        id: ProducerId(id),
        epoch: ProducerEpoch(epoch),
        base_sequence: Sequence(sequence),
    })
}

/// A batch of `records` records in 100 bytes; its position is set by [`object`].
pub(super) fn batch(
    partition: PartitionId,
    records: i32,
    producer: Option<BatchProducer>,
) -> CommitBatch {
    CommitBatch {
        partition,
        position: BytePosition(0),
        length: 100,
        last_offset_delta: records - 1,
        max_timestamp: TimestampMs(5_000),
        producer,
    }
}

/// An object whose batches follow each other without a gap.
pub(super) fn object(seq: u64, batches: Vec<CommitBatch>) -> CommitObject {
    let mut position = 64;
    let mut placed = batches;
    for batch in &mut placed {
        batch.position = BytePosition(position);
        position += u64::from(batch.length);
    }
    CommitObject { seq: ObjectSeq(seq), attempt: Attempt(0), size: position + 64, batches: placed }
}

pub(super) fn create_topic(id: u128, name: &str, partitions: i32) -> CreateTopic {
    CreateTopic {
        id: TopicId(id),
        name: TopicName::new(name).unwrap(),
        partitions,
        replication_factor: 3,
        configs: Default::default(),
    }
}

fn profile(broker: i32) -> BrokerProfile {
    let address = HostPort::new(format!("broker-{broker}"), 9092);
    BrokerProfile {
        az: Az("a".to_owned()),
        endpoints: [Endpoint { listener: "PLAINTEXT".to_owned(), address }].into(),
        ..BrokerProfile::default()
    }
}

pub(super) fn register(broker: i32, nonce: u64) -> RegisterBroker {
    RegisterBroker {
        broker: BrokerId(broker),
        nonce: ProcessNonce(nonce),
        profile: profile(broker).into(),
    }
}

/// A state that is checked after every command.
pub(super) struct Fixture {
    pub(super) state: State,
    /// The broker that [`Fixture::commit`] speaks for, and its next sequence.
    pub(super) author: BrokerAuthor,
    pub(super) seq: u64,
    pub(super) time: i64,
}

impl Fixture {
    /// Broker 1 is registered; topic 1 has two partitions.
    pub(super) fn new() -> Self {
        let author = BrokerAuthor { broker: BrokerId(1), epoch: BrokerEpoch(1) };
        let mut fixture = Self { state: State::new(CLUSTER), author, seq: 0, time: 1_000 };
        assert_eq!(
            fixture.apply(CommandBody::RegisterBroker(register(1, 11))),
            Answer::Registered(Ok(BrokerEpoch(1)))
        );
        fixture.create_topic(1, "first", 2).unwrap();
        fixture
    }

    pub(super) fn apply(&mut self, body: CommandBody) -> Answer {
        let before = self.state.clone();
        let index = AppliedIndex(self.state.applied().0 + 1);
        let command = Command { time: TimestampMs(self.time), body };
        let applied = self.state.apply(index, &command);
        self.state.check().unwrap();
        crate::state::invariants::forward(&before, &self.state).unwrap();
        before.check().unwrap();
        applied.answer
    }

    pub(super) fn create_topic(
        &mut self,
        id: u128,
        name: &str,
        partitions: i32,
    ) -> Result<(), CreateTopicRefusal> {
        match self.apply(CommandBody::CreateTopic(create_topic(id, name, partitions))) {
            Answer::TopicCreated(result) => result,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn delete_topic(&mut self, id: u128) -> bool {
        self.apply(CommandBody::DeleteTopic(TopicId(id))) == Answer::TopicDeleted(true)
    }

    /// Commits objects as they are, with a frontier.
    pub(super) fn commit_objects(
        &mut self,
        frontier: u64,
        objects: Vec<CommitObject>,
    ) -> Vec<ObjectOutcome> {
        let author = self.author;
        let frontier = ObjectSeq(frontier);
        let commit = CommitObjects { author, frontier, objects };
        match self.apply(CommandBody::CommitObjects(commit)) {
            Answer::Commits(outcomes) => outcomes,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn abandon(&mut self, frontier: u64, seq: u64) -> ObjectOutcome {
        let (frontier, seq) = (ObjectSeq(frontier), ObjectSeq(seq));
        let abandon = AbandonObject { author: self.author, frontier, seq };
        match self.apply(CommandBody::AbandonObject(abandon)) {
            Answer::Commits(outcomes) => outcomes.into_iter().next().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// The same without checking the state: for very many of them.
    pub(super) fn commit_unchecked(&mut self, batches: Vec<CommitBatch>) {
        let index = AppliedIndex(self.state.applied().0 + 1);
        let (author, seq) = (self.author, ObjectSeq(self.seq));
        let objects = vec![object(self.seq, batches)];
        self.seq += 1;
        let body = CommandBody::CommitObjects(CommitObjects { author, frontier: seq, objects });
        self.state.apply(index, &Command { time: TimestampMs(self.time), body });
    }

    /// Commits the batches as the next object and says what became of each.
    pub(super) fn commit(&mut self, batches: Vec<CommitBatch>) -> Vec<BatchOutcome> {
        let seq = self.seq;
        self.seq += 1;
        match self.commit_objects(seq, vec![object(seq, batches)]).pop() {
            Some(ObjectOutcome::Committed(outcomes)) => outcomes.to_vec(),
            other => panic!("{other:?}"),
        }
    }
}

/// Stored at this offset.
pub(super) fn appended(offset: i64) -> BatchOutcome {
    let base_offset = Offset(offset);
    BatchOutcome::Appended { base_offset, append_time: None, log_start: Offset(0) }
}

/// Stored before, at this offset.
pub(super) fn duplicate(offset: i64) -> BatchOutcome {
    let base_offset = Offset(offset);
    BatchOutcome::Duplicate { base_offset, append_time: None, log_start: Offset(0) }
}

pub(super) const UNKNOWN: BatchOutcome = BatchOutcome::Refused(BatchRefusal::UnknownPartition);
pub(super) const OUT_OF_ORDER: BatchOutcome =
    BatchOutcome::Refused(BatchRefusal::OutOfOrderSequence);
pub(super) const STALE: BatchOutcome = BatchOutcome::Refused(BatchRefusal::StaleProducerEpoch);
