//! The task that follows the watch.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_control_api::view::{Change, ClusterView, TopicInfo, WatchEvent};
use ottla_env::VitalTasks;
use ottla_model::{AppliedIndex, PartitionId, PartitionIndex, TopicId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::partitions::Arrivals;
use super::{Progress, Topics, View};
use crate::limits::{VIEW_EXTENT_BYTES, VIEW_PARTITION_BYTES, VIEW_TOPIC_BYTES};

/// The task that keeps a [`View`] current. It ends when it is stopped or dropped, or when the
/// control plane stops.
#[derive(Debug)]
pub struct ViewTask {
    /// Dropping it tells the task to end.
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    /// Notices when the task panics.
    vital: VitalTasks,
}

impl ViewTask {
    pub(super) fn start(view: Arc<View>, events: mpsc::Receiver<WatchEvent>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let vital = VitalTasks::default();
        let task = vital.spawn("the view of the cluster", follow(view, events, stopped));
        Self { stop, task, vital }
    }

    /// Waits until the task has panicked, and names it: a view that stands still serves nobody.
    /// Pends for ever otherwise.
    pub async fn failed(&self) -> &'static str {
        self.vital.failed().await
    }

    /// Stops the task and waits for its end. The view stays as it is.
    pub async fn stop(self) {
        drop(self.stop);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the task that follows the cluster's state failed");
        }
    }
}

async fn follow(
    view: Arc<View>,
    mut events: mpsc::Receiver<WatchEvent>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut arrivals = Arrivals::default();
    let mut last = AppliedIndex(0);
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            event = events.recv() => match event {
                Some(event) => {
                    last = in_order(last, &event);
                    view.apply(&mut arrivals, event);
                }
                None => break,
            },
        }
    }
    view.applied.send_modify(|progress| progress.open = false);
}

/// Where the state is after `event`, which comes behind what was seen up to `last`. A whole view may be
/// of any time: it replaces what was seen.
///
/// # Panics
/// When changes were seen before: offsets would be shown that were taken back (I-FWD).
fn in_order(last: AppliedIndex, event: &WatchEvent) -> AppliedIndex {
    match event {
        WatchEvent::Reset(state) => state.applied,
        WatchEvent::Changes { applied, .. } => {
            // The first entry of a log has index 0, which is "nothing applied", too.
            let is_next = *applied > last || (*applied, last) == Default::default();
            assert!(is_next, "I-FWD: changes up to {applied:?} come behind {last:?}");
            *applied
        }
    }
}

impl View {
    fn apply(&self, arrivals: &mut Arrivals, event: WatchEvent) {
        let applied = match event {
            WatchEvent::Reset(state) => {
                self.reset(arrivals, &state);
                state.applied
            }
            WatchEvent::Changes { applied, changes } => {
                for change in changes.iter() {
                    self.change(arrivals, change);
                }
                applied
            }
        };
        self.held.set_bytes(self.memory(arrivals));
        self.advance(applied);
    }

    /// About how much memory the view takes.
    fn memory(&self, arrivals: &Arrivals) -> usize {
        let topics = self.read_topics();
        topics.by_id.len() * VIEW_TOPIC_BYTES
            + topics.partitions * VIEW_PARTITION_BYTES
            + arrivals.len() * VIEW_EXTENT_BYTES
            + arrivals.inline_bytes()
    }

    fn advance(&self, applied: AppliedIndex) {
        self.applied.send_if_modified(|progress| {
            let forward = applied > progress.applied;
            if forward {
                *progress = Progress { applied, open: progress.open };
            }
            forward
        });
    }

    fn reset(&self, arrivals: &mut Arrivals, state: &ClusterView) {
        let mut partitions: BTreeMap<PartitionId, _> = BTreeMap::new();
        for topic in &state.topics {
            partitions.extend(partitions_of(topic).map(|p| (p, Default::default())));
        }
        partitions.extend(state.partitions.iter().map(|p| (p.partition, p.bounds)));
        // Partitions first: whoever finds a topic finds its partitions.
        self.partitions.reset(arrivals, &partitions);
        let mut topics = Topics::default();
        for topic in &state.topics {
            topics.insert(topic);
        }
        *self.write_topics() = topics;
        *self.write_brokers() =
            state.brokers.iter().map(|broker| (broker.author.broker, broker.clone())).collect();
    }

    fn change(&self, arrivals: &mut Arrivals, change: &Change) {
        match change {
            Change::Topic(topic) => {
                partitions_of(topic).for_each(|partition| self.partitions.ensure(partition));
                self.write_topics().insert(topic);
            }
            Change::TopicDeleted(topic) => {
                self.write_topics().remove(*topic);
                self.partitions.remove_topic(*topic);
            }
            Change::Partition { partition, bounds, extents } => {
                self.partitions.change(arrivals, *partition, *bounds, extents);
            }
            Change::Broker(broker) => {
                self.write_brokers().insert(broker.author.broker, broker.clone());
            }
            Change::BrokerGone(broker) => {
                self.write_brokers().remove(broker);
            }
        }
    }
}

impl Topics {
    fn insert(&mut self, topic: &Arc<TopicInfo>) {
        self.by_name.insert(topic.name.clone(), topic.id);
        let before = self.by_id.insert(topic.id, Arc::clone(topic));
        self.partitions += partition_count(topic);
        self.partitions -= before.as_deref().map_or(0, partition_count);
    }

    fn remove(&mut self, id: TopicId) {
        let Some(topic) = self.by_id.remove(&id) else { return };
        self.partitions -= partition_count(&topic);
        // The name may already belong to a newer topic.
        if self.by_name.get(&topic.name) == Some(&id) {
            self.by_name.remove(&topic.name);
        }
    }
}

fn partition_count(topic: &TopicInfo) -> usize {
    usize::try_from(topic.partitions).unwrap_or(0)
}

fn partitions_of(topic: &TopicInfo) -> impl Iterator<Item = PartitionId> + use<> {
    let id = topic.id;
    (0..topic.partitions).map(move |index| PartitionId { topic: id, index: PartitionIndex(index) })
}
