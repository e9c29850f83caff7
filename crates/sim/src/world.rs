//! The world, and the scheduler that draws its next step.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::BoxFuture;
use ottla_env::{Clock, Random};
use ottla_model::{BrokerId, TimestampMs, TopicId};
use ottla_storage::sweep::Sweeper;
use ottla_telemetry::Metrics;
use tokio::time::Instant;

use crate::Defect;
use crate::broker::Broker;
use crate::bucket::Bucket;
use crate::checker::{Broken, Checker, Piece};
use crate::client::Client;
use crate::faults::Faults;
use crate::network::{Call, LateUpload};
use crate::plane::Plane;

/// The world's memory is never left half changed: a poisoned lock is as good as any.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends a step of whoever waits here; the next poll goes on.
pub(crate) async fn end_of_step() {
    let mut ended = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut ended, true) {
            return Poll::Ready(());
        }
        // Combinators over many futures poll only the ones that were woken.
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

const BROKERS: usize = 2;
/// How long a condemned object stays in this world, and a reader goes on with a reference: once
/// more than twice the other, as in the real one.
pub(crate) const DELAY_MS: i64 = 5_000;
pub(crate) const REFERENCE_LIFE_MS: i64 = 2_000;
/// An orphan's age.
pub(crate) const ORPHAN_AGE: Duration = Duration::from_millis(1_500);

/// Everything there is. The steps are in the files of their parts.
pub(crate) struct World {
    pub random: Random,
    pub defect: Option<Defect>,
    pub faults: Faults,
    pub healed: bool,
    pub now_ms: i64,
    base: Instant,
    pub clock: Clock,
    pub bucket: Arc<Mutex<Bucket>>,
    pub plane: Arc<Mutex<Plane>>,
    pub brokers: Vec<Broker>,
    pub clients: Vec<Client>,
    pub calls: Vec<Call>,
    pub late: Vec<LateUpload>,
    /// Pieces that readers are about to read, and until when they may.
    pub references: Vec<(Piece, i64)>,
    pub sweeper: Arc<Sweeper>,
    pub sweep: Option<BoxFuture<'static, ()>>,
    /// The topic that has the name now, and those that had it before.
    pub topic: Option<TopicId>,
    pub former_topic: Option<TopicId>,
    pub topics_made: u128,
    pub partitions: i32,
    pub checker: Checker,
    pub next_attempt: u64,
    pub next_generation: u64,
    /// How often which point was passed.
    pub visits: BTreeMap<&'static str, u64>,
    pub log: Option<Vec<String>>,
    commands_seen: u64,
}

/// A step, by who takes it.
#[derive(Clone, Copy, Debug)]
enum Actor {
    Send,
    Hear,
    Impatience,
    Seal,
    Upload,
    HandOver,
    Call,
    LateUpload,
    Crash,
    Fence,
    Restart,
    DeleteTopic,
    CreateTopic,
    StartSweep,
    Sweep,
    TakeReference,
    Read,
    Wait,
}

impl World {
    pub(crate) fn new(
        seed: u64,
        defect: Option<Defect>,
        metrics: &Arc<Metrics>,
        traced: bool,
    ) -> Self {
        let random = Random::seeded(seed);
        let faults = Faults::draw(&random);
        let now_ms = 1_000;
        let bucket = Arc::new(Mutex::new(Bucket::new(now_ms, faults)));
        let plane = Arc::new(Mutex::new(Plane::new(defect, faults, DELAY_MS)));
        let clock = Clock::manual(TimestampMs(now_ms));
        let sweeper =
            crate::sweeping::sweeper(&bucket, &plane, &random, &clock, Arc::clone(metrics));
        let partitions = 2 + random.below(2) as i32;
        let mut world = Self {
            defect,
            faults,
            healed: false,
            now_ms,
            base: Instant::now(),
            clock,
            bucket,
            plane,
            brokers: (1..=BROKERS as i32).map(|id| Broker::down(BrokerId(id))).collect(),
            clients: Client::all(&random, partitions, BROKERS),
            calls: Vec::new(),
            late: Vec::new(),
            references: Vec::new(),
            sweeper: Arc::new(sweeper),
            sweep: None,
            topic: None,
            former_topic: None,
            topics_made: 0,
            partitions,
            checker: Checker::default(),
            next_attempt: 0,
            next_generation: 0,
            visits: BTreeMap::new(),
            log: traced.then(Vec::new),
            commands_seen: 0,
            random,
        };
        world.create_topic();
        (0..world.brokers.len()).for_each(|at| world.restart(at));
        world
    }

    /// The time as tokio has it.
    pub(crate) fn now(&self) -> Instant {
        self.base + Duration::from_millis(self.now_ms.unsigned_abs())
    }

    pub(crate) fn visit(&mut self, point: &'static str) {
        *self.visits.entry(point).or_default() += 1;
    }

    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        let now = self.now_ms;
        if let Some(log) = &mut self.log {
            log.push(format!("{now:>7} {}", what()));
        }
    }

    pub(crate) fn below(&self, bound: usize) -> usize {
        self.random.below(bound.max(1) as u64) as usize
    }

    /// Draws a step and takes it; then looks whether every promise still holds.
    pub(crate) fn step(&mut self) -> Result<(), Broken> {
        let pass = self.random.below(30) as i64;
        self.advance(pass);
        let actor = self.draw();
        self.act(actor)?;
        self.check()
    }

    /// Whether every promise holds, after whatever happened since the last time.
    pub(crate) fn check(&mut self) -> Result<(), Broken> {
        let mut plane = lock(&self.plane);
        let mut bucket = lock(&self.bucket);
        if plane.commands != self.commands_seen || !bucket.touched.is_empty() {
            self.commands_seen = plane.commands;
            self.checker.runs(std::mem::take(&mut plane.runs));
            self.checker.observe(&plane.state, &mut bucket)?;
        }
        plane.violation.take().map_or(Ok(()), Err)
    }

    /// Time goes on. Readers whose references are about to end read before.
    pub(crate) fn advance(&mut self, ms: i64) {
        self.now_ms += ms;
        self.clock.advance(ms);
        lock(&self.plane).now_ms = self.now_ms;
        lock(&self.bucket).now_ms = self.now_ms;
        let now = self.now_ms;
        self.references.retain(|(_, until)| *until >= now);
    }

    fn draw(&self) -> Actor {
        let Faults { crash, fence, delete_topic, impatience, .. } = self.faults;
        let weights = [
            (Actor::Send, 40),
            (Actor::Hear, 40),
            (Actor::Impatience, impatience),
            (Actor::Seal, 20),
            (Actor::Upload, 40),
            (Actor::HandOver, 25),
            (Actor::Call, 50),
            (Actor::LateUpload, 6),
            (Actor::Crash, crash),
            (Actor::Fence, fence),
            (Actor::Restart, 12),
            (Actor::DeleteTopic, delete_topic),
            (Actor::CreateTopic, 6),
            (Actor::StartSweep, 3),
            (Actor::Sweep, 25),
            (Actor::TakeReference, 12),
            (Actor::Read, 8),
            (Actor::Wait, 1),
        ];
        let sum = weights.iter().map(|(_, weight)| weight).sum();
        let mut at = self.random.below(sum);
        for (actor, weight) in weights {
            if at < weight {
                return actor;
            }
            at -= weight;
        }
        Actor::Wait
    }

    fn act(&mut self, actor: Actor) -> Result<(), Broken> {
        let client = self.below(self.clients.len());
        let broker = self.below(self.brokers.len());
        match actor {
            Actor::Send => self.send(client),
            Actor::Hear => self.hear_answer(client)?,
            Actor::Impatience => self.lose_patience(client),
            Actor::Seal => self.seal(broker),
            Actor::Upload => self.upload(broker),
            Actor::HandOver => self.hand_over(broker),
            Actor::Call => self.call(),
            Actor::LateUpload => self.late_upload(),
            Actor::Crash => self.crash(broker),
            Actor::Fence => self.fence(broker),
            Actor::Restart => self.restart(broker),
            Actor::DeleteTopic => self.delete_topic(),
            Actor::CreateTopic => self.create_topic(),
            Actor::StartSweep => self.start_sweep(),
            Actor::Sweep => self.poll_sweep(),
            Actor::TakeReference => self.take_reference(),
            Actor::Read => self.read()?,
            Actor::Wait => {
                let pass = self.random.below(3_000) as i64;
                self.advance(pass);
            }
        }
        Ok(())
    }

    fn take_reference(&mut self) {
        let random = self.random.clone();
        if let Some(piece) = self.checker.some_piece(|count| random.below(count)) {
            self.references.push((piece, self.now_ms + REFERENCE_LIFE_MS));
        }
    }

    /// I-LIVE and I-ONE for those who read a moment later than they asked.
    fn read(&mut self) -> Result<(), Broken> {
        if self.references.is_empty() {
            return Ok(());
        }
        let at = self.below(self.references.len());
        let (piece, _) = self.references.swap_remove(at);
        self.visit("read by a cached reference");
        self.checker.read_later(&piece, &lock(&self.bucket))
    }

    /// No more faults from here on.
    pub(crate) fn heal(&mut self) {
        self.healed = true;
        self.faults = Faults::default();
        lock(&self.plane).faults = self.faults;
        lock(&self.bucket).faults = self.faults;
        self.note(|| "everything heals".to_owned());
    }

    /// Whether nothing is under way and nobody wants anything.
    pub(crate) fn is_at_rest(&self) -> bool {
        let brokers = self.brokers.iter().all(Broker::is_at_rest);
        let clients = self.clients.iter().all(Client::is_done);
        self.topic.is_some() && brokers && clients && self.calls.is_empty() && self.late.is_empty()
    }
}
