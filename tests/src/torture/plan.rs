//! What a round will do, drawn from its seed.

use std::time::Duration;

use ottla_env::Random;

use crate::fault_proxy::Weather;

/// Where objects are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// In a directory.
    File,
    /// In an S3 server behind a proxy.
    S3,
}

/// Something that happens to the server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ProcessEvent {
    /// `kill -9`, and a start.
    Kill,
    /// `kill -9`, a start that is killed after this time, and a start.
    KillTwice(Duration),
    /// `kill -9`, and a start without the checkpoint.
    LoseCheckpoint,
    /// SIGTERM, and a start.
    Restart,
    /// SIGSTOP for this time.
    Freeze(Duration),
}

/// Something that happens to the store.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StoreEvent {
    /// Weather, for a time.
    Weather(Weather, Duration),
    /// No connection gets through for this time.
    Away(Duration),
    /// The store's process is killed and comes back after this time.
    Kill(Duration),
    /// The store's process is stopped for this time.
    Freeze(Duration),
}

/// A round.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its own seed.
    pub seed: u64,
    /// How long clients write.
    pub load: Duration,
    /// What happens to the server, each after a pause.
    pub process: Vec<(Duration, ProcessEvent)>,
    /// What happens to the store, each after a pause.
    pub store: Vec<(Duration, StoreEvent)>,
    /// Whether the server is killed at the end, or stopped.
    pub killed_at_end: bool,
    /// Codecs of the librdkafka producers.
    pub codecs: Vec<&'static str>,
    /// How the members of the group share partitions.
    pub assignor: &'static str,
    /// Members of the group at a time.
    pub members: u32,
    /// Bytes that pad a record of librdkafka producers, at most.
    pub padding_max: u64,
}

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const ASSIGNORS: [&str; 3] = ["range", "roundrobin", "cooperative-sticky"];
const PADDINGS: [u64; 4] = [100, 2_000, 20_000, 200_000];
/// A round in which nothing happens shows that the checker is content with good histories.
const QUIET_SHARE: f64 = 0.04;

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64, store: StoreKind, load: Duration) -> Self {
        let random = Random::seeded(seed);
        let quiet = random.chance(QUIET_SHARE);
        let (mut process, mut events) = (Vec::new(), Vec::new());
        if !quiet {
            process = process_events(&random, load);
            if store == StoreKind::S3 {
                events = store_events(&random, load);
            }
        }
        Self {
            seed,
            load,
            process,
            store: events,
            killed_at_end: random.chance(0.5),
            codecs: (0..3).map(|_| pick(&random, &CODECS)).collect(),
            assignor: pick(&random, &ASSIGNORS),
            members: 1 + random.below(3) as u32,
            padding_max: pick(&random, &PADDINGS),
        }
    }
}

/// One of them.
pub fn pick<T: Copy>(random: &Random, from: &[T]) -> T {
    from[random.below(from.len() as u64) as usize]
}

fn between(random: &Random, from: Duration, to: Duration) -> Duration {
    let span = to.saturating_sub(from).as_millis() as u64;
    from + Duration::from_millis(random.below(span + 1))
}

/// Kinds of events are switched on or off for a whole round, so that rounds differ in kind and not
/// only in order.
fn process_events(random: &Random, load: Duration) -> Vec<(Duration, ProcessEvent)> {
    let second = Duration::from_secs(1);
    let (restarts, freezes) = (random.chance(0.5), random.chance(0.4));
    let kills = random.chance(0.8) || !(restarts || freezes);
    let pause_max = pick(random, &[second, 3 * second, 8 * second]);
    // A server that is never up for a second makes no progress that could be checked.
    let pause_min = second / 4;
    let mut events = Vec::new();
    let mut at = Duration::ZERO;
    while at < load {
        let pause = between(random, pause_min, pause_max);
        let event = match random.below(10) {
            0..4 if kills => ProcessEvent::Kill,
            4 if kills => ProcessEvent::LoseCheckpoint,
            5 if kills => ProcessEvent::KillTwice(between(random, Duration::ZERO, second / 3)),
            6..8 if restarts => ProcessEvent::Restart,
            8..10 if freezes => {
                // Mostly shorter than any session, sometimes longer than all of them.
                let longest = if random.chance(0.25) { 20 } else { 4 };
                ProcessEvent::Freeze(between(random, second, longest * second))
            }
            _ => {
                at += pause;
                continue;
            }
        };
        at += pause;
        if let ProcessEvent::Freeze(time) = event {
            at += time;
        }
        events.push((pause, event));
    }
    events
}

fn store_events(random: &Random, load: Duration) -> Vec<(Duration, StoreEvent)> {
    let second = Duration::from_secs(1);
    let storms = random.chance(0.8);
    let outages = random.chance(0.6) || !storms;
    let mut events = Vec::new();
    let mut at = Duration::ZERO;
    while at < load {
        let pause = between(random, Duration::ZERO, 6 * second);
        let short = between(random, second, 8 * second);
        let long = between(random, 5 * second, 30 * second);
        let (event, time) = match random.below(10) {
            0..5 if storms => (StoreEvent::Weather(weather(random), short), short),
            5..7 if outages => {
                let time = if random.chance(0.25) { long } else { short };
                (StoreEvent::Away(time), time)
            }
            7..9 if outages => (StoreEvent::Kill(short), short),
            9 if outages => (StoreEvent::Freeze(short), short),
            _ => {
                at += pause;
                continue;
            }
        };
        at += pause + time;
        events.push((pause, event));
    }
    events
}

fn weather(random: &Random) -> Weather {
    let share = |chance: f64, most: f64| {
        if random.chance(chance) { most * random.below(1_000) as f64 / 1_000.0 } else { 0.0 }
    };
    Weather {
        away: false,
        denied: 0.0,
        slow_down: share(0.4, 0.8),
        lost: share(0.4, 0.3),
        answer_lost: share(0.5, 0.5),
        answer_held: share(0.2, 0.1),
        request_cut: share(0.4, 0.3),
        answer_cut: share(0.4, 0.3),
        answer_flipped: share(0.4, 0.3),
        late: share(0.5, 1.0),
        delay: Duration::from_millis(random.below(2_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_its_plan_again() {
        let load = Duration::from_secs(40);
        let plan = |seed| format!("{:?}", Plan::new(seed, StoreKind::S3, load));
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
    }

    #[test]
    fn over_many_seeds_everything_happens() {
        let plans = (0..200).map(|seed| Plan::new(seed, StoreKind::S3, Duration::from_secs(30)));
        let text: String = plans.map(|plan| format!("{plan:?}")).collect();
        for event in
            ["Kill)", "LoseCheckpoint", "KillTwice", "Restart", "Freeze", "Away", "Weather"]
        {
            assert!(text.contains(event), "{event} never happens");
        }
    }
}
