//! F06 to F12 but F09: an object store that fails, lies, or is slow.

use std::time::Duration;

use anyhow::{Result, ensure};
use ottla_env::delay;
use ottla_object_io::faults::{FaultRates, Latency};

use crate::round::{CALM, Round};
use crate::{FAULTY, seconds};

/// So small that what is read comes from the store.
const COLD: (&str, &str) = ("OTTLA__CACHE__BYTES", "1MiB");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f06_uploads_whose_answer_is_lost_are_made_again_and_swept() -> Result<()> {
    let round = Round::start("f06").await?;
    round.node.store().set_rates(FaultRates {
        write_failed_after: 0.3,
        answer_lost: 0.02,
        ..FaultRates::default()
    });
    delay(FAULTY).await;
    let ended = round.finish().await?;
    let swept = ended.node.metric("ottla_sweep_objects_total", "orphan")?;
    ensure!(swept > 0.0, "no orphan was left to sweep");
    ended.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f07_uploads_that_were_cut_short_are_not_committed() -> Result<()> {
    let round = Round::start("f07").await?;
    round.node.store().set_rates(FaultRates {
        write_truncated: 0.2,
        write_empty: 0.2,
        ..FaultRates::default()
    });
    delay(FAULTY).await;
    let refused = round.node.metric("ottla_objectstore_requests_total", "corrupt")?;
    ensure!(refused > 0.0, "no upload was cut short");
    round.finish().await?.close().await
}

/// The exact figures are those of the writer's own test under paused time
/// (`a_store_that_serves_less_than_it_is_asked_for_is_not_driven_further`).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f08_a_store_that_says_slow_down_is_not_driven_further() -> Result<()> {
    const SERVED: u32 = 20;
    const STORM: Duration = Duration::from_secs(10);
    let round = Round::start("f08").await?;
    let before = round.clients.stored_per_second().await;
    let (asked, objects) = (round.node.store().puts().len(), round.node.objects()?);
    let latency = Latency { usual: Duration::from_millis(20), ..Latency::default() };
    round.node.store().set_rates(FaultRates { latency, ..FaultRates::default() });
    round.node.store().set_write_capacity(Some(SERVED));
    delay(STORM).await;
    let asked = (round.node.store().puts().len() - asked) as f64;
    let stored = (round.node.objects()? - objects) as f64;
    round.node.end_faults()?;
    let back = round.clients.come_back(before).await?;
    println!("f08: {asked} requests for {stored} objects; as fast as before after {back:.1?}");
    ensure!(asked <= 2.5 * stored, "{asked} requests for {stored} objects");
    let possible = f64::from(SERVED) * STORM.as_secs_f64();
    ensure!(stored >= 0.6 * possible, "{stored} of {possible} objects");
    round.finish().await?.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f10_a_slow_request_in_fifty_holds_nobody_up_for_its_five_seconds() -> Result<()> {
    let round = Round::start_with("f10", true, &[COLD]).await?;
    let latency = Latency { usual: Duration::from_millis(40), slow: seconds(10), slow_share: 0.02 };
    round.node.store().set_rates(FaultRates { latency, ..FaultRates::default() });
    delay(3 * FAULTY).await;
    let ended = round.finish().await?;
    let hedges = ended.node.metric("ottla_upload_extra_attempts_total", "hedge")?;
    ensure!(hedges > 0.0, "no upload was hedged");
    let silence = ended.report.longest_silence;
    ensure!(silence < seconds(4), "{silence:?} without a stored record");
    ended.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_refused_credentials_are_waited_out() -> Result<()> {
    let round = Round::start("f11").await?;
    round.node.store().set_rates(FaultRates { denied: 1.0, ..FaultRates::default() });
    delay(FAULTY).await;
    ensure!(round.node.is_whole().await, "a part of the node has ended");
    let denied = round.node.metric("ottla_objectstore_requests_total", "denied")?;
    ensure!(denied > 0.0, "no request was counted as denied");
    round.finish().await?.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f12_damaged_reads_are_found_and_never_served() -> Result<()> {
    let mut round = Round::start_with("f12", true, &[COLD]).await?;
    for _ in 0..3 {
        delay(CALM).await;
        // With an empty cache. A start is refused when the store hides the bucket's marker.
        round.node.kill().await?;
        round.node.start_again().await?;
        round.node.store().set_rates(FaultRates {
            refused: 0.05,
            read_short: 0.1,
            read_corrupt: 0.1,
            read_missing: 0.1,
            answer_lost: 0.01,
            ..FaultRates::default()
        });
        round.clients.read_again().await?;
        round.node.store().set_rates(FaultRates::default());
    }
    ensure!(!round.node.store().reads().is_empty(), "nothing was read from the store");
    round.finish().await?.close().await
}
