//! What clients did and saw, and whether what is in the log afterwards can explain it.
//!
//! Every batch of every attempt of a producer is one [`Attempt`], every answer to a reader one
//! [`reads::Poll`], every assignment and commit of a group's member an entry of
//! [`groups::GroupHistory`]. A history is kept as JSON lines beside the logs of the test. A checker
//! looks at one topic at a time. The names of anomalies follow those of Jepsen's Kafka workload
//! where it has one.
//!
//! | Anomaly | Means |
//! | --- | --- |
//! | lost-write | acknowledged and not in the log |
//! | inconsistent-offset | acknowledged at one offset, found at another; or one offset, two values |
//! | duplicate | stored twice without a reason |
//! | torn, corrupt | stored in part, or other bytes than were sent |
//! | phantom | in the log, and nobody sent it to this topic |
//! | not-stored-but-stored | refused for certain, and in the log |
//! | gap, send-gap | an offset without a record; a later record of an idempotent producer without an earlier one |
//! | nonmonotonic-send | stored in another order than sent |
//! | poll-skip, nonmonotonic-poll | a reader was led past records, or back |
//! | watermark | a high watermark or log start moved back, or is out of order |
//! | vanished | read once, not in the log any more |
//! | unseen | never delivered to a group that read to the end |
//! | offset-lost, offset-back, offset-invented | a committed offset is gone, moved back, or nobody committed it |

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::payload;
use crate::topic::Content;

pub mod groups;
pub mod reads;

/// Kafka's NOT_ENOUGH_REPLICAS: certain that nothing was stored.
const NOT_STORED: i16 = 19;

/// What a producer promises its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// Idempotent, five requests in flight, retries with the same sequence until acknowledged.
    Idempotent,
    /// Five requests in flight, never retries.
    Once,
    /// One request in flight, retries until acknowledged; every attempt has values of its own, so
    /// that the log shows which attempts were stored.
    Retrying,
    /// Retries by itself, with the same values and without sequences: may store a record twice.
    Resending,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Stored, at this offset; −1 when the server says only that it was stored before.
    Acknowledged(i64),
    /// Answered with this error code.
    Refused(i16),
    /// Not answered.
    Unknown,
}

/// One batch of one attempt.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attempt {
    /// Who.
    pub producer: u32,
    /// Of which kind.
    pub kind: Kind,
    /// To which partition.
    pub partition: i32,
    /// The number of the batch in its producer, in send order.
    pub batch: u64,
    /// The values of its records or their ids ([`payload`]), unique in the whole history.
    pub values: Vec<String>,
    /// How it ended.
    pub outcome: Outcome,
}

/// Writes a history as JSON lines.
pub fn write(path: &Path, history: &[Attempt]) -> Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for attempt in history {
        serde_json::to_writer(&mut file, attempt)?;
        file.write_all(b"\n")?;
    }
    Ok(file.flush()?)
}

/// Where each id is stored.
type Places<'a> = BTreeMap<&'a str, Vec<(i32, i64)>>;

/// Everything in the log that the history cannot explain; empty when all is well.
pub fn anomalies(history: &[Attempt], log: &BTreeMap<i32, Content>) -> Vec<String> {
    let mut found = Vec::new();
    let mut stored = Places::new();
    for (&partition, content) in log {
        check_dense(partition, content, &mut found);
        for (offset, _, value) in &content.records {
            let id = payload::id(value);
            // Not every test pads its values.
            if id.len() < value.len() && payload::id_of_whole(value).is_none() {
                found.push(format!("corrupt: {id} at {partition}@{offset} is not what was sent"));
            }
            stored.entry(id).or_default().push((partition, *offset));
        }
    }
    let mut sent: BTreeMap<&str, Kind> = BTreeMap::new();
    for attempt in history {
        sent.extend(attempt.values.iter().map(|value| (payload::id(value), attempt.kind)));
        check_attempt(attempt, &stored, &mut found);
    }
    for (id, places) in &stored {
        let kind = sent.get(id);
        if kind.is_none() {
            found.push(format!("phantom: {id} at {places:?} was never sent"));
        }
        if places.len() > 1 && kind != Some(&Kind::Resending) {
            found.push(format!("duplicate: {id} at {places:?}"));
        }
    }
    check_order(history, &stored, &mut found);
    check_sequence(history, &stored, &mut found);
    found
}

fn check_dense(partition: i32, content: &Content, found: &mut Vec<String>) {
    for (expected, (offset, _, _)) in (0..).zip(&content.records) {
        if *offset != expected {
            found.push(format!("gap: partition {partition} has {offset} where {expected} is due"));
            return;
        }
    }
    if content.records.len() as i64 != content.end {
        let read = content.records.len();
        found.push(format!("gap: partition {partition} ends at {}, {read} read", content.end));
    }
}

fn check_attempt(attempt: &Attempt, stored: &Places<'_>, found: &mut Vec<String>) {
    let places: Vec<&[(i32, i64)]> = attempt
        .values
        .iter()
        .map(|value| stored.get(payload::id(value)).map_or(&[][..], Vec::as_slice))
        .collect();
    let first = places.first().copied().unwrap_or_default();
    let name = || payload::id(attempt.values.first().map_or("", String::as_str));
    // The batch lies there in one piece.
    let is_at = |&(partition, offset): &(i32, i64)| {
        partition == attempt.partition
            && (offset..).zip(&places).all(|(at, places)| places.contains(&(partition, at)))
    };
    let whole = first.iter().any(is_at);
    if !whole && places.iter().any(|places| !places.is_empty()) {
        found.push(format!("torn: {} is stored as {places:?}", name()));
    }
    match attempt.outcome {
        Outcome::Acknowledged(_) if !whole => {
            found.push(format!("lost-write: {} was acknowledged", name()));
        }
        Outcome::Acknowledged(offset)
            if offset >= 0 && !first.contains(&(attempt.partition, offset)) =>
        {
            found.push(format!(
                "inconsistent-offset: {} acknowledged at {offset}, is at {first:?}",
                name()
            ));
        }
        // Another attempt with the same values may have stored it.
        Outcome::Refused(NOT_STORED)
            if !first.is_empty() && !matches!(attempt.kind, Kind::Idempotent | Kind::Resending) =>
        {
            found.push(format!("not-stored-but-stored: {} is at {first:?}", name()));
        }
        _ => {}
    }
}

/// Batches of a producer that keeps order are in the log in the order in which they were sent.
fn check_order(history: &[Attempt], stored: &Places<'_>, found: &mut Vec<String>) {
    let mut acknowledged: BTreeMap<(u32, i32), BTreeMap<u64, i64>> = BTreeMap::new();
    for attempt in history {
        let kept = matches!(attempt.kind, Kind::Idempotent | Kind::Retrying);
        if let (true, Outcome::Acknowledged(_)) = (kept, attempt.outcome)
            && let Some((_, offset)) = attempt
                .values
                .first()
                .and_then(|value| stored.get(payload::id(value)))
                .and_then(|places| places.first())
        {
            let producer = (attempt.producer, attempt.partition);
            acknowledged.entry(producer).or_default().insert(attempt.batch, *offset);
        }
    }
    for ((producer, _), batches) in acknowledged {
        for ((before, at), (after, next)) in batches.iter().zip(batches.iter().skip(1)) {
            if at >= next {
                found.push(format!(
                    "nonmonotonic-send: producer {producer}: batch {before} at {at}, {after} at {next}"
                ));
            }
        }
    }
}

/// What is stored of an idempotent producer in a partition begins with its first batch there and
/// leaves none out.
fn check_sequence(history: &[Attempt], stored: &Places<'_>, found: &mut Vec<String>) {
    let mut batches: BTreeMap<(u32, i32), BTreeMap<u64, bool>> = BTreeMap::new();
    for attempt in history.iter().filter(|attempt| attempt.kind == Kind::Idempotent) {
        let is_stored =
            attempt.values.first().is_some_and(|value| stored.contains_key(payload::id(value)));
        let producer = (attempt.producer, attempt.partition);
        batches.entry(producer).or_default().insert(attempt.batch, is_stored);
    }
    for ((producer, partition), batches) in batches {
        let missing = batches.iter().find(|(_, stored)| !**stored).map(|(batch, _)| *batch);
        let last = batches.iter().rev().find(|(_, stored)| **stored).map(|(batch, _)| *batch);
        if let (Some(missing), Some(last)) = (missing, last)
            && missing < last
        {
            found.push(format!(
                "send-gap: producer {producer}, partition {partition}: batch {missing} is not \
                 stored, {last} is"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(kind: Kind, batch: u64, value: &str, outcome: Outcome) -> Attempt {
        let values = vec![value.to_owned()];
        Attempt { producer: 1, kind, partition: 0, batch, values, outcome }
    }

    pub(super) fn log(values: &[&str]) -> BTreeMap<i32, Content> {
        let records: Vec<_> =
            (0..).zip(values).map(|(offset, value)| (offset, 0, (*value).to_owned())).collect();
        let end = records.len() as i64;
        BTreeMap::from([(0, Content { bytes: Vec::new(), records, end })])
    }

    #[track_caller]
    fn check(history: &[Attempt], log: &BTreeMap<i32, Content>, expected: &[&str]) {
        let found = anomalies(history, log);
        let names: Vec<&str> = found.iter().map(|text| text.split(':').next().unwrap()).collect();
        assert_eq!(names, expected, "{found:#?}");
    }

    use Kind::{Idempotent, Once, Resending, Retrying};
    use Outcome::{Acknowledged, Refused, Unknown};

    #[test]
    fn a_good_history_has_no_anomalies() {
        let history = [
            attempt(Idempotent, 0, "a", Unknown),
            attempt(Idempotent, 0, "a", Acknowledged(0)),
            attempt(Idempotent, 1, "b", Acknowledged(-1)),
            attempt(Once, 2, "never-stored", Unknown),
            attempt(Retrying, 3, "c", Unknown),
            attempt(Retrying, 3, "c-again", Acknowledged(3)),
        ];
        check(&history, &log(&["a", "b", "c", "c-again"]), &[]);
    }

    #[test]
    fn an_acknowledged_record_that_is_not_there_is_lost() {
        check(&[attempt(Once, 0, "a", Acknowledged(0))], &log(&[]), &["lost-write"]);
    }

    #[test]
    fn an_acknowledged_record_elsewhere_is_an_inconsistent_offset() {
        let history = [attempt(Once, 0, "a", Acknowledged(1)), attempt(Once, 1, "b", Unknown)];
        check(&history, &log(&["a", "b"]), &["inconsistent-offset"]);
    }

    #[test]
    fn an_attempt_stored_twice_is_a_duplicate() {
        let history = [attempt(Retrying, 0, "a", Unknown)];
        check(&history, &log(&["a", "a"]), &["duplicate"]);
    }

    #[test]
    fn a_refusal_that_promised_not_stored_must_hold() {
        let history = [attempt(Once, 0, "a", Refused(NOT_STORED))];
        check(&history, &log(&["a"]), &["not-stored-but-stored"]);
    }

    #[test]
    fn a_record_that_nobody_sent_is_a_phantom() {
        check(&[], &log(&["a"]), &["phantom"]);
    }

    #[test]
    fn acknowledged_batches_out_of_order_are_nonmonotonic() {
        let history = [
            attempt(Idempotent, 0, "a", Acknowledged(1)),
            attempt(Idempotent, 1, "b", Acknowledged(0)),
        ];
        check(&history, &log(&["b", "a"]), &["nonmonotonic-send"]);
    }

    #[test]
    fn half_a_batch_is_torn() {
        let mut one = attempt(Idempotent, 0, "a", Unknown);
        one.values.push("b".to_owned());
        check(&[one], &log(&["a"]), &["torn"]);
    }

    #[test]
    fn a_missing_offset_is_a_gap() {
        let mut log = log(&["a"]);
        log.get_mut(&0).unwrap().end = 2;
        check(&[attempt(Once, 0, "a", Unknown)], &log, &["gap"]);
    }

    #[test]
    fn only_a_producer_that_resends_may_store_twice() {
        let history = [attempt(Resending, 0, "a", Acknowledged(1))];
        check(&history, &log(&["a", "a"]), &[]);
        let history = [attempt(Resending, 0, "a", Acknowledged(2)), attempt(Once, 0, "b", Unknown)];
        check(&history, &log(&["a", "a", "b"]), &["inconsistent-offset"]);
    }

    #[test]
    fn a_later_batch_without_an_earlier_one_is_a_gap_in_sending() {
        let history =
            [attempt(Idempotent, 0, "a", Unknown), attempt(Idempotent, 1, "b", Acknowledged(0))];
        check(&history, &log(&["b"]), &["send-gap"]);
    }

    #[test]
    fn a_value_with_other_bytes_than_its_id_says_is_corrupt() {
        let mut value = payload::value("a", 10);
        let history = [attempt(Once, 0, "a", Acknowledged(0))];
        check(&history, &log(&[&value]), &[]);
        value.pop();
        check(&history, &log(&[&value]), &["corrupt"]);
    }
}
