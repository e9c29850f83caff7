//! F61, F62: nobody reads the log, clients fill it, connections for HTTP that say nothing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ottla_env::delay;
use ottla_tests::edge::Edge;
use ottla_tests::edge::TOPIC;
use ottla_tests::member::{self, Member};
use ottla_tests::ottla::Ottla;
use ottla_tests::raw::{RawClient, version};
use ottla_tests::{Scratch, http, topic};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// More connections than [`OPEN_FILES`].
const IDLE: usize = 700;
const OPEN_FILES: u32 = 600;
/// A node that does not wait for anybody answers within this time.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);
/// Lines come until the log is full within this time.
const FULL_WITHIN: Duration = Duration::from_secs(60);
const ENDS_WITHIN: Duration = Duration::from_secs(20);
/// Members that join, each a group of its own.
const JOINS: usize = 60;
/// Lines of one place in ten seconds.
const LINES_MAX: usize = 10;

async fn produce(client: &mut RawClient) -> Result<()> {
    let request = topic::produce_request(TOPIC, 0, topic::batch(&["a".to_owned()], 1, None)?);
    let answer = client.call(version::PRODUCE, &request).await?;
    ensure!(answer.responses[0].partition_responses[0].error_code == 0, "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn f61_a_log_that_nobody_reads_holds_up_nothing() -> Result<()> {
    let scratch = Scratch::new("log-unread")?;
    let mut server = Ottla::new(&scratch, "ottla")?
        .env("OTTLA__KAFKA__CONNECTIONS_RATE", "0")
        .env("OTTLA__LOG__FILTER", "debug");
    let unread = server.start_unread().await?;
    let bootstrap = server.bootstrap();
    topic::create(&bootstrap, TOPIC, 1).await?;
    let begin = Instant::now();
    // Every request makes lines of the debug level, until the pipe and the queue are full.
    while server.metric("ottla_log_lines_dropped_total").await?.is_none_or(|dropped| dropped == 0.0)
    {
        ensure!(begin.elapsed() < FULL_WITHIN, "no line was dropped");
        let serves = async {
            let mut client = RawClient::connect(&bootstrap).await?;
            for _ in 0..50 {
                produce(&mut client).await?;
            }
            anyhow::Ok(())
        };
        timeout(ANSWERED_WITHIN, serves).await.context("the node is frozen")??;
    }
    let alive = timeout(ANSWERED_WITHIN, http::get(server.admin_port(), "/livez")).await;
    ensure!(alive.context("/livez is frozen")??.0 == 200, "not alive");
    let status = server.terminate(ENDS_WITHIN).await.context("it does not end")?;
    ensure!(status.success(), "{status}");
    drop(unread);
    scratch.done();
    Ok(())
}

#[tokio::test]
async fn f61_each_place_in_the_code_has_a_number_of_lines() -> Result<()> {
    let edge =
        Edge::start("log-rate", &[("OTTLA__KAFKA__GROUP_INITIAL_REBALANCE_DELAY", "0s")]).await?;
    let mut client = RawClient::connect(&edge.bootstrap).await?;
    let begin = Instant::now();
    for number in 0..JOINS {
        let group: &'static str = Box::leak(format!("group-{number}").into_boxed_str());
        member::coordinator(&mut client, group).await?;
        Member::join(&mut client, group).await?;
    }
    let periods = begin.elapsed().as_secs() as usize / 10 + 2;
    let log = edge.server.output();
    let lines = log.matches("a member joins").count();
    ensure!(lines >= LINES_MAX && lines <= LINES_MAX * periods, "{JOINS} joins made {lines} lines");
    edge.survived(64 << 20).await
}

#[tokio::test]
async fn f62_idle_connections_for_http_take_no_file_from_the_store() -> Result<()> {
    let scratch = Scratch::new("admin-idle")?;
    let mut server = Ottla::new(&scratch, "ottla")?.open_files_max(OPEN_FILES);
    server.start().await?;
    let bootstrap = server.bootstrap();
    topic::create(&bootstrap, TOPIC, 1).await?;
    let mut client = RawClient::connect(&bootstrap).await?;
    ottla_env::raise_open_files_limit();
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        idle.push(TcpStream::connect(("127.0.0.1", server.admin_port())).await?);
    }
    for _ in 0..10 {
        produce(&mut client).await?;
        let alive = timeout(ANSWERED_WITHIN, http::get(server.admin_port(), "/livez")).await;
        ensure!(alive.context("/livez does not answer")??.0 == 200, "not alive");
        delay(Duration::from_millis(100)).await;
    }
    let open = server.metric("process_open_fds").await?.context("no metric")?;
    ensure!(open < 200.0, "{open} files are open");
    let log = server.output();
    ensure!(!log.contains("EMFILE") && !log.contains("Too many open files"), "out of files");
    drop(idle);
    server.stop().await?;
    scratch.done();
    Ok(())
}
