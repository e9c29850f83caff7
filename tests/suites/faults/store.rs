//! F06 to F12 but F09: an object store that fails, lies, or is slow.

use std::time::Duration;

use anyhow::{Result, ensure};
use ottla_env::delay;
use ottla_object_io::faults::{FaultRates, Latency};
use ottla_tests::Scratch;
use ottla_tests::fault_proxy::{FaultProxy, Weather};
use ottla_tests::versitygw::Versitygw;
use tokio::time::Instant;

use crate::node::FaultyNode;
use crate::outages::on_s3;
use crate::round::{CALM, Clients, Round};
use crate::{FAULTY, log, seconds};

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

/// The binary, for its log: an operator reads that it is the credentials, and of which object.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_refused_credentials_are_told() -> Result<()> {
    const TOLD_WITHIN: Duration = seconds(30);
    let scratch = Scratch::new("f11-s3")?;
    let gateway = Versitygw::start_new(&scratch).await?;
    let proxy = FaultProxy::start(gateway.address(), 11).await?;
    let mut server = on_s3(&scratch, &proxy)?;
    server.start().await?;
    let clients = Clients::start(&server.bootstrap()).await?;
    proxy.set(Weather { denied: 1.0, ..Weather::default() });
    let begin = Instant::now();
    let line = loop {
        let log = server.output();
        if let Some(line) = log.lines().find(|line| line.contains("denies access to")) {
            break line.to_owned();
        }
        ensure!(begin.elapsed() < TOLD_WITHIN, "it is not told:\n{log}");
        delay(CALM / 10).await;
    };
    println!("f11: {line}");
    for part in ["WARN", "upload attempt failed", "wal/", "check the credentials", "AccessDenied"] {
        ensure!(line.contains(part), "{part:?} is not told: {line}");
    }
    server.process()?.check_running()?;
    proxy.set(Weather::default());
    clients.finish(&scratch).await?;
    server.stop().await?;
    scratch.done();
    Ok(())
}

/// Each kind of damage alone until it is noticed, and all at once; every time with an empty cache.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f12_damaged_reads_are_found_and_never_served() -> Result<()> {
    /// A flipped bit is noticed only when it is in what is then served, a tenth of an object.
    const TRIES_MAX: usize = 8;
    log::keep();
    let mut round = Round::start_with("f12", true, &[COLD]).await?;
    let none = FaultRates::default();
    let mixed = FaultRates {
        refused: 0.05,
        read_short: 0.1,
        read_corrupt: 0.1,
        read_missing: 0.1,
        answer_lost: 0.01,
        ..none
    };
    for (damage, rates) in [
        (Damage::Short, FaultRates { read_short: 0.3, ..none }),
        (Damage::Changed, FaultRates { read_corrupt: 0.8, ..none }),
        (Damage::Missing, FaultRates { read_missing: 0.1, ..none }),
        (Damage::Any, mixed),
    ] {
        let mut noticed = 0.0;
        for _ in 0..TRIES_MAX {
            delay(CALM).await;
            // A start is refused when the store hides the bucket's marker.
            round.node.kill().await?;
            round.node.start_again().await?;
            let before = damage.noticed(&round.node)?;
            round.node.store().set_rates(rates);
            // Compares each value with the one that was read of the same offset before.
            round.clients.read_again().await?;
            round.node.store().set_rates(none);
            noticed = damage.noticed(&round.node)? - before;
            if noticed > 0.0 {
                break;
            }
        }
        println!("f12: {damage:?}: noticed {noticed} times");
        ensure!(noticed > 0.0, "{damage:?}: no damage was noticed");
    }
    // And everything with what was written.
    round.finish().await?.close().await
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    Short,
    Changed,
    Missing,
    Any,
}

impl Damage {
    /// How often the node has said so. Its counters begin anew when it is started, the log does not.
    fn noticed(self, node: &FaultyNode) -> Result<f64> {
        let requests = |labels| node.metric("ottla_objectstore_requests_total", labels);
        let warning = ["read damaged bytes again", " partition=", " object=", " position="];
        let changed = log::lines_with(&warning) as f64;
        match self {
            Self::Short => requests(r#"outcome="retry""#),
            Self::Changed => Ok(changed),
            Self::Missing => requests(r#"outcome="not_found""#),
            Self::Any => {
                Ok(changed + requests(r#"outcome="retry""#)? + requests(r#"outcome="not_found""#)?)
            }
        }
    }
}
