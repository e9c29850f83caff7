//! From the start of the process until `/readyz` says yes.

use anyhow::Result;
use ottla_tests::ottla::Ottla;
use ottla_tests::{Scratch, topic};

use crate::Bench;
use crate::side::Side;
use crate::targets::{START_EMPTY, START_KILLED, START_STOPPED};

const TOPICS: usize = 10;
const PARTITIONS_PER_TOPIC: i32 = 1_000;

pub async fn run(bench: &mut Bench) -> Result<()> {
    for run in 1..=bench.runs {
        println!("start, run {run} of {}", bench.runs);
        let scratch = Scratch::new("bench-start")?;
        let mut server = Ottla::new(&scratch, "ottla")?;
        let empty = server.start().await?;
        bench.report.add(START_EMPTY, Side::Ottla, empty.as_secs_f64());
        for number in 0..TOPICS {
            let name = format!("topic-{number}");
            topic::create(&server.bootstrap(), &name, PARTITIONS_PER_TOPIC).await?;
        }
        server.kill().await?;
        let killed = server.start().await?;
        bench.report.add(START_KILLED, Side::Ottla, killed.as_secs_f64());
        server.stop().await?;
        let stopped = server.start().await?;
        bench.report.add(START_STOPPED, Side::Ottla, stopped.as_secs_f64());
        server.stop().await?;
        scratch.done();
    }
    Ok(())
}
