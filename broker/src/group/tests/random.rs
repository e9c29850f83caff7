//! Clients that do anything at any time. Whatever they do: every request is answered, once; the
//! members of a generation never get parts of two assignments (G2); and a group that is left alone
//! becomes empty.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_env::Random;

use super::machine::{Machine, member, new_member, protocols, static_member, sync};
use crate::group::{GroupError, Join, Request, State, Ticket};

const RUNS: u64 = 300;
const STEPS: u64 = 300;
const IDS: usize = 5;

struct Walk {
    machine: Machine,
    random: Random,
    /// Member ids that clients were told last.
    ids: Vec<Arc<str>>,
    joins: Vec<Ticket>,
    /// SyncGroups, with the generation they named.
    syncs: BTreeMap<Ticket, i32>,
    /// The assignment of each generation, as its members saw it.
    assignments: BTreeMap<i32, Bytes>,
    count: u32,
}

impl Walk {
    fn new(seed: u64) -> Self {
        Self {
            machine: Machine::new(),
            random: Random::seeded(seed),
            ids: vec!["nobody".into()],
            joins: Vec::new(),
            syncs: BTreeMap::new(),
            assignments: BTreeMap::new(),
            count: 0,
        }
    }

    fn id(&self) -> Arc<str> {
        self.ids[self.random.below(self.ids.len() as u64) as usize].clone()
    }

    fn generation(&self) -> i32 {
        let old = self.random.chance(0.1);
        self.machine.group.generation() - i32::from(old)
    }

    fn step(&mut self) {
        self.count += 1;
        let name = format!("c{}", self.count);
        // Clients are mostly sensible: they sync when that is what the group waits for.
        if self.machine.group.state() == State::CompletingRebalance && self.random.chance(0.6) {
            self.sync();
            return self.look();
        }
        match self.random.below(24) {
            0 => self.join(new_member(&name)),
            1 => self.join(Join { can_be_told_its_id: false, ..new_member(&name) }),
            2 => {
                let instance_id = ["x", "y"][self.random.below(2) as usize];
                let can_skip_assignment = self.random.chance(0.5);
                self.join(Join { can_skip_assignment, ..static_member(instance_id, self.count) });
            }
            3 | 4 => self.join(member(&self.id())),
            5 => {
                let protocols = protocols(&["range", "sticky"]);
                self.join(Join { protocols, ..member(&self.id()) });
            }
            6 | 7 | 12..=17 => self.sync(),
            8 => {
                let _ = self.machine.heartbeat(&self.id(), self.generation());
            }
            9 if self.random.chance(0.3) => {
                self.machine.leave(&self.id(), None);
            }
            10 | 18..=20 => self.machine.pass(Duration::from_millis(self.random.below(4_000))),
            _ => self.finish_a_store(),
        }
        self.look();
    }

    fn join(&mut self, join: Join) {
        self.joins.push(self.machine.join(join));
    }

    /// As leader or follower: the assignment names every id there is, with a part of its own.
    fn sync(&mut self) {
        let (id, generation) = (self.id(), self.generation());
        let part = format!("assignment {}", self.count);
        let parts: Vec<_> = self.ids.iter().map(|id| (&**id, &*part)).collect();
        let ticket = self.machine.request(Request::Sync(sync(&id, generation, &parts)));
        self.syncs.insert(ticket, generation);
    }

    fn finish_a_store(&mut self) {
        if !self.machine.seen.stores.is_empty() {
            let fails = self.random.chance(0.2);
            self.machine.stored(if fails { Err(GroupError::NotAvailable) } else { Ok(()) });
        }
    }

    fn look(&mut self) {
        for (ticket, result) in std::mem::take(&mut self.machine.seen.joins) {
            self.joins.retain(|waiting| *waiting != ticket);
            let id = match result {
                Ok(joined) => joined.member_id,
                Err(refused) => refused.member_id,
            };
            if !id.is_empty() && !self.ids.contains(&id) {
                self.ids.push(id);
                // Clients of old are rare, or nobody would ever be let in.
                if self.ids.len() > IDS {
                    self.ids.remove(0);
                }
            }
        }
        for (ticket, result) in std::mem::take(&mut self.machine.seen.syncs) {
            let generation = self.syncs.remove(&ticket).expect("asked and not answered before");
            // A member that the leader had not heard of has an empty part.
            let Some(part) = result.ok().map(|synced| synced.assignment) else { continue };
            if !part.is_empty() {
                let first = self.assignments.entry(generation).or_insert_with(|| part.clone());
                assert_eq!(*first, part, "two assignments in generation {generation}");
            }
        }
    }
}

#[test]
fn whatever_clients_do_every_request_is_answered_and_no_generation_has_two_assignments() {
    let mut completed = 0;
    for seed in 0..RUNS {
        let mut walk = Walk::new(seed);
        for _ in 0..STEPS {
            walk.step();
        }
        completed += walk.assignments.len();
        for _ in 0..100 {
            while !walk.machine.seen.stores.is_empty() {
                walk.machine.stored(Ok(()));
            }
            walk.machine.pass(Duration::from_secs(30));
            walk.look();
        }
        let state = walk.machine.group.state();
        assert_eq!(state, State::Empty, "seed {seed}");
        assert!(walk.joins.is_empty() && walk.syncs.is_empty(), "unanswered, seed {seed}");
        assert!(walk.machine.group.is_idle(), "seed {seed}");
    }
    assert!(completed > RUNS as usize, "the walks must get somewhere: {completed}");
}
