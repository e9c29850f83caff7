//! Passes against a memory store with faults and a control plane of a few rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ottla_control_api::{
    CallError, Condemned, CondemnedObject, ObjectStanding, SweepControl, SweepMark,
};
use ottla_env::Clock;
use ottla_model::{AppliedIndex, ClusterId, ObjectId, ObjectName, ObjectOrigin};
use ottla_object_io::{Payload, PutDone, ReadCause, Store, StoreError, heights, keys};
use ottla_telemetry::Metrics;
use ottla_test_kit::values::{merged_name, object_name};

use super::*;
use crate::limits::{SWEEP_BATCH, SWEEP_OBJECTS_ALWAYS};

const CLUSTER: ClusterId = ClusterId(9);

#[derive(Debug, Default)]
struct Decided {
    condemned: BTreeMap<ObjectId, ObjectName>,
    /// How others stand; those that are not here are foreign.
    standings: BTreeMap<ObjectName, ObjectStanding>,
    objects: u64,
    applied: AppliedIndex,
    mark: SweepMark,
    /// The next forgetting takes effect and is not answered.
    lose_answer: bool,
    asked: Vec<ObjectName>,
}

#[derive(Debug, Default)]
struct FakeControl(Mutex<Decided>);

impl FakeControl {
    fn lock(&self) -> MutexGuard<'_, Decided> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl SweepControl for FakeControl {
    async fn condemned(&self, max: usize) -> Result<Condemned, CallError> {
        let decided = self.lock();
        let due = decided.condemned.iter().take(max);
        Ok(Condemned {
            due: due.map(|(id, name)| CondemnedObject { id: *id, name: *name, size: 1 }).collect(),
            condemned: decided.condemned.len() as u64,
            objects: decided.objects,
            applied: decided.applied,
            mark: decided.mark,
        })
    }

    async fn standings(&self, names: Vec<ObjectName>) -> Result<Vec<ObjectStanding>, CallError> {
        let mut decided = self.lock();
        decided.asked.extend(&names);
        let standing =
            |name| decided.standings.get(name).copied().unwrap_or(ObjectStanding::Foreign);
        Ok(names.iter().map(standing).collect())
    }

    async fn forget_objects(&self, objects: Vec<ObjectId>) -> Result<(), CallError> {
        let mut decided = self.lock();
        for object in objects {
            decided.condemned.remove(&object);
        }
        if std::mem::take(&mut decided.lose_answer) {
            return Err(CallError::OutcomeUnknown("test".to_owned()));
        }
        Ok(())
    }
}

/// A memory store of which some keys cannot be deleted.
#[derive(Debug)]
struct Stubborn {
    inner: Arc<dyn Store>,
    keys: Mutex<BTreeSet<String>>,
}

#[async_trait]
impl Store for Stubborn {
    async fn put(&self, key: &str, payload: Payload) -> Result<PutDone, StoreError> {
        self.inner.put(key, payload).await
    }
    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<bool, StoreError> {
        self.inner.put_if_absent(key, body).await
    }
    async fn get_range(
        &self,
        key: &str,
        range: std::ops::Range<u64>,
        cause: ReadCause,
    ) -> Result<Bytes, StoreError> {
        self.inner.get_range(key, range, cause).await
    }
    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        self.inner.get(key).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<ottla_object_io::ObjectEntry>, StoreError> {
        self.inner.list(prefix).await
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        if self.keys.lock().unwrap().contains(key) {
            return Err(StoreError::Denied { key: key.to_owned(), reason: "test".to_owned() });
        }
        self.inner.delete(key).await
    }
    async fn prepare(&self, folders: &[String]) -> Result<(), StoreError> {
        self.inner.prepare(folders).await
    }
    fn charges_for_requests(&self) -> bool {
        false
    }
}

struct World {
    control: Arc<FakeControl>,
    store: Arc<Stubborn>,
    metrics: Arc<Metrics>,
    options: SweepOptions,
    clock: Clock,
}

impl World {
    fn new() -> Self {
        let metrics = Metrics::new();
        let inner = ottla_object_io::memory();
        Self {
            control: Arc::default(),
            store: Arc::new(Stubborn { inner, keys: Mutex::default() }),
            metrics,
            options: SweepOptions { orphan_age: Duration::ZERO, ..SweepOptions::default() },
            clock: Clock::system(),
        }
    }

    fn parts(&self) -> SweepParts {
        SweepParts {
            cluster: CLUSTER,
            store: self.store.clone(),
            control: self.control.clone(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
        }
    }

    fn sweeper(&self) -> Sweeper {
        Sweeper::new(self.parts(), self.options)
    }

    async fn put(&self, name: &ObjectName) {
        let payload = Payload::checksummed(vec![Bytes::from_static(b"x")]);
        self.store.put(&keys::object(CLUSTER, name), payload).await.unwrap();
    }

    /// Puts objects and condemns them.
    async fn condemn(&self, seqs: std::ops::Range<u64>) {
        for seq in seqs {
            self.put(&object_name(seq)).await;
            self.control.lock().condemned.insert(ObjectId(seq), object_name(seq));
        }
    }

    /// Puts an object that stands so.
    async fn stands(&self, seq: u64, standing: ObjectStanding) {
        self.put(&object_name(seq)).await;
        self.control.lock().standings.insert(object_name(seq), standing);
    }

    fn resist(&self, seq: u64) {
        self.store.keys.lock().unwrap().insert(keys::object(CLUSTER, &object_name(seq)));
    }

    fn give_in(&self) {
        self.store.keys.lock().unwrap().clear();
    }

    /// The sequences of what is in the store, and the jobs of merged objects.
    async fn there(&self) -> Vec<u64> {
        let mut numbers = Vec::new();
        for folder in keys::object_folders(CLUSTER) {
            let entries = self.store.list(&folder).await.unwrap();
            numbers.extend(entries.iter().map(|entry| number(&entry.key)));
        }
        numbers.sort_unstable();
        numbers
    }
}

fn number(key: &str) -> u64 {
    match keys::object_name(CLUSTER, key).map(|name| name.origin) {
        Some(ObjectOrigin::Wal { seq, .. }) => seq.0,
        Some(ObjectOrigin::Merged { job, .. }) => job.0,
        None => u64::MAX,
    }
}

#[tokio::test]
async fn an_empty_bucket_is_swept_without_a_question() {
    let world = World::new();
    assert_eq!(world.sweeper().sweep_condemned().await.unwrap().deleted, 0);
    assert_eq!(world.sweeper().sweep_orphans().await.unwrap(), OrphanPass::default());
    assert!(world.control.lock().asked.is_empty());
}

#[tokio::test]
async fn condemned_objects_are_deleted_and_forgotten_and_nothing_else() {
    let world = World::new();
    world.condemn(0..3).await;
    world.stands(7, ObjectStanding::Committed).await;
    let pass = world.sweeper().sweep_condemned().await.unwrap();
    assert_eq!((pass.deleted, pass.failed), (3, 0));
    assert!(world.control.lock().condemned.is_empty());
    assert_eq!(world.there().await, [7]);
    assert_eq!(world.metrics.sweep.objects.with(["condemned"]).get(), 3);
}

#[tokio::test]
async fn every_key_has_its_own_result_and_progress_does_not_go_back() {
    let world = World::new();
    world.condemn(0..(SWEEP_BATCH as u64 + 5)).await;
    world.control.lock().objects = 1_000_000;
    world.resist(0);
    world.resist(4);
    let pass = world.sweeper().sweep_condemned().await.unwrap();
    assert_eq!((pass.deleted, pass.failed), (SWEEP_BATCH as u64 + 3, 2));
    assert_eq!(world.metrics.sweep.failures.get(), 2);
    assert_eq!(world.there().await, [0, 4]);
    let left: Vec<u64> = world.control.lock().condemned.keys().map(|id| id.0).collect();
    assert_eq!(left, [0, 4]);
    world.give_in();
    assert_eq!(world.sweeper().sweep_condemned().await.unwrap().deleted, 2);
}

#[tokio::test]
async fn a_crash_between_delete_and_forget_is_made_good_by_the_next_pass() {
    let world = World::new();
    world.condemn(0..2).await;
    let gone = keys::object(CLUSTER, &object_name(0));
    world.store.delete(&gone).await.unwrap();
    assert_eq!(world.sweeper().sweep_condemned().await.unwrap().deleted, 2);

    world.condemn(2..4).await;
    world.control.lock().lose_answer = true;
    assert!(world.sweeper().sweep_condemned().await.is_err());
    assert_eq!(world.sweeper().sweep_condemned().await.unwrap().deleted, 0);
    assert!(world.there().await.is_empty());
}

#[tokio::test]
async fn a_pass_deletes_no_more_than_its_share() {
    let world = World::new();
    let all = SWEEP_OBJECTS_ALWAYS + 50;
    world.condemn(0..all).await;
    world.control.lock().objects = all;
    let deleted = world.sweeper().sweep_condemned().await.unwrap().deleted;
    assert_eq!(deleted, SWEEP_OBJECTS_ALWAYS);
    assert_eq!(world.sweeper().sweep_condemned().await.unwrap().deleted, 50);
}

#[tokio::test]
async fn of_what_a_listing_shows_only_orphans_go() {
    let world = World::new();
    world.stands(0, ObjectStanding::Committed).await;
    world.stands(1, ObjectStanding::Undecided).await;
    world.stands(2, ObjectStanding::Orphan).await;
    world.stands(3, ObjectStanding::Foreign).await;
    let strange = format!("{CLUSTER}/wal/00/strange");
    world.store.put(&strange, Payload::checksummed(vec![])).await.unwrap();
    let pass = world.sweeper().sweep_orphans().await.unwrap();
    assert_eq!((pass.listed, pass.orphans, pass.deleted, pass.foreign), (5, 1, 1, 2));
    assert_eq!(world.there().await, [0, 1, 3, u64::MAX]);
    assert_eq!(world.metrics.sweep.foreign.get(), 2);
}

#[tokio::test]
async fn merged_objects_are_swept_like_wal_objects() {
    let world = World::new();
    for (job, standing) in [
        (100, ObjectStanding::Committed),
        (101, ObjectStanding::Undecided),
        (102, ObjectStanding::Orphan),
        (103, ObjectStanding::Foreign),
    ] {
        world.put(&merged_name(job)).await;
        world.control.lock().standings.insert(merged_name(job), standing);
    }
    world.put(&merged_name(104)).await;
    world.control.lock().condemned.insert(ObjectId(4), merged_name(104));
    world.condemn(5..6).await;
    world.stands(6, ObjectStanding::Orphan).await;

    assert_eq!(world.sweeper().sweep_condemned().await.unwrap().deleted, 2);
    assert_eq!(world.there().await, [6, 100, 101, 102, 103]);
    let pass = world.sweeper().sweep_orphans().await.unwrap();
    assert_eq!((pass.listed, pass.orphans, pass.deleted, pass.foreign), (5, 2, 2, 1));
    assert_eq!(world.there().await, [100, 101, 103]);
}

#[tokio::test]
async fn young_objects_are_not_even_asked_about() {
    let mut world = World::new();
    world.options.orphan_age = Duration::from_secs(3600);
    world.clock = Clock::manual(Clock::system().now());
    world.stands(0, ObjectStanding::Orphan).await;
    let pass = world.sweeper().sweep_orphans().await.unwrap();
    assert_eq!((pass.young, pass.deleted), (1, 0));
    assert!(world.control.lock().asked.is_empty());
    world.clock.advance(3_700_000);
    assert_eq!(world.sweeper().sweep_orphans().await.unwrap().deleted, 1);
}

#[tokio::test]
async fn a_bucket_that_is_mostly_orphans_is_left_alone() {
    let world = World::new();
    for seq in 0..=SWEEP_OBJECTS_ALWAYS {
        world.stands(seq, ObjectStanding::Orphan).await;
    }
    let pass = world.sweeper().sweep_orphans().await.unwrap();
    assert!(pass.refused && pass.deleted == 0);
    assert_eq!(world.metrics.sweep.refused.get(), 1);
    let trusting = SweepOptions { share_percent: 100, ..world.options };
    let pass = Sweeper::new(world.parts(), trusting).sweep_orphans().await.unwrap();
    assert_eq!(pass.deleted, SWEEP_OBJECTS_ALWAYS + 1);
}

#[tokio::test]
async fn an_orphan_that_resists_is_found_again_and_one_that_comes_back_too() {
    let world = World::new();
    world.stands(0, ObjectStanding::Orphan).await;
    world.stands(1, ObjectStanding::Orphan).await;
    world.resist(1);
    let pass = world.sweeper().sweep_orphans().await.unwrap();
    assert_eq!((pass.deleted, pass.failed), (1, 1));
    // A late attempt arrives after it was deleted.
    world.put(&object_name(0)).await;
    world.give_in();
    assert_eq!(world.sweeper().sweep_orphans().await.unwrap().deleted, 2);
    assert!(world.there().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_task_sweeps_by_itself_and_ends_when_told() {
    let mut world = World::new();
    world.options.interval = Duration::from_millis(100);
    world.condemn(0..2).await;
    world.stands(5, ObjectStanding::Orphan).await;
    let sweep = Sweep::start(world.parts(), world.options);
    while !world.there().await.is_empty() {
        tokio::time::advance(Duration::from_millis(50)).await;
    }
    sweep.stop().await;
    world.condemn(0..1).await;
    tokio::time::advance(Duration::from_secs(600)).await;
    assert_eq!(world.there().await, [0]);
}

#[tokio::test(start_paused = true)]
async fn while_something_happens_each_step_leaves_the_height_of_the_state() {
    let mut world = World::new();
    world.options.interval = Duration::from_millis(100);
    let comes_to_have = async |wanted: u64| {
        world.control.lock().applied = AppliedIndex(wanted);
        while heights(&*world.store, CLUSTER).await.unwrap() != [AppliedIndex(wanted)] {
            tokio::time::advance(Duration::from_millis(50)).await;
        }
    };
    let sweep = Sweep::start(world.parts(), world.options);
    comes_to_have(5).await;
    comes_to_have(70).await;
    // Nothing happened: one that somebody took away is not left again.
    world.store.delete(&keys::height(CLUSTER, AppliedIndex(70))).await.unwrap();
    tokio::time::advance(Duration::from_secs(10)).await;
    assert!(heights(&*world.store, CLUSTER).await.unwrap().is_empty());
    comes_to_have(71).await;
    sweep.stop().await;
}
