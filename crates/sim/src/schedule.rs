//! A schedule: some steps with faults, then healing, rest, and a last look.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_storage::limits::FAILED_PRODUCERS_KEPT;
use ottla_telemetry::Metrics;

use crate::Defect;
use crate::checker::Broken;
use crate::client::Client;
use crate::world::{World, lock};

/// Steps with faults: enough for every producer's batches, twice.
const STEPS: u64 = 500;
/// Steps in which everything must come to rest once nothing goes wrong any more.
const STEPS_TO_REST: u64 = 6_000;

/// What to run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What is broken.
    pub defect: Option<Defect>,
    metrics: Arc<Metrics>,
}

impl Scenario {
    /// With a defect, or as it should be.
    pub fn new(defect: Option<Defect>) -> Self {
        Self { defect, metrics: Metrics::new() }
    }
}

/// What a schedule did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How often which point was passed.
    pub visits: BTreeMap<&'static str, u64>,
    /// How often which promise was evaluated.
    pub evaluated: BTreeMap<&'static str, u64>,
    /// Commands that the state machine applied.
    pub commands: u64,
    /// Batches that were stored.
    pub stored: u64,
}

impl Report {
    /// Adds another one.
    pub fn add(&mut self, other: &Report) {
        for (point, count) in &other.visits {
            *self.visits.entry(point).or_default() += count;
        }
        for (promise, count) in &other.evaluated {
            *self.evaluated.entry(promise).or_default() += count;
        }
        self.commands += other.commands;
        self.stored += other.stored;
    }
}

/// A promise was broken.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The schedule.
    pub seed: u64,
    /// Which promise, and how.
    pub broken: Broken,
}

/// Runs the schedule of a seed.
pub fn run(scenario: &Scenario, seed: u64) -> Result<Report, Failure> {
    let mut world = World::new(seed, scenario.defect, &scenario.metrics, false);
    play(&mut world).map_err(|broken| Failure { seed, broken })?;
    let commands = lock(&world.plane).commands;
    let stored = world.checker.stored();
    Ok(Report { visits: world.visits, evaluated: world.checker.evaluated, commands, stored })
}

/// Runs the schedule of a seed and tells all that happened, with the failure at the end if there
/// is one.
pub fn trace(scenario: &Scenario, seed: u64) -> Vec<String> {
    let mut world = World::new(seed, scenario.defect, &scenario.metrics, true);
    let played = play(&mut world);
    let mut log = world.log.take().unwrap_or_default();
    log.extend(played.err());
    log
}

fn play(world: &mut World) -> Result<(), Broken> {
    for _ in 0..STEPS {
        world.step()?;
    }
    world.heal();
    if !come_to_rest(world)? {
        // A producer that took its retry elsewhere and came back is turned away by a broker that
        // waits for that retry, until it forgets the failure. Who stays where it is never waits.
        let moved = world.clients.iter().any(Client::moves);
        world.advance(FAILED_PRODUCERS_KEPT.as_millis() as i64);
        if !moved || !come_to_rest(world)? {
            return Err("L1: it does not come to rest".to_owned());
        }
    }
    world.sweep_to_the_end()?;
    world.check()?;
    world.checker.bucket_is_clean(&lock(&world.bucket))
}

/// Whether everything came to rest in time.
fn come_to_rest(world: &mut World) -> Result<bool, Broken> {
    for _ in 0..STEPS_TO_REST {
        if world.is_at_rest() {
            return Ok(true);
        }
        world.step()?;
    }
    Ok(world.is_at_rest())
}
