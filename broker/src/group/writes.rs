//! The writes of one group to the control plane, in order, one at a time.
//!
//! # Contract
//!
//! A write is retried until its outcome is known or its time is up. Both kinds are idempotent (they
//! carry the whole new value), so that an unknown outcome is made known by writing again. When the
//! time is up, whoever waits is told a retriable error: it may have happened.
//!
//! Writes go out in the order in which the group decided on them, and the next only after the
//! former ended: a commit of the old generation can never follow the assignment of the new one, and
//! of two commits for one partition the later one stays. Offset commits that wait behind each other
//! go out as one command.
//!
//! Every write carries the author under which the group was loaded, never a newer one: if this
//! broker was fenced, another may have gone on with the group, and what is in memory here is worth
//! nothing (I-FENCE).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ottla_control_api::{CallError, CallErrorKind, ControlPlane, OpError};
use ottla_env::Random;
use ottla_format::command::{
    CommitOffsets, CommittedOffset, Fenced, GroupKind, GroupMember, GroupMetadata, PutGroup,
};
use ottla_model::{BrokerAuthor, GroupId, PartitionId};
use tokio::time::Instant;
use tracing::warn;

use super::budget::{Charge, GroupBudget, Refusal, Standing};
use super::durable::client_of;
use super::error::GroupError;
use super::limits::{
    OFFSETS_PER_WRITE, RETRY_PAUSE_FIRST, RETRY_PAUSE_MAX, WRITE_TIMEOUT, WRITES_WAITING_BYTES_MAX,
};
use super::message::{StorePurpose, Ticket};
use super::sizes;

/// A write that waits for its turn.
#[derive(Debug)]
enum Waiting {
    /// With its memory: it outlives what the members keep when they change meanwhile.
    Metadata(StorePurpose, GroupMetadata, Option<Charge>),
    /// Their memory is held by the request.
    Offsets(Ticket, BTreeMap<PartitionId, CommittedOffset>),
}

/// A write that ended.
#[derive(Debug)]
pub(super) enum Written {
    /// Metadata.
    Metadata(StorePurpose, Result<(), GroupError>),
    /// Offsets of these requests, each with its partitions that do not exist.
    Offsets(Vec<(Ticket, Result<Vec<PartitionId>, GroupError>)>),
}

impl Written {
    /// The author's epoch is over.
    pub fn is_fenced(&self) -> bool {
        let fenced = GroupError::NotCoordinator;
        match self {
            Self::Metadata(_, result) => *result == Err(fenced),
            Self::Offsets(results) => results.iter().any(|(_, result)| *result == Err(fenced)),
        }
    }
}

/// The writes of one group that wait, bounded in bytes.
#[derive(Debug, Default)]
pub(super) struct WriteQueue {
    waiting: VecDeque<(Instant, usize, Waiting)>,
    bytes: usize,
}

impl WriteQueue {
    /// Queues metadata, unless too much waits already or there is no memory for it; then the purpose
    /// comes back. A group whose leader joins again and again makes one write each time, whether the
    /// control plane takes them or not.
    pub fn push_metadata(
        &mut self,
        now: Instant,
        writer: &GroupWriter,
        purpose: StorePurpose,
        metadata: GroupMetadata,
    ) -> Result<(), StorePurpose> {
        let bytes = sizes::metadata(&writer.group, &metadata);
        let Ok(charge) = writer.charge_metadata(&metadata, bytes) else { return Err(purpose) };
        if self.bytes + bytes > WRITES_WAITING_BYTES_MAX {
            return Err(purpose);
        }
        self.push(now, bytes, Waiting::Metadata(purpose, metadata, charge));
        Ok(())
    }

    /// Queues offsets, unless too much waits already.
    pub fn push_offsets(
        &mut self,
        now: Instant,
        ticket: Ticket,
        offsets: BTreeMap<PartitionId, CommittedOffset>,
    ) -> Result<(), GroupError> {
        let bytes = sizes::offsets(&offsets);
        if self.bytes + bytes > WRITES_WAITING_BYTES_MAX {
            return Err(GroupError::NotAvailable);
        }
        self.push(now, bytes, Waiting::Offsets(ticket, offsets));
        Ok(())
    }

    fn push(&mut self, now: Instant, bytes: usize, waiting: Waiting) {
        self.bytes += bytes;
        self.waiting.push_back((now + WRITE_TIMEOUT, bytes, waiting));
    }

    /// Takes the next write, with the commits right behind it if it is one; their time is then that
    /// of the last.
    fn next(&mut self) -> Option<(Instant, Vec<Waiting>)> {
        let (mut deadline, bytes, first) = self.waiting.pop_front()?;
        self.bytes -= bytes;
        let mut count = match &first {
            Waiting::Metadata(..) => return Some((deadline, vec![first])),
            Waiting::Offsets(_, offsets) => offsets.len(),
        };
        let mut together = vec![first];
        while let Some((_, _, Waiting::Offsets(_, offsets))) = self.waiting.front() {
            count += offsets.len();
            if count > OFFSETS_PER_WRITE {
                break;
            }
            let Some((at, bytes, next)) = self.waiting.pop_front() else { break };
            deadline = at;
            self.bytes -= bytes;
            together.push(next);
        }
        Some((deadline, together))
    }

    /// Takes the next write and starts it.
    pub fn start_next(
        &mut self,
        writer: &GroupWriter,
    ) -> Option<impl Future<Output = Written> + Send + use<>> {
        let (deadline, writes) = self.next()?;
        let writer = writer.clone();
        Some(async move { writer.write(deadline, writes).await })
    }
}

/// Writes for one group under one author.
#[derive(Clone)]
pub(super) struct GroupWriter {
    pub control: Arc<dyn ControlPlane>,
    pub random: Random,
    pub author: BrokerAuthor,
    pub group: GroupId,
    pub budget: GroupBudget,
}

impl GroupWriter {
    /// Memory for metadata that waits, on the account of the leader. That of an empty group is as
    /// good as none.
    fn charge_metadata(
        &self,
        metadata: &GroupMetadata,
        bytes: usize,
    ) -> Result<Option<Charge>, Refusal> {
        let is_leader = |member: &&GroupMember| metadata.leader.as_ref() == Some(&member.member_id);
        let Some(leader) = metadata.members.iter().find(is_leader) else { return Ok(None) };
        let client = client_of(&leader.client_host);
        self.budget.try_charge(client, bytes, Standing::Member).map(Some)
    }

    async fn write(self, deadline: Instant, writes: Vec<Waiting>) -> Written {
        let mut merged = BTreeMap::new();
        let mut shares = Vec::new();
        for write in writes {
            match write {
                Waiting::Metadata(purpose, metadata, _charge) => {
                    let result = self.put_group(deadline, metadata).await;
                    return Written::Metadata(purpose, result);
                }
                Waiting::Offsets(ticket, offsets) => {
                    shares.push((ticket, offsets.keys().copied().collect::<BTreeSet<_>>()));
                    merged.extend(offsets);
                }
            }
        }
        let result = self.commit_offsets(deadline, merged).await;
        let share_of = |(ticket, partitions): (Ticket, BTreeSet<PartitionId>)| {
            let missing = result.as_ref().map_err(|error| *error).map(|missing| {
                missing.iter().copied().filter(|id| partitions.contains(id)).collect()
            });
            (ticket, missing)
        };
        Written::Offsets(shares.into_iter().map(share_of).collect())
    }

    async fn put_group(
        &self,
        deadline: Instant,
        metadata: GroupMetadata,
    ) -> Result<(), GroupError> {
        let (author, group) = (self.author, self.group.clone());
        let request = PutGroup { author, group, kind: GroupKind::Classic, metadata };
        self.retry(deadline, || self.control.put_group(request.clone())).await
    }

    async fn commit_offsets(
        &self,
        deadline: Instant,
        offsets: BTreeMap<PartitionId, CommittedOffset>,
    ) -> Result<Vec<PartitionId>, GroupError> {
        let request = CommitOffsets {
            author: self.author,
            group: self.group.clone(),
            offsets: offsets.into_iter().collect(),
        };
        self.retry(deadline, || self.control.commit_offsets(request.clone())).await
    }

    async fn retry<T, F>(&self, deadline: Instant, call: impl Fn() -> F) -> Result<T, GroupError>
    where
        F: Future<Output = Result<T, OpError<Fenced>>>,
    {
        let attempts = async {
            let mut pause = RETRY_PAUSE_FIRST;
            loop {
                match call().await {
                    Ok(value) => return Ok(value),
                    Err(OpError::Refused(Fenced)) => return Err(GroupError::NotCoordinator),
                    Err(OpError::Call(error)) => self.give_up_on(&error)?,
                }
                ottla_env::delay(self.random.jitter(pause)).await;
                pause = (pause * 2).min(RETRY_PAUSE_MAX);
            }
        };
        tokio::time::timeout_at(deadline, attempts).await.unwrap_or_else(|_| {
            warn!(group = %self.group, "the control plane did not answer a write of the group in time");
            Err(GroupError::NotAvailable)
        })
    }

    /// Whether to try again.
    fn give_up_on(&self, error: &CallError) -> Result<(), GroupError> {
        match error.kind() {
            CallErrorKind::Retry | CallErrorKind::RetryUnknown => Ok(()),
            CallErrorKind::ShuttingDown => Err(GroupError::NotAvailable),
            CallErrorKind::Unsupported | CallErrorKind::Internal => {
                warn!(group = %self.group, %error, "a write of the group failed");
                Err(GroupError::Internal)
            }
        }
    }
}
