//! The sweep: the real passes, polled one request at a time.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::task::noop_waker;
use ottla_env::{Clock, Random};
use ottla_storage::sweep::{SweepOptions, SweepParts, Sweeper};
use ottla_telemetry::Metrics;

use crate::bucket::{Bucket, SweepStore};
use crate::checker::Broken;
use crate::plane::{CLUSTER, Plane, SweepPlane};
use crate::world::{DELAY_MS, ORPHAN_AGE, World};

/// A pass has fewer requests than this: 256 listings, and a few per object.
const POLLS_MAX: usize = 10_000;

pub(crate) fn sweeper(
    bucket: &Arc<Mutex<Bucket>>,
    plane: &Arc<Mutex<Plane>>,
    random: &Random,
    clock: &Clock,
    metrics: Arc<Metrics>,
) -> Sweeper {
    let parts = SweepParts {
        cluster: CLUSTER,
        store: Arc::new(SweepStore { bucket: Arc::clone(bucket), random: random.clone() }),
        control: Arc::new(SweepPlane { plane: Arc::clone(plane), random: random.clone() }),
        clock: clock.clone(),
        metrics,
    };
    Sweeper::new(parts, SweepOptions { orphan_age: ORPHAN_AGE, ..SweepOptions::default() })
}

impl World {
    /// Begins a pass, unless one is under way. Its errors are the next pass's business.
    pub(crate) fn start_sweep(&mut self) {
        if self.sweep.is_some() {
            return;
        }
        let sweeper = Arc::clone(&self.sweeper);
        let condemned = self.random.chance(0.5);
        self.visit(if condemned { "sweep of condemned" } else { "sweep of orphans" });
        self.sweep = Some(if condemned {
            async move {
                let _ = sweeper.sweep_condemned().await;
            }
            .boxed()
        } else {
            async move {
                let _ = sweeper.sweep_orphans().await;
            }
            .boxed()
        });
    }

    /// The pass goes on to its next request, or ends where it is.
    pub(crate) fn poll_sweep(&mut self) {
        let crashes = self.random.chance(self.faults.sweep_crash);
        let Some(pass) = &mut self.sweep else { return };
        if crashes {
            self.sweep = None;
            self.visit("sweep crashed");
            return;
        }
        let waker = noop_waker();
        if let Poll::Ready(()) = pass.as_mut().poll(&mut Context::from_waker(&waker)) {
            self.sweep = None;
            self.visit("sweep done");
        }
    }

    /// After everything came to rest: two passes of each kind, when all delays are over.
    pub(crate) fn sweep_to_the_end(&mut self) -> Result<(), Broken> {
        self.references.clear();
        for _ in 0..2 {
            self.advance(DELAY_MS + ORPHAN_AGE.as_millis() as i64);
            self.sweep = None;
            let sweeper = Arc::clone(&self.sweeper);
            let mut both = async move {
                let condemned = sweeper.sweep_condemned().await;
                let orphans = sweeper.sweep_orphans().await;
                condemned.map(|_| ()).and(orphans.map(|_| ())).map_err(|error| error.to_string())
            }
            .boxed();
            let waker = noop_waker();
            let mut polls = 0;
            let done = loop {
                if let Poll::Ready(done) = both.as_mut().poll(&mut Context::from_waker(&waker)) {
                    break done;
                }
                polls += 1;
                if polls > POLLS_MAX {
                    break Err("a pass of the sweep does not end".to_owned());
                }
                self.check()?;
            };
            done?;
        }
        Ok(())
    }
}
