//! Commits through the state machine: the program `apply_speed` of the control plane.
//!
//! Medians are judged; how long the slowest commands took is printed beside them.

use anyhow::{Context, Result};
use ottla_tests::process;
use tokio::process::Command;

use crate::Bench;
use crate::side::Side;
use crate::targets::{APPLY, APPLY_RATE, APPLY_WRITING};

const WITHIN: std::time::Duration = std::time::Duration::from_secs(120);

pub async fn run(bench: &mut Bench) -> Result<()> {
    for run in 1..=bench.runs {
        println!("apply, run {run} of {}", bench.runs);
        let program = crate::machine::beside_this_program("examples/apply_speed")?;
        let output = process::run(Command::new(program), WITHIN).await?;
        let plain = milliseconds(&output, "1,600 batches over 1,600 partitions ")?;
        bench.report.add(APPLY_RATE, Side::Ottla, 1_600.0 / plain * 1e3);
        bench.report.add(APPLY, Side::Ottla, plain);
        let name = "1,600 batches over 1,600 partitions, writing snapshots ";
        bench.report.add(APPLY_WRITING, Side::Ottla, milliseconds(&output, name)?);
    }
    Ok(())
}

/// The median of a line, which is printed whole.
fn milliseconds(output: &str, name: &str) -> Result<f64> {
    let line = output.lines().find(|line| line.starts_with(name));
    println!("{}", line.unwrap_or_default());
    let text = line.and_then(|line| line.split("median").nth(1)?.split_whitespace().next());
    Ok(text.with_context(|| format!("no line for '{name}' in {output}"))?.parse()?)
}
