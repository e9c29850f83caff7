//! Thousands of schedules of the commit protocol, as it is and with each known defect.
//!
//! `OTTLA_SIM_SEED=n` runs one schedule and prints what happened; `OTTLA_SIM_SEEDS=n` runs more.

#![allow(clippy::print_stdout, reason = "what was run and found is read by whoever asked")]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use ottla_sim::{Defect, Report, Scenario, run, trace};

/// Schedules of a plain test run.
const SEEDS: u64 = 700;
/// A defect that needs more is not found.
const SEEDS_FOR_A_DEFECT: u64 = 1_000;
/// Each named point is passed at least this often, or the run shows nothing.
const VISITS_MIN: u64 = 10;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

#[test]
fn every_promise_holds_in_every_schedule() {
    let scenario = Scenario::new(None);
    if let Some(seed) = setting("OTTLA_SIM_SEED") {
        println!("{}", trace(&scenario, seed).join("\n"));
        run(&scenario, seed).unwrap();
        return;
    }
    let mut total = Report::default();
    for seed in 0..setting("OTTLA_SIM_SEEDS").unwrap_or(SEEDS) {
        match run(&scenario, seed) {
            Ok(report) => total.add(&report),
            Err(failure) => {
                let log = trace(&scenario, seed);
                let tail = &log[log.len().saturating_sub(60)..];
                panic!(
                    "{}\n\n{}\n\nseed {seed}; the whole of it: OTTLA_SIM_SEED={seed} cargo test -p \
                     ottla-sim every_promise -- --nocapture",
                    tail.join("\n"),
                    failure.broken
                );
            }
        }
    }
    println!("{total:#?}");
    for (point, visits) in &total.visits {
        assert!(*visits >= VISITS_MIN, "{point} was passed {visits} times");
    }
    for promise in ["I-ACK", "I-DENSE", "I-ORDER", "I-ONE", "I-IDEM", "I-LIVE", "I-FENCE"] {
        let evaluated = total.evaluated.get(promise).copied().unwrap_or_default();
        assert!(evaluated >= 1_000, "{promise} was evaluated {evaluated} times");
    }
}

#[test]
fn a_seed_gives_the_same_schedule_every_time() {
    for seed in 0..20 {
        let scenario = Scenario::new(None);
        assert_eq!(trace(&scenario, seed), trace(&scenario, seed), "seed {seed}");
    }
}

fn is_found(defect: Defect) {
    let scenario = Scenario::new(Some(defect));
    let found = (0..SEEDS_FOR_A_DEFECT).find_map(|seed| Some((seed, found_by(&scenario, seed)?)));
    let (seed, found) = found.unwrap_or_else(|| panic!("{defect:?} is not found"));
    println!("{defect:?}: seed {seed}: {found}");
}

/// The line with which a defect is found in a schedule: by the checker, or by the state machine, which
/// ends the process when it would break a promise.
fn found_by(scenario: &Scenario, seed: u64) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(|| run(scenario, seed))) {
        Ok(outcome) => outcome.err().map(|failure| failure.broken.to_string()),
        Err(panic) => match panic.downcast::<String>() {
            Ok(line) if line.starts_with("I-") => Some(*line),
            Ok(line) => panic!("seed {seed}: {line}"),
            Err(panic) => resume_unwind(panic),
        },
    }
}

macro_rules! each_is_found {
    ($($name:ident: $defect:ident,)+) => {
        $(#[test] fn $name() { is_found(Defect::$defect); })+

        #[test]
        fn every_defect_has_its_test() {
            assert_eq!([$(Defect::$defect),+], Defect::ALL);
        }
    };
}

each_is_found! {
    acknowledging_before_the_commit_is_found: AckBeforeCommit,
    committing_before_the_upload_is_found: CommitBeforeUpload,
    accepting_a_truncated_upload_is_found: TruncatedUploadAccepted,
    abandoning_without_replication_is_found: AbandonNotReplicated,
    taking_an_unknown_commit_for_abandoned_is_found: UnknownCommitAbandoned,
    advancing_the_sequence_before_the_write_is_found: SequenceBeforeWrite,
    deleting_on_an_unknown_outcome_is_found: DeletedOnUnknown,
    sharing_a_key_between_attempts_is_found: SharedKey,
    leaving_successors_of_an_abandoned_object_is_found: SuccessorsStay,
    forgetting_failures_with_the_broker_epoch_is_found: FailuresForgotten,
    applying_commits_out_of_order_is_found: CommitsOutOfOrder,
    forgetting_outcomes_before_the_frontier_is_found: OutcomesForgotten,
    applying_a_commit_twice_is_found: CommitAppliedTwice,
    binding_topics_by_name_is_found: TopicByName,
    not_checking_the_fence_is_found: FenceUnchecked,
    answering_a_duplicate_without_its_offset_is_found: DuplicateWithoutOffset,
    sweeping_on_a_listing_alone_is_found: SweepOnListingAlone,
    sweeping_by_sequence_is_found: SweepBySequence,
    sweeping_without_a_delay_is_found: SweepWithoutDelay,
}
