//! `make fuzz`: every target, or one, for as long as asked.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use ottla_env::Random;
use ottla_fuzz::run::{Report, run};
use ottla_fuzz::target;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Gives damaged bytes to everything that reads bytes from outside.
#[derive(Debug, Parser)]
struct Options {
    /// How long, all targets together: 90s, 10m, 1h.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration)]
    r#for: Duration,
    /// Makes the same inputs again. Not given: a fresh one, which is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// Only this target.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
}

fn duration(text: &str) -> Result<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        unit => anyhow::bail!("{unit:?} is no unit (90s, 10m, 1h)"),
    };
    let count: u32 = digits.parse().context("90s, 10m, 1h")?;
    Ok(Duration::from_secs(seconds) * count)
}

#[allow(clippy::print_stdout, reason = "a program that reports")]
fn main() -> Result<()> {
    let options = Options::parse();
    let seed = options.seed.unwrap_or_else(|| Random::system().below(1 << 32));
    let mut targets = target::all();
    targets.retain(|target| options.target.as_ref().is_none_or(|name| name == target.name));
    ensure!(!targets.is_empty(), "no such target");
    let each = options.r#for / targets.len() as u32;
    println!("seed {seed}, {each:?} for each of {} targets", targets.len());
    for target in &targets {
        // Its name comes first, should an input end the process.
        print!("{:<12}", target.name);
        std::io::Write::flush(&mut std::io::stdout())?;
        let Report { inputs, accepted, allocated_max, time_max } = run(target, seed, each)?;
        let kib = allocated_max / 1_024;
        println!("{inputs:>11} inputs, {accepted} accepted, at most {kib} KiB and {time_max:?}");
    }
    Ok(())
}
