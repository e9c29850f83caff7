//! A step of time: what becomes of a cluster whose clock was wrong.
//!
//! Replicated time counts on from wherever it began, never backward, and follows the wall clock at
//! twice real speed at most. A cluster that began with a clock of 2099 would stamp its records with
//! 2099 for ever. So the state has two numbers:
//!
//! * *Replicated time* is what ages are counted in: of producers, of idle groups, of condemned objects.
//!   No step changes it. Nothing expires because of a step, and nothing stays longer.
//! * The *wall offset* is what is added to it to get the time of the wall, which records with log-append
//!   time are stamped with. A step changes this number and nothing else, in either direction.
//!
//! A step is refused unless whoever runs the cluster accepts it, or nothing in the state has a time
//! yet. Records that were stored before a step keep the timestamps that clients were told: within a
//! partition, log-append times go backward once, as Kafka's do after a clock was set back.
//!
//! We decided against moving all stored times instead: it walks every producer, group and object, and
//! rewrites the checkpoint.

use ottla_format::command::StepTime;
use ottla_model::TimestampMs;

use super::State;

impl State {
    /// What is added to replicated time to get the time of the wall, in milliseconds.
    pub fn wall_offset_ms(&self) -> i64 {
        self.books.counters.wall_offset_ms
    }

    /// The time that a record with log-append time gets.
    pub fn append_time(&self) -> TimestampMs {
        self.books.counters.append_time()
    }

    /// Whether no topic, object or group was given a time yet.
    pub fn is_without_times(&self) -> bool {
        self.topics.is_empty() && self.objects.is_empty() && self.groups.by_number.is_empty()
    }

    /// Answers whether it was done.
    pub(super) fn step_time(&mut self, step: StepTime) -> bool {
        let is_done = step.is_accepted || self.is_without_times();
        if is_done {
            let counters = &mut self.books.counters;
            counters.wall_offset_ms = step.wall.0.saturating_sub(counters.time.0);
        }
        is_done
    }
}
