//! The stores as callers see them: back ends against the suite, the reliable layer against faults.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_env::Random;
use ottla_telemetry::Metrics;

use crate::faults::{FaultRates, FaultStore, ReadFault, WriteFault};
use crate::{
    Payload, ReadCause, S3Options, Store, StoreErrorKind, StoreOptions, conformance, memory, open,
    reliable,
};

fn open_at(url: &str) -> Arc<dyn Store> {
    open(url, &StoreOptions::default(), Random::seeded(1), Metrics::new()).unwrap()
}

/// A reliable store over a faulty one in memory, with an object of ten bytes under `k`.
async fn faulty() -> (Arc<FaultStore>, Arc<dyn Store>, Arc<Metrics>) {
    let faults = FaultStore::new(memory(), Random::seeded(1));
    let options =
        StoreOptions { hedge_after: Some(Duration::from_millis(400)), ..Default::default() };
    let metrics = Metrics::new();
    let store = reliable(faults.clone(), &options, Random::seeded(2), Arc::clone(&metrics));
    store.put("k", Bytes::from_static(b"0123456789").into()).await.unwrap();
    (faults, store, metrics)
}

async fn read(store: &Arc<dyn Store>) -> Result<Bytes, StoreErrorKind> {
    store.get_range("k", 2..5, ReadCause::Tail).await.map_err(|e| e.kind())
}

#[tokio::test]
async fn memory_conforms() {
    conformance::run(open_at("memory:"), Random::seeded(3)).await;
}

#[tokio::test]
async fn directories_conform() {
    let root = tempfile::tempdir().unwrap();
    let url = format!("file://{}/objects", root.path().display());
    conformance::run(open_at(&url), Random::seeded(4)).await;
}

/// Runs when a server is named: `OTTLA_TEST_S3_ENDPOINT` and `OTTLA_TEST_S3_BUCKET`, credentials
/// as always. The system tests start one and run the same suite.
#[tokio::test]
async fn s3_conforms() {
    let named = |name| std::env::var(name).ok();
    let (Some(endpoint), Some(bucket)) =
        (named("OTTLA_TEST_S3_ENDPOINT"), named("OTTLA_TEST_S3_BUCKET"))
    else {
        return;
    };
    let options = StoreOptions {
        s3: S3Options { endpoint: Some(endpoint), allow_http: true, ..S3Options::default() },
        ..Default::default()
    };
    let url = format!("s3://{bucket}/some/prefix");
    let random = Random::system();
    let store = open(&url, &options, random.clone(), Metrics::new()).unwrap();
    conformance::run(store, random).await;
}

#[tokio::test(start_paused = true)]
async fn refused_and_short_reads_are_repeated() {
    let (faults, store, metrics) = faulty().await;
    for fault in [ReadFault::Refused, ReadFault::Short] {
        faults.script_read(fault);
        assert_eq!(read(&store).await, Ok(Bytes::from_static(b"234")));
    }
    assert_eq!(metrics.object_store.retries.with(["retry"]).get(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_outage_ends_a_read_after_a_bounded_number_of_tries() {
    let (faults, store, _) = faulty().await;
    faults.set_outage(true);
    assert_eq!(read(&store).await, Err(StoreErrorKind::Retry));
    assert_eq!(faults.reads().len(), 4);
    faults.set_outage(false);
    assert_eq!(read(&store).await, Ok(Bytes::from_static(b"234")));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_hangs_is_given_up_while_its_client_still_waits() {
    let (faults, store, metrics) = faulty().await;
    for _ in 0..8 {
        faults.script_read(ReadFault::AnswerLost);
    }
    let started = tokio::time::Instant::now();
    assert_eq!(read(&store).await, Err(StoreErrorKind::RetryUnknown));
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert_eq!(faults.reads().len(), 4, "two tries, each with a rival");
    assert_eq!(metrics.object_store.inflight.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_try_that_hangs_leaves_time_for_one_that_does_not() {
    let (faults, store, _) = faulty().await;
    for fault in [ReadFault::AnswerLost, ReadFault::AnswerLost] {
        faults.script_read(fault);
    }
    assert_eq!(read(&store).await, Ok(Bytes::from_static(b"234")));
}

#[tokio::test(start_paused = true)]
async fn missing_and_denied_are_not_repeated() {
    let (faults, store, _) = faulty().await;
    faults.script_read(ReadFault::Missing);
    assert_eq!(read(&store).await, Err(StoreErrorKind::NotFound));
    faults.script_read(ReadFault::Denied);
    assert_eq!(read(&store).await, Err(StoreErrorKind::Denied));
    assert_eq!(faults.reads().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_slow_read_gets_a_rival_and_the_first_success_wins() {
    let (faults, store, metrics) = faulty().await;
    let started = tokio::time::Instant::now();
    faults.script_read(ReadFault::Slow(Duration::from_secs(5)));
    assert_eq!(read(&store).await, Ok(Bytes::from_static(b"234")));
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(metrics.object_store.hedges.get(), 1);
    assert_eq!(metrics.object_store.requests.with(["get", "tail", "cancelled"]).get(), 1);
    assert_eq!(metrics.object_store.inflight.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failing_rival_does_not_spoil_a_slow_success() {
    let (faults, store, _) = faulty().await;
    faults.script_read(ReadFault::Slow(Duration::from_secs(2)));
    faults.script_read(ReadFault::Missing);
    assert_eq!(read(&store).await, Ok(Bytes::from_static(b"234")));
}

#[tokio::test(start_paused = true)]
async fn a_truncated_write_that_was_accepted_is_found_out() {
    let (faults, store, _) = faulty().await;
    faults.script_write(WriteFault::Truncated);
    let put = store.put("t", Bytes::from_static(b"0123456789").into()).await;
    assert_eq!(put.map_err(|e| e.kind()), Err(StoreErrorKind::Corrupt));
}

#[tokio::test(start_paused = true)]
async fn writes_are_never_repeated() {
    let (faults, store, _) = faulty().await;
    for fault in [WriteFault::Refused, WriteFault::FailedBefore, WriteFault::AnswerLost] {
        faults.script_write(fault);
        assert!(store.put("w", Payload::default()).await.is_err());
    }
    assert_eq!(faults.puts(), ["k", "w", "w", "w"]);
}

#[tokio::test(start_paused = true)]
async fn a_late_write_arrives_after_its_error() {
    let (faults, store, _) = faulty().await;
    faults.script_write(WriteFault::Late(Duration::from_secs(60)));
    assert!(store.put("late", Bytes::from_static(b"x").into()).await.is_err());
    assert_eq!(store.get("late").await.map_err(|e| e.kind()), Err(StoreErrorKind::NotFound));
    faults.settle().await;
    assert_eq!(store.get("late").await, Ok(Bytes::from_static(b"x")));
}

#[tokio::test(start_paused = true)]
async fn one_seed_draws_the_same_faults() {
    let trace = async |seed| {
        let faults = FaultStore::new(memory(), Random::seeded(seed));
        faults.set_rates(FaultRates {
            write_failed_before: 0.3,
            write_failed_after: 0.3,
            ..FaultRates::default()
        });
        let mut outcomes = Vec::new();
        for i in 0..64 {
            outcomes.push(faults.put(&format!("k{i}"), Payload::default()).await.is_ok());
        }
        outcomes
    };
    assert_eq!(trace(1).await, trace(1).await);
    assert_ne!(trace(1).await, trace(2).await);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_always_slow_is_not_asked_twice_for_ever() {
    let (faults, store, _) = faulty().await;
    faults.set_outage(true);
    for _ in 0..400 {
        assert!(read(&store).await.is_err());
    }
    // The savings of 100, and half of the first tries.
    assert!(faults.reads().len() <= 400 + 100 + 200, "{}", faults.reads().len());
}
