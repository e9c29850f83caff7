//! A short round of what `make torture` does for as long as asked, and what the checks of a round
//! find when something is wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ottla_env::delay;
use ottla_tests::history::Kind;
use ottla_tests::load::Load;
use ottla_tests::ottla::Ottla;
use ottla_tests::torture::plan::{Plan, StoreKind};
use ottla_tests::torture::report::Counts;
use ottla_tests::torture::round::{self, Logs};
use ottla_tests::torture::world::World;
use ottla_tests::{Scratch, topic};

/// A plan with kills, a freeze, a drain, weather and an outage.
const SEED: u64 = 20_261_121;
const LOAD: Duration = Duration::from_secs(12);
/// Fewer acknowledged records than this would show nothing.
const ACKNOWLEDGED_MIN: u64 = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_round_on_a_failing_s3_server_has_no_anomalies() -> Result<()> {
    let plan = Plan::new(SEED, StoreKind::S3, LOAD);
    let mut world = World::new("torture", StoreKind::S3, SEED).await?;
    let mut counts = Counts::default();
    let finished = round::run(&mut world, 0, &plan, Logs::new(), &mut counts).await?;
    println!("{counts}");
    if !finished.anomalies.is_empty() {
        finished.history.write(&world.scratch.path().join("history.jsonl"))?;
    }
    ensure!(finished.anomalies.is_empty(), "{plan:#?}\n{}", finished.anomalies.join("\n"));
    ensure!(counts.kills > 0 && counts.store_faults > 0, "nothing happened: {counts}");
    ensure!(counts.acknowledged > ACKNOWLEDGED_MIN, "too little to show anything: {counts}");
    world.scratch.done();
    Ok(())
}

#[tokio::test]
async fn fsck_names_an_object_that_is_missing_and_counts_one_that_nobody_knows() -> Result<()> {
    let scratch = Scratch::new("fsck")?;
    let mut server = Ottla::start_new(&scratch).await?;
    topic::create(&server.bootstrap(), "checked", 1).await?;
    let load = Load::start(&server.bootstrap(), "checked", &[Kind::Retrying], 1);
    delay(Duration::from_millis(300)).await;
    load.stop().await?;
    server.kill().await?;

    let (status, table, complaints) = server.run("fsck").await?;
    ensure!(status.success() && complaints.is_empty(), "{table}{complaints}");
    ensure!(count(&table, "live")? > 0 && count(&table, "orphans")? == 0, "{table}");

    let object = an_object(&server.data().join("objects"))?.context("no object")?;
    let name = object.file_name().context("no name")?.to_string_lossy().into_owned();
    // The same sequence under another attempt: an upload that was never committed.
    fs::copy(&object, object.with_extension("9"))?;
    fs::remove_file(&object)?;
    let (status, table, complaints) = server.run("fsck").await?;
    ensure!(!status.success() && complaints.contains(&name), "{table}{complaints}");
    ensure!(count(&table, "missing")? == 1, "{table}");
    ensure!(count(&table, "orphans")? + count(&table, "foreign")? == 1, "{table}");

    let objects = server.data().join("objects");
    fs::rename(&objects, scratch.path().join("elsewhere"))?;
    let (status, _, complaints) = server.run("fsck").await?;
    ensure!(!status.success() && complaints.contains("No such file or directory"), "{complaints}");
    ensure!(!objects.exists(), "it was made");
    scratch.done();
    Ok(())
}

fn count(table: &str, name: &str) -> Result<u64> {
    let line = table.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.with_context(|| format!("no {name} in {table}"))?.trim().parse()?)
}

/// Some object below a folder of objects.
fn an_object(folder: &Path) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if let Some(found) = an_object(&path)? {
                return Ok(Some(found));
            }
        } else if path.components().any(|part| part.as_os_str() == "wal") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
