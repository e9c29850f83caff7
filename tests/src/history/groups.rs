//! What the members of a consumer group were given and committed, in one topic.
//!
//! Events carry a step of one counter that all clients of a test share: an event with a lower step
//! was over before one with a higher step began.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::payload;
use crate::topic::Content;

/// A partition in a member's hands, from its assignment to its loss.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Holding {
    /// Whose.
    pub member: u32,
    /// Of what.
    pub partition: i32,
    /// When it was assigned.
    pub assigned: u64,
    /// When the first record came.
    pub began: u64,
    /// Offsets and ids, as they came.
    pub records: Vec<(i64, String)>,
}

/// One commit of one partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Commit {
    /// By whom.
    pub member: u32,
    /// Of what.
    pub partition: i32,
    /// The offset to go on from.
    pub offset: i64,
    /// Before it was sent.
    pub began: u64,
    /// After it was answered.
    pub ended: u64,
    /// Answered with success. Otherwise it may have happened or not, also later.
    pub acknowledged: bool,
}

/// A committed offset as somebody was told it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Told {
    /// Of what.
    pub partition: i32,
    /// The offset; −1: there is none.
    pub offset: i64,
    /// Before it was asked for.
    pub began: u64,
    /// After it was answered.
    pub ended: u64,
}

/// One group and one topic.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct GroupHistory {
    /// What members were given.
    pub holdings: Vec<Holding>,
    /// What they committed.
    pub commits: Vec<Commit>,
    /// What others were told.
    pub told: Vec<Told>,
}

/// Everything that a group must not have seen. `log` is what the topic holds in the end; `complete`:
/// the group had the time to read all of it.
pub fn anomalies(
    history: &GroupHistory,
    log: &BTreeMap<i32, Content>,
    complete: bool,
) -> Vec<String> {
    let mut found = Vec::new();
    let mut delivered: BTreeMap<i32, BTreeSet<i64>> = BTreeMap::new();
    for holding in &history.holdings {
        let Holding { member, partition, assigned, began, ref records } = *holding;
        let content = log.get(&partition);
        let Some((first, _)) = records.first() else { continue };
        // Without a committed offset the group begins at the log's start.
        let told = Told { partition, offset: *first, began: assigned, ended: began };
        check_told(&history.commits, &told, true, &mut found);
        for ((offset, id), due) in records.iter().zip(*first..) {
            if *offset != due {
                let name = if *offset > due { "poll-skip" } else { "nonmonotonic-poll" };
                found.push(format!("{name}: member {member} got {partition}@{offset} for {due}"));
                break;
            }
            let stored = usize::try_from(*offset)
                .ok()
                .and_then(|offset| content?.records.get(offset))
                .map(|(_, _, value)| payload::id(value));
            match stored {
                None => found.push(format!("vanished: {id} was read at {partition}@{offset}")),
                Some(stored) if stored != id => found.push(format!(
                    "inconsistent-offset: {partition}@{offset} was {id} and is {stored}"
                )),
                Some(_) => {}
            }
            delivered.entry(partition).or_default().insert(*offset);
        }
    }
    for told in &history.told {
        check_told(&history.commits, told, false, &mut found);
    }
    for (partition, content) in log.iter().filter(|_| complete) {
        let empty = BTreeSet::new();
        let seen = delivered.get(partition).unwrap_or(&empty);
        if let Some(unseen) = (0..content.end).find(|offset| !seen.contains(offset)) {
            let missing = content.end - seen.len() as i64;
            found.push(format!("unseen: {partition}@{unseen}, {missing} in all"));
        }
    }
    found
}

/// Whether a committed offset can be what it was at some time between `began` and `ended`.
fn check_told(commits: &[Commit], told: &Told, none_is_zero: bool, found: &mut Vec<String>) {
    let of_partition = || commits.iter().filter(|commit| commit.partition == told.partition);
    // Members commit forward, so the highest acknowledged one is the last.
    let acknowledged = of_partition()
        .filter(|commit| commit.acknowledged && commit.ended < told.began)
        .map(|commit| commit.offset)
        .max();
    let (partition, offset) = (told.partition, told.offset);
    let none = offset == -1 || (none_is_zero && offset == 0);
    match acknowledged {
        None if none => return,
        Some(committed) if none && committed > 0 => {
            found.push(format!("offset-lost: partition {partition} was committed at {committed}"));
            return;
        }
        Some(committed) if offset == committed => return,
        _ => {}
    }
    let possible = of_partition().any(|commit| {
        let may_come_late = !commit.acknowledged || commit.ended >= told.began;
        commit.offset == offset && commit.began <= told.ended && may_come_late
    });
    if !possible {
        let invented = acknowledged.is_none_or(|committed| offset > committed);
        let name = if invented { "offset-invented" } else { "offset-back" };
        found.push(format!("{name}: partition {partition}: {offset}, committed {acknowledged:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(values: &[&str]) -> BTreeMap<i32, Content> {
        let records: Vec<_> =
            (0..).zip(values).map(|(offset, value)| (offset, 0, (*value).to_owned())).collect();
        let end = records.len() as i64;
        BTreeMap::from([(0, Content { bytes: Vec::new(), records, end })])
    }

    fn holding(step: u64, records: &[(i64, &str)]) -> Holding {
        let records = records.iter().map(|(offset, id)| (*offset, (*id).to_owned())).collect();
        Holding { member: 1, partition: 0, assigned: step, began: step + 1, records }
    }

    fn commit(offset: i64, step: u64, acknowledged: bool) -> Commit {
        Commit { member: 1, partition: 0, offset, began: step, ended: step + 1, acknowledged }
    }

    #[track_caller]
    fn check(history: GroupHistory, expected: &[&str]) {
        let found = anomalies(&history, &log(&["a", "b", "c"]), true);
        let names: Vec<&str> = found.iter().map(|text| text.split(':').next().unwrap()).collect();
        assert_eq!(names, expected, "{found:#?}");
    }

    fn all() -> Holding {
        holding(0, &[(0, "a"), (1, "b"), (2, "c")])
    }

    #[test]
    fn a_group_that_goes_on_where_it_was_has_no_anomalies() {
        let history = GroupHistory {
            holdings: vec![holding(0, &[(0, "a"), (1, "b")]), holding(8, &[(1, "b"), (2, "c")])],
            commits: vec![commit(1, 4, true), commit(2, 6, false)],
            told: vec![Told { partition: 0, offset: 2, began: 20, ended: 21 }],
        };
        check(history, &[]);
    }

    #[test]
    fn a_record_that_no_member_got_is_unseen() {
        let holdings = vec![holding(0, &[(0, "a"), (1, "b")])];
        check(GroupHistory { holdings, ..GroupHistory::default() }, &["unseen"]);
    }

    #[test]
    fn a_member_that_is_led_past_a_record_skips() {
        let holdings = vec![all(), holding(3, &[(0, "a"), (2, "c")])];
        check(GroupHistory { holdings, ..GroupHistory::default() }, &["poll-skip"]);
    }

    #[test]
    fn a_committed_offset_that_is_gone_is_lost() {
        let commits = vec![commit(2, 4, true)];
        let holdings = vec![all(), holding(8, &[(0, "a")])];
        check(GroupHistory { holdings, commits, told: Vec::new() }, &["offset-lost"]);
        let told = vec![Told { partition: 0, offset: -1, began: 20, ended: 21 }];
        let commits = vec![commit(2, 4, true)];
        check(GroupHistory { holdings: vec![all()], commits, told }, &["offset-lost"]);
    }

    #[test]
    fn a_committed_offset_does_not_move_back() {
        let commits = vec![commit(1, 4, true), commit(2, 6, true)];
        let holdings = vec![all(), holding(8, &[(1, "b")])];
        check(GroupHistory { holdings, commits, told: Vec::new() }, &["offset-back"]);
    }

    #[test]
    fn an_offset_that_nobody_committed_is_invented() {
        let holdings = vec![all(), holding(8, &[(2, "c")])];
        check(GroupHistory { holdings, ..GroupHistory::default() }, &["offset-invented"]);
    }

    #[test]
    fn other_records_than_the_logs_are_found() {
        let history =
            GroupHistory { holdings: vec![all(), holding(3, &[(0, "x")])], ..Default::default() };
        check(history, &["inconsistent-offset"]);
        let records = [(0, "a"), (1, "b"), (2, "c"), (3, "d")];
        let history =
            GroupHistory { holdings: vec![holding(0, &records)], ..GroupHistory::default() };
        check(history, &["vanished"]);
    }
}
