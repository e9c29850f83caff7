//! Runs a target on damaged inputs and watches what each costs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use ottla_env::Random;
use rustix::time::{ClockId, clock_gettime};
use tikv_jemalloc_ctl::thread;
use tokio::time::Instant;

use crate::damage::{damage, one};
use crate::stored::corpus;
use crate::target::{Target, Verdict};

/// The most that one input may ask of the allocator, all in all: inputs have at most 16 KiB, of
/// which a decoder that is capped at [`ottla_wire::limits::DECOMPRESSED_BYTES_SMALL`] makes most.
pub const ALLOCATED_BYTES_MAX: u64 = 32 << 20;

/// The longest that one input may take of the processor.
pub const TIME_MAX: Duration = Duration::from_secs(1);

/// Checksums are made right again in all but one of so many inputs.
const LEFT_DAMAGED: u64 = 4;

/// Damaged inputs between two looks at the clock.
pub const ROUND_INPUTS: u64 = 16;

/// What a run read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Inputs, undamaged ones included.
    pub inputs: u64,
    /// Damaged inputs that were read to their end without error.
    pub accepted: u64,
    /// The most that an input asked of the allocator, in bytes.
    pub allocated_max: u64,
    /// The longest that an input took.
    pub time_max: Duration,
}

/// Runs `target` for `time`, but at least on its examples, everything in its corpus, and
/// [`ROUND_INPUTS`] damaged ones. The error is an input that broke a rule, or an example that could
/// not be read.
pub fn run(target: &Target, seed: u64, time: Duration) -> Result<Report> {
    let end = Instant::now() + time;
    let random = Random::seeded(seed);
    let mut report = Report::default();
    let mut inputs = (target.examples)(&random)?;
    ensure!(!inputs.is_empty(), "{}: no examples", target.name);
    for example in &inputs {
        if let Err(error) = report.watch(target, example)? {
            bail!("{}: an example is not read to its end: {error}", target.name);
        }
    }
    for input in corpus(target.name)? {
        // Whether it is read to its end is its own affair.
        let _ = report.watch(target, &input)?;
        inputs.push(input);
    }
    loop {
        // The clock is not asked for every input: most take less than that.
        for _ in 0..ROUND_INPUTS {
            let (Some(input), Some(other)) = (one(&random, &inputs), one(&random, &inputs)) else {
                break;
            };
            let mut input = input.clone();
            damage(&random, &mut input, other);
            if let Some(reseal) = target.reseal
                && random.below(LEFT_DAMAGED) > 0
            {
                reseal(&mut input);
            }
            let read = report.watch(target, &input);
            let read = read.with_context(|| format!("seed {seed}, input {}", report.inputs))?;
            report.accepted += u64::from(read.is_ok());
        }
        if Instant::now() >= end {
            return Ok(report);
        }
    }
}

impl Report {
    /// What the target said of `input`; an error when the input broke a rule.
    fn watch(&mut self, target: &Target, input: &[u8]) -> Result<Verdict> {
        let allocated = thread::allocatedp::read().map_err(|error| anyhow!("jemalloc: {error}"))?;
        let (bytes_before, time_before) = (allocated.get(), processor_time());
        let read = catch_unwind(AssertUnwindSafe(|| (target.read)(input)));
        let bytes = allocated.get() - bytes_before;
        let time = processor_time().saturating_sub(time_before);
        self.inputs += 1;
        self.allocated_max = self.allocated_max.max(bytes);
        self.time_max = self.time_max.max(time);
        let broken = match read {
            Err(_) => "panics".to_owned(),
            Ok(_) if bytes > ALLOCATED_BYTES_MAX => format!("asks for {bytes} bytes"),
            Ok(_) if time > TIME_MAX => format!("takes {time:?}"),
            Ok(read) => return Ok(read),
        };
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        let (name, length) = (target.name, input.len());
        bail!(
            "{name} {broken} on these {length} bytes. To make them an input of every run:\n\
             echo {hex} | xxd -r -p > crates/fuzz/corpus/{name}/WHAT-IT-IS"
        )
    }
}

/// What this thread took of the processor since it began.
pub fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
