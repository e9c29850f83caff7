//! A consumer group of librdkafka members that come, read, commit and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use ottla_env::{Random, delay};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Steps;
use crate::history::groups::{Commit, GroupHistory, Holding};
use crate::history::reads::id_of;

const POLL: Duration = Duration::from_millis(100);
/// Records between two commits, at most.
const COMMIT_EVERY_MAX: u64 = 400;
/// Time between two commits, at most: with little to read.
const COMMIT_WITHIN: Duration = Duration::from_millis(700);
/// How long a member lives, at least and at most.
const LIFE: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(25));
/// After the last write, the group has read everything within this time.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(90);
const CATCH_UP_POLL: Duration = Duration::from_millis(100);

/// The running members of a group.
#[derive(Debug)]
pub struct Members {
    shared: Arc<Shared>,
    slots: Vec<JoinHandle<Result<()>>>,
}

/// What members have in common.
#[derive(Debug)]
struct Shared {
    bootstrap: String,
    topic: String,
    group: String,
    assignor: &'static str,
    steps: Steps,
    next_member: AtomicU32,
    stop: AtomicBool,
    history: Mutex<GroupHistory>,
    delivered: Mutex<BTreeMap<i32, BTreeSet<i64>>>,
}

impl Members {
    /// Starts `count` members at a time.
    pub fn start(
        bootstrap: &str,
        topic: &str,
        count: u32,
        assignor: &'static str,
        steps: Steps,
        seed: u64,
    ) -> Self {
        let shared = Arc::new(Shared {
            bootstrap: bootstrap.to_owned(),
            topic: topic.to_owned(),
            group: group_of(topic),
            assignor,
            steps,
            next_member: AtomicU32::new(0),
            stop: AtomicBool::new(false),
            history: Mutex::default(),
            delivered: Mutex::default(),
        });
        let slots = (0..count)
            .map(|slot| {
                let (shared, random) = (shared.clone(), Random::seeded(seed + u64::from(slot)));
                tokio::spawn(async move {
                    while !shared.stop.load(Ordering::SeqCst) {
                        let (shared, random) = (shared.clone(), random.clone());
                        tokio::task::spawn_blocking(move || live(shared, &random)).await??;
                    }
                    Ok(())
                })
            })
            .collect();
        Self { shared, slots }
    }

    /// Waits until all offsets below the ends were delivered, then ends the members. Answers their
    /// history and whether they got everything in time.
    pub async fn finish(self, ends: &BTreeMap<i32, i64>) -> Result<(GroupHistory, bool)> {
        let begin = Instant::now();
        let mut complete = self.shared.has_all(ends);
        while !complete && begin.elapsed() < CATCH_UP_WITHIN {
            delay(CATCH_UP_POLL).await;
            complete = self.shared.has_all(ends);
        }
        self.shared.stop.store(true, Ordering::SeqCst);
        for slot in self.slots {
            slot.await??;
        }
        Ok((self.shared.with(std::mem::take), complete))
    }
}

/// The group that reads a topic.
pub fn group_of(topic: &str) -> String {
    format!("group-of-{topic}")
}

impl Shared {
    fn with<T>(&self, change: impl FnOnce(&mut GroupHistory) -> T) -> T {
        change(&mut self.history.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn has_all(&self, ends: &BTreeMap<i32, i64>) -> bool {
        let delivered = self.delivered.lock().unwrap_or_else(PoisonError::into_inner);
        ends.iter().all(|(partition, end)| {
            delivered.get(partition).map_or(0, BTreeSet::len) as i64 >= *end
        })
    }

    fn note_delivered(&self, partition: i32, offset: i64) {
        let mut delivered = self.delivered.lock().unwrap_or_else(PoisonError::into_inner);
        delivered.entry(partition).or_default().insert(offset);
    }
}

/// A member as its rebalance callbacks see it.
#[derive(Clone)]
struct Member {
    number: u32,
    shared: Arc<Shared>,
    /// Partitions in its hands: where their holdings are in the history, and where to go on.
    held: Arc<Mutex<BTreeMap<i32, Held>>>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    assigned: u64,
    holding: Option<usize>,
    next: i64,
    committed: i64,
}

impl Member {
    fn with_held<T>(&self, change: impl FnOnce(&mut BTreeMap<i32, Held>) -> T) -> T {
        change(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, partition: i32, offset: i64, id: String) {
        let step = self.shared.steps.next();
        self.with_held(|held| {
            // What comes for a partition that is not held any more is not to be processed.
            let Some(held) = held.get_mut(&partition) else { return };
            held.next = offset + 1;
            self.shared.with(|history| {
                let holding = *held.holding.get_or_insert_with(|| {
                    history.holdings.push(Holding {
                        member: self.number,
                        partition,
                        assigned: held.assigned,
                        began: step,
                        records: Vec::new(),
                    });
                    history.holdings.len() - 1
                });
                history.holdings[holding].records.push((offset, id));
            });
            self.shared.note_delivered(partition, offset);
        });
    }

    /// Commits what was processed and waits for the answer.
    fn commit<C: ConsumerContext>(&self, consumer: &BaseConsumer<C>) {
        let due: Vec<(i32, i64)> = self.with_held(|held| {
            let due = held.iter().filter(|(_, held)| held.next > held.committed);
            due.map(|(partition, held)| (*partition, held.next)).collect()
        });
        if due.is_empty() {
            return;
        }
        let mut offsets = TopicPartitionList::new();
        for (partition, offset) in &due {
            // Fails for offsets below zero only.
            let _ = offsets.add_partition_offset(
                &self.shared.topic,
                *partition,
                Offset::Offset(*offset),
            );
        }
        let began = self.shared.steps.next();
        let answer = consumer.commit(&offsets, CommitMode::Sync);
        let ended = self.shared.steps.next();
        let refused = |partition: i32| {
            let element = offsets.find_partition(&self.shared.topic, partition);
            element.is_none_or(|element| element.error().is_err())
        };
        for (partition, offset) in due {
            let acknowledged = answer.is_ok() && !refused(partition);
            let member = self.number;
            let commit = Commit { member, partition, offset, began, ended, acknowledged };
            self.shared.with(|history| history.commits.push(commit));
            if acknowledged {
                self.with_held(|held| {
                    if let Some(held) = held.get_mut(&partition) {
                        held.committed = held.committed.max(offset);
                    }
                });
            }
        }
    }
}

impl ClientContext for Member {
    /// It complains of every broken connection, and connections break all the time.
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Member {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                let assigned = self.shared.steps.next();
                let fresh = Held { assigned, holding: None, next: 0, committed: 0 };
                self.with_held(|held| {
                    held.extend(partitions.elements().iter().map(|one| (one.partition(), fresh)));
                });
            }
            Rebalance::Revoke(partitions) => {
                if !consumer.assignment_lost() {
                    self.commit(consumer);
                }
                self.with_held(|held| {
                    for one in partitions.elements() {
                        held.remove(&one.partition());
                    }
                });
            }
            Rebalance::Error(_) => {}
        }
    }
}

/// The life of one member.
fn live(shared: Arc<Shared>, random: &Random) -> Result<()> {
    let number = shared.next_member.fetch_add(1, Ordering::SeqCst);
    let member = Member { number, shared: shared.clone(), held: Arc::default() };
    let consumer: BaseConsumer<Member> = ClientConfig::new()
        .set("bootstrap.servers", &shared.bootstrap)
        .set("group.id", &shared.group)
        .set("partition.assignment.strategy", shared.assignor)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("session.timeout.ms", "8000")
        .set("heartbeat.interval.ms", "500")
        .set("socket.timeout.ms", "10000")
        .set("reconnect.backoff.max.ms", "500")
        .set("topic.metadata.refresh.interval.ms", "1000")
        .create_with_context(member.clone())
        .context("a librdkafka consumer")?;
    consumer.subscribe(&[&shared.topic])?;
    let life = LIFE.0 + random.jitter(LIFE.1 - LIFE.0);
    let begin = Instant::now();
    let commit_every = 1 + random.below(COMMIT_EVERY_MAX);
    let (mut uncommitted, mut committed_at) = (0, Instant::now());
    while begin.elapsed() < life && !shared.stop.load(Ordering::SeqCst) {
        // Errors pass, or the group does not get to its end.
        if let Some(Ok(message)) = consumer.poll(POLL) {
            let value = String::from_utf8_lossy(message.payload().unwrap_or_default());
            member.note(message.partition(), message.offset(), id_of(&value));
            uncommitted += 1;
        }
        if uncommitted >= commit_every || committed_at.elapsed() > COMMIT_WITHIN {
            member.commit(&consumer);
            (uncommitted, committed_at) = (0, Instant::now());
        }
    }
    // Half of the members leave without committing what they read last.
    if random.chance(0.5) {
        member.commit(&consumer);
    }
    Ok(())
}
