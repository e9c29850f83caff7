//! Tasks that a process cannot go on without.
//!
//! A task that panics takes only itself down; whoever relies on what it did then waits for ever. A
//! task that is started here is missed instead: [`VitalTasks::failed`] says which one it was, and
//! the process ends with an error. Tasks that end by themselves have had a reason, which they tell
//! in their own way.

use std::io;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A set of vital tasks; cheap to clone.
#[derive(Clone, Debug)]
pub struct VitalTasks {
    /// The first one that panicked.
    panicked: Arc<watch::Sender<Option<&'static str>>>,
}

impl Default for VitalTasks {
    fn default() -> Self {
        Self { panicked: Arc::new(watch::Sender::new(None)) }
    }
}

impl VitalTasks {
    /// Starts a task on the present runtime. `name` is for people: "the proposer".
    pub fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let missed = self.guard(name);
        tokio::spawn(async move {
            let _missed = missed;
            task.await;
        })
    }

    /// The same for work that blocks: gives it a thread of its own, which nothing else in the
    /// process can keep busy. The system shows the thread under `thread_name` (15 bytes).
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn_thread(
        &self,
        name: &'static str,
        thread_name: &'static str,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let missed = self.guard(name);
        let thread = std::thread::Builder::new().name(thread_name.to_owned());
        // Detached: the work says in its own way that it ended.
        thread
            .spawn(move || {
                let _missed = missed;
                work();
            })
            .map(drop)
    }

    /// The same for work in a task that somebody else started: a panic is missed that comes while the
    /// guard lives.
    pub fn guard(&self, name: &'static str) -> impl Drop + use<> {
        MissedOnPanic { name, tasks: self.clone() }
    }

    /// Waits until one of the tasks has panicked and says which; pends for ever otherwise.
    pub async fn failed(&self) -> &'static str {
        let mut panicked = self.panicked.subscribe();
        match panicked.wait_for(Option::is_some).await.map(|name| *name) {
            Ok(Some(name)) => name,
            // Not reached: this holds the sender, and waited for a name.
            _ => std::future::pending().await,
        }
    }
}

/// Dropped with its task: while it unwinds, when it panicked.
struct MissedOnPanic {
    name: &'static str,
    tasks: VitalTasks,
}

impl Drop for MissedOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let name = self.name;
            self.tasks.panicked.send_if_modified(|first| {
                let is_first = first.is_none();
                first.get_or_insert(name);
                is_first
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_task_that_panics_is_missed_and_one_that_ends_is_not() {
        let tasks = VitalTasks::default();
        tasks.spawn("one that ends", async {}).await.unwrap();
        let cut_off = tasks.spawn("one that is cut off", std::future::pending());
        cut_off.abort();
        assert!(cut_off.await.unwrap_err().is_cancelled());
        tokio::select! {
            biased;
            name = tasks.failed() => panic!("{name} did not panic"),
            () = std::future::ready(()) => {}
        }

        let panics = tasks.spawn("one that panics", async {
            tokio::task::yield_now().await;
            panic!("a defect");
        });
        assert_eq!(tasks.failed().await, "one that panics");
        assert!(panics.await.unwrap_err().is_panic());
        let threads = VitalTasks::default();
        threads.spawn_thread("a thread that panics", "panics", || panic!("a defect")).unwrap();
        assert_eq!(threads.failed().await, "a thread that panics");
        let later = tasks.spawn("a later one", async { panic!("another defect") });
        assert!(later.await.is_err());
        assert_eq!(tasks.failed().await, "one that panics");
    }
}
