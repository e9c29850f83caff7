//! Steps of time: a clock that was wrong, and what must not follow from its correction.

use ottla_format::command::*;
use ottla_model::*;

use super::fixture::*;
use crate::state::State;
use crate::state::semantics::PRODUCER_EXPIRY_MS;

const YEAR_MS: i64 = 365 * 86_400_000;

fn step(fixture: &mut Fixture, wall: i64, is_accepted: bool) -> bool {
    let step = StepTime { wall: TimestampMs(wall), is_accepted };
    match fixture.apply(CommandBody::StepTime(step)) {
        Answer::TimeStepped(is_done) => is_done,
        other => panic!("{other:?}"),
    }
}

/// The timestamp that a record gets now.
fn stamp(fixture: &mut Fixture) -> Option<i64> {
    match fixture.commit(vec![batch(partition(2, 0), 1, None)])[..] {
        [BatchOutcome::Appended { append_time, .. }] => append_time.map(|time| time.0),
        ref other => panic!("{other:?}"),
    }
}

fn log_append_topic(fixture: &mut Fixture) {
    let mut create = create_topic(2, "stamped", 1);
    create.configs.insert("message.timestamp.type".to_owned(), "LogAppendTime".to_owned());
    fixture.apply(CommandBody::CreateTopic(create));
}

#[test]
fn a_cluster_that_began_in_a_wrong_century_stamps_the_right_time_after_an_accepted_step() {
    let now = 1_764_545_734_000;
    for wrong_by in [70 * YEAR_MS, -20 * YEAR_MS] {
        let mut fixture = Fixture::new();
        fixture.time = now + wrong_by;
        log_append_topic(&mut fixture);
        assert_eq!(stamp(&mut fixture), Some(now + wrong_by));
        assert!(!step(&mut fixture, now, false), "nobody accepted it");
        assert_eq!(stamp(&mut fixture), Some(now + wrong_by));
        assert!(step(&mut fixture, now, true));
        fixture.time += 5;
        assert_eq!(stamp(&mut fixture), Some(now + 5));
        assert_eq!(fixture.state.time(), TimestampMs(now + wrong_by + 5), "ages go on");
    }
}

#[test]
fn an_empty_cluster_takes_any_step() {
    let mut fixture = Fixture::new();
    assert!(!step(&mut fixture, 5, false), "there is a topic");
    fixture.delete_topic(1);
    assert!(step(&mut fixture, 9_000, false));
    assert_eq!(fixture.state.append_time(), TimestampMs(9_000));
    log_append_topic(&mut fixture);
    fixture.time += 1;
    assert_eq!(stamp(&mut fixture), Some(9_001));
    fixture.delete_topic(2);
    assert!(!step(&mut fixture, 5, false), "an object is condemned since then");
}

#[test]
fn nothing_expires_and_nothing_stays_longer_because_of_a_step() {
    let mut fixture = Fixture::new();
    fixture.create_topic(3, "second", 1).unwrap();
    fixture.time = 10_000;
    fixture.commit(vec![batch(partition(1, 0), 1, producer(7, 0, 0))]);
    fixture.commit(vec![batch(partition(3, 0), 1, None)]);
    fixture.delete_topic(3);
    let offset = CommittedOffset { offset: Offset(1), leader_epoch: -1, metadata: "".into() };
    fixture.apply(CommandBody::CommitOffsets(CommitOffsets {
        author: fixture.author,
        group: GroupId::from("g"),
        offsets: vec![(partition(1, 0), offset)],
    }));
    let kept = |state: &State| {
        let size = state.size();
        let condemned = state.condemned(TimestampMs(state.time().0 - 1), 9).due.len();
        (size.producers, size.groups, condemned)
    };
    for wall in [90 * YEAR_MS, -5, 20_000] {
        let before = kept(&fixture.state);
        assert!(step(&mut fixture, wall, true));
        fixture.apply(CommandBody::Tick);
        let until = TimestampMs(fixture.state.time().0 - 1);
        fixture.apply(CommandBody::ExpireGroups { until });
        fixture.apply(CommandBody::ExpireProducers { until });
        assert_eq!(kept(&fixture.state), before, "after a step to {wall}");
    }
    fixture.time += PRODUCER_EXPIRY_MS;
    fixture.apply(CommandBody::Tick);
    fixture.apply(CommandBody::ExpireGroups { until: TimestampMs(10_000) });
    assert_eq!(kept(&fixture.state), (0, 0, 1), "they go when it is their time");
}

#[test]
fn no_step_overflows() {
    let mut fixture = Fixture::new();
    log_append_topic(&mut fixture);
    for wall in [i64::MIN, i64::MAX, 0] {
        assert!(step(&mut fixture, wall, true));
        stamp(&mut fixture);
    }
}
