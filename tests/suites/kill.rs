//! `kill -9` at random moments under load: what was acknowledged is there, and nothing is there that
//! must not be.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use ottla_env::{Random, delay};
use ottla_tests::history::{self, Kind, Outcome};
use ottla_tests::load::Load;
use ottla_tests::ottla::Ottla;
use ottla_tests::topic::Content;
use ottla_tests::{Scratch, topic};

const TOPIC: &str = "killed";
const KILLS: u32 = 20;
/// A killed server is ready again within this time: it does not wait for its own dead session.
const READY_WITHIN: Duration = Duration::from_secs(1);
/// Fewer acknowledged batches of a kind than this would show nothing.
const ACKNOWLEDGED_MIN: usize = 100;
const SEED: u64 = 20_261_121;

const PRODUCERS: [Kind; 6] =
    [Kind::Idempotent, Kind::Idempotent, Kind::Once, Kind::Once, Kind::Retrying, Kind::Retrying];

async fn read_all(bootstrap: &str) -> Result<BTreeMap<i32, Content>> {
    let mut log = BTreeMap::new();
    for partition in 0..PRODUCERS.len() as i32 {
        log.insert(partition, topic::read(bootstrap, TOPIC, partition).await?);
    }
    Ok(log)
}

#[tokio::test]
async fn acknowledged_records_survive_twenty_kills() -> Result<()> {
    let scratch = Scratch::new("kill")?;
    let mut server = Ottla::start_new(&scratch).await?;
    let bootstrap = server.bootstrap();
    topic::create(&bootstrap, TOPIC, PRODUCERS.len() as i32).await?;
    let random = Random::seeded(SEED);
    let load = Load::start(&bootstrap, TOPIC, &PRODUCERS, SEED);
    let mut slowest = Duration::ZERO;
    let mut seen = Vec::new();
    for kill in 0..KILLS {
        delay(Duration::from_millis(50 + random.below(900))).await;
        server.kill().await?;
        let ready = server.start().await?;
        ensure!(ready < READY_WITHIN, "ready {ready:?} after kill {kill}");
        slowest = slowest.max(ready);
        let partition = (kill as usize % PRODUCERS.len()) as i32;
        seen.push((partition, topic::read(&bootstrap, TOPIC, partition).await?));
    }
    let history = load.stop().await?;
    history::write(&scratch.path().join("history.jsonl"), &history)?;
    for kind in [Kind::Idempotent, Kind::Once, Kind::Retrying] {
        let acknowledged = history
            .iter()
            .filter(|one| one.kind == kind && matches!(one.outcome, Outcome::Acknowledged(_)))
            .count();
        ensure!(acknowledged >= ACKNOWLEDGED_MIN, "{kind:?}: {acknowledged} acknowledged batches");
    }

    let log = read_all(&bootstrap).await?;
    let found = history::anomalies(&history, &log);
    ensure!(found.is_empty(), "{} anomalies:\n{}", found.len(), first(&found));
    for (partition, before) in seen {
        let now = &log[&partition].bytes;
        ensure!(now.starts_with(&before.bytes), "partition {partition} was other bytes before");
    }

    server.kill().await?;
    server.start().await?;
    ensure!(read_all(&bootstrap).await? == log, "other bytes after one more kill");
    println!("{KILLS} kills, {} attempts, slowest start {slowest:?}", history.len());
    scratch.done();
    Ok(())
}

fn first(found: &[String]) -> String {
    /// Anomalies shown; the first ones tell most.
    const SHOWN: usize = 20;
    found[..found.len().min(SHOWN)].join("\n")
}
