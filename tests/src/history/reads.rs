//! What readers saw of a topic.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Attempt, Outcome};
use crate::payload;
use crate::topic::Content;

/// What stands in a poll instead of the id of a value with other bytes than its id says.
pub const CORRUPT: &str = "corrupt:";

/// The answer to one fetch of one partition that brought records or moved a bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poll {
    /// Who read.
    pub reader: u32,
    /// From which partition.
    pub partition: i32,
    /// From which offset on.
    pub position: i64,
    /// Offsets and ids of the records from there on.
    pub records: Vec<(i64, String)>,
    /// The answer's high watermark.
    pub high_watermark: i64,
    /// Its last stable offset.
    pub last_stable: i64,
    /// Its log start.
    pub log_start: i64,
}

/// The id of a value as polls hold it.
pub fn id_of(value: &str) -> String {
    match payload::id_of_whole(value) {
        Some(id) => id.to_owned(),
        None => format!("{CORRUPT}{}", payload::id(value)),
    }
}

/// Everything that readers must not have seen. Polls are in the order in which each reader made
/// them; each went on where its last one ended. `log` is what the topic holds in the end, if it
/// still exists.
pub fn anomalies(polls: &[Poll], log: Option<&BTreeMap<i32, Content>>) -> Vec<String> {
    let mut found = Vec::new();
    let mut last: BTreeMap<(u32, i32), &Poll> = BTreeMap::new();
    let mut seen: BTreeMap<(i32, i64), &str> = BTreeMap::new();
    let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
    for (&partition, content) in log.into_iter().flatten() {
        let ids = content.records.iter().map(|(offset, _, value)| (*offset, payload::id(value)));
        seen.extend(ids.map(|(offset, id)| ((partition, offset), id)));
        ends.insert(partition, content.end);
    }
    for poll in polls {
        check_bounds(poll, last.insert((poll.reader, poll.partition), poll), &mut found);
        check_run(poll, &mut found);
        for (offset, id) in &poll.records {
            let place = format!("{}@{offset}", poll.partition);
            if id.starts_with(CORRUPT) {
                found.push(format!("corrupt: {id} read at {place}"));
                continue;
            }
            if ends.get(&poll.partition).is_some_and(|end| offset >= end) {
                found.push(format!("vanished: {id} was read at {place}"));
            }
            let known = *seen.entry((poll.partition, *offset)).or_insert(id);
            if known != id {
                found.push(format!("inconsistent-offset: {place} was {id} and is {known}"));
            }
        }
    }
    found
}

/// What readers saw of a topic and its producers cannot explain; for a topic that is gone, in place
/// of what its log would say.
pub fn unexplained(polls: &[Poll], history: &[Attempt]) -> Vec<String> {
    let sent: BTreeSet<&str> = history
        .iter()
        .flat_map(|attempt| &attempt.values)
        .map(|value| payload::id(value))
        .collect();
    let mut found = Vec::new();
    let mut seen: BTreeMap<(i32, i64), &str> = BTreeMap::new();
    for poll in polls {
        for (offset, id) in &poll.records {
            seen.insert((poll.partition, *offset), id);
            if !sent.contains(id.as_str()) {
                found.push(format!("phantom: {id} read at {}@{offset}", poll.partition));
            }
        }
    }
    for attempt in history {
        let Outcome::Acknowledged(first @ 0..) = attempt.outcome else { continue };
        for (offset, value) in (first..).zip(&attempt.values) {
            let id = payload::id(value);
            if let Some(read) = seen.get(&(attempt.partition, offset))
                && *read != id
            {
                let place = format!("{}@{offset}", attempt.partition);
                found.push(format!(
                    "inconsistent-offset: {id} acknowledged at {place}, {read} was read there"
                ));
            }
        }
    }
    found
}

fn check_bounds(poll: &Poll, before: Option<&Poll>, found: &mut Vec<String>) {
    let Poll { reader, partition, high_watermark, last_stable, log_start, .. } = *poll;
    let mut wrong = |what: String| {
        found.push(format!("watermark: reader {reader}, partition {partition}: {what}"));
    };
    if last_stable > high_watermark || log_start > high_watermark {
        wrong(format!("{log_start}, {last_stable}, {high_watermark} are out of order"));
    }
    if let Some((offset, _)) = poll.records.last()
        && *offset >= high_watermark
    {
        wrong(format!("{offset} was read, the high watermark is {high_watermark}"));
    }
    if let Some(before) = before
        && (high_watermark < before.high_watermark || log_start < before.log_start)
    {
        wrong(format!(
            "log start and high watermark were {}, {} and are {log_start}, {high_watermark}",
            before.log_start, before.high_watermark
        ));
    }
}

fn check_run(poll: &Poll, found: &mut Vec<String>) {
    let mut due = poll.position;
    for (offset, _) in &poll.records {
        let name = match offset.cmp(&due) {
            std::cmp::Ordering::Equal => {
                due += 1;
                continue;
            }
            std::cmp::Ordering::Greater => "poll-skip",
            std::cmp::Ordering::Less => "nonmonotonic-poll",
        };
        let (reader, partition) = (poll.reader, poll.partition);
        found.push(format!("{name}: reader {reader}, partition {partition}: {offset} for {due}"));
        return;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::log;

    fn poll(position: i64, records: &[(i64, &str)], high_watermark: i64) -> Poll {
        Poll {
            reader: 1,
            partition: 0,
            position,
            records: records.iter().map(|(offset, id)| (*offset, (*id).to_owned())).collect(),
            high_watermark,
            last_stable: high_watermark,
            log_start: 0,
        }
    }

    #[track_caller]
    fn check(polls: &[Poll], log: Option<&BTreeMap<i32, Content>>, expected: &[&str]) {
        let found = anomalies(polls, log);
        let names: Vec<&str> = found.iter().map(|text| text.split(':').next().unwrap()).collect();
        assert_eq!(names, expected, "{found:#?}");
    }

    #[test]
    fn good_polls_have_no_anomalies() {
        let polls = [poll(0, &[(0, "a")], 1), poll(1, &[(1, "b"), (2, "c")], 3), poll(3, &[], 3)];
        check(&polls, Some(&log(&["a", "b", "c", "d"])), &[]);
        check(&polls, None, &[]);
    }

    #[test]
    fn two_values_at_one_offset_are_inconsistent() {
        check(&[poll(0, &[(0, "a")], 1)], Some(&log(&["b"])), &["inconsistent-offset"]);
        let mut other = poll(0, &[(0, "b")], 1);
        other.reader = 2;
        check(&[poll(0, &[(0, "a")], 1), other], None, &["inconsistent-offset"]);
    }

    #[test]
    fn records_left_out_or_given_again_are_found() {
        check(&[poll(0, &[(1, "b")], 2)], None, &["poll-skip"]);
        check(&[poll(0, &[(0, "a"), (2, "c")], 3)], None, &["poll-skip"]);
        check(&[poll(0, &[(0, "a"), (0, "a")], 1)], None, &["nonmonotonic-poll"]);
    }

    #[test]
    fn a_record_that_is_gone_has_vanished() {
        check(&[poll(0, &[(0, "a")], 1)], Some(&log(&[])), &["vanished"]);
    }

    #[test]
    fn bounds_that_move_back_are_found() {
        check(&[poll(0, &[], 5), poll(0, &[], 4)], None, &["watermark"]);
        check(&[poll(0, &[(0, "a")], 0)], None, &["watermark"]);
        let mut wrong = poll(0, &[], 5);
        wrong.last_stable = 6;
        check(&[wrong], None, &["watermark"]);
    }

    #[test]
    fn other_bytes_are_corrupt() {
        let value = payload::value("a", 5);
        assert_eq!(id_of(&value), "a");
        let id = id_of(&value[..value.len() - 1]);
        check(&[poll(0, &[(0, &id)], 1)], None, &["corrupt"]);
    }

    #[test]
    fn a_topic_that_is_gone_is_judged_by_what_was_sent_to_it() {
        let attempt = Attempt {
            producer: 1,
            kind: crate::history::Kind::Once,
            partition: 0,
            batch: 0,
            values: vec!["a".to_owned()],
            outcome: Outcome::Acknowledged(0),
        };
        let names = |polls: &[Poll]| -> Vec<String> {
            let found = unexplained(polls, std::slice::from_ref(&attempt));
            found.iter().map(|text| text.split(':').next().unwrap().to_owned()).collect()
        };
        assert!(names(&[poll(0, &[(0, "a")], 1)]).is_empty());
        assert_eq!(names(&[poll(0, &[(0, "b")], 1)]), ["phantom", "inconsistent-offset"]);
    }
}
