//! F01 to F05: the way from an uploaded object to an acknowledged one.

use std::time::Duration;

use anyhow::{Result, ensure};
use ottla_control_plane::service::faulty::Faults;
use ottla_env::delay;
use ottla_object_io::faults::FaultRates;
use tokio::time::Instant;

use crate::round::{CALM, Round};
use crate::{FAULTY, seconds};

/// How often a node is killed in the midst of faults.
const KILLS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f01_uploaded_objects_without_a_commit_are_never_seen() -> Result<()> {
    let mut round = Round::start("f01").await?;
    for _ in 0..KILLS {
        round.node.set_control_faults(Faults::AWAY)?;
        delay(CALM).await;
        round.node.kill().await?;
        round.node.start_again().await?;
        delay(CALM).await;
    }
    let ended = round.finish().await?;
    let swept = ended.node.metric("ottla_sweep_objects_total", "orphan")?;
    ensure!(swept > 0.0, "no orphan was left to sweep");
    ended.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f02_commits_that_nobody_heard_of_are_found_by_the_retry() -> Result<()> {
    let mut round = Round::start("f02").await?;
    for _ in 0..KILLS {
        let lost = Faults { lost_answer: 1.0, ..Faults::default() };
        round.node.set_control_faults(lost)?;
        delay(CALM).await;
        round.node.kill().await?;
        round.node.start_again().await?;
        delay(CALM).await;
    }
    round.finish().await?.close().await
}

/// Held calls take effect when later ones are long answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f03_lost_late_and_doubled_calls_are_applied_once() -> Result<()> {
    let round = Round::start("f03").await?;
    round.node.set_control_faults(Faults {
        lost_request: 0.1,
        lost_answer: 0.3,
        doubled: 0.1,
        held: 0.1,
        delay_max: Duration::from_millis(50),
    })?;
    delay(FAULTY).await;
    let held = round.node.release_calls().await?;
    ensure!(held > 0, "no call was held");
    round.finish().await?.close().await
}

/// Longer than the session lasts, so that the broker registers again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f04_a_leader_that_is_away_for_ten_seconds_costs_no_record() -> Result<()> {
    let round = Round::start("f04").await?;
    round.node.set_control_faults(Faults::AWAY)?;
    delay(seconds(10)).await;
    round.finish().await?.close().await
}

/// Abandonments and commits are late and repeated; so are the uploads themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f05_an_upload_that_is_given_up_is_never_committed() -> Result<()> {
    let round = Round::start("f05").await?;
    let faults = Faults { lost_answer: 0.3, held: 0.3, delay_max: CALM, ..Faults::default() };
    round.node.set_control_faults(faults)?;
    delay(CALM).await;
    round.node.store().set_rates(FaultRates {
        write_failed_before: 0.7,
        write_late: 1.0,
        late_by: seconds(3),
        ..FaultRates::default()
    });
    // Uploads are given up after ten seconds; then that must be agreed on, too.
    let begin = Instant::now();
    while round.node.metric("ottla_objects_abandoned_total", "")? == 0.0 {
        ensure!(begin.elapsed() < seconds(40), "no upload was given up");
        delay(CALM / 10).await;
    }
    round.node.end_faults()?;
    delay(CALM).await;
    round.node.release_calls().await?;
    round.finish().await?.close().await
}
