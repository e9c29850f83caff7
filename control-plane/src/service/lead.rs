//! From a node's files to a leader that has applied its log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::impls::BasicNode;
use openraft::{ChangeMembers, Config, SnapshotPolicy};
use ottla_model::{AppliedIndex, ClusterId};
use tokio::sync::watch;
use tokio::time::timeout;

use super::controller::ControllerOptions;
use super::error::StartError;
use crate::limits::START_PATIENCE;
use crate::raft::{LogStore, Machine, NoPeers, Raft, StateMachine};
use crate::raft_log::LogIdentity;

/// Starts Raft and waits until this node leads and has applied its log. On an error Raft is shut
/// down again.
pub(super) async fn lead(
    options: &ControllerOptions,
    identity: LogIdentity,
    store: LogStore,
    state_machine: StateMachine,
    machine: &Machine,
) -> Result<Raft, StartError> {
    let config = raft_config(identity.cluster, options)?;
    let raft =
        Raft::new(identity.node, config, NoPeers, store, state_machine).await.map_err(failed)?;
    let lead = async {
        campaign(&raft, identity.node, options).await?;
        wait_until_ready(&raft, machine.applied()).await?;
        tell_address(&raft, identity.node, options).await
    };
    let ready = tokio::select! {
        ready = lead => ready,
        task = machine.failed() => Err(failed(format!("{task} failed; the lines before say how"))),
    };
    if let Err(error) = ready {
        // The node is given up either way.
        let _ = raft.shutdown().await;
        return Err(error);
    }
    Ok(raft)
}

fn failed(error: impl ToString) -> StartError {
    StartError::Raft(error.to_string())
}

fn raft_config(cluster: ClusterId, options: &ControllerOptions) -> Result<Arc<Config>, StartError> {
    let config = Config {
        cluster_name: cluster.to_string(),
        heartbeat_interval: 250,
        election_timeout_min: 1_000,
        election_timeout_max: 2_000,
        enable_pre_vote: Some(true),
        // A leader that restarts in its old term could give an index of that term a second
        // meaning: entries that were sent to others and not yet synced here are gone.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_entries),
        // The housekeeper purges, one snapshot later.
        max_in_snapshot_log_to_keep: u64::MAX,
        ..Config::default()
    };
    config.validate().map(Arc::new).map_err(failed)
}

/// Makes a new cluster of this node, or has it elected at once when it is the only voter.
async fn campaign(raft: &Raft, own: u64, options: &ControllerOptions) -> Result<(), StartError> {
    if !raft.is_initialized().await.map_err(failed)? {
        let node = BasicNode { addr: options.address.clone() };
        let members = BTreeMap::from([(own, node)]);
        raft.initialize(members).await.map_err(failed)?;
    } else if raft.voter_ids().eq([own]) {
        raft.trigger().elect(false).await.map_err(failed)?;
    }
    Ok(())
}

/// Has the membership name the address that this node is reached at now.
async fn tell_address(
    raft: &Raft,
    own: u64,
    options: &ControllerOptions,
) -> Result<(), StartError> {
    let membership = raft.metrics().borrow_watched().membership_config.membership().clone();
    let is_known = membership.get_node(&own).is_none_or(|node| node.addr == options.address);
    // Without an address nobody is told: a look at the files (fsck), or a test.
    if is_known || options.address.is_empty() {
        return Ok(());
    }
    let node = BasicNode { addr: options.address.clone() };
    let change = ChangeMembers::SetNodes(BTreeMap::from([(own, node)]));
    raft.change_membership(change, true).await.map(|_| ()).map_err(failed)
}

async fn wait_until_ready(
    raft: &Raft,
    applied: watch::Receiver<AppliedIndex>,
) -> Result<(), StartError> {
    let forever = raft.wait(None);
    let ready = forever.metrics(
        |metrics| {
            let applied = metrics.last_applied;
            metrics.state.is_leader()
                && applied.map(|id| id.leader_id.term) == Some(metrics.current_term)
                && applied.map(|id| id.index) >= metrics.last_log_index
        },
        "leading with the whole log applied",
    );
    match while_applying(ready, applied, START_PATIENCE).await {
        Some(ready) => ready.map(|_| ()).map_err(failed),
        None => Err(failed(format!(
            "nothing was applied for {} s, and this node does not lead with its whole log applied",
            START_PATIENCE.as_secs()
        ))),
    }
}

/// Waits for `done` as long as something is applied within every `patience`; `None` when nothing
/// was. A long log on a slow disk takes its time, and a start that is cut off begins again where
/// this one began.
async fn while_applying<T>(
    done: impl Future<Output = T>,
    mut applied: watch::Receiver<AppliedIndex>,
    patience: Duration,
) -> Option<T> {
    tokio::pin!(done);
    loop {
        let step = async {
            tokio::select! {
                biased;
                done = &mut done => Some(done),
                // An error means that nothing will be applied any more; the patience ends that.
                Ok(()) = applied.changed() => None,
            }
        };
        if let Some(done) = timeout(patience, step).await.ok()? {
            return Some(done);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tokio::time::Instant;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_start_may_take_as_long_as_entries_are_applied() {
        let (applied, follows) = watch::channel(AppliedIndex(0));
        let (done, is_done) = oneshot::channel();
        let began = Instant::now();
        let waiting = tokio::spawn(while_applying(is_done, follows, PATIENCE));
        for index in 1..=100 {
            tokio::time::advance(PATIENCE * 9 / 10).await;
            applied.send_replace(AppliedIndex(index));
            tokio::task::yield_now().await;
        }
        done.send("led").unwrap();
        assert_eq!(waiting.await.unwrap(), Some(Ok("led")));
        assert!(began.elapsed() > PATIENCE * 80);
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_in_which_nothing_happens_is_given_up() {
        let (applied, follows) = watch::channel(AppliedIndex(0));
        let began = Instant::now();
        let waiting = while_applying(std::future::pending::<()>(), follows, PATIENCE);
        assert_eq!(waiting.await, None);
        assert_eq!(began.elapsed(), PATIENCE);
        drop(applied);
    }
}
