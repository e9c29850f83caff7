//! The groups in memory that have neither members nor requests, the longest idle first.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ottla_model::GroupId;
use tokio::time::Instant;

use super::limits::UNLOAD_TRIES_MAX;

/// Idle groups, by time, and by the client that they are charged to.
#[derive(Debug, Default)]
pub(super) struct IdleGroups {
    all: BTreeSet<(Instant, GroupId)>,
    of_clients: BTreeSet<(IpAddr, Instant, GroupId)>,
}

impl IdleGroups {
    pub fn insert(&mut self, since: Instant, client: IpAddr, group: &GroupId) {
        self.all.insert((since, group.clone()));
        self.of_clients.insert((client, since, group.clone()));
    }

    pub fn remove(&mut self, since: Instant, client: IpAddr, group: &GroupId) {
        self.all.remove(&(since, group.clone()));
        self.of_clients.remove(&(client, since, group.clone()));
    }

    /// The groups to try first when one has to leave.
    pub fn longest(&self) -> impl Iterator<Item = &GroupId> {
        self.all.iter().take(UNLOAD_TRIES_MAX).map(|(_, group)| group)
    }

    /// The same of one client.
    pub fn longest_of(&self, client: IpAddr) -> impl Iterator<Item = &GroupId> {
        // Nothing is idle for longer than the first of all, and no id is less than the empty one.
        let earliest = self.all.first().map(|(since, _)| (client, *since, GroupId::from("")));
        let from = earliest.map(|earliest| self.of_clients.range(earliest..));
        let of_client = from.into_iter().flatten().take_while(move |(of, ..)| *of == client);
        of_client.take(UNLOAD_TRIES_MAX).map(|(.., group)| group)
    }
}
