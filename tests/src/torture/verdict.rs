//! The history of a round: written down, counted, judged.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use super::reborn::{self, Life};
use super::report::Counts;
use crate::history::groups::{self, GroupHistory};
use crate::history::reads::{self, Poll};
use crate::history::{self, Attempt, Outcome};
use crate::topic::Content;

/// Everything that clients did to one topic and saw of it.
#[derive(Debug, Default)]
pub struct TopicHistory {
    /// By producers.
    pub attempts: Vec<Attempt>,
    /// By readers.
    pub polls: Vec<Poll>,
    /// By the members of its group, and whether they had the time to read all of it.
    pub group: Option<(GroupHistory, bool)>,
    /// What it holds in the end.
    pub log: BTreeMap<i32, Content>,
}

/// A round's.
#[derive(Debug, Default)]
pub struct RoundHistory {
    /// Topics that live from the beginning to the end.
    pub topics: BTreeMap<String, TopicHistory>,
    /// The lives of the topic that is created again and again.
    pub lives: Vec<Life>,
    /// What is under its name in the end.
    pub reborn_log: BTreeMap<i32, Content>,
}

impl RoundHistory {
    /// Everything that must not be.
    pub fn anomalies(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, topic) in &self.topics {
            let TopicHistory { attempts, polls, group, log } = topic;
            let mut of_topic = history::anomalies(attempts, log);
            of_topic.extend(reads::anomalies(polls, Some(log)));
            if let Some((group, complete)) = group {
                of_topic.extend(groups::anomalies(group, log, *complete));
                if !complete {
                    of_topic.push("stuck: the group did not get to the end in time".to_owned());
                }
            }
            found.extend(of_topic.into_iter().map(|what| format!("{what} ({name})")));
        }
        let of_lives = reborn::anomalies(&self.lives, &self.reborn_log);
        found.extend(of_lives.into_iter().map(|what| format!("{what} (created again)")));
        found
    }

    /// Counts what was written and read.
    pub fn count(&self, counts: &mut Counts) {
        let of_lives = self.lives.iter().flat_map(|life| &life.history);
        for attempt in self.topics.values().flat_map(|topic| &topic.attempts).chain(of_lives) {
            let records = attempt.values.len() as u64;
            match attempt.outcome {
                Outcome::Acknowledged(_) => counts.acknowledged += records,
                Outcome::Unknown => counts.unknown += records,
                Outcome::Refused(_) => {}
            }
        }
        let of_lives = self.lives.iter().flat_map(|life| &life.polls);
        let polls = self.topics.values().flat_map(|topic| &topic.polls).chain(of_lives);
        counts.read += polls.map(|poll| poll.records.len() as u64).sum::<u64>();
        for topic in self.topics.values() {
            counts.read += topic.log.values().map(|log| log.records.len() as u64).sum::<u64>();
            if let Some((group, _)) = &topic.group {
                let records = group.holdings.iter().map(|holding| holding.records.len() as u64);
                counts.read += records.sum::<u64>();
                let done = group.commits.iter().filter(|commit| commit.acknowledged);
                counts.commits += done.count() as u64;
            }
        }
        counts.rebirths += self.lives.len().saturating_sub(1) as u64;
    }

    /// Writes it as JSON lines, each with its topic.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut lines = Lines(BufWriter::new(File::create(path)?));
        for (name, topic) in &self.topics {
            lines.write_all("attempt", name, &topic.attempts)?;
            lines.write_all("poll", name, &topic.polls)?;
            if let Some((group, _)) = &topic.group {
                lines.write_all("holding", name, &group.holdings)?;
                lines.write_all("commit", name, &group.commits)?;
                lines.write_all("told", name, &group.told)?;
            }
            lines.write_log(name, &topic.log)?;
        }
        for life in &self.lives {
            let name = life.id.to_string();
            lines.write_all("attempt", &name, &life.history)?;
            lines.write_all("poll", &name, &life.polls)?;
        }
        lines.write_log("created again", &self.reborn_log)?;
        Ok(lines.0.flush()?)
    }
}

struct Lines(BufWriter<File>);

#[derive(Serialize)]
struct Line<'a, T> {
    what: &'a str,
    topic: &'a str,
    #[serde(flatten)]
    event: &'a T,
}

#[derive(Serialize)]
struct Stored<'a> {
    partition: i32,
    offset: i64,
    id: &'a str,
}

impl Lines {
    fn write_all<T: Serialize>(&mut self, what: &str, topic: &str, events: &[T]) -> Result<()> {
        for event in events {
            serde_json::to_writer(&mut self.0, &Line { what, topic, event })?;
            self.0.write_all(b"\n")?;
        }
        Ok(())
    }

    fn write_log(&mut self, topic: &str, log: &BTreeMap<i32, Content>) -> Result<()> {
        for (&partition, content) in log {
            for (offset, _, value) in &content.records {
                let id = crate::payload::id(value);
                self.write_all("stored", topic, &[Stored { partition, offset: *offset, id }])?;
            }
        }
        Ok(())
    }
}
