//! The task that keeps the checkpoint a few seconds behind the state.

use std::sync::Arc;
use std::time::Duration;

use ottla_env::VitalTasks;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout};

use super::Checkpoint;
use crate::limits::{CHECKPOINT_INTERVAL_MS, CHECKPOINT_REST_FACTOR, CHECKPOINT_SPARE_BYTES};
use crate::state::State;
use crate::state::dirty::DirtyKeys;

/// What one write of the checkpoint takes.
#[derive(Debug)]
pub struct Cut {
    /// From [`State::cut_checkpoint`].
    pub state: State,
    /// From the same call.
    pub dirty: DirtyKeys,
    /// Belongs to the state's applied index.
    pub meta: Vec<u8>,
}

/// The owner of the state.
pub trait CheckpointSource: Send + Sync + 'static {
    /// Cuts a copy. Called on a blocking thread; must not take longer than a copy takes.
    fn cut(&self) -> Cut;

    /// The checkpoint lost what it was given: calls [`State::lost_checkpoint`].
    fn lost(&self);
}

/// A running task; [`WriteBehind::stop`] ends it with a last write.
#[derive(Debug)]
pub struct WriteBehind {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl WriteBehind {
    /// Starts the task on the present runtime.
    pub fn start(
        checkpoint: Checkpoint,
        source: Arc<dyn CheckpointSource>,
        vital: &VitalTasks,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let task = run(checkpoint, source, stopped);
        Self { stop, task: vital.spawn("the checkpoint's writer", task) }
    }

    /// Writes once more, closes the checkpoint and ends the task. A start after this replays
    /// nothing.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::warn!(%error, "the checkpoint's writer ended badly");
        }
    }
}

async fn run(
    checkpoint: Checkpoint,
    source: Arc<dyn CheckpointSource>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut checkpoint = checkpoint;
    let mut rest = Duration::from_millis(CHECKPOINT_INTERVAL_MS);
    let mut last = false;
    while !last {
        // A sender that is gone means the same as a stop.
        last = timeout(rest, stopped.wait_for(|stop| *stop)).await.is_ok();
        let started = Instant::now();
        let source = Arc::clone(&source);
        let written = spawn_blocking(move || write(checkpoint, &*source, last)).await;
        match written {
            Ok(Some(back)) => checkpoint = back,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "the checkpoint's write was cut off; no more are made");
                return;
            }
        }
        let took = started.elapsed();
        rest = (took * CHECKPOINT_REST_FACTOR).max(Duration::from_millis(CHECKPOINT_INTERVAL_MS));
    }
}

/// One write. On an error, or when the tree takes far more space than it holds, the checkpoint begins
/// anew with the next one; after the `last` write what was written stays, whatever its space. `None`:
/// not even an empty tree can be had, and the node goes on without.
fn write(
    mut checkpoint: Checkpoint,
    source: &dyn CheckpointSource,
    last: bool,
) -> Option<Checkpoint> {
    let Cut { state, dirty, meta } = source.cut();
    let written = checkpoint.write(&state, &dirty, &meta);
    match written.and_then(|()| checkpoint.is_bloated(&state, CHECKPOINT_SPARE_BYTES)) {
        Ok(bloated) if last || !bloated => return Some(checkpoint),
        Ok(_) => tracing::info!("the checkpoint takes too much space; it is written anew"),
        Err(error) => tracing::warn!(%error, "the checkpoint cannot be written; it is rebuilt"),
    }
    source.lost();
    match checkpoint.reset() {
        Ok(()) => Some(checkpoint),
        Err(error) => {
            tracing::error!(%error, "the checkpoint cannot be rebuilt; restarts replay the log");
            None
        }
    }
}
