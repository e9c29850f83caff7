//! The memory of all groups of a broker: one budget that refuses, and never waits.
//!
//! # Contract
//!
//! Everything that a group keeps is charged before it is kept, to the address of the client that
//! brought it, and given back when its [`Charge`] is dropped. Nobody waits for bytes: members would
//! be taken for dead meanwhile. A refusal is answered COORDINATOR_NOT_AVAILABLE, which clients
//! repeat after a pause. Nothing that was admitted is taken away again.
//!
//! # Who gets how much
//!
//! Two bounds hold, that of the broker and that of a client address (one part in
//! [`CLIENT_SHARE`]). Clients behind one address (NAT, a proxy, loopback) share that part. How much
//! of both can be used depends on the [`Standing`] of what asks, so that clients that make up
//! groups cannot lock out those that have one: new groups leave a quarter to groups that are stored,
//! and those leave an eighth to members that are in, who may say more when they join again.
//!
//! A group that the control plane stores is loaded with no regard to the budget: its members are
//! in.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ottla_storage::write::{Budget, BudgetMetrics};
use ottla_telemetry::Metrics;
use ottla_telemetry::metrics::Gauge;

use super::limits::{CLIENT_SHARE, GROUPS_BYTES_MAX, REQUESTS_BYTES_MAX};

/// The owner of what no client asked for.
pub(super) const NO_CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The two budgets of a broker's groups.
#[derive(Clone, Debug)]
pub struct GroupMemory {
    /// Of what groups keep.
    pub(super) groups: GroupBudget,
    /// Of requests on their way to their group, and of commits until they are answered.
    pub(super) requests: Budget,
}

impl GroupMemory {
    /// Budgets that show themselves as owners `groups` and `group_requests`.
    pub fn new(metrics: &Metrics) -> Self {
        let memory = &metrics.memory;
        memory.bytes_max.with(["groups"]).set_bytes(GROUPS_BYTES_MAX);
        let requests = BudgetMetrics {
            held: memory.bytes.with(["group_requests"]),
            held_max: memory.bytes_max.with(["group_requests"]),
            waited: metrics.kafka.request_wait.clone(),
        };
        Self {
            groups: GroupBudget::new(GROUPS_BYTES_MAX, memory.bytes.with(["groups"])),
            requests: Budget::new(REQUESTS_BYTES_MAX, requests),
        }
    }
}

/// What asks for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A group that nothing is stored of, or a member of one.
    NewGroup,
    /// A group that is stored, or a new member of one.
    StoredGroup,
    /// A member that is in.
    Member,
}

impl Standing {
    /// How much of a bound can be used.
    pub(super) fn part_of(self, max: usize) -> usize {
        match self {
            Self::NewGroup => max / 4 * 3,
            Self::StoredGroup => max / 8 * 7,
            Self::Member => max,
        }
    }
}

/// Whose bound refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The client's.
    Client,
    /// The broker's.
    Broker,
}

/// A budget in bytes. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct GroupBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    max: usize,
    held: Mutex<Held>,
    shown: Gauge,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    /// Clients that hold something.
    by_client: BTreeMap<IpAddr, usize>,
}

/// Charged bytes; given back when dropped.
#[derive(Debug)]
pub struct Charge {
    budget: GroupBudget,
    client: IpAddr,
    bytes: usize,
}

impl GroupBudget {
    /// A budget of `max` bytes that shows in `shown` how much is held.
    pub fn new(max: usize, shown: Gauge) -> Self {
        Self(Arc::new(Shared { max, held: Mutex::default(), shown }))
    }

    /// Charges `bytes` to a client if both bounds allow it.
    pub fn try_charge(
        &self,
        client: IpAddr,
        bytes: usize,
        standing: Standing,
    ) -> Result<Charge, Refusal> {
        let mut charge = Charge { budget: self.clone(), client: client.to_canonical(), bytes: 0 };
        charge.try_resize(bytes, standing)?;
        Ok(charge)
    }

    /// Charges what is there already, whatever is free.
    pub fn charge(&self, client: IpAddr, bytes: usize) -> Charge {
        let client = client.to_canonical();
        self.grow(&mut self.lock(), client, bytes);
        Charge { budget: self.clone(), client, bytes }
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.lock().all
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grow(&self, held: &mut Held, client: IpAddr, bytes: usize) {
        if bytes > 0 {
            held.all += bytes;
            *held.by_client.entry(client).or_default() += bytes;
            self.0.shown.set_bytes(held.all);
        }
    }

    fn shrink(&self, held: &mut Held, client: IpAddr, bytes: usize) {
        held.all -= bytes;
        if let Some(of_client) = held.by_client.get_mut(&client) {
            *of_client -= bytes;
            if *of_client == 0 {
                held.by_client.remove(&client);
            }
        }
        self.0.shown.set_bytes(held.all);
    }
}

impl Charge {
    /// Holds `bytes` from now on. Less is always possible; when more is refused, nothing changes.
    pub fn try_resize(&mut self, bytes: usize, standing: Standing) -> Result<(), Refusal> {
        let budget = &self.budget;
        let mut held = budget.lock();
        if let Some(more) = bytes.checked_sub(self.bytes).filter(|more| *more > 0) {
            let of_client = held.by_client.get(&self.client).copied().unwrap_or(0);
            let max = budget.0.max;
            if of_client + more > standing.part_of(max / CLIENT_SHARE) {
                return Err(Refusal::Client);
            }
            if held.all + more > standing.part_of(max) {
                return Err(Refusal::Broker);
            }
            budget.grow(&mut held, self.client, more);
        } else {
            budget.shrink(&mut held, self.client, self.bytes - bytes);
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Whom it is charged to.
    pub fn client(&self) -> IpAddr {
        self.client
    }

    /// How much it is.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.shrink(&mut self.budget.lock(), self.client, self.bytes);
    }
}
