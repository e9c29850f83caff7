//! A group, a clock that moves by hand, and requests with everything in place.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_control_api::GroupState;
use ottla_format::command::GroupMetadata;
use ottla_model::GroupId;
use ottla_telemetry::Metrics;
use tokio::time::Instant;

use crate::group::{
    Answer, Commit, Effect, Group, GroupBudget, GroupError, GroupOptions, Heartbeat, Join,
    JoinRefused, Joined, Leave, Leaving, Request, State, StorePurpose, Sync, Synced, Ticket,
    limits,
};

pub const SESSION: Duration = Duration::from_secs(10);
pub const REBALANCE: Duration = Duration::from_secs(60);

/// Where clients come from.
pub const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Memory for groups that nobody else uses.
pub fn budget(bytes: usize) -> GroupBudget {
    GroupBudget::new(bytes, Metrics::new().memory.bytes.with(["groups"]))
}

pub type JoinResult = Result<Joined, JoinRefused>;

/// What a group did since it was last asked.
#[derive(Debug, Default)]
pub struct Seen {
    pub joins: BTreeMap<Ticket, JoinResult>,
    pub syncs: BTreeMap<Ticket, Result<Synced, GroupError>>,
    pub leaves: BTreeMap<Ticket, Result<Vec<Result<(), GroupError>>, GroupError>>,
    pub heartbeats: BTreeMap<Ticket, Result<(), GroupError>>,
    pub refused_commits: BTreeMap<Ticket, GroupError>,
    pub commits: Vec<Ticket>,
    pub stores: Vec<(StorePurpose, GroupMetadata)>,
}

pub struct Machine {
    pub group: Group,
    pub budget: GroupBudget,
    pub now: Instant,
    pub seen: Seen,
    next_ticket: u64,
}

impl Machine {
    pub fn new() -> Self {
        Self::with(GroupOptions::default())
    }

    pub fn with(options: GroupOptions) -> Self {
        Self::within(options, budget(limits::GROUPS_BYTES_MAX))
    }

    /// A group that shares this memory with others.
    pub fn within(options: GroupOptions, budget: GroupBudget) -> Self {
        let group = Group::new(GroupId::from("g"), options, budget.clone());
        Self::of(group, budget, Instant::now())
    }

    fn of(group: Group, budget: GroupBudget, now: Instant) -> Self {
        Self { group, budget, now, seen: Seen::default(), next_ticket: 0 }
    }

    /// Another coordinator that finds what this one stored last.
    pub fn reloaded(&self, metadata: GroupMetadata) -> Self {
        self.reloaded_within(metadata, budget(limits::GROUPS_BYTES_MAX))
    }

    /// The same with this much memory.
    pub fn reloaded_within(&self, metadata: GroupMetadata, budget: GroupBudget) -> Self {
        let stored = GroupState { metadata: Some(metadata), ..GroupState::default() };
        let options = GroupOptions::default();
        let group = Group::load(GroupId::from("g"), options, budget.clone(), stored, self.now);
        Self::of(group, budget, self.now)
    }

    pub fn request(&mut self, request: Request) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        let effects = self.group.handle(self.now, ticket, request);
        self.see(effects);
        ticket
    }

    fn see(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Answer(ticket, Answer::Join(result)) => {
                    assert!(self.seen.joins.insert(ticket, result).is_none(), "answered twice");
                }
                Effect::Answer(ticket, Answer::Sync(result)) => {
                    assert!(self.seen.syncs.insert(ticket, result).is_none(), "answered twice");
                }
                Effect::Answer(ticket, Answer::Leave(result)) => {
                    assert!(self.seen.leaves.insert(ticket, result).is_none(), "answered twice");
                }
                Effect::Answer(ticket, Answer::Heartbeat(result)) => {
                    self.seen.heartbeats.insert(ticket, result);
                }
                Effect::Answer(ticket, Answer::Commit(result)) => {
                    self.seen.refused_commits.insert(ticket, result.unwrap_err());
                }
                Effect::Store(purpose, metadata) => self.seen.stores.push((purpose, metadata)),
                Effect::Commit(ticket, _) => self.seen.commits.push(ticket),
            }
        }
    }

    /// Lets time pass, with everything it brings at its moment.
    pub fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(due) = self.group.wake_at().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            let effects = self.group.tick(self.now);
            self.see(effects);
        }
        self.now = end;
    }

    /// The oldest store ends with `result`.
    pub fn stored(&mut self, result: Result<(), GroupError>) -> GroupMetadata {
        let (purpose, metadata) = self.seen.stores.remove(0);
        let effects = self.group.stored(self.now, purpose, result);
        self.see(effects);
        metadata
    }

    pub fn join(&mut self, join: Join) -> Ticket {
        self.request(Request::Join(join))
    }

    /// Joins as a client does: asks for an id first. Returns the id and the waiting join.
    pub fn join_in_two_steps(&mut self, name: &str) -> (Arc<str>, Ticket) {
        let first = self.join(new_member(name));
        let refused = self.seen.joins.remove(&first).unwrap().unwrap_err();
        assert_eq!(refused.error, GroupError::MemberIdRequired);
        let second = self.join(member(&refused.member_id));
        (refused.member_id, second)
    }

    pub fn joined(&mut self, ticket: Ticket) -> Joined {
        self.seen.joins.remove(&ticket).expect("answered").expect("joined")
    }

    pub fn join_error(&mut self, ticket: Ticket) -> JoinRefused {
        self.seen.joins.remove(&ticket).expect("answered").expect_err("refused")
    }

    pub fn sync(&mut self, member_id: &str, generation: i32, parts: &[(&str, &str)]) -> Ticket {
        self.request(Request::Sync(sync(member_id, generation, parts)))
    }

    pub fn synced(&mut self, ticket: Ticket) -> Result<Synced, GroupError> {
        self.seen.syncs.remove(&ticket).expect("answered")
    }

    pub fn heartbeat(&mut self, member_id: &str, generation: i32) -> Result<(), GroupError> {
        self.heartbeat_as(member_id, None, generation)
    }

    pub fn heartbeat_as(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), GroupError> {
        let ticket = self.request(Request::Heartbeat(Heartbeat {
            member_id: member_id.into(),
            instance_id: instance_id.map(Into::into),
            generation,
        }));
        self.seen.heartbeats.remove(&ticket).expect("answered at once")
    }

    pub fn leave(&mut self, member_id: &str, instance_id: Option<&str>) -> Ticket {
        let leaving = Leaving {
            member_id: member_id.into(),
            instance_id: instance_id.map(Into::into),
            reason: None,
        };
        self.request(Request::Leave(Leave { members: vec![leaving], client: CLIENT }))
    }

    pub fn commit(&mut self, member_id: &str, generation: i32) -> Result<(), GroupError> {
        let ticket = self.request(Request::Commit(Commit {
            member_id: member_id.into(),
            instance_id: None,
            generation,
            knows_group_not_found: false,
            offsets: BTreeMap::new(),
            answer_bytes: 0,
            client: CLIENT,
        }));
        match self.seen.refused_commits.remove(&ticket) {
            Some(error) => Err(error),
            None => {
                assert_eq!(self.seen.commits.pop(), Some(ticket));
                Ok(())
            }
        }
    }

    /// A stable group of these members, generation 1, each with its name's part; the first leads.
    pub fn stable(names: &[&str]) -> (Self, Vec<Arc<str>>) {
        let mut machine = Self::new();
        let joins: Vec<_> = names.iter().map(|name| machine.join_in_two_steps(name)).collect();
        machine.pass(Duration::from_secs(6));
        let ids: Vec<_> = joins.iter().map(|(id, _)| id.clone()).collect();
        for (_, ticket) in joins {
            machine.joined(ticket);
        }
        let parts: Vec<_> = ids.iter().map(|id| (&**id, &**id)).collect();
        for id in &ids {
            machine.sync(id, 1, &parts);
        }
        machine.stored(Ok(()));
        assert_eq!(machine.group.state(), State::Stable);
        machine.seen = Seen::default();
        (machine, ids)
    }
}

pub fn protocols(names: &[&str]) -> Vec<(Arc<str>, Bytes)> {
    names.iter().map(|name| ((*name).into(), Bytes::copy_from_slice(name.as_bytes()))).collect()
}

/// A join without an id by a client named `name`.
pub fn new_member(name: &str) -> Join {
    Join {
        member_id: "".into(),
        instance_id: None,
        client_id: name.into(),
        client_host: "/127.0.0.1".into(),
        client: CLIENT,
        session_timeout_ms: SESSION.as_millis() as i32,
        rebalance_timeout_ms: REBALANCE.as_millis() as i32,
        protocol_type: "consumer".into(),
        protocols: protocols(&["range"]),
        can_be_told_its_id: true,
        can_skip_assignment: true,
        reason: None,
        fresh_id: format!("{name}-1").into(),
    }
}

/// A join under an id.
pub fn member(member_id: &str) -> Join {
    Join { member_id: member_id.into(), ..new_member(member_id) }
}

/// A join of a static member without an id; `run` tells its runs apart.
pub fn static_member(instance_id: &str, run: u32) -> Join {
    Join {
        instance_id: Some(instance_id.into()),
        fresh_id: format!("{instance_id}-{run}").into(),
        ..new_member(instance_id)
    }
}

pub fn sync(member_id: &str, generation: i32, parts: &[(&str, &str)]) -> Sync {
    let part =
        |(id, part): &(&str, &str)| (Arc::from(*id), Bytes::copy_from_slice(part.as_bytes()));
    Sync {
        member_id: member_id.into(),
        instance_id: None,
        generation,
        protocol_type: Some("consumer".into()),
        protocol: Some("range".into()),
        assignments: parts.iter().map(part).collect(),
        client: CLIENT,
    }
}
