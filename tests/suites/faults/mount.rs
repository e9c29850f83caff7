//! F60: the mount of a directory of objects hangs. Requests that need no object go on, the threads
//! that hang are few however long it takes, and a signal ends the process all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ottla_env::delay;
use ottla_tests::disk_faults::{DiskFault, DiskFaults};
use ottla_tests::member::{self, Member};
use ottla_tests::ottla::Ottla;
use ottla_tests::raw::{RawClient, version};
use ottla_tests::{Scratch, http, topic};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::{seconds, short_or};

/// What is read from the directory, and is more than the cache holds.
const OLD: &str = "old";
const OLD_BATCHES: usize = 40;
const OLD_BATCH_BYTES: usize = 256 << 10;
const CACHE: (&str, &str) = ("OTTLA__CACHE__BYTES", "2MiB");
/// What is written while the mount hangs.
const NEW: &str = "new";
/// What is read from the cache.
const RECENT: &str = "recent";
const GROUP: &str = "mount";
/// So many uploads, with their retries, would hang on all threads that the runtime has.
const UPLOADS: (&str, &str) = ("OTTLA__PRODUCE__UPLOADS_MAX", "256");
/// Clients that write, and others that read old data: each hangs, gives up and comes again.
const WRITERS: usize = 100;
const READERS: usize = 40;
/// How long they wait for an answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// What needs no object is answered within this time.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// Threads that may hang: the sum of the gates in `object-io`, which is 104, and a few that come
/// and go.
const HUNG_THREADS_MAX: f64 = 120.0;
/// Fewer would show nothing.
const HANGING_MIN: f64 = 20.0;
/// A process that is told to end has ended.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

async fn write(client: &mut RawClient, topic: &str, value: String) -> Result<()> {
    let request = topic::produce_request(topic, 0, topic::batch(&[value], 1, None)?);
    let answer = client.call(version::PRODUCE, &request).await?;
    ensure!(answer.responses[0].partition_responses[0].error_code == 0, "{answer:?}");
    Ok(())
}

/// Hits the mount from many sides until `ended`.
fn hit_the_mount(bootstrap: &str, ended: &Arc<AtomicBool>) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for number in 0..WRITERS + READERS {
        let (bootstrap, ended) = (bootstrap.to_owned(), Arc::clone(ended));
        clients.spawn(async move {
            while !ended.load(Ordering::Relaxed) {
                let once = async {
                    let mut client = RawClient::connect(&bootstrap).await?;
                    if number < WRITERS {
                        return write(&mut client, NEW, "new".to_owned()).await;
                    }
                    let offset = (number * 7 % OLD_BATCHES) as i64;
                    client.call(version::FETCH, &topic::fetch_request(OLD, 0, offset)).await?;
                    Ok(())
                };
                // It is tried again after any outcome.
                let _ = timeout(PATIENCE, once).await;
            }
        });
    }
    clients
}

/// What must be answered although the mount hangs.
async fn goes_on(server: &Ottla, member: &Member, client: &mut RawClient, at: i64) -> Result<()> {
    member.heartbeat(client).await.context("a heartbeat")?;
    member.commit(client, NEW, at).await.context("a commit of offsets")?;
    ensure!(client.brokers().await? == 1, "no broker in the metadata");
    let read = topic::read(&server.bootstrap(), RECENT, 0).await.context("a cached fetch")?;
    ensure!(read.records == [(0, 1, RECENT.to_owned())], "{read:?}");
    ensure!(http::get(server.admin_port(), "/livez").await?.0 == 200, "not alive");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f60_a_mount_that_hangs_takes_nothing_else_along() -> Result<()> {
    let scratch = Scratch::new("f60")?;
    let server = Ottla::new(&scratch, "ottla")?.env(CACHE.0, CACHE.1).env(UPLOADS.0, UPLOADS.1);
    let (disk, mut server) = DiskFaults::below_objects(&scratch, server).await?;
    server.start().await?;
    let bootstrap = server.bootstrap();
    for name in [OLD, NEW, RECENT] {
        topic::create(&bootstrap, name, 1).await?;
    }
    let mut client = RawClient::connect(&bootstrap).await?;
    for _ in 0..OLD_BATCHES {
        write(&mut client, OLD, "x".repeat(OLD_BATCH_BYTES)).await?;
    }
    write(&mut client, RECENT, RECENT.to_owned()).await?;
    member::coordinator(&mut client, GROUP).await?;
    let member = Member::join(&mut client, GROUP).await?;
    goes_on(&server, &member, &mut client, 0).await.context("before")?;

    let before = server.scrape().await?.sum("process_threads", &[]);
    disk.begin(DiskFault::Freeze)?;
    let ended = Arc::new(AtomicBool::new(false));
    let clients = hit_the_mount(&bootstrap, &ended);
    let (begin, mut most) = (Instant::now(), before);
    let hangs = short_or(seconds(25), seconds(600));
    let mut at = 1;
    while begin.elapsed() < hangs {
        let since = begin.elapsed();
        let goes_on = goes_on(&server, &member, &mut client, at);
        let answered = timeout(ANSWERED_WITHIN, goes_on).await;
        answered.context("no answer").flatten().with_context(|| format!("after {since:?}"))?;
        most = most.max(server.scrape().await?.sum("process_threads", &[]));
        ensure!(most - before <= HUNG_THREADS_MAX, "{most} threads, {before} before");
        at += 1;
        delay(Duration::from_millis(500)).await;
    }
    ensure!(most - before >= HANGING_MIN, "only {most} threads, {before} before: nothing hangs");
    println!("f60: the mount hung for {hangs:?}, {before} threads before and {most} at most");

    disk.mend()?;
    let back = Instant::now();
    while write(&mut client, NEW, "after".to_owned()).await.is_err() {
        ensure!(back.elapsed() < ENDS_WITHIN, "no write after {ENDS_WITHIN:?}");
        client = RawClient::connect(&bootstrap).await?;
    }
    println!("f60: written {:?} after it came back", back.elapsed());
    ended.store(true, Ordering::Relaxed);
    clients.join_all().await;
    server.stop().await?;
    scratch.done();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f60_a_signal_ends_a_node_whose_mount_hangs() -> Result<()> {
    let scratch = Scratch::new("f60-signal")?;
    let (disk, mut server) =
        DiskFaults::below_objects(&scratch, Ottla::new(&scratch, "ottla")?).await?;
    server.start().await?;
    let bootstrap = server.bootstrap();
    topic::create(&bootstrap, NEW, 1).await?;
    disk.begin(DiskFault::Freeze)?;
    let mut client = RawClient::connect(&bootstrap).await?.with_patience(PATIENCE);
    ensure!(write(&mut client, NEW, "hangs".to_owned()).await.is_err(), "it was written");
    server.terminate(ENDS_WITHIN).await.context("while it serves")?;

    // Waiting for the mount, it has not begun to serve.
    server.spawn()?;
    let opened = |server: &Ottla| server.output().matches("read the control plane's files").count();
    while opened(&server) < 2 {
        server.process()?.check_running()?;
        delay(Duration::from_millis(50)).await;
    }
    server.terminate(ENDS_WITHIN).await.context("during a start")?;
    disk.mend()?;
    server.start().await.context("on a mount that is well again")?;
    server.stop().await?;
    scratch.done();
    Ok(())
}
