//! Clients that do anything at any time, with memory for all of them and with too little. Whatever
//! they do: every request is answered, once; the members of a generation never get parts of two
//! assignments (G2); what is charged is what is kept; and a group that is left alone becomes empty
//! and costs nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_env::Random;

use super::machine::{Machine, budget, member, new_member, protocols, static_member, sync};
use super::memory::kept;
use crate::group::{GroupError, GroupOptions, Join, Request, State, Ticket, limits};

const RUNS: u64 = 300;
const STEPS: u64 = 300;
const IDS: usize = 5;

/// Memory for two or three members.
const TOO_LITTLE: usize = limits::CLIENT_SHARE * 4_096;

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
    /// Requests that were refused for want of memory.
    refused: usize,
}

impl Walk {
    fn new(seed: u64) -> Self {
        Self {
            machine: if seed.is_multiple_of(2) {
                Machine::new()
            } else {
                Machine::within(GroupOptions::default(), budget(TOO_LITTLE))
            },
            random: Random::seeded(seed),
            ids: vec!["nobody".into()],
            joins: Vec::new(),
            syncs: BTreeMap::new(),
            assignments: BTreeMap::new(),
            count: 0,
            refused: 0,
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
        assert_eq!(self.machine.budget.held(), kept(&self.machine.group));
        for (ticket, result) in std::mem::take(&mut self.machine.seen.joins) {
            self.joins.retain(|waiting| *waiting != ticket);
            let lacks_memory = result.as_ref().is_err_and(|r| r.error == GroupError::NotAvailable);
            self.refused += usize::from(lacks_memory);
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
    let (mut completed, mut refused) = (0, 0);
    for seed in 0..RUNS {
        let mut walk = Walk::new(seed);
        for _ in 0..STEPS {
            walk.step();
        }
        completed += walk.assignments.len();
        refused += walk.refused;
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
        assert_eq!(walk.machine.budget.held(), 0, "seed {seed}");
    }
    assert!(completed > RUNS as usize, "the walks must get somewhere: {completed}");
    assert!(refused > RUNS as usize, "some must lack memory: {refused}");
}
