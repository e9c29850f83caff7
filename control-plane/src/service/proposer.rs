//! The one way into the log: a task that takes bodies of commands in the order they were handed
//! over, stamps replicated time on them and gives them to Raft without waiting for answers. What
//! waits goes to the log together: Raft appends as one what it finds in its queue, and the log
//! syncs once for all of it.
//!
//! Handing over never waits. A caller that makes one call after the other therefore has its
//! commands in the log in that order (if they get there at all).
//!
//! What needs a higher feature level than the state has is refused here. The state of a leader may be
//! a moment behind its log; the level it has is then too low at worst, and never too high.
//!
//! Commit requests that wait are not merged into one command. They share the append and the sync
//! anyway; one entry each keeps their answers and frontiers apart.

use std::sync::{Arc, Mutex, PoisonError};

use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use ottla_control_api::CallError;
use ottla_env::VitalTasks;
use ottla_format::command::{Answer, Command, CommandBody};
use ottla_format::feature_level::FeatureLevel;
use ottla_model::AppliedIndex;
use ottla_telemetry::Metrics;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::replicated_clock::ReplicatedClock;
use crate::limits::{CALL_DEADLINE, COMMAND_BYTES_MAX, PROPOSALS_WAITING};
use crate::raft::{Machine, Proposal, Raft, Reply, TypeConfig};

/// A command's place in the log and its answer.
pub type Answered = (AppliedIndex, Answer);

type Outcome = ClientWriteResult<TypeConfig>;

struct Waiting {
    body: CommandBody,
    /// Nobody may be waiting at its other end any more; that is fine.
    answer: oneshot::Sender<Result<Answered, CallError>>,
}

/// Hands commands over; cheap to clone.
#[derive(Clone, Debug)]
pub struct Proposer {
    queue: mpsc::Sender<Waiting>,
    stopping: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
}

impl Proposer {
    /// Starts the task. It ends when `stopping` turns true.
    pub fn start(
        (raft, machine): (Raft, Machine),
        clock: Arc<Mutex<ReplicatedClock>>,
        stopping: watch::Receiver<bool>,
        metrics: Arc<Metrics>,
        vital: &VitalTasks,
    ) -> (Self, JoinHandle<()>) {
        let (queue, waiting) = mpsc::channel(PROPOSALS_WAITING);
        let task =
            vital.spawn("the proposer", run((raft, machine), clock, waiting, stopping.clone()));
        (Self { queue, stopping, metrics }, task)
    }

    /// Hands a command over, now; the future is only its answer.
    pub fn propose(
        &self,
        body: CommandBody,
    ) -> impl Future<Output = Result<Answered, CallError>> + Send + 'static {
        let began = Instant::now();
        let (answer, answered) = oneshot::channel();
        let handed_over = self.hand_over(Waiting { body, answer });
        let (stopping, metrics) = (self.stopping.clone(), self.metrics.clone());
        async move {
            handed_over?;
            let answer = match tokio::time::timeout_at(began + CALL_DEADLINE, answered).await {
                Ok(Ok(answer)) => answer?,
                Ok(Err(_)) if *stopping.borrow() => return Err(CallError::ShuttingDown),
                Ok(Err(_)) => {
                    let why = "this controller stopped while the call was in flight";
                    return Err(CallError::OutcomeUnknown(why.to_owned()));
                }
                Err(_) => {
                    let why = format!("no answer within {} s", CALL_DEADLINE.as_secs());
                    return Err(CallError::OutcomeUnknown(why));
                }
            };
            metrics.raft.proposal_seconds.time(began.elapsed());
            Ok(answer)
        }
    }

    fn hand_over(&self, waiting: Waiting) -> Result<(), CallError> {
        // The state machine refuses it, too: here it does not become a part of the log.
        waiting.body.check_texts().map_err(|error| CallError::Internal(error.to_string()))?;
        self.queue.try_send(waiting).map_err(|error| match error {
            TrySendError::Full(_) => {
                CallError::Unavailable("too many calls are waiting".to_owned())
            }
            TrySendError::Closed(_) => CallError::ShuttingDown,
        })
    }
}

fn judge(outcome: Outcome) -> Result<Answered, CallError> {
    match outcome {
        Ok(response) => {
            let index = AppliedIndex(response.log_id.index);
            let answer = response.data.ok_or_else(|| {
                CallError::Internal("a command was applied without an answer".to_owned())
            })?;
            Ok((index, answer))
        }
        // Refused before it was appended.
        Err(ClientWriteError::ForwardToLeader(forward)) => {
            Err(CallError::Unavailable(forward.to_string()))
        }
        Err(error @ ClientWriteError::LogEntryDiscarded(_)) => {
            Err(CallError::OutcomeUnknown(error.to_string()))
        }
        Err(error) => Err(CallError::Internal(error.to_string())),
    }
}

/// Refuses what a cluster of this level must not have in its log.
fn check_level(body: &CommandBody, level: FeatureLevel) -> Result<(), CallError> {
    let needed = body.needed_level();
    if needed <= level {
        return Ok(());
    }
    Err(CallError::FeatureLevel { needed: needed.0, level: level.0 })
}

async fn run(
    (raft, machine): (Raft, Machine),
    clock: Arc<Mutex<ReplicatedClock>>,
    mut waiting: mpsc::Receiver<Waiting>,
    mut stopping: watch::Receiver<bool>,
) {
    // A level never falls: the state is asked, under its lock, only when this one is not enough.
    let mut level = FeatureLevel::NONE;
    loop {
        let next = tokio::select! {
            biased;
            // The rest is dropped: its callers are told that this node stops.
            _ = stopping.wait_for(|stop| *stop) => return,
            next = waiting.recv() => next,
        };
        let Some(Waiting { body, answer }) = next else { return };
        let time = clock.lock().unwrap_or_else(PoisonError::into_inner).observe(Instant::now());
        if body.needed_level() > level {
            level = machine.with(|state| state.feature_level());
        }
        if let Err(error) = check_level(&body, level) {
            let _ = answer.send(Err(error));
            continue;
        }
        let proposal = Proposal::new(Command { time, body });
        if proposal.encoded_bytes() > COMMAND_BYTES_MAX {
            let why = format!("a command of {} bytes is too long", proposal.encoded_bytes());
            let _ = answer.send(Err(CallError::Internal(why)));
            continue;
        }
        let reply = Reply::new(move |outcome| {
            let _ = answer.send(judge(outcome));
        });
        if let Err(fatal) = raft.client_write_ff(proposal, Some(reply)).await {
            tracing::error!(%fatal, "this controller has stopped; no more commands are taken");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_higher_level_than_the_state_has_is_not_proposed() {
        let none = FeatureLevel::NONE;
        let refused = CallError::FeatureLevel { needed: 1, level: 0 };
        assert_eq!(check_level(&CommandBody::Tick, none), Err(refused));
        assert_eq!(check_level(&CommandBody::Tick, FeatureLevel(1)), Ok(()));
        let raise = CommandBody::RaiseFeatureLevel { to: FeatureLevel(1) };
        assert_eq!(check_level(&raise, none), Ok(()), "what sets the first level");
    }
}
