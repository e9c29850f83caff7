//! Random commands against the naive model; every promise is checked after every command.

use ottla_control_api::FindExtents;
use ottla_format::command::*;
use ottla_format::feature_level::FeatureLevel;
use ottla_format::limits::GROUP_ID_BYTES_MAX;
use ottla_format::state::ObjectStatus;
use ottla_model::*;
use proptest::prelude::*;

use super::fixture::*;
use super::model::Model;
use crate::state::semantics::PRODUCER_EXPIRY_MS;
use crate::state::{State, invariants};

/// A command to be, in terms of the state it will meet. A topic's number stands for the id of its
/// present incarnation.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Register { broker: i32, nonce: u64 },
    Fence { broker: i32, stale: bool },
    Drain { broker: i32 },
    Commit { broker: i32, stale: bool, skew: i64, frontier: i64, objects: Vec<Vec<Batch>> },
    Abandon { broker: i32, skew: i64, frontier: i64 },
    Create { topic: u128, again: bool, name: usize, partitions: i32, log_append: bool },
    Delete { topic: u128 },
    Grow { topic: u128, total: i32 },
    Allocate { broker: i32, stale: bool, count: u32 },
    Offsets { broker: i32, stale: bool, group: usize, offsets: Vec<(u128, i32, i64)> },
    Group { broker: i32, group: usize, members: usize },
    Pass { ms: i64 },
    StepTime { by: i64, is_accepted: bool },
    Forget { objects: Vec<u64> },
    AcceptLoss,
    ExpireGroups { ago: i64 },
    ExpireProducers { ago: i64 },
    Raise { to: u16 },
    Reload,
}

#[derive(Clone, Debug)]
pub(super) struct Batch {
    topic: u128,
    index: i32,
    records: i32,
    /// Bytes left out before it.
    gap: u64,
    producer: Option<(i64, i16, i32)>,
}

fn a_batch() -> impl Strategy<Value = Batch> {
    // Few producers, epochs and sequences: what fits, repeats and clashes is all frequent.
    let sequence = prop_oneof![8 => 0i32..6, 1 => Just(i32::MAX - 1), 1 => Just(i32::MAX)];
    let producer = (0i64..2, 0i16..3, sequence);
    let gap = prop_oneof![4 => Just(0u64), 1 => Just(100u64)];
    (1u128..4, 0i32..3, 1i32..4, gap, proptest::option::weighted(0.8, producer)).prop_map(
        |(topic, index, records, gap, producer)| Batch { topic, index, records, gap, producer },
    )
}

fn an_object() -> impl Strategy<Value = Vec<Batch>> {
    proptest::collection::vec(a_batch(), 0..6).prop_map(|mut batches| {
        // As brokers lay them out: by partition. (Sorting is stable: a producer's order stays.)
        batches.sort_by_key(|batch| (batch.topic, batch.index));
        batches
    })
}

pub(super) fn an_op() -> impl Strategy<Value = Op> {
    let broker = || 1i32..3;
    let stale = || proptest::bool::weighted(0.1);
    let skew = || prop_oneof![6 => Just(0i64), 1 => -3i64..3];
    let frontier = || prop_oneof![3 => Just(0i64), 1 => -4i64..2];
    let objects = proptest::collection::vec(an_object(), 1..4);
    let offsets = proptest::collection::vec((1u128..4, 0i32..3, 0i64..50), 0..4);
    let ms = prop_oneof![3 => -5i64..1_000, 1 => Just(PRODUCER_EXPIRY_MS / 2)];
    prop_oneof![
        2 => (broker(), 1u64..5).prop_map(|(broker, nonce)| Op::Register { broker, nonce }),
        1 => (broker(), stale()).prop_map(|(broker, stale)| Op::Fence { broker, stale }),
        1 => broker().prop_map(|broker| Op::Drain { broker }),
        20 => (broker(), stale(), skew(), frontier(), objects).prop_map(
            |(broker, stale, skew, frontier, objects)| {
                Op::Commit { broker, stale, skew, frontier, objects }
            }
        ),
        3 => (broker(), skew(), frontier())
            .prop_map(|(broker, skew, frontier)| Op::Abandon { broker, skew, frontier }),
        4 => (1u128..4, stale(), 0usize..4, 1i32..3, any::<bool>()).prop_map(
            |(topic, again, name, partitions, log_append)| {
                Op::Create { topic, again, name, partitions, log_append }
            }
        ),
        1 => (1u128..4).prop_map(|topic| Op::Delete { topic }),
        1 => (1u128..4, 1i32..4).prop_map(|(topic, total)| Op::Grow { topic, total }),
        1 => (broker(), stale(), 1u32..9)
            .prop_map(|(broker, stale, count)| Op::Allocate { broker, stale, count }),
        3 => (broker(), stale(), 0usize..4, offsets).prop_map(
            |(broker, stale, group, offsets)| Op::Offsets { broker, stale, group, offsets }
        ),
        2 => (broker(), 0usize..4, 0usize..2)
            .prop_map(|(broker, group, members)| Op::Group { broker, group, members }),
        3 => ms.prop_map(|ms| Op::Pass { ms }),
        1 => (-2_000_000_000i64..2_000_000_000, any::<bool>())
            .prop_map(|(by, is_accepted)| Op::StepTime { by, is_accepted }),
        1 => proptest::collection::vec(0u64..12, 0..5)
            .prop_map(|objects| Op::Forget { objects }),
        1 => Just(Op::AcceptLoss),
        2 => (0i64..2_000).prop_map(|ago| Op::ExpireGroups { ago }),
        1 => (0i64..2_000).prop_map(|ago| Op::ExpireProducers { ago }),
        1 => (0u16..4).prop_map(|to| Op::Raise { to }),
        1 => Just(Op::Reload),
    ]
}

const NAMES: [&str; 4] = ["a.b", "a_b", "c", "d"];

/// The last one has an id that is not kept.
fn group_id(number: usize) -> GroupId {
    let too_long = "g".repeat(GROUP_ID_BYTES_MAX + 1);
    GroupId::from(["", "g", "h", &too_long][number])
}

/// State, model, and what was applied.
pub(super) struct World {
    state: State,
    model: Model,
    time: i64,
    pub(super) log: Vec<Command>,
}

impl World {
    /// Two brokers and a topic.
    pub(super) fn new() -> Self {
        let state = State::new(CLUSTER);
        let mut world = Self { state, model: Model::default(), time: 1_000, log: Vec::new() };
        world.step(&Op::Raise { to: 1 });
        for broker in [1, 2] {
            world.step(&Op::Register { broker, nonce: 1 });
        }
        let (again, log_append) = (false, false);
        world.step(&Op::Create { topic: 1, again, name: 3, partitions: 2, log_append });
        world
    }

    fn author(&self, broker: i32, stale: bool) -> BrokerAuthor {
        let newest = self.model.newest(BrokerId(broker)).map_or(0, |(epoch, _)| epoch.0);
        let epoch = BrokerEpoch(newest.saturating_sub(u64::from(stale)));
        BrokerAuthor { broker: BrokerId(broker), epoch }
    }

    /// The next sequence of a broker's newest run, moved by `skew`.
    fn seq(&self, broker: i32, skew: i64) -> u64 {
        let newest = self.model.newest(BrokerId(broker));
        newest.map_or(0, |(_, run)| run.decided.len() as u64).saturating_add_signed(skew)
    }

    /// The id of a topic's present incarnation.
    fn id(&self, topic: u128) -> u128 {
        let mut incarnations = (topic..).step_by(100);
        incarnations.find(|id| !self.model.deleted.contains(id)).unwrap()
    }

    fn built(&self, seq: u64, batches: &[Batch]) -> CommitObject {
        let mut position = 64;
        let batches = batches.iter().map(|b| {
            position += b.gap;
            let producer = b.producer.and_then(|(id, epoch, seq)| producer(id, epoch, seq));
            let mut batch = batch(partition(self.id(b.topic), b.index), b.records, producer);
            batch.position = BytePosition(position);
            position += u64::from(batch.length);
            batch
        });
        let batches = batches.collect();
        CommitObject { seq: ObjectSeq(seq), attempt: Attempt(0), size: position, batches }
    }

    #[expect(clippy::too_many_lines, reason = "one arm per command")]
    fn body(&mut self, op: &Op) -> CommandBody {
        match op {
            Op::Register { broker, nonce } => {
                CommandBody::RegisterBroker(register(*broker, *nonce))
            }
            Op::Fence { broker, stale } => CommandBody::FenceBroker(self.author(*broker, *stale)),
            Op::Drain { broker } => CommandBody::DrainBroker(self.author(*broker, false)),
            Op::Commit { broker, stale, skew, frontier, objects } => {
                let first = self.seq(*broker, *skew);
                let objects = (first..).zip(objects).map(|(seq, batches)| self.built(seq, batches));
                CommandBody::CommitObjects(CommitObjects {
                    author: self.author(*broker, *stale),
                    frontier: ObjectSeq(self.seq(*broker, *frontier)),
                    objects: objects.collect(),
                })
            }
            Op::Abandon { broker, skew, frontier } => CommandBody::AbandonObject(AbandonObject {
                author: self.author(*broker, false),
                frontier: ObjectSeq(self.seq(*broker, *frontier)),
                seq: ObjectSeq(self.seq(*broker, *skew)),
            }),
            Op::Create { topic, again, name, partitions, log_append } => {
                // A repeated command of an earlier incarnation, now and then.
                let id = if *again { *topic } else { self.id(*topic) };
                let mut create = create_topic(id, NAMES[*name], *partitions);
                if *log_append {
                    let name = "message.timestamp.type".to_owned();
                    create.configs.insert(name, "LogAppendTime".to_owned());
                }
                CommandBody::CreateTopic(create)
            }
            Op::Delete { topic } => CommandBody::DeleteTopic(TopicId(self.id(*topic))),
            Op::Grow { topic, total } => CommandBody::CreatePartitions(CreatePartitions {
                topic: TopicId(self.id(*topic)),
                total: *total,
            }),
            Op::Allocate { broker, stale, count } => {
                let author = self.author(*broker, *stale);
                CommandBody::AllocateProducerIds(AllocateProducerIds { author, count: *count })
            }
            Op::Offsets { broker, stale, group, offsets } => {
                let offset = |at| CommittedOffset {
                    offset: Offset(at),
                    leader_epoch: -1,
                    metadata: "".into(),
                };
                CommandBody::CommitOffsets(CommitOffsets {
                    author: self.author(*broker, *stale),
                    group: group_id(*group),
                    offsets: offsets
                        .iter()
                        .map(|(topic, index, at)| (partition(self.id(*topic), *index), offset(*at)))
                        .collect(),
                })
            }
            Op::Group { broker, group, members } => CommandBody::PutGroup(PutGroup {
                author: self.author(*broker, false),
                group: group_id(*group),
                kind: GroupKind::Classic,
                metadata: metadata(*members),
            }),
            Op::Pass { ms } => {
                self.time += ms;
                CommandBody::Tick
            }
            Op::StepTime { by, is_accepted } => {
                let wall = TimestampMs(self.time + by);
                CommandBody::StepTime(StepTime { wall, is_accepted: *is_accepted })
            }
            Op::Forget { objects } => {
                CommandBody::ForgetObjects(objects.iter().copied().map(ObjectId).collect())
            }
            Op::AcceptLoss => CommandBody::AcceptLoss,
            Op::ExpireProducers { ago } => {
                CommandBody::ExpireProducers { until: TimestampMs(self.time - ago) }
            }
            Op::ExpireGroups { ago } => {
                CommandBody::ExpireGroups { until: TimestampMs(self.time - ago) }
            }
            Op::Raise { to } => CommandBody::RaiseFeatureLevel { to: FeatureLevel(*to) },
            Op::Reload => CommandBody::Tick,
        }
    }

    pub(super) fn step(&mut self, op: &Op) {
        let command = Command { body: self.body(op), time: TimestampMs(self.time) };
        let before = self.state.clone();
        let digest_before = before.digest();
        let index = AppliedIndex(self.state.applied().0 + 1);

        let applied = self.state.apply(index, &command);

        assert_eq!(applied.answer, self.model.apply(&command), "{command:?}");
        self.state.check().unwrap();
        invariants::forward(&before, &self.state).unwrap();
        if let Some(author) = author_of(&command.body) {
            invariants::fenced(&before, author, &self.state).unwrap();
        }
        assert_eq!(before.recompute_digest(), digest_before, "a copy changed");
        self.compare();
        self.log.push(command);
        if matches!(op, Op::Reload) {
            let identity = self.state.identity();
            self.state = State::from_records(identity, self.state.records()).unwrap();
        }
    }

    /// What can be read must be what the model has.
    fn compare(&self) {
        for (topic, index) in (1..4).flat_map(|topic| (0..3).map(move |index| (topic, index))) {
            let id = partition(self.id(topic), index);
            let bounds = self.state.bounds(id);
            let wanted = self.model.partition(id);
            assert_eq!(bounds.map(|b| b.high_watermark.0), wanted.map(|p| p.end));
            let Some(wanted) = wanted else { continue };
            let find = FindExtents { partition: id, from: Offset(0), max_bytes: u64::MAX };
            let found: Vec<_> = self
                .state
                .find_extents(&find)
                .extents
                .iter()
                .map(|e| {
                    let (base, end) = (e.base_offset.0, e.last_offset.0 + 1);
                    let (position, length) = (e.positions().start, e.length());
                    (base, end, e.object().unwrap().id.0, position, length, e.append_time())
                })
                .collect();
            assert_eq!(found, wanted.extents());
        }
        for id in 0..self.model.objects {
            let status = self.state.objects.get(ObjectId(id)).map(|object| object.status);
            assert_eq!(status.is_none(), self.model.forgotten.contains(&id));
            assert_eq!(status == Some(ObjectStatus::Live), self.model.is_referenced(id));
        }
        for group in (0..4).map(group_id) {
            // No number is given twice, and a group that comes back has a new one.
            let number = self.state.groups.numbers.get(&group).map(|number| number.0 as usize);
            let given = self.model.numbers.iter().rposition(|id| *id == group);
            assert_eq!(number, given.filter(|_| self.model.has_group(&group)));
            let found = self.state.group(&group);
            let metadata = found.as_ref().and_then(|found| found.metadata.as_ref());
            assert_eq!(metadata, self.model.groups.get(&group));
            let offsets: Vec<_> = found.iter().flat_map(|found| &found.offsets).collect();
            let of_group = self.model.offsets.iter().filter(|((g, _), _)| *g == group);
            let wanted: Vec<_> = of_group.map(|((_, partition), at)| (partition, at)).collect();
            assert_eq!(offsets, wanted);
        }
        assert_eq!(self.state.books.counters.next_group.0, self.model.numbers.len() as u64);
    }
}

fn metadata(members: usize) -> GroupMetadata {
    let member = GroupMember {
        member_id: "m".into(),
        instance_id: None,
        client_id: "app".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 1,
        rebalance_timeout_ms: 1,
        protocols: vec![],
        assignment: Default::default(),
    };
    GroupMetadata {
        generation: 1,
        protocol_type: "consumer".into(),
        protocol: None,
        leader: None,
        members: vec![member; members],
    }
}

fn author_of(body: &CommandBody) -> Option<BrokerAuthor> {
    match body {
        CommandBody::FenceBroker(author) | CommandBody::DrainBroker(author) => Some(*author),
        CommandBody::CommitObjects(commit) => Some(commit.author),
        CommandBody::AbandonObject(abandon) => Some(abandon.author),
        CommandBody::AllocateProducerIds(allocate) => Some(allocate.author),
        CommandBody::CommitOffsets(commit) => Some(commit.author),
        CommandBody::PutGroup(put) => Some(put.author),
        _ => None,
    }
}

/// Applies a command with the marks of a checkpoint on: `records` is brought up to date by the
/// changed records alone.
fn checkpoint(state: &mut State, records: &mut std::collections::BTreeMap<Vec<u8>, Vec<u8>>) {
    use crate::state::changed::RecordChange;
    let (copy, dirty) = state.cut_checkpoint();
    copy.changed_records(&dirty, &mut |change| match change {
        RecordChange::Put((key, value)) => {
            records.insert(key, value);
        }
        RecordChange::Remove(key) => {
            records.remove(&key);
        }
        RecordChange::RemovePrefix(prefix) => records.retain(|key, _| !key.starts_with(&prefix)),
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn random_commands_do_what_the_model_does(ops in proptest::collection::vec(an_op(), 1..60)) {
        let mut world = World::new();
        for op in &ops {
            world.step(op);
        }

        // The same log gives the same state, also when every command went through its bytes, and
        // when a checkpoint was cut here and there.
        let mut again = State::new(CLUSTER);
        let mut records = Default::default();
        for (at, command) in world.log.iter().enumerate() {
            let mut bytes = Vec::new();
            command.encode(&mut bytes);
            let decoded = Command::decode(&bytes).unwrap();
            prop_assert_eq!(&decoded, command);
            again.apply(AppliedIndex(at as u64 + 1), &decoded);
            if at % 7 == 3 {
                checkpoint(&mut again, &mut records);
                let wanted: std::collections::BTreeMap<_, _> = again.records().collect();
                prop_assert_eq!(&records, &wanted);
            }
        }
        prop_assert_eq!(again.digest(), world.state.digest());
    }
}
