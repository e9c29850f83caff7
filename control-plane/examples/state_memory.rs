//! What the replicated state takes in memory, by kind of entry; what deleting and loading it costs.
//!
//! `cargo run --release --example state_memory -p ottla-control-plane`
//!
//! Each case is measured as the growth of the process's resident memory while a state is filled,
//! with the allocator of the product, so that rounding and half-filled chunks count. Each part has a
//! process of its own, because memory that was freed is used again.

#![allow(clippy::print_stdout, reason = "a program for people")]
#![allow(clippy::unwrap_used, reason = "a measurement that fails may panic")]

use ottla_control_plane::checkpoint::Checkpoint;
use ottla_control_plane::state::State;
use ottla_format::command::{
    Answer, Command, CommandBody, CommitBatch, CommitObject, CommitObjects, CommitOffsets,
    CommittedOffset, CreateTopic, RegisterBroker,
};
use ottla_model::{
    AppliedIndex, Attempt, BatchProducer, BrokerAuthor, BrokerEpoch, BrokerId, BytePosition,
    ClusterId, GroupId, ObjectSeq, Offset, PartitionId, PartitionIndex, ProcessNonce,
    ProducerEpoch, ProducerId, Sequence, TimestampMs, TopicId, TopicName,
};
use tokio::time::Instant;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const AUTHOR: BrokerAuthor = BrokerAuthor { broker: BrokerId(1), epoch: BrokerEpoch(1) };
const NOW: TimestampMs = TimestampMs(1_700_000_000_000);

struct Filled {
    state: State,
    seq: u64,
}

impl Filled {
    fn new() -> Self {
        let mut filled = Self { state: State::new(ClusterId(1)), seq: 0 };
        filled.apply(CommandBody::RegisterBroker(RegisterBroker {
            broker: AUTHOR.broker,
            nonce: ProcessNonce(1),
            profile: Default::default(),
        }));
        filled
    }

    fn apply(&mut self, body: CommandBody) -> Answer {
        let index = AppliedIndex(self.state.applied().0 + 1);
        self.state.apply(index, &Command { time: NOW, body }).answer
    }

    fn create(&mut self, topic: usize, partitions: i32) {
        self.apply(CommandBody::CreateTopic(CreateTopic {
            id: topic_id(topic),
            name: TopicName::new(&format!("topic-{topic}")).unwrap(),
            partitions,
            replication_factor: 3,
            configs: Default::default(),
        }));
    }

    /// An offset in each of 1,000 partitions, under a name of so many bytes.
    fn commit_offsets(&mut self, group: usize, name_bytes: usize) {
        let offset = CommittedOffset { offset: Offset(9), leader_epoch: 0, metadata: "".into() };
        let offsets = (0..1_000).map(|index| (partition(0, index), offset.clone())).collect();
        let group = GroupId::from(format!("{group:0>name_bytes$}").as_str());
        self.apply(CommandBody::CommitOffsets(CommitOffsets { author: AUTHOR, group, offsets }));
    }

    /// An object with a batch of ten records for each of these partitions.
    fn commit(&mut self, partitions: impl Iterator<Item = PartitionId>, producer: Option<i64>) {
        let batch = |(number, partition): (u64, PartitionId)| CommitBatch {
            partition,
            position: BytePosition(64 + number * 1_000),
            length: 1_000,
            last_offset_delta: 9,
            max_timestamp: NOW,
            producer: producer.map(|id| BatchProducer {
                id: ProducerId(id),
                epoch: ProducerEpoch(0),
                base_sequence: Sequence::ZERO,
            }),
        };
        let mut batches: Vec<CommitBatch> = (0..).zip(partitions).map(batch).collect();
        batches.sort_by_key(|batch| batch.partition);
        let seq = ObjectSeq(self.seq);
        self.seq += 1;
        let size = 64 + batches.len() as u64 * 1_000;
        let object = CommitObject { seq, attempt: Attempt(0), size, batches };
        let commit = CommitObjects { author: AUTHOR, frontier: seq, objects: vec![object] };
        self.apply(CommandBody::CommitObjects(commit));
    }
}

fn topic_id(number: usize) -> TopicId {
    // Spread as random ids are.
    TopicId((number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

fn partition(topic: usize, index: i32) -> PartitionId {
    PartitionId { topic: topic_id(topic), index: PartitionIndex(index) }
}

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Fills a state and prints what an entry costs; `entries` picks the number from the state's size.
fn case(
    name: &str,
    filled: &mut Filled,
    entries: impl Fn(&State) -> u64,
    fill: impl FnOnce(&mut Filled),
) {
    let (before, counted) = (resident(), entries(&filled.state));
    let estimated = filled.state.size().bytes();
    fill(filled);
    let grown = resident().saturating_sub(before) as f64;
    let entries = (entries(&filled.state) - counted) as f64;
    let estimated = (filled.state.size().bytes() - estimated) as f64;
    println!(
        "{name:<60} {entries:>10} entries, {:>7.1} bytes each; the metric says {:>7.1}",
        grown / entries,
        estimated / entries
    );
}

fn main() {
    let parts: [(&str, fn()); 4] =
        [("wide", wide), ("extents", extents), ("objects", objects), ("groups", groups)];
    let named = std::env::args().nth(1);
    for (name, part) in parts {
        match &named {
            Some(named) if named == name => part(),
            Some(_) => {}
            None => {
                let this = std::env::current_exe().unwrap();
                // What is freed goes back to the system at once.
                let status = std::process::Command::new(this)
                    .arg(name)
                    .env("_RJEM_MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0")
                    .status();
                assert!(status.unwrap().success());
            }
        }
    }
}

fn wide() {
    let mut wide = Filled::new();
    case(
        "100,000 empty partitions, 100 topics",
        &mut wide,
        |s| s.size().partitions,
        |filled| {
            (0..100).for_each(|topic| filled.create(topic, 1_000));
        },
    );
    case(
        "the first extent of each",
        &mut wide,
        |s| s.size().extents,
        |filled| {
            for topic in 0..100 {
                filled.commit((0..1_000).map(|index| partition(topic, index)), None);
            }
        },
    );
    case(
        "19 more extents of each",
        &mut wide,
        |s| s.size().extents,
        |filled| {
            for topic in (0..19).flat_map(|_| 0..100) {
                filled.commit((0..1_000).map(|index| partition(topic, index)), None);
            }
        },
    );
    case(
        "the first producer of each",
        &mut wide,
        |s| s.size().producers,
        |filled| {
            for topic in 0..100 {
                filled.commit((0..1_000).map(|index| partition(topic, index)), Some(7));
            }
        },
    );
    case(
        "19 more producers of each",
        &mut wide,
        |s| s.size().producers,
        |filled| {
            for (producer, topic) in (0..19).flat_map(|p| (0..100).map(move |topic| (p, topic))) {
                filled
                    .commit((0..1_000).map(|index| partition(topic, index)), Some(100 + producer));
            }
        },
    );
}

fn extents() {
    let mut deep = Filled::new();
    deep.create(0, 1_000);
    case(
        "10,000,000 extents on 1,000 partitions",
        &mut deep,
        |s| s.size().extents,
        |filled| {
            for _ in 0..10_000 {
                filled.commit((0..1_000).map(|index| partition(0, index)), None);
            }
        },
    );
    load_and_delete(deep);
}

fn objects() {
    let mut deep = Filled::new();
    deep.create(0, 1_000);
    case(
        "1,000,000 objects of one extent",
        &mut deep,
        |s| s.size().objects,
        |filled| {
            for number in 0..1_000_000 {
                filled.commit(std::iter::once(partition(0, number % 1_000)), None);
            }
        },
    );

    load_and_delete(deep);
}

/// Offsets under a short and under a long name, and what a checkpoint of them takes.
fn groups() {
    const GROUPS: usize = 100;
    let mut all = Vec::new();
    for name_bytes in [20, 249] {
        let mut filled = Filled::new();
        filled.create(0, 1_000);
        let records_before = record_bytes(&filled.state);
        case(
            &format!("1,000 offsets each of {GROUPS} groups with names of {name_bytes} bytes"),
            &mut filled,
            |s| s.size().group_offsets,
            |filled| (0..GROUPS).for_each(|group| filled.commit_offsets(group, name_bytes)),
        );
        let offsets = filled.state.size().group_offsets as f64;
        let records = record_bytes(&filled.state) - records_before;
        println!("    {:.1} bytes of records each", records as f64 / offsets);
        all.push((name_bytes, offsets, filled));
    }
    // Behind all that is measured as memory: a checkpoint takes some, and gives it back.
    for (name_bytes, offsets, mut filled) in all {
        let path = std::env::temp_dir().join(format!("ottla-{}-{name_bytes}", std::process::id()));
        let (mut checkpoint, _) = Checkpoint::open(&path, ClusterId(1)).unwrap();
        let (copy, dirty) = filled.state.cut_checkpoint();
        let began = Instant::now();
        checkpoint.write(&copy, &dirty, b"").unwrap();
        let took = began.elapsed();
        let on_disk = checkpoint.bytes_on_disk().unwrap() as f64;
        println!(
            "names of {name_bytes} bytes: {:.1} bytes of checkpoint each, written in {took:?}",
            on_disk / offsets
        );
        drop(checkpoint);
        std::fs::remove_dir_all(path).unwrap();
    }
}

fn record_bytes(state: &State) -> usize {
    state.records().map(|(key, value)| key.len() + value.len()).sum()
}

fn load_and_delete(mut deep: Filled) {
    let began = Instant::now();
    let (mut records, mut bytes) = (Vec::new(), 0);
    for (key, value) in deep.state.records() {
        bytes += key.len() + value.len();
        records.push((key, value));
    }
    println!("{} records with {} MB made: {:?}", records.len(), bytes / 1_000_000, began.elapsed());
    let began = Instant::now();
    let loaded = State::from_records(deep.state.identity(), records).unwrap();
    println!("loaded: {:?}", began.elapsed());
    drop(loaded);
    let size = deep.state.size();
    let began = Instant::now();
    deep.apply(CommandBody::DeleteTopic(topic_id(0)));
    let took = began.elapsed();
    println!(
        "a topic with {} extents in {} objects deleted: {took:?}, {:.0} ns an extent",
        size.extents,
        size.objects,
        took.as_secs_f64() * 1e9 / size.extents as f64
    );
}
