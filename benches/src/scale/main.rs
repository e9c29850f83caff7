//! How one node scales: with partitions, connections, producers, a backlog, and time.
//!
//! `cargo run --release -p ottla-benches --bin ottla-scale -- CASE...`, all cases but `steady` when none
//! is named. Each case starts servers of its own, puts a load on them, mostly raw producers of a fixed
//! rate ([`ottla_tests::paced`]), and prints a table; `docs/performance.md` holds the tables of the
//! last run. Nothing is compared with a target here: a figure is for people to judge.
//!
//! | Case | Asks |
//! | --- | --- |
//! | `partitions` | what 1 to 50,000 partitions cost under the same load |
//! | `connections` | what 990 idle connections cost ten busy ones |
//! | `producers` | whether 100 producers of one partition get what one gets |
//! | `backlog` | whether a consumer far behind disturbs one at the tail (`OTTLA_SCALE_BACKLOG_GIB`) |
//! | `steady` | what grows during an hour of many small batches (`OTTLA_SCALE_SECONDS`) |

#![allow(clippy::print_stdout, reason = "a program for people")]

mod backlog;
mod connections;
mod partitions;
mod producers;
mod steady;
mod table;
mod watch;

use std::env;

use anyhow::{Context, Result, bail};

/// What runs when nothing is named.
const CASES: [&str; 4] = ["partitions", "connections", "producers", "backlog"];

#[tokio::main]
async fn main() -> Result<()> {
    let named: Vec<String> = env::args().skip(1).collect();
    let cases = if named.is_empty() { CASES.map(str::to_owned).to_vec() } else { named };
    for case in cases {
        match case.as_str() {
            "partitions" => partitions::run().await,
            "connections" => connections::run().await,
            "producers" => producers::run().await,
            "backlog" => backlog::run().await,
            "steady" => steady::run().await,
            other => bail!("there is no case {other}; there are {} and steady", CASES.join(", ")),
        }
        .context(case)?;
    }
    Ok(())
}

/// A number from the environment.
fn setting(name: &str, default: u64) -> Result<u64> {
    env::var(name).map_or(Ok(default), |text| text.parse().with_context(|| name.to_owned()))
}
