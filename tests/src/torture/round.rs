//! One round: topics, clients and events, then quiet, then everything is accounted for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{GroupId, OffsetFetchRequest};
use kafka_protocol::protocol::StrBytes;
use ottla_env::{Random, delay};
use tokio::task::JoinHandle;

use super::Steps;
use super::librdkafka::{Library, Written};
use super::members::{Members, group_of};
use super::plan::Plan;
use super::reborn::{self, Life};
use super::report::Counts;
use super::tail::Tail;
use super::verdict::{RoundHistory, TopicHistory};
use super::world::World;
use crate::history::Kind;
use crate::history::groups::Told;
use crate::history::reads::Poll;
use crate::load::{Load, Manner};
use crate::raw::{RawClient, topic_name, version};
use crate::topic::{self, Content};

/// Partitions of the topic that librdkafka producers write to.
const LIBRARY_PARTITIONS: i32 = 4;
/// What the producers of the other topic are; each has a partition of its own.
const RAW_KINDS: [Kind; 6] =
    [Kind::Idempotent, Kind::Idempotent, Kind::Once, Kind::Once, Kind::Retrying, Kind::Retrying];
const RAW_MANNER: Manner = Manner {
    pace: Duration::from_millis(60),
    padding_max: 600,
    patience: Duration::from_secs(120),
    finish_within: Duration::from_secs(90),
};
/// A second reader begins when there is something to read.
const LATE_READER: Duration = Duration::from_secs(5);
/// The sweep is done with everything within this time after the last change: the age of orphans,
/// the delay of condemned objects, and a few passes.
const SWEPT_WITHIN: Duration = Duration::from_secs(8);
/// It lists again after uploads that came late.
const SWEEPS_MAX: u32 = 4;

/// A topic by name, with the number of its partitions.
pub type Topics = BTreeMap<String, i32>;
/// What was in a topic.
pub type Logs = BTreeMap<String, BTreeMap<i32, Content>>;

/// What came of a round.
#[derive(Debug)]
pub struct Finished {
    /// What clients did and saw.
    pub history: RoundHistory,
    /// What must not have happened.
    pub anomalies: Vec<String>,
    /// What the next round in this world reads again, and deletes.
    pub left: Logs,
}

/// Runs a round. `left` is what the round before left in this world.
pub async fn run(
    world: &mut World,
    number: u64,
    plan: &Plan,
    left: Logs,
    counts: &mut Counts,
) -> Result<Finished> {
    let bootstrap = world.server.bootstrap();
    let clients = Clients::start(&bootstrap, number, plan).await?;
    let mut anomalies = world.torment(plan, counts).await?;
    let (mut history, names) = clients.finish(&mut anomalies).await?;

    // Everything is quiet and well.
    for (name, partitions) in &names {
        let log = read(&bootstrap, name, *partitions).await?;
        if let Some(topic) = history.topics.get_mut(name) {
            topic.log = log;
            tell(&bootstrap, name, *partitions, topic).await?;
        }
    }
    history.reborn_log = reborn::read(&bootstrap, &reborn_name(number)).await?;
    anomalies.extend(history.anomalies());
    history.count(counts);

    anomalies.extend(check_left(&bootstrap, &left).await?);
    for name in left.keys() {
        reborn::delete(&bootstrap, name).await?;
    }
    anomalies.extend(account(world, plan, counts).await?);
    for (name, topic) in &history.topics {
        let again = read(&bootstrap, name, names[name]).await?;
        if again != topic.log {
            anomalies.push(format!("other-bytes: {name} after the last start"));
        }
    }
    anomalies.extend(world.read_log());
    let mut left: Logs =
        history.topics.iter().map(|(name, topic)| (name.clone(), topic.log.clone())).collect();
    left.insert(reborn_name(number), history.reborn_log.clone());
    counts.rounds += 1;
    counts.anomalies += anomalies.len() as u64;
    Ok(Finished { history, anomalies, left })
}

fn reborn_name(number: u64) -> String {
    format!("round-{number}-created-again")
}

/// The clients of a round.
struct Clients {
    raw_topic: String,
    library_topic: String,
    raw: Load,
    library: Vec<JoinHandle<Result<Written>>>,
    readers: Vec<(String, JoinHandle<Result<Vec<Poll>>>)>,
    members: Members,
    lives: JoinHandle<Result<Vec<Life>>>,
    bootstrap: String,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicBool>,
}

async fn read_late(tail: Tail, late: Duration) -> Result<Vec<Poll>> {
    delay(late).await;
    tail.read().await
}

impl Clients {
    async fn start(bootstrap: &str, number: u64, plan: &Plan) -> Result<Self> {
        let (raw_topic, library_topic) =
            (format!("round-{number}-raw"), format!("round-{number}-librdkafka"));
        let topics = [(&raw_topic, RAW_KINDS.len() as i32), (&library_topic, LIBRARY_PARTITIONS)];
        for (name, partitions) in topics {
            topic::create(bootstrap, name, partitions).await?;
        }
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let raw = Load::start_with(bootstrap, &raw_topic, &RAW_KINDS, plan.seed, RAW_MANNER);
        let kinds = [Kind::Idempotent, Kind::Idempotent, Kind::Resending];
        let library = (0..).zip(kinds).zip(&plan.codecs).map(|((producer, kind), codec)| {
            let library = Library {
                bootstrap: bootstrap.to_owned(),
                topic: library_topic.clone(),
                partitions: LIBRARY_PARTITIONS,
                producer,
                kind,
                codec,
                padding_max: plan.padding_max,
                seed: plan.seed.wrapping_add(u64::from(producer)),
                stop: stop.clone(),
            };
            tokio::spawn(library.write())
        });
        let library = library.collect();
        let readers = (topics.iter())
            .flat_map(|(name, partitions)| (0..2).map(move |reader| (*name, *partitions, reader)))
            .map(|(name, partitions, reader)| {
                let tail = Tail {
                    bootstrap: bootstrap.to_owned(),
                    reader,
                    topic: name.clone(),
                    id: None,
                    partitions,
                    written: written.clone(),
                    deleted: Arc::default(),
                };
                (name.clone(), tokio::spawn(read_late(tail, LATE_READER * reader)))
            });
        let readers = readers.collect();
        let members = Members::start(
            bootstrap,
            &library_topic,
            plan.members,
            plan.assignor,
            Steps::default(),
            plan.seed,
        );
        let lives = tokio::spawn(reborn::live(
            bootstrap.to_owned(),
            reborn_name(number),
            Random::seeded(plan.seed),
            stop.clone(),
        ));
        let bootstrap = bootstrap.to_owned();
        Ok(Self {
            raw_topic,
            library_topic,
            raw,
            library,
            readers,
            members,
            lives,
            bootstrap,
            stop,
            written,
        })
    }

    /// Ends the clients in fair weather. Writers get everything acknowledged, readers read to the
    /// end.
    async fn finish(self, anomalies: &mut Vec<String>) -> Result<(RoundHistory, Topics)> {
        self.stop.store(true, Ordering::SeqCst);
        let mut raw = TopicHistory { attempts: self.raw.stop().await?, ..TopicHistory::default() };
        let mut library = TopicHistory::default();
        for producer in self.library {
            let written = producer.await??;
            library.attempts.extend(written.history);
            anomalies.extend(written.complaints);
        }
        let lives = self.lives.await??;
        self.written.store(true, Ordering::SeqCst);
        let mut polls: BTreeMap<String, Vec<Poll>> = BTreeMap::new();
        for (topic, reader) in self.readers {
            polls.entry(topic).or_default().extend(reader.await??);
        }
        let mut client = RawClient::connect(&self.bootstrap).await?;
        let mut ends = BTreeMap::new();
        for partition in 0..LIBRARY_PARTITIONS {
            let end = topic::end(&mut client, &self.library_topic, partition).await?;
            ends.insert(partition, end);
        }
        library.group = Some(self.members.finish(&ends).await?);
        raw.polls = polls.remove(&self.raw_topic).unwrap_or_default();
        library.polls = polls.remove(&self.library_topic).unwrap_or_default();
        let names = [
            (self.raw_topic.clone(), RAW_KINDS.len() as i32),
            (self.library_topic.clone(), LIBRARY_PARTITIONS),
        ];
        let topics = [(self.raw_topic, raw), (self.library_topic, library)];
        let topics = BTreeMap::from(topics);
        let history = RoundHistory { topics, lives, ..RoundHistory::default() };
        Ok((history, Topics::from(names)))
    }
}

async fn read(bootstrap: &str, name: &str, partitions: i32) -> Result<BTreeMap<i32, Content>> {
    let mut log = BTreeMap::new();
    for partition in 0..partitions {
        log.insert(partition, topic::read(bootstrap, name, partition).await?);
    }
    Ok(log)
}

/// Asks for the committed offsets of a topic's group, as a tool would.
async fn tell(
    bootstrap: &str,
    name: &str,
    partitions: i32,
    topic: &mut TopicHistory,
) -> Result<()> {
    let Some((group, _)) = &mut topic.group else { return Ok(()) };
    let asked = OffsetFetchRequestTopic::default()
        .with_name(topic_name(name))
        .with_partition_indexes((0..partitions).collect());
    let request = OffsetFetchRequest::default()
        .with_group_id(GroupId(StrBytes::from_string(group_of(name))))
        .with_topics(Some(vec![asked]));
    let mut client = RawClient::connect(bootstrap).await?;
    let answer = client.call(version::OFFSET_FETCH, &request).await?;
    ensure!(answer.error_code == 0, "offset fetch: error {}", answer.error_code);
    let told = answer.topics.first().context("no topic in the answer")?;
    // Nothing runs any more: it is over after everything else.
    let (began, ended) = (u64::MAX - 1, u64::MAX);
    group.told.extend(told.partitions.iter().map(|part| Told {
        partition: part.partition_index,
        offset: part.committed_offset,
        began,
        ended,
    }));
    Ok(())
}

/// What the round before left is still what it was.
async fn check_left(bootstrap: &str, left: &Logs) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (name, log) in left {
        if read(bootstrap, name, log.len() as i32).await? != *log {
            found.push(format!("other-bytes: {name}, a round later"));
        }
    }
    Ok(found)
}

/// Takes the server down, has `fsck` look, and brings it up again, until the sweep is done.
async fn account(world: &mut World, plan: &Plan, counts: &mut Counts) -> Result<Vec<String>> {
    let mut sweeps = 0;
    loop {
        delay(SWEPT_WITHIN).await;
        sweeps += 1;
        world.down(plan.killed_at_end).await?;
        let (status, told, complaints) = world.server.run("fsck").await?;
        counts.ready_max = counts.ready_max.max(world.up().await?);
        ensure!(status.success(), "fsck: {status}: {told}{complaints}");
        let number = |name: &str| -> Result<u64> {
            let line = told.lines().find_map(|line| line.strip_prefix(name));
            let line = line.with_context(|| format!("fsck says nothing of {name}: {told}"))?;
            Ok(line.trim().parse()?)
        };
        let (orphans, condemned) = (number("orphans")?, number("condemned")?);
        let foreign = number("foreign")?;
        if orphans + condemned + foreign == 0 {
            counts.objects += number("live")?;
            return Ok(Vec::new());
        }
        if sweeps == SWEEPS_MAX {
            return Ok(vec![format!("not-swept: {}", told.replace('\n', "; "))]);
        }
    }
}
