//! What producers did, and whether what is in the log afterwards can be explained by it.
//!
//! Every batch of every attempt is one [`Attempt`]; a history is kept as JSON lines beside the logs
//! of the test. The names of anomalies follow those of Jepsen's Kafka workload where it has one.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::topic::Content;

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
    /// To which partition; one producer writes to one.
    pub partition: i32,
    /// The number of the batch in its producer, in send order.
    pub batch: u64,
    /// The values of its records, unique in the whole history.
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

/// Everything in the log that the history cannot explain; empty when all is well.
pub fn anomalies(history: &[Attempt], log: &BTreeMap<i32, Content>) -> Vec<String> {
    let mut found = Vec::new();
    let mut stored: BTreeMap<&str, (i32, i64)> = BTreeMap::new();
    for (&partition, content) in log {
        check_dense(partition, content, &mut found);
        for (offset, _, value) in &content.records {
            if let Some(first) = stored.insert(value, (partition, *offset)) {
                found.push(format!("duplicate: {} at {first:?} and {offset}", head(value)));
            }
        }
    }
    let mut sent: BTreeMap<&str, ()> = BTreeMap::new();
    for attempt in history {
        sent.extend(attempt.values.iter().map(|value| (value.as_str(), ())));
        check_attempt(attempt, &stored, &mut found);
    }
    for (value, at) in &stored {
        if !sent.contains_key(value) {
            found.push(format!("phantom: {} at {at:?} was never sent", head(value)));
        }
    }
    check_order(history, &stored, &mut found);
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

fn check_attempt(attempt: &Attempt, stored: &BTreeMap<&str, (i32, i64)>, found: &mut Vec<String>) {
    let at: Vec<Option<(i32, i64)>> =
        attempt.values.iter().map(|value| stored.get(value.as_str()).copied()).collect();
    let first = at.first().copied().flatten();
    let name = || head(attempt.values.first().map_or("", String::as_str));
    let whole = first.is_some_and(|(partition, offset)| {
        partition == attempt.partition
            && (offset..).zip(&at).all(|(offset, at)| *at == Some((partition, offset)))
    });
    if !whole && at.iter().any(Option::is_some) {
        found.push(format!("torn: {} is stored as {at:?}", name()));
    }
    match attempt.outcome {
        Outcome::Acknowledged(_) if !whole => {
            found.push(format!("lost-write: {} was acknowledged", name()));
        }
        Outcome::Acknowledged(offset)
            if offset >= 0 && first != Some((attempt.partition, offset)) =>
        {
            found.push(format!(
                "inconsistent-offset: {} acknowledged at {offset}, is at {first:?}",
                name()
            ));
        }
        // An idempotent batch has the same values in each attempt: another one may have stored it.
        Outcome::Refused(NOT_STORED) if first.is_some() && attempt.kind != Kind::Idempotent => {
            found.push(format!("not-stored-but-stored: {} is at {first:?}", name()));
        }
        _ => {}
    }
}

/// Batches of a producer that keeps order are in the log in the order in which they were sent.
fn check_order(history: &[Attempt], stored: &BTreeMap<&str, (i32, i64)>, found: &mut Vec<String>) {
    let mut acknowledged: BTreeMap<u32, BTreeMap<u64, i64>> = BTreeMap::new();
    for attempt in history {
        let kept = attempt.kind != Kind::Once;
        if let (true, Outcome::Acknowledged(_)) = (kept, attempt.outcome)
            && let Some((_, offset)) =
                attempt.values.first().and_then(|value| stored.get(value.as_str()))
        {
            acknowledged.entry(attempt.producer).or_default().insert(attempt.batch, *offset);
        }
    }
    for (producer, batches) in acknowledged {
        for ((before, at), (after, next)) in batches.iter().zip(batches.iter().skip(1)) {
            if at >= next {
                found.push(format!(
                    "nonmonotonic-send: producer {producer}: batch {before} at {at}, {after} at {next}"
                ));
            }
        }
    }
}

/// The beginning of a value: enough to find it.
fn head(value: &str) -> &str {
    value.split(' ').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(kind: Kind, batch: u64, value: &str, outcome: Outcome) -> Attempt {
        let values = vec![value.to_owned()];
        Attempt { producer: 1, kind, partition: 0, batch, values, outcome }
    }

    fn log(values: &[&str]) -> BTreeMap<i32, Content> {
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

    use Kind::{Idempotent, Once, Retrying};
    use Outcome::{Acknowledged, Refused, Unknown};

    #[test]
    fn a_good_history_has_no_anomalies() {
        let history = [
            attempt(Idempotent, 0, "a", Unknown),
            attempt(Idempotent, 0, "a", Acknowledged(0)),
            attempt(Idempotent, 1, "b", Acknowledged(-1)),
            attempt(Once, 2, "never stored", Unknown),
            attempt(Retrying, 3, "c", Unknown),
            attempt(Retrying, 3, "c again", Acknowledged(3)),
        ];
        check(&history, &log(&["a", "b", "c", "c again"]), &[]);
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
}
