//! `make torture`: rounds of [`ottla_tests::torture`] for as long as asked.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use ottla_env::Random;
use ottla_tests::root;
use ottla_tests::torture::plan::{Plan, StoreKind};
use ottla_tests::torture::report::{Counts, table};
use ottla_tests::torture::round::{self, Logs};
use ottla_tests::torture::world::World;
use tokio::time::Instant;

/// Histories of rounds without anomalies that are kept.
const HISTORIES_KEPT: usize = 5;
/// Rounds of a world, before it makes room for a fresh one.
const ROUNDS_OF_A_WORLD: u64 = 6;
/// Each failed round keeps its world on disk; after so many there is enough to look at.
const FAILURES_MAX: u64 = 10;
/// Anomalies of a round that are shown; the history has them all.
const SHOWN: usize = 12;

/// Kills, freezes and restarts a server whose store fails, and checks every record.
#[derive(Debug, Parser)]
struct Options {
    /// How long: 90s, 10m, 1h.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    r#for: Duration,
    /// Makes the same plans again. Not given: a fresh one, which is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// How long clients write in a round.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    round: Duration,
    /// Only rounds on this store.
    #[arg(long, value_parser = store)]
    store: Option<StoreKind>,
    /// The number of the first round: with the seed of a failed run, the failed round.
    #[arg(long, default_value_t = 0)]
    first: u64,
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let count: u64 = digits.parse().map_err(|_| format!("not a duration: {text}"))?;
    let seconds = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(format!("not a duration: {text} (90s, 10m, 1h)")),
    };
    Ok(Duration::from_secs(count * seconds))
}

fn store(text: &str) -> Result<StoreKind, String> {
    match text {
        "file" => Ok(StoreKind::File),
        "s3" => Ok(StoreKind::S3),
        _ => Err("file or s3".to_owned()),
    }
}

#[tokio::main]
#[allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports")]
async fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options).await {
        Ok(all) => {
            println!("\n{}", table(&all));
            ExitCode::from(u8::from(all.anomalies > 0))
        }
        Err(error) => {
            eprintln!("torture: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stdout, reason = "a program that reports")]
async fn run(options: &Options) -> Result<Counts> {
    let seed = options.seed.unwrap_or_else(|| Random::system().u64() >> 32);
    let folder = root().join(format!("target/torture/seed-{seed}"));
    fs::create_dir_all(&folder)?;
    println!("seed {seed}, histories in {}", folder.display());
    let until = Instant::now() + options.r#for;
    let mut all = Counts::default();
    let mut worlds: BTreeMap<&str, (World, Logs, u64)> = BTreeMap::new();
    let mut kept = Kept { folder: folder.clone(), histories: VecDeque::new() };
    let mut failures = 0;
    let mut number = options.first;
    while Instant::now() < until && failures < FAILURES_MAX {
        let alternating = if number.is_multiple_of(2) { StoreKind::S3 } else { StoreKind::File };
        let kind = options.store.unwrap_or(alternating);
        let name = if kind == StoreKind::S3 { "s3" } else { "file" };
        // Rounds of one run have unrelated plans, and each can be made again alone.
        let seed_of_round = Random::seeded(seed.wrapping_add(number << 32)).u64();
        let plan = Plan::new(seed_of_round, kind, options.round);
        let (mut world, left, rounds) = match worlds.remove(name) {
            Some(old) => old,
            None => {
                let folder = format!("torture-{name}-{number}");
                (World::new(&folder, kind, seed_of_round).await?, Logs::new(), 0)
            }
        };
        let mut counts = Counts::default();
        let finished = round::run(&mut world, number, &plan, left, &mut counts).await;
        let (anomalies, left) = match finished {
            Ok(finished) => {
                kept.history(number, &plan, &finished)?;
                (finished.anomalies, finished.left)
            }
            Err(error) => {
                counts.rounds += 1;
                counts.anomalies += 1;
                (vec![format!("failed: {error:#}")], Logs::new())
            }
        };
        println!("round {number:>3}  {name:<4}  {counts}");
        all.add(&counts);
        if anomalies.is_empty() {
            if rounds + 1 < ROUNDS_OF_A_WORLD {
                worlds.insert(name, (world, left, rounds + 1));
            } else {
                world.scratch.done();
            }
        } else {
            failures += 1;
            kept.verdict(number, &plan, &anomalies)?;
            show(&anomalies, &world);
            world.scratch.leave();
        }
        number += 1;
    }
    for (_, (world, _, _)) in worlds {
        world.scratch.done();
    }
    Ok(all)
}

#[allow(clippy::print_stdout, reason = "a program that reports")]
fn show(anomalies: &[String], world: &World) {
    for anomaly in anomalies.iter().take(SHOWN) {
        println!("           {anomaly}");
    }
    println!("           its world: {}", world.scratch.path().display());
}

/// What is kept of rounds.
struct Kept {
    folder: PathBuf,
    histories: VecDeque<PathBuf>,
}

impl Kept {
    fn history(&mut self, number: u64, plan: &Plan, finished: &round::Finished) -> Result<()> {
        let path = self.folder.join(format!("round-{number}.jsonl"));
        finished.history.write(&path).with_context(|| path.display().to_string())?;
        if !finished.anomalies.is_empty() {
            return Ok(());
        }
        write_plan(&self.folder, number, plan)?;
        self.histories.push_back(path);
        if self.histories.len() > HISTORIES_KEPT
            && let Some(oldest) = self.histories.pop_front()
        {
            fs::remove_file(oldest)?;
        }
        Ok(())
    }

    /// Of a round that failed.
    fn verdict(&self, number: u64, plan: &Plan, anomalies: &[String]) -> Result<()> {
        write_plan(&self.folder, number, plan)?;
        let path = self.folder.join(format!("round-{number}.anomalies"));
        Ok(fs::write(path, anomalies.join("\n"))?)
    }
}

fn write_plan(folder: &Path, number: u64, plan: &Plan) -> Result<()> {
    Ok(fs::write(folder.join(format!("round-{number}.plan")), format!("{plan:#?}\n"))?)
}
