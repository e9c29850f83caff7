//! The task that makes a pass whenever one is due.

use ottla_env::VitalTasks;
use ottla_model::AppliedIndex;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::pass::Sweeper;
use super::plan::Listings;
use super::{SweepError, SweepOptions, SweepParts};

/// A running sweep. Ends when it is stopped or dropped.
#[derive(Debug)]
pub struct Sweep {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
    /// Notices when the task panics.
    vital: VitalTasks,
}

impl Sweep {
    /// Starts the task; the first pass is made after one interval.
    pub fn start(parts: SweepParts, options: SweepOptions) -> Self {
        let (stop, stopped) = oneshot::channel();
        let sweeper = Sweeper::new(parts, options);
        let vital = VitalTasks::default();
        let ended = vital.spawn("the sweep", run(sweeper, options, stopped));
        Self { stop, ended, vital }
    }

    /// Waits until the task has panicked, and names it: without it the bucket only grows. Pends for
    /// ever otherwise.
    pub async fn failed(&self) -> &'static str {
        self.vital.failed().await
    }

    /// Ends the task, in the middle of a pass if there is one: the next process goes on.
    pub async fn stop(self) {
        // An error means that it has ended already.
        let _ = self.stop.send(());
        if let Err(error) = self.ended.await {
            tracing::error!(%error, "the sweep's task failed");
        }
    }
}

async fn run(sweeper: Sweeper, options: SweepOptions, mut stopped: oneshot::Receiver<()>) {
    let now = Instant::now();
    let mut listings = Listings::new(now);
    let mut height = None;
    let mut passes = interval_at(now + options.interval, options.interval);
    passes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            // Also when the sender was dropped.
            _ = &mut stopped => return,
            _ = passes.tick() => {}
        }
        let pass = step(&sweeper, &options, &mut listings, &mut height);
        let done = tokio::select! {
            biased;
            _ = &mut stopped => return,
            done = pass => done,
        };
        if let Err(error) = done {
            tracing::warn!(%error, "the sweep goes on with its next pass");
        }
    }
}

async fn step(
    sweeper: &Sweeper,
    options: &SweepOptions,
    listings: &mut Listings,
    height: &mut Option<AppliedIndex>,
) -> Result<(), SweepError> {
    let condemned = sweeper.sweep_condemned().await?;
    if *height != Some(condemned.applied) {
        let left = sweeper.leave_height(condemned.applied, *height).await;
        left.map_err(SweepError::Height)?;
        *height = Some(condemned.applied);
    }
    let began = Instant::now();
    listings.note_mark(condemned.mark, began);
    let mut orphans = 0;
    if listings.due(began) {
        let pass = sweeper.sweep_orphans().await?;
        listings.done(began, pass.nothing_left(), options.orphan_age);
        orphans = pass.deleted;
    }
    if condemned.deleted + orphans > 0 {
        tracing::info!(condemned = condemned.deleted, orphans, "objects deleted from the bucket");
    }
    Ok(())
}
