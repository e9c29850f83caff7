//! How fast the state machine applies commits: medians over many commands, on one core.
//!
//! `cargo run --release --example apply_speed -p ottla-control-plane`
//!
//! Each case applies `commit_objects` commands over a state of some size: batches of idempotent
//! producers (the costly kind: every one is checked, remembered and entered in the digest), laid
//! out by partition as brokers write them. "with a copy" applies each command right after a copy of
//! the state was made, which is still alive: what the first command of a snapshot costs. "writing
//! snapshots" applies the commands while another thread writes snapshots, each of a copy of the
//! state as it was when the one before was done, synced and read back, as a controller does.

#![allow(clippy::print_stdout, reason = "a program for people")]
#![allow(clippy::unwrap_used, reason = "a measurement that fails may panic")]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ottla_control_plane::raft_log::DiskDirectory;
use ottla_control_plane::snapshot::Snapshots;
use ottla_control_plane::state::State;
use ottla_format::command::{
    Answer, Command, CommandBody, CommitBatch, CommitObject, CommitObjects, CreateTopic,
    ObjectOutcome, RegisterBroker,
};
use ottla_model::{
    AppliedIndex, Attempt, BatchProducer, BrokerAuthor, BrokerEpoch, BrokerId, BytePosition,
    ClusterId, ObjectSeq, PartitionId, PartitionIndex, ProcessNonce, ProducerEpoch, ProducerId,
    Sequence, TimestampMs, TopicId, TopicName,
};
use tokio::time::Instant;

const AUTHOR: BrokerAuthor = BrokerAuthor { broker: BrokerId(1), epoch: BrokerEpoch(1) };
const PARTITIONS_PER_TOPIC: i32 = 100;

struct Bench {
    state: State,
    seq: u64,
    partitions: usize,
}

impl Bench {
    fn new(partitions: usize) -> Self {
        let mut bench = Self { state: State::new(ClusterId(1)), seq: 0, partitions };
        bench.apply(CommandBody::RegisterBroker(RegisterBroker {
            broker: AUTHOR.broker,
            nonce: ProcessNonce(1),
            profile: Default::default(),
        }));
        for topic in 0..partitions.div_ceil(PARTITIONS_PER_TOPIC as usize) {
            bench.apply(CommandBody::CreateTopic(CreateTopic {
                id: topic_id(topic),
                name: TopicName::new(&format!("topic-{topic}")).unwrap(),
                partitions: PARTITIONS_PER_TOPIC,
                replication_factor: 3,
                configs: Default::default(),
            }));
        }
        bench
    }

    fn apply(&mut self, body: CommandBody) -> Answer {
        let index = AppliedIndex(self.state.applied().0 + 1);
        let command = Command { time: TimestampMs(1_700_000_000_000), body };
        self.state.apply(index, &command).answer
    }

    /// One object with `batches` batches for each of `over` partitions, from number `first` on.
    fn commit(&mut self, first: usize, over: usize, batches: usize) -> Command {
        let seq = self.seq;
        self.seq += 1;
        let mut position = 64;
        let mut all: Vec<CommitBatch> = Vec::with_capacity(over * batches);
        for at in first..first + over {
            let partition = partition_id(at % self.partitions);
            let written = self.state.bounds(partition).unwrap().high_watermark.0 as i32;
            for batch in 0..batches as i32 {
                all.push(CommitBatch {
                    partition,
                    position: BytePosition(position),
                    length: 1_000,
                    last_offset_delta: 9,
                    max_timestamp: TimestampMs(1_700_000_000_000 + seq as i64),
                    producer: Some(BatchProducer {
                        id: ProducerId((at % self.partitions) as i64),
                        epoch: ProducerEpoch(0),
                        base_sequence: Sequence(written + batch * 10),
                    }),
                });
                position += 1_000;
            }
        }
        all.sort_by_key(|batch| batch.partition);
        let object =
            CommitObject { seq: ObjectSeq(seq), attempt: Attempt(0), size: position, batches: all };
        let frontier = ObjectSeq(seq);
        let commit = CommitObjects { author: AUTHOR, frontier, objects: vec![object] };
        Command { time: TimestampMs(1_700_000_000_000), body: CommandBody::CommitObjects(commit) }
    }

    /// Applies `commands` commits and prints the median.
    fn run(&mut self, name: &str, commands: usize, over: usize, batches: usize, copy: bool) {
        let mut times = Vec::with_capacity(commands);
        for at in 0..commands {
            let alive = copy.then(|| self.state.clone());
            times.push(self.timed(at * over, over, batches));
            drop(alive);
        }
        report(name, &mut times, over * batches);
    }

    /// The same while snapshots are written.
    fn run_writing(&mut self, name: &str, commands: usize, over: usize, batches: usize) {
        let mut times = Vec::with_capacity(commands);
        let writer = SnapshotWriter::start(self.state.clone());
        for at in 0..commands {
            writer.offer(&self.state);
            times.push(self.timed(at * over, over, batches));
        }
        let written = writer.finish();
        report(name, &mut times, over * batches);
        println!("  meanwhile {written} snapshots were written");
    }

    fn timed(&mut self, first: usize, over: usize, batches: usize) -> Duration {
        let command = self.commit(first, over, batches);
        let index = AppliedIndex(self.state.applied().0 + 1);
        let started = Instant::now();
        let applied = black_box(self.state.apply(index, &command));
        let took = started.elapsed();
        check(&applied.answer);
        took
    }
}

/// A thread that writes snapshots to a folder of its own.
struct SnapshotWriter {
    next: SyncSender<State>,
    thread: JoinHandle<usize>,
}

impl SnapshotWriter {
    /// Begins with the snapshot of `first`.
    fn start(first: State) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let directory = Arc::new(DiskDirectory::open(folder.path()).unwrap());
        let snapshots = Snapshots::new(directory, first.cluster());
        // A copy is taken by a writer that waits for one, or not at all: none grows old in between.
        let (next, copies) = sync_channel(0);
        let thread = std::thread::spawn(move || {
            let _folder = folder;
            let mut written = 0;
            for copy in copies {
                snapshots.write(&copy, &[]).unwrap();
                written += 1;
            }
            written
        });
        next.send(first).unwrap();
        Self { next, thread }
    }

    /// Has a copy written, unless the one before is not done.
    fn offer(&self, state: &State) {
        match self.next.try_send(state.clone()) {
            Ok(()) | Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => panic!("the writer has ended"),
        }
    }

    /// Waits for the last one; how many there were.
    fn finish(self) -> usize {
        drop(self.next);
        self.thread.join().unwrap()
    }
}

fn topic_id(number: usize) -> TopicId {
    // Spread as random ids are.
    TopicId((number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

fn partition_id(number: usize) -> PartitionId {
    let per_topic = PARTITIONS_PER_TOPIC as usize;
    PartitionId {
        topic: topic_id(number / per_topic),
        index: PartitionIndex((number % per_topic) as i32),
    }
}

fn check(answer: &Answer) {
    let Answer::Commits(outcomes) = answer else { panic!("{answer:?}") };
    assert!(matches!(outcomes.as_slice(), [ObjectOutcome::Committed(_)]), "{outcomes:?}");
}

fn report(name: &str, times: &mut [Duration], batches: usize) {
    times.sort_unstable();
    let median = times[times.len() / 2];
    let slow = times[times.len() * 99 / 100];
    let per_second = batches as f64 / median.as_secs_f64();
    println!(
        "{name:<58} median {:>9.3} ms  p99 {:>9.3} ms  {:>10.0} batches/s",
        median.as_secs_f64() * 1e3,
        slow.as_secs_f64() * 1e3,
        per_second
    );
}

fn main() {
    let mut bench = Bench::new(1_600);
    bench.run("warm-up", 300, 1_600, 1, false);
    bench.run("1,600 batches over 1,600 partitions", 300, 1_600, 1, false);
    bench.run("1,600 batches over 1,600 partitions, with a copy", 300, 1_600, 1, true);
    bench.run_writing("1,600 batches over 1,600 partitions, writing snapshots", 300, 1_600, 1);
    bench.run("1,600 batches over 16 partitions", 300, 16, 100, false);
    bench.run("1 batch", 20_000, 1, 1, false);
    drop(bench);

    // As deep as an object a second makes a partition within twelve days.
    let mut bench = Bench::new(1);
    bench.run("1 batch, from empty to 1,000,000 extents", 1_000_000, 1, 1, false);
    bench.run("1 batch, 1,000,000 extents deep", 20_000, 1, 1, false);
    drop(bench);

    let mut bench = Bench::new(100_000);
    bench.run("100,000 partitions: warm-up", 125, 1_600, 1, false);
    bench.run("100,000 partitions: 1,600 batches", 300, 1_600, 1, false);
    bench.run("100,000 partitions: 1,600 batches, with a copy", 300, 1_600, 1, true);
    bench.run_writing("100,000 partitions: 1,600 batches, writing snapshots", 300, 1_600, 1);

    let started = Instant::now();
    let copy = bench.state.clone();
    println!("copy of 100,000 partitions: {:?}", started.elapsed());
    let started = Instant::now();
    let digest = copy.recompute_digest();
    println!("digest recomputed: {:?} (agrees: {})", started.elapsed(), digest == copy.digest());
    let started = Instant::now();
    let (mut records, mut bytes) = (0usize, 0usize);
    for (key, value) in copy.records() {
        records += 1;
        bytes += key.len() + value.len();
    }
    println!("{records} records with {bytes} bytes: {:?}", started.elapsed());
    let started = Instant::now();
    let loaded = State::from_records(copy.identity(), copy.records()).unwrap();
    println!("written and loaded: {:?}", started.elapsed());
    assert_eq!(loaded.digest(), copy.digest());
}
