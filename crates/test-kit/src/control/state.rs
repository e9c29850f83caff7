//! What the control plane in memory knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_control_api::view::{
    Change, ClusterView, Extent, ExtentBytes, ObjectRange, ObjectRef, PartitionSnapshot, TopicInfo,
    WatchEvent,
};
use ottla_control_api::{BrokerInfo, ExtentPage, GroupState, PartitionBounds};
use ottla_format::command::{BatchOutcome, BatchRefusal, CommitBatch, CommitObject, ObjectOutcome};
use ottla_model::{
    AppliedIndex, BrokerAuthor, ExtentFlags, GroupId, ObjectId, ObjectName, Offset, PartitionId,
    PartitionIndex, ProcessNonce, TopicId,
};
use tokio::sync::mpsc;

use super::APPEND_TIME;

/// More events than a test makes.
const WATCH_EVENTS_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct State {
    applied: u64,
    last_id: u64,
    /// The registered broker and its run.
    pub broker: Option<(BrokerInfo, ProcessNonce)>,
    /// A newer process has the broker's id.
    pub replaced: bool,
    pub fenced_below: u64,
    pub topics: BTreeMap<TopicId, Arc<TopicInfo>>,
    pub partitions: BTreeMap<PartitionId, (PartitionBounds, Vec<Arc<Extent>>)>,
    pub groups: BTreeMap<GroupId, GroupState>,
    /// Partitions whose offsets are refused.
    pub missing: BTreeSet<PartitionId>,
    pub watchers: Vec<mpsc::Sender<WatchEvent>>,
}

impl State {
    pub fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub fn applied(&self) -> AppliedIndex {
        AppliedIndex(self.applied)
    }

    pub fn next_index(&mut self) -> AppliedIndex {
        self.applied += 1;
        self.applied()
    }

    pub fn emit(&mut self, changes: Vec<Change>) -> AppliedIndex {
        let applied = self.next_index();
        self.send(&WatchEvent::Changes { applied, changes: changes.into() });
        applied
    }

    pub fn send(&mut self, event: &WatchEvent) {
        self.watchers.retain(|watcher| watcher.try_send(event.clone()).is_ok());
    }

    /// A new watch, which begins with all there is.
    pub fn watch(&mut self) -> mpsc::Receiver<WatchEvent> {
        let (sender, receiver) = mpsc::channel(WATCH_EVENTS_MAX);
        let view = ClusterView {
            applied: self.applied(),
            brokers: self.broker.iter().map(|(broker, _)| broker.clone()).collect(),
            topics: self.topics.values().cloned().collect(),
            partitions: self
                .partitions
                .iter()
                .map(|(partition, (bounds, _))| PartitionSnapshot {
                    partition: *partition,
                    bounds: *bounds,
                })
                .collect(),
        };
        sender.try_send(WatchEvent::Reset(Arc::new(view))).expect("it is empty");
        self.watchers.push(sender);
        receiver
    }

    pub fn lives(&self, author: BrokerAuthor) -> bool {
        author.epoch.0 >= self.fenced_below
    }

    pub fn fence(&mut self) {
        if let Some((broker, _)) = self.broker.take() {
            self.fenced_below = broker.author.epoch.0 + 1;
        }
    }

    /// Creates a topic, or gives it more partitions.
    pub fn grow(&mut self, topic: Arc<TopicInfo>) -> AppliedIndex {
        let mut changes = vec![Change::Topic(topic.clone())];
        for index in 0..topic.partitions {
            let partition = PartitionId { topic: topic.id, index: PartitionIndex(index) };
            let (bounds, _) = self.partitions.entry(partition).or_default();
            changes.push(Change::Partition { partition, bounds: *bounds, extents: Vec::new() });
        }
        self.topics.insert(topic.id, topic);
        self.emit(changes)
    }

    pub fn commit(&mut self, author: BrokerAuthor, object: &CommitObject) -> ObjectOutcome {
        let nonce = match &self.broker {
            Some((broker, nonce)) if broker.author == author => *nonce,
            _ => return ObjectOutcome::Fenced,
        };
        let CommitObject { seq, attempt, size, .. } = *object;
        let name = ObjectName::wal(author, nonce, seq, attempt);
        let reference = Arc::new(ObjectRef { id: ObjectId(self.next_id()), name, size });
        let appended = object.batches.iter().map(|batch| self.append(&reference, batch));
        ObjectOutcome::Committed(appended.collect())
    }

    fn append(&mut self, object: &Arc<ObjectRef>, batch: &CommitBatch) -> BatchOutcome {
        let Some(topic) = self.topics.get(&batch.partition.topic) else {
            return BatchOutcome::Refused(BatchRefusal::UnknownPartition);
        };
        let log_append = topic.configs.get("message.timestamp.type").map(String::as_str);
        let append_time = (log_append == Some("LogAppendTime")).then_some(APPEND_TIME);
        let Some((bounds, extents)) = self.partitions.get_mut(&batch.partition) else {
            return BatchOutcome::Refused(BatchRefusal::UnknownPartition);
        };
        let flags = append_time.map_or(ExtentFlags::NONE, |_| ExtentFlags::LOG_APPEND_TIME);
        let (object, position, length) = (object.clone(), batch.position, batch.length);
        let range = ObjectRange { object, position, length };
        let base_offset = bounds.high_watermark;
        let extent = Arc::new(Extent {
            base_offset,
            last_offset: base_offset.plus(i64::from(batch.last_offset_delta)),
            max_timestamp: append_time.unwrap_or(batch.max_timestamp),
            flags,
            bytes: ExtentBytes::Object(range),
        });
        bounds.high_watermark = extent.last_offset.plus(1);
        bounds.last_stable = bounds.high_watermark;
        extents.push(extent.clone());
        let (partition, bounds) = (batch.partition, *bounds);
        self.emit(vec![Change::Partition { partition, bounds, extents: vec![extent] }]);
        BatchOutcome::Appended { base_offset, append_time, log_start: Offset::ZERO }
    }

    /// The partition's extents that `keep` lets through, up to `max_bytes` and at least one.
    pub fn page(
        &self,
        partition: PartitionId,
        max_bytes: u64,
        keep: impl Fn(&Extent) -> bool,
    ) -> ExtentPage {
        let Some((bounds, all)) = self.partitions.get(&partition) else {
            return ExtentPage { bounds: None, extents: Vec::new() };
        };
        let mut bytes = 0;
        let mut extents: Vec<Arc<Extent>> = Vec::new();
        for extent in all.iter().filter(|extent| keep(extent)) {
            if bytes >= max_bytes && !extents.is_empty() {
                break;
            }
            bytes += extent.length();
            extents.push(extent.clone());
        }
        ExtentPage { bounds: Some(*bounds), extents }
    }
}
