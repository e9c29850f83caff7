//! Every target for a moment, and whether the watch sees what it is for.

use std::time::Duration;

use anyhow::Result;
use ottla_fuzz::run::{ROUND_INPUTS, TIME_MAX, processor_time, run};
use ottla_fuzz::target::{Target, Verdict, all};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// One seed for all: a failure is repeated by running the test again.
const SEED: u64 = 20_261_121;

#[test]
fn no_damaged_input_panics_allocates_much_or_takes_long() -> Result<()> {
    for target in all() {
        let report = run(&target, SEED, Duration::from_millis(150))?;
        assert!(report.inputs > ROUND_INPUTS, "{}: {report:?}", target.name);
    }
    Ok(())
}

fn refused(read: fn(&[u8]) -> Verdict) -> String {
    let examples = |_: &ottla_env::Random| Ok(vec![vec![1, 2, 3]]);
    let target = Target { name: "broken", read, examples, reseal: None };
    format!("{:#}", run(&target, SEED, Duration::from_millis(50)).expect_err("a rule is broken"))
}

#[test]
fn a_reader_that_believes_a_count_is_found() {
    let said = refused(|_| {
        drop(std::hint::black_box(Vec::<u64>::with_capacity(1 << 30)));
        Ok(())
    });
    assert!(said.contains("asks for 8589934592 bytes on these 3 bytes"), "{said}");
    assert!(said.contains("echo 010203 |"), "{said}");
}

#[test]
fn a_reader_that_panics_on_damage_is_found() {
    let said = refused(|bytes| {
        assert!(bytes.len() == 3, "damaged");
        Ok(())
    });
    assert!(said.contains("panics on these"), "{said}");
    assert!(said.contains("seed 20261121, input "), "{said}");
}

#[test]
fn a_reader_that_takes_long_is_found() {
    let said = refused(|_| {
        let begin = processor_time();
        while processor_time() - begin <= TIME_MAX {}
        Ok(())
    });
    assert!(said.contains("takes "), "{said}");
}

#[test]
fn a_target_that_refuses_its_own_examples_shows_nothing() {
    let said = refused(|_| Err("no".into()));
    assert!(said.contains("an example is not read to its end"), "{said}");
}
